//! going(8), the supervisor: from the command line to the loop, which waits, reads signals, reaps,
//! hears what a rescan found, and lets every service take its next step.
//!
//! The one place that turns an [`Action`] into a syscall. Waits nowhere but at the end of each
//! turn, and ends by a shutdown alone.
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

/// Children reaped in one go: signals, deadlines and messages have their turn in between.
const REAP_MAX: usize = 256;

/// From the last change of a file until CONFDIR is read: a change may have several steps.
const QUIET_MS: u64 = 200;
/// From the first change, should there be no quiet.
const WAIT_MS: u64 = 2_000;
/// While CONFDIR cannot be read or watched, or there is no room for the status, it is tried again
/// so often: the one exception to no polling.
const RETRY_MS: u64 = 5_000;

going::program!(run, Slots);

/// The program; its exit code.
fn run(words: Strings<'static>, slots: &'static mut Slots) -> u8 {
    stdio::fill();
    let started = Options::new(words).and_then(|it| Supervisor::new(it, slots));
    // Once it runs nothing but a shutdown ends it: what fails is said, survived and tried again.
    started.map_or_else(|code| code, |mut supervisor| supervisor.run())
}

/// No input leads here. Should a defect do so after all, it says where; PID 1 stays, for the
/// machine and what runs on it depend on that.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let log = Log::open();
    log.say(ERROR, format_args!("{info}"));
    // And on the console, where somebody may look who has no syslog any more.
    Log { socket: None, ..log }.say(ERROR, format_args!("{info}"));
    while getpid().is_init() {
        let _interrupted = rustix::event::poll(&mut [], None);
    }
    raw::exit(EXIT_SET_UP.into())
}

/// Everything there is.
struct Supervisor {
    options: Options,
    slots: &'static mut Slots,
    log: Log,
    signals: Signals,
    /// Tells of changes in CONFDIR and RUNDIR/down.
    watch: Option<OwnedFd>,
    /// What services are started by.
    plan: Option<OwnedFd>,
    /// The process that reads CONFDIR or, at the very end, ends the machine, as long as there is
    /// one, and the plan that it makes.
    helper: Option<(Pid, Option<OwnedFd>)>,
    /// When the next helper is to be started.
    rescan_ms: Option<u64>,
    /// When CONFDIR is to be read at the latest, if there is a change that has not been read yet.
    latest_ms: Option<u64>,
    /// The signal that everything ends by, once it is to end, and how often a signal has said so:
    /// the second one hastens it.
    ending: Option<(u32, u8)>,
    /// The exit code that a service has brought about.
    code: Option<u8>,
    /// Whether something has become of a service since the status was written.
    has_news: bool,
    /// Why the status could not be written the last time; else that RUNDIR is the one it was.
    written: Result<bool, Errno>,
    /// That of RUNDIR, if it could be locked.
    lock: Option<OwnedFd>,
}

impl Supervisor {
    /// Start-up, unless the files are to be checked, no more.
    ///
    /// # Errors
    /// The exit code, when that is done, or start-up fails; why is said.
    fn new(options: Options, slots: &'static mut Slots) -> Result<Self, u8> {
        if options.check {
            return Err(reader::check(options.confdir, slots));
        }
        let log = Log::open();
        let signals = Signals::new().map_err(|errno| {
            // Without a descriptor there may be no log to say it in.
            stdio::print(2, &["going: unable to start: ", raw::reason(errno), "\n"]);
            EXIT_SET_UP
        })?;
        if options.place == Place::Machine {
            // The disk that it would be read from once more may be gone, or hang, by then.
            let _as_it_is = mlockall(MlockAllFlags::CURRENT);
        }
        let lock = rundir::lock(options.rundir);
        // All else that can be wrong with RUNDIR is said when the status cannot be written there.
        if matches!(lock, Err(Errno::AGAIN)) && options.place != Place::Machine {
            let path = options.rundir.to_bytes().escape_ascii();
            log.say(ERROR, format_args!("unable to start: another going runs on RUNDIR {path}"));
            return Err(EXIT_SET_UP);
        }
        // The main command comes first, under a name that no file can have.
        let name = Name::try_from("(main)").unwrap_or_default();
        let policy = Policy { restart: Restart::Exit, stop: SIGTERM, timeout_ms: 0, log: None };
        let main = Entry { name, flags: GOOD, policy, ..Entry::default() };
        let main = if options.main.count() > 0 { main } else { Entry::default() };
        let _fits = slots.push(Slot::new(main, options.start_ms));
        // Whatever loses its parent below us becomes ours to reap; as PID 1 it does so anyway.
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
            // There may always be more: whoever makes them may be faster than we are.
            let has_more = (0..REAP_MAX).all(|_| self.reap_one().is_some());
            let tick_ms = (0..self.slots.len()).filter_map(|index| self.tick(index)).min();
            let is_over = self.ending.is_some() && !self.slots.iter().any(Slot::is_up);
            // Who had their turn before may wait for what has just come about, and are asked again.
            let more_ms = (has_more || self.has_news).then_some(0);
            self.write_status();
            if is_over && self.options.place != Place::Machine {
                return self.code.unwrap_or(0);
            }
            let due_ms = [tick_ms, self.help(is_over), more_ms].into_iter().flatten().min();
            self.signals.wait(due_ms, [self.watch.as_ref(), None]);
        }
    }

    /// Does what a signal asks for, if one has come. The command of the command line gets it, too.
    fn take_signal(&mut self) {
        let Some(signal) = self.signals.read() else { return };
        let main = self.slots.get(MAIN).and_then(|main| main.service.pid());
        if is_ending(signal, self.options.place, main.is_some()) {
            // The command is stopped by the shutdown.
            self.end(signal);
            self.ending = self.ending.map(|(first, told)| (first, told.saturating_add(1)));
        } else if let Some(pid) = main
            && !matches!(signal, SIGCHLD | SIGTSTP | SIGTTIN | SIGTTOU)
        {
            signal_group(pid, signal);
        }
        if signal == SIGHUP {
            // At once, whether there is quiet or not.
            (self.rescan_ms, self.latest_ms) = (Some(0), Some(0));
        }
    }

    /// Begins to end everything, unless that has begun. No file is read any more: the next helper
    /// ends the machine.
    fn end(&mut self, signal: u32) {
        if self.ending.is_none() {
            self.log.say(INFO, format_args!("shutting down"));
            self.ending = Some((signal, 0));
            (self.helper, self.watch, self.rescan_ms) = (None, None, Some(clock::now_ms()));
        }
    }

    /// Reaps a child that has ended, if there is one: a service, a helper, or an orphan that became
    /// ours.
    fn reap_one(&mut self) -> Option<()> {
        let (pid, end) = raw::peek_ended_child()?;
        let index = self.slots.iter().position(|slot| slot.service.pid() == Some(pid));
        if index.is_some() {
            // What is left of its group; until the leader is reaped nobody else has the number.
            signal_group(pid, SIGKILL);
            take_terminal(pid);
        }
        // Should that fail, the loop waits first: whoever cannot be reaped is peeked at again.
        waitpid(process::Pid::from_raw(pid.get()), WaitOptions::NOHANG).ok()??;
        if let Some((_, plan)) = self.helper.take_if(|(helper, _)| *helper == pid) {
            self.hear(end, plan);
        }
        index.map_or(Some(()), |index| self.ended(index, end))
    }

    /// Takes the step that the end of its process means to a service, and says so.
    fn ended(&mut self, index: usize, end: End) -> Option<()> {
        // Whoever sends the stop signal to all processes may have been faster than we are.
        let is_wanted = self.want(index, self.slots.get(index)?) == Want::Up;
        let Slot { entry: Entry { name, .. }, service, .. } = self.slots.get_mut(index)?;
        let before = *service;
        service.step(Event::Ended(end), clock::now_ms());
        self.has_news = true;
        let is_unasked = is_wanted && matches!(before.state, State::Up(_));
        // The code is that of whoever ends for the same reason, as shells have it.
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
            // As if the power failed: a machine is switched off.
            self.end(SIGPWR);
        }
        Some(())
    }

    /// Lets the service at `index` take the step that is due, and says when the next one is.
    fn tick(&mut self, index: usize) -> Option<u64> {
        let want = self.want(index, self.slots.get(index)?);
        let slot = self.slots.get_mut(index)?;
        let before = slot.service;
        slot.entry.flags &= !EDITED;
        // The last that could write has ended: end-of-file.
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

    /// What the service in this `slot`, which is that at `index`, should be.
    fn want(&self, index: usize, slot: &Slot) -> Want {
        let logs_to_it = |other: &&Slot| other.service.policy.log.map(usize::from) == Some(index);
        let writers = self.slots.iter().filter(logs_to_it).map(Slot::is_up);
        // Whether one of them is up, if there are any; not looked for before it matters.
        match (self.ending, self.ending.and_then(|_| writers.max())) {
            (None, _) => slot.entry.want(),
            (Some((_, 2..)), _) => Want::Kill,
            // It takes its time, as it would without us; the others end after it.
            _ if index == MAIN => Want::Down,
            _ if self.slots.get(MAIN).is_some_and(Slot::is_up) => slot.entry.want(),
            // Who once was logged to, and is no more, is like any other.
            (_, None) => Want::Shutdown,
            (_, Some(false)) => Want::Drain,
            // It may log to one of those, who then waits for it.
            _ if matches!(slot.service.state, State::Stopping(_)) => Want::Shutdown,
            _ => slot.entry.want(),
        }
    }

    /// Makes the process of a service.
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

    /// Takes note of changes, and starts a helper if that is due and there is none; says when it is
    /// due by itself. In a shutdown that is not before all `is_over`: then it ends the machine.
    fn help(&mut self, is_over: bool) -> Option<u64> {
        if self.watch.as_ref().is_some_and(watch::has_news) {
            let latest_ms = clock::now_ms().saturating_add(WAIT_MS);
            let latest_ms = *self.latest_ms.get_or_insert(latest_ms);
            self.rescan_ms = Some(latest_ms.min(clock::now_ms().saturating_add(QUIET_MS)));
        }
        let may_start = self.helper.is_none() && (is_over || self.ending.is_none());
        // Whoever has ended and has no file any more is forgotten then, which may make room.
        if may_start && self.slots.iter().any(|slot| slot.entry.has(GONE) && !slot.is_up()) {
            self.rescan_in(QUIET_MS);
        }
        if may_start && self.rescan_ms.is_some_and(|due_ms| due_ms <= clock::now_ms()) {
            (self.rescan_ms, self.latest_ms) = (None, None);
            if let Err(errno) = self.start_helper() {
                let what = if is_over { "end the machine" } else { "read CONFDIR" };
                let why = raw::reason(errno);
                self.log.say(WARNING, format_args!("unable to begin to {what}: {why}"));
                // What is left makes room.
                let _room = is_over.then(|| raw::kill(-1, SIGKILL));
                self.rescan_in(RETRY_MS);
            }
        }
        self.rescan_ms.filter(|_| may_start)
    }

    /// Has CONFDIR read after so long at the latest.
    #[inline(never)]
    fn rescan_in(&mut self, wait_ms: u64) {
        let due_ms = clock::now_ms().saturating_add(wait_ms);
        self.rescan_ms = Some(self.rescan_ms.map_or(due_ms, |before_ms| before_ms.min(due_ms)));
    }

    fn start_helper(&mut self) -> Result<(), Errno> {
        if let Some((signal, _)) = self.ending {
            // It may wait; PID 1 goes on reaping. There need be no room for a plan.
            let ended = raw::fork(|| power::end_machine(signal, &self.log));
            return ended.map(|pid| self.helper = Some((pid, None)));
        }
        let plan = table::plan()?;
        // Without it the reader says so, and all is tried again.
        self.watch = self.watch.take().or_else(|| watch::open().ok());
        let (old, watch) = (self.plan.as_ref(), self.watch.as_ref());
        let reader = || reader::run(&self.options, self.slots, &plan, old, watch, &self.log);
        self.helper = Some((raw::fork(reader)?, Some(plan)));
        Ok(())
    }

    /// Hears how a helper ended, which has left this plan. Whoever has not come to the end has
    /// failed.
    fn hear(&mut self, end: End, plan: Option<OwnedFd>) {
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

    /// Takes over the entries of a plan, and makes it the one that services are started by. If not
    /// all can be read, those that were notice that their text is not in the old one.
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
                    // Who still logs to the one before does not log to this one.
                    let logs = self.slots.iter_mut().map(|slot| &mut slot.service.policy.log);
                    logs.for_each(|log| *log = log.filter(|log| usize::from(*log) != index));
                }
                None => drop(self.slots.push(Slot::new(entry, clock::now_ms()))),
            }
        }
        self.plan = Some(plan);
        Ok(())
    }

    /// Brings RUNDIR/status up to date; what fails is tried again with the next news.
    fn write_status(&mut self) {
        if !core::mem::take(&mut self.has_news) {
            return;
        }
        let first = format_args!("going {VERSION} {} {}\n", self.log.pid, self.options.start_ms);
        let known = self.slots.iter().filter(|slot| !slot.entry.name.is_empty());
        let lines = known.map(|slot| line(&slot.entry, &slot.service));
        let written = rundir::write_status(self.options.rundir, &mut self.lock, first, lines);
        if matches!(written, Err(Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE)) {
            // What makes room may be no news, and the one that is there is no longer true.
            self.rescan_in(RETRY_MS);
        }
        // Only of the first time is it news that RUNDIR was another one.
        if core::mem::replace(&mut self.written, written.and(Ok(false))) == written {
            return;
        }
        // RUNDIR may be another one than before: nobody has looked into it yet.
        let Err(errno) = written else { return self.rescan_in(QUIET_MS) };
        let (path, why) = (self.options.rundir.to_bytes().escape_ascii(), raw::reason(errno));
        self.log.say(WARNING, format_args!("unable to write status in RUNDIR {path}: {why}"));
    }
}
