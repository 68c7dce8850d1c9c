//! going(8), the supervisor: from the command line to the loop, which waits, reads signals, reaps,
//! adopts what a rescan has found, and lets every service take its next step.
//!
//! The one place that turns an [`Action`] into a syscall. Never waits but at the end of each turn
//! of the loop, and never ends but by a shutdown.
#![no_std]
#![no_main]

use going::child::reader::{self, COMPLETE, INCOMPLETE, UNSETTLED};
use going::child::{self, EXIT_SET_UP, plan, power};
use going::linux::raw::{self, Strings};
use going::linux::signals::{Signals, signal_group, take_terminal};
use going::linux::syslog::{ERROR, INFO, Log, WARNING};
use going::linux::table::{self, Slot, Slots};
use going::linux::{clock, options::Options, rundir, stdio, watch};
use going::model::entry::{EDITED, Entry, GONE, GOOD, MAIN, Name, Record};
use going::model::order::{Place, is_ending};
use going::model::service::{Action, End, Event, Pid, Policy, Restart, State, Want};
use going::model::status::{VERSION, line};
use linux_raw_sys::general::{SIGCHLD, SIGCONT, SIGHUP, SIGKILL, SIGPWR, SIGTERM};
use linux_raw_sys::general::{SIGTSTP, SIGTTIN, SIGTTOU};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, pread};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{self, WaitOptions, getpid, set_child_subreaper, waitpid};

/// Children reaped in one turn of the loop, so that a flood of them cannot hold up signals,
/// deadlines and messages.
const REAP_MAX: usize = 256;

/// From the last change of a file to the rescan: one edit may consist of several changes.
const QUIET_MS: u64 = 200;
/// From the first change to the rescan, if the changes do not stop.
const WAIT_MS: u64 = 2_000;
/// The interval of retries after a rescan that failed, even in part, and while there is no room for
/// the status: the one exception to the rule that nothing is polled.
const RETRY_MS: u64 = 5_000;

going::program!(run, Slots);

/// Runs the program, and returns its exit code.
fn run(words: Strings<'static>, slots: &'static mut Slots) -> u8 {
    stdio::fill();
    let started = Options::new(words).and_then(|it| Supervisor::new(it, slots));
    // Once the supervisor runs only a shutdown ends it: failures are logged, survived and retried.
    started.map_or_else(|code| code, |mut supervisor| supervisor.run())
}

/// No input leads here. If a defect ever does, the message says where. PID 1 then stays and does
/// nothing, because its end would stop the machine or the container, and all that runs there.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let log = Log::open();
    log.say(ERROR, format_args!("{info}"));
    // Also on standard error, for PID 1 the console, in case syslog can no longer be read.
    Log { socket: None, ..log }.say(ERROR, format_args!("{info}"));
    while getpid().is_init() {
        let _interrupted = rustix::event::poll(&mut [], None);
    }
    raw::exit(EXIT_SET_UP.into())
}

/// The whole state of the program.
struct Supervisor {
    options: Options,
    slots: &'static mut Slots,
    log: Log,
    signals: Signals,
    /// The inotify descriptor, which reports changes in CONFDIR and RUNDIR/down.
    watch: Option<OwnedFd>,
    /// The current plan, from which services are started.
    plan: Option<OwnedFd>,
    /// The child that reads CONFDIR, with the plan that it writes; or, at the very end, the child
    /// that ends the machine.
    helper: Option<(Pid, Option<OwnedFd>)>,
    /// When the next helper is due.
    rescan_ms: Option<u64>,
    /// The latest time of the next rescan, if there was a change since the last one.
    latest_ms: Option<u64>,
    /// In a shutdown, the signal that began it, and how many signals have asked for it: the second
    /// one hastens it.
    ending: Option<(u32, u8)>,
    /// The exit code, if the end of a service decides it.
    code: Option<u8>,
    /// Whether the status has to be written, because a service has changed.
    has_news: bool,
    /// How writing the status went the last time; see [`rundir::write_status`].
    written: Result<bool, Errno>,
    /// The lock on RUNDIR, if we have it.
    lock: Option<OwnedFd>,
}

impl Supervisor {
    /// Starts up; or, with `-n`, only checks the service files.
    ///
    /// # Errors
    /// The exit code, if the files were checked, or if start-up failed, which is reported.
    fn new(options: Options, slots: &'static mut Slots) -> Result<Self, u8> {
        // The main command comes first. No service in CONFDIR can have its name.
        let name = Name::try_from("(main)").unwrap_or_default();
        let policy = Policy { restart: Restart::Exit, stop: SIGTERM, timeout_ms: 0, log: None };
        let main = Entry { name, flags: GOOD, policy, ..Entry::default() };
        let main = if options.main.count() > 0 { main } else { Entry::default() };
        let _fits = slots.push(Slot::new(main, options.start_ms));
        if options.check {
            return Err(reader::check(options.confdir, slots));
        }
        let log = Log::open();
        let signals = Signals::new().map_err(|errno| {
            // If we are out of descriptors the log may have none either.
            stdio::print(2, &["going: unable to start: ", raw::reason(errno), "\n"]);
            EXIT_SET_UP
        })?;
        if options.place == Place::Machine {
            // Pages of the program could be dropped, and then the disk that they have to be read
            // from again may be gone or hang.
            let _as_it_is = mlockall(MlockAllFlags::CURRENT);
        }
        let lock = rundir::lock(options.rundir);
        // Anything else that is wrong with RUNDIR is logged when the status cannot be written.
        if matches!(lock, Err(Errno::AGAIN)) && options.place != Place::Machine {
            let path = options.rundir.to_bytes().escape_ascii();
            log.say(ERROR, format_args!("unable to start: another going runs on RUNDIR {path}"));
            return Err(EXIT_SET_UP);
        }
        // Descendants that lose their parent become our children, to be reaped. Those of PID 1 do
        // so anyway.
        let _elsewhere = set_child_subreaper(Some(getpid()));
        Ok(Self {
            options,
            slots,
            log,
            signals,
            watch: None,
            plan: None,
            helper: None,
            rescan_ms: Some(0),
            latest_ms: None,
            ending: None,
            code: None,
            has_news: false,
            written: Ok(false),
            lock: lock.ok(),
        })
    }

    /// Supervises until it is told to end; returns the exit code.
    fn run(&mut self) -> u8 {
        loop {
            self.take_signal();
            // A limited number: children may end faster than we can reap them.
            let has_more = (0..REAP_MAX).all(|_| self.reap_one().is_some());
            let tick_ms = (0..self.slots.len()).filter_map(|index| self.tick(index)).min();
            let is_over = self.ending.is_some() && !self.slots.iter().any(Slot::is_up);
            // After a change, services that have had their turn may have been waiting for just
            // that: everything is looked at once more before we wait.
            let more_ms = (has_more || self.has_news).then_some(0);
            self.write_status();
            if is_over && self.options.place != Place::Machine {
                return self.code.unwrap_or(0);
            }
            let due_ms = [tick_ms, self.tick_helper(is_over), more_ms].into_iter().flatten().min();
            self.signals.wait(due_ms, [self.watch.as_ref(), None]);
        }
    }

    /// Does what a signal asks for, if one has come. A signal that does not ask for the shutdown is
    /// passed on to the main command, too.
    fn take_signal(&mut self) {
        let Some(signal) = self.signals.read() else { return };
        let main = self.slots.get(MAIN).and_then(|main| main.service.pid());
        if is_ending(signal, self.options.place, main.is_some()) {
            // The shutdown itself sends the main command its signal.
            self.end(signal);
            self.ending = self.ending.map(|(first, count)| (first, count.saturating_add(1)));
        } else if let Some(pid) = main
            && !matches!(signal, SIGCHLD | SIGTSTP | SIGTTIN | SIGTTOU)
        {
            signal_group(pid, signal);
        }
        if signal == SIGHUP {
            // At once, without waiting for a quiet moment.
            (self.rescan_ms, self.latest_ms) = (Some(0), Some(0));
        }
    }

    /// Begins the shutdown, unless it has begun. From now on no file is read: the next helper is
    /// the one that ends the machine.
    fn end(&mut self, signal: u32) {
        if self.ending.is_none() {
            self.log.say(INFO, format_args!("shutting down"));
            self.ending = Some((signal, 0));
            (self.helper, self.watch, self.rescan_ms) = (None, None, Some(clock::now_ms()));
        }
    }

    /// Reaps one child that has ended, if there is one: a service, a helper, or an orphan that we
    /// have adopted.
    fn reap_one(&mut self) -> Option<()> {
        let (pid, end) = raw::peek_ended_child()?;
        let index = self.slots.iter().position(|slot| slot.service.pid() == Some(pid));
        if index.is_some() {
            // Kills the rest of its process group. Until the leader is reaped no other group can
            // have its number.
            signal_group(pid, SIGKILL);
            take_terminal(pid);
        }
        // If that fails, give up this turn: the same child will be found again after the next wait.
        waitpid(process::Pid::from_raw(pid.get()), WaitOptions::NOHANG).ok()??;
        if let Some((_, plan)) = self.helper.take_if(|(helper, _)| *helper == pid) {
            self.helper_ended(end, plan);
        }
        index.map_or(Some(()), |index| self.ended(index, end))
    }

    /// Lets the service at `index` take the step that follows from the end of its process, and logs
    /// it.
    fn ended(&mut self, index: usize, end: End) -> Option<()> {
        // Even in state Up, its end was asked for if it is unwanted: somebody who signals all
        // processes at once may have reached it before we did.
        let is_wanted = self.want(index, self.slots.get(index)?) == Want::Up;
        let Slot { entry: Entry { name, .. }, service, .. } = self.slots.get_mut(index)?;
        let before = *service;
        service.step(Event::Ended(end), clock::now_ms());
        self.has_news = true;
        let is_unasked = is_wanted && matches!(before.state, State::Up(_));
        // The exit code is the one that a shell would report.
        let (how, number, code) = match end {
            End::Exited(code) => ("exited", code, code),
            End::Killed(signal) => ("killed by signal", signal, signal.saturating_add(128)),
        };
        let tenths = clock::now_ms().saturating_sub(before.since_ms) / 100;
        let text = format_args!("{name}: {how} {number} after {}.{} s", tenths / 10, tenths % 10);
        let delay = if service.state == State::Backoff { service.delay_ms / 1_000 } else { 0 };
        match service.state {
            _ if !is_unasked => self.log.say(INFO, format_args!("{name}: stopped, {how} {number}")),
            State::Done => self.log.say(if end == End::Exited(0) { INFO } else { WARNING }, text),
            _ => self.log.say(WARNING, format_args!("{text}, next start in {delay} s")),
        }
        if before.policy.restart == Restart::Exit && (is_unasked || index == MAIN) {
            self.code = self.code.or(Some(code));
            // As after a power failure: a machine of our own is switched off.
            self.end(SIGPWR);
        }
        Some(())
    }

    /// Lets the service at `index` take the step that is due, and returns when the next one is.
    fn tick(&mut self, index: usize) -> Option<u64> {
        let want = self.want(index, self.slots.get(index)?);
        let slot = self.slots.get_mut(index)?;
        let before = slot.service;
        slot.entry.flags &= !EDITED;
        // The last of its writers has ended: closing the pipe lets it see end-of-file.
        slot.pipe.take_if(|_| want == Want::Drain);
        let action = slot.service.step(Event::Tick(want), clock::now_ms());
        self.has_news |= action.is_some() || slot.service.state != before.state;
        match action {
            None => {}
            Some(Action::Spawn) => self.spawn(index)?,
            Some(Action::Signal(pid, signal)) => {
                if slot.service.state == State::Killed(pid) {
                    let seconds = clock::now_ms().saturating_sub(before.since_ms) / 1_000;
                    let (name, what) = (&slot.entry.name, "does not stop after");
                    self.log.say(WARNING, format_args!("{name}: {what} {seconds} s, killing"));
                }
                signal_group(pid, signal);
                signal_group(pid, SIGCONT);
            }
        }
        self.slots.get(index)?.service.due_ms(want)
    }

    /// What is wanted of the service in this `slot`, whose index is `index`.
    fn want(&self, index: usize, slot: &Slot) -> Want {
        let logs_to_it = |other: &&Slot| other.service.policy.log.map(usize::from) == Some(index);
        let writers = self.slots.iter().filter(logs_to_it).map(Slot::is_up);
        // Whether one of its writers is up, if it has any. Looking for them takes a walk over the
        // table, and matters in a shutdown only.
        match (self.ending, self.ending.and_then(|_| writers.max())) {
            (None, _) => slot.entry.want(),
            (Some((_, 2..)), _) => Want::Kill,
            // The main command may take its time, as it could without us. The others follow it.
            _ if index == MAIN => Want::Down,
            _ if self.slots.get(MAIN).is_some_and(Slot::is_up) => slot.entry.want(),
            // Nobody logs to it, even if somebody did before.
            (_, None) => Want::Shutdown,
            (_, Some(false)) => Want::Drain,
            // It is being stopped already. It may itself log to a reader, which waits for its end:
            // so there has to be a limit.
            _ if matches!(slot.service.state, State::Stopping(_)) => Want::Shutdown,
            _ => slot.entry.want(),
        }
    }

    /// Spawns the service at `index`.
    fn spawn(&mut self, index: usize) -> Option<()> {
        let Entry { name, policy, .. } = self.slots.get(index)?.entry.clone();
        let mut pipes = [Some(index), policy.log.map(usize::from)].into_iter().flatten();
        let opened =
            pipes.try_for_each(|of| self.slots.get_mut(of).map_or(Ok(()), Slot::open_pipe));
        let (plan, options) = (self.plan.as_ref(), &self.options);
        let service = || child::become_service(self.slots, index, plan, options, &self.log);
        let forked = opened.and_then(|()| raw::fork(service));
        let service = &mut self.slots.get_mut(index)?.service;
        service.step(Event::Spawned(forked.ok(), policy), clock::now_ms());
        match forked {
            Ok(pid) => self.log.say(INFO, format_args!("{name}: started, pid {pid}")),
            Err(errno) => {
                let (why, delay) = (raw::reason(errno), service.delay_ms / 1_000);
                let text = format_args!("{name}: unable to fork: {why}, next start in {delay} s");
                self.log.say(WARNING, text);
            }
        }
        Some(())
    }

    /// Takes note of changes, starts a helper if one is due and none is running, and returns when
    /// the next one is due. In a shutdown none is, until it `is_over`: then one ends the machine.
    fn tick_helper(&mut self, is_over: bool) -> Option<u64> {
        if self.watch.as_ref().is_some_and(watch::has_news) {
            let latest_ms = clock::now_ms().saturating_add(WAIT_MS);
            let latest_ms = *self.latest_ms.get_or_insert(latest_ms);
            self.rescan_ms = Some(latest_ms.min(clock::now_ms().saturating_add(QUIET_MS)));
        }
        let may_start = self.helper.is_none() && (is_over || self.ending.is_none());
        // A rescan also forgets services that have ended and have no file any more, which may make
        // room for others.
        if may_start && self.slots.iter().any(|slot| slot.entry.has(GONE) && !slot.is_up()) {
            self.rescan_in(QUIET_MS);
        }
        if may_start && self.rescan_ms.is_some_and(|due_ms| due_ms <= clock::now_ms()) {
            (self.rescan_ms, self.latest_ms) = (None, None);
            if let Err(errno) = self.start_helper() {
                let what = if is_over { "end the machine" } else { "read CONFDIR" };
                let why = raw::reason(errno);
                self.log.say(WARNING, format_args!("unable to begin to {what}: {why}"));
                // Perhaps there are too many processes: kill those that are left, to make room.
                let _room = is_over.then(|| raw::kill(-1, SIGKILL));
                self.rescan_in(RETRY_MS);
            }
        }
        self.rescan_ms.filter(|_| may_start)
    }

    /// Makes a rescan due after `wait_ms`, unless one is due earlier.
    #[inline(never)]
    fn rescan_in(&mut self, wait_ms: u64) {
        let due_ms = clock::now_ms().saturating_add(wait_ms);
        self.rescan_ms = Some(self.rescan_ms.map_or(due_ms, |before_ms| before_ms.min(due_ms)));
    }

    /// Starts a reader; or, in a shutdown, the child that ends the machine.
    fn start_helper(&mut self) -> Result<(), Errno> {
        if let Some((signal, _)) = self.ending {
            // A child may wait for the disk while PID 1 goes on reaping. It needs no plan.
            let ended = raw::fork(|| power::end_machine(signal, &self.log));
            return ended.map(|pid| self.helper = Some((pid, None)));
        }
        let plan = table::plan()?;
        // If there is none, the reader reports it, and another rescan follows.
        self.watch = self.watch.take().or_else(|| watch::open().ok());
        let (old, watch) = (self.plan.as_ref(), self.watch.as_ref());
        let reader = || reader::run(&self.options, self.slots, &plan, old, watch, &self.log);
        self.helper = Some((raw::fork(reader)?, Some(plan)));
        Ok(())
    }

    /// Takes note of how a helper ended, which may have written this `plan`. A plan counts only if
    /// its reader has come to the end.
    fn helper_ended(&mut self, end: End, plan: Option<OwnedFd>) {
        if let (End::Killed(signal), None) = (end, self.ending) {
            let text = format_args!("unable to read CONFDIR: killed by signal {signal}");
            self.log.say(WARNING, text);
        }
        let plan = plan.filter(|_| matches!(end, End::Exited(..=INCOMPLETE)));
        let is_adopted = plan.is_some_and(|plan| self.adopt(plan).is_ok());
        if end != End::Exited(COMPLETE) || !is_adopted {
            self.rescan_in(if end == End::Exited(UNSETTLED) { QUIET_MS } else { RETRY_MS });
        }
    }

    /// Takes over the entries of a plan, from which services are then started. If reading it fails
    /// half-way, the entries that were taken over point to texts that the old plan does not have,
    /// which their services notice by the hash.
    fn adopt(&mut self, plan: OwnedFd) -> Result<(), Errno> {
        let mut record = Record::default();
        self.has_news = true;
        for (index, offset) in (plan::ENTRIES..).step_by(size_of::<Record>()).enumerate() {
            if pread(&plan, record.as_flattened_mut(), offset)? < size_of::<Record>() {
                break;
            }
            let entry = Entry::decode(record);
            match self.slots.get_mut(index) {
                Some(slot) if slot.entry.name == entry.name => slot.entry = entry,
                Some(slot) => {
                    *slot = Slot::new(entry, clock::now_ms());
                    // A process that still logs to the former owner of this slot does not log to
                    // the new one.
                    let logs = self.slots.iter_mut().map(|slot| &mut slot.service.policy.log);
                    logs.for_each(|log| *log = log.filter(|log| usize::from(*log) != index));
                }
                None => drop(self.slots.push(Slot::new(entry, clock::now_ms()))),
            }
        }
        self.plan = Some(plan);
        Ok(())
    }

    /// Brings RUNDIR/status up to date. If that fails it is tried again with the next change.
    fn write_status(&mut self) {
        if !core::mem::take(&mut self.has_news) {
            return;
        }
        let first = format_args!("going {VERSION} {} {}\n", self.log.pid, self.options.start_ms);
        let known = self.slots.iter().filter(|slot| !slot.entry.name.is_empty());
        let lines = known.map(|slot| line(&slot.entry, &slot.service));
        let written = rundir::write_status(self.options.rundir, &mut self.lock, first, lines);
        if matches!(written, Err(Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE)) {
            // The status is out of date, and nothing may tell us when there is room again.
            self.rescan_in(RETRY_MS);
        }
        // `Ok(true)`, a new RUNDIR, is stored as `Ok(false)`, for the next time it is the same one.
        // So the two differ if RUNDIR is new, or if an error has come, changed or gone.
        if core::mem::replace(&mut self.written, written.and(Ok(false))) == written {
            return;
        }
        // RUNDIR may have been replaced, and the new one may hold other services down.
        let Err(errno) = written else { return self.rescan_in(QUIET_MS) };
        let (path, why) = (self.options.rundir.to_bytes().escape_ascii(), raw::reason(errno));
        self.log.say(WARNING, format_args!("unable to write status in RUNDIR {path}: {why}"));
    }
}
