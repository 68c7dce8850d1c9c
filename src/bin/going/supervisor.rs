//! The loop: waits, reads signals, reaps, hears what a rescan found, and lets every service take
//! its next step.
//!
//! The one place that turns an [`Action`] into a syscall. Waits nowhere but at the head of the
//! loop, and ends by a shutdown alone.

use crate::pipes::{self, Pipes};
use going::child::reader::Told;
use going::child::{self, Birth, power};
use going::linux::options::Options;
use going::linux::process::{reap, signal_group};
use going::linux::rundir::Status;
use going::linux::syslog::{INFO, Log, WARNING};
use going::linux::{clock, raw, signals::Signals};
use going::model::order::{Ending, Order, Place, order};
use going::model::service::{Action, End, Event, Policy, Restart, State, Want};
use going::model::status::{Line, VERSION};
use going::model::table::{SERVICES_MAX, Slot, Table};
use heapless::Vec;
use linux_raw_sys::general::{SIGCHLD, SIGCONT, SIGKILL, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::getpid;

/// Until the end of the machine is tried again.
const END_RETRY_MS: u64 = 1_000;

/// The command of the command line, as a service: no file can have its name.
pub const MAIN: &str = "(main)";

/// What has a fixed size, but too large a one for the stack.
pub struct Memory {
    pub table: Table,
    /// What was told of CONFDIR.
    pub told: Told,
    /// What services log through.
    pub pipes: Pipes,
}

impl Memory {
    pub const fn new() -> Self {
        Self { table: Table::new(), told: Vec::new(), pipes: [const { None }; SERVICES_MAX] }
    }
}

/// Everything there is.
pub struct Supervisor {
    pub options: Options,
    pub memory: &'static mut Memory,
    pub log: Log,
    pub signals: Signals,
    /// Tells of changes in CONFDIR and RUNDIR/down.
    pub watch: Option<OwnedFd>,
    /// Where the reader sends what it finds, as long as there is one.
    pub reader: Option<OwnedFd>,
    /// When CONFDIR is to be read next.
    pub rescan_ms: Option<u64>,
    /// When the first change was noticed that has not been read yet.
    pub noticed_ms: Option<u64>,
    /// Whether all of CONFDIR could be read, now or earlier.
    pub has_read: bool,
    /// What everything is wanted to be, whatever the files say: the supervisor is to end.
    pub shutdown: Option<Want>,
    /// Whether a signal has said so: the next one hastens it.
    pub is_told: bool,
    pub ending: Ending,
    /// The exit code that a service has brought about.
    pub code: Option<u8>,
    /// Whether the status says something else than the table.
    pub has_news: bool,
    /// Why the status could not be written the last time.
    pub unwritten: Option<Errno>,
    /// That of RUNDIR, if it could be locked.
    pub lock: Option<OwnedFd>,
    /// The time, as of the last waking up, and of the start.
    pub now_ms: u64,
    pub start_ms: u64,
}

impl Supervisor {
    /// Begins with a rescan.
    pub fn new(
        options: Options,
        memory: &'static mut Memory,
        log: Log,
        signals: Signals,
        lock: Option<OwnedFd>,
    ) -> Self {
        let now_ms = clock::now_ms();
        Self {
            options,
            memory,
            log,
            signals,
            watch: None,
            reader: None,
            rescan_ms: Some(now_ms),
            noticed_ms: None,
            has_read: false,
            shutdown: None,
            is_told: false,
            ending: Ending::Exit,
            code: None,
            has_news: false,
            unwritten: None,
            lock,
            now_ms,
            start_ms: now_ms,
        }
    }

    /// Supervises until it is told to end.
    pub fn run(&mut self) {
        let mut due_ms = self.rescan_ms;
        loop {
            let others = [self.watch.as_ref(), self.reader.as_ref()];
            let may_have_changed = self.signals.wait(due_ms, others);
            self.now_ms = clock::now_ms();
            if may_have_changed {
                self.notice();
            }
            self.signals.read().for_each(|signal| self.take(signal));
            while self.reap_one().is_some() {}
            self.hear();
            let (mut tick_ms, mut has_children) = self.tick();
            if tick_ms.is_some_and(|tick_ms| tick_ms <= self.now_ms) {
                // What was edited is started before anything is written about it.
                (tick_ms, has_children) = self.tick();
            }
            if self.reader.is_none() {
                self.forget();
            }
            self.rescan();
            self.write_status();
            if self.shutdown.is_some() && !has_children {
                return;
            }
            let may_rescan = self.reader.is_none() && self.shutdown.is_none();
            let rescan_ms = self.rescan_ms.filter(|_| may_rescan);
            due_ms = [tick_ms, rescan_ms].into_iter().flatten().min();
        }
    }

    /// Does what a signal asks for. The command of the command line gets it, too.
    fn take(&mut self, signal: u32) {
        let main = self.memory.table.slots.iter().find(|slot| slot.name == MAIN);
        let pid = main.and_then(|slot| slot.service.pid());
        let ends = signal == SIGTERM || self.options.place == Place::Machine;
        let order = order(signal, self.options.place);
        match (order, pid) {
            // It is stopped by the shutdown.
            (Order::End(ending), _) if pid.is_none() || ends => {
                self.end(ending);
                self.shutdown = if self.is_told { Some(Want::Kill) } else { self.shutdown };
                self.is_told = true;
            }
            (_, Some(pid)) if !matches!(signal, SIGCHLD | SIGTSTP | SIGTTIN | SIGTTOU) => {
                signal_group(pid, signal);
            }
            _ => {}
        }
        if order == Order::Rescan {
            self.rescan_ms = Some(0);
        }
    }

    /// Begins to end everything, unless that has begun.
    fn end(&mut self, ending: Ending) {
        if self.shutdown.is_none() {
            self.log.say(INFO, format_args!("shutting down"));
            (self.shutdown, self.ending) = (Some(Want::Shutdown), ending);
        }
    }

    /// Reaps a child that has ended, if there is one: a service, a reader, or an orphan that became
    /// ours.
    fn reap_one(&mut self) -> Option<()> {
        let pid = raw::peek_ended_child()?;
        let mut slots = self.memory.table.slots.iter();
        let index = slots.position(|slot| slot.service.pid() == Some(pid));
        if index.is_some() {
            // What is left of its group; until the leader is reaped nobody else has the number.
            signal_group(pid, SIGKILL);
        }
        let end = reap(pid)?;
        match index {
            Some(index) => self.ended(index, end),
            None => Some(()),
        }
    }

    /// Takes the step that the end of its process means to a service, and says so.
    fn ended(&mut self, index: usize, end: End) -> Option<()> {
        let before = self.memory.table.slots.get(index)?.service;
        self.step(index, Event::Ended(end));
        let Slot { name, service: after, .. } = self.memory.table.slots.get(index)?;
        let was_up = matches!(before.state, State::Up(_));
        let is_last = before.policy.restart == Restart::Exit && (was_up || name == MAIN);
        let (how, number) = match end {
            End::Exited(code) => ("exited", code),
            End::Killed(signal) => ("killed by signal", signal),
        };
        let tenths = after.since_ms.saturating_sub(before.since_ms) / 100;
        let (up, tenth, delay) = (tenths / 10, tenths % 10, after.delay_ms() / 1_000);
        let text = format_args!("{name}: {how} {number} after {up}.{tenth} s");
        match after.state {
            _ if !was_up => self.log.say(INFO, format_args!("{name}: stopped, {how} {number}")),
            State::Done if end == End::Exited(0) => self.log.say(INFO, text),
            State::Done => self.log.say(WARNING, text),
            _ => self.log.say(WARNING, format_args!("{text}, next start in {delay} s")),
        }
        if is_last {
            self.code = self.code.or(Some(end.code()));
            let ending =
                if self.options.place == Place::Machine { Ending::PowerOff } else { Ending::Exit };
            self.end(ending);
        }
        Some(())
    }

    /// Lets every service take the step that it is time for; says when the next one is due, and
    /// whether there are processes.
    fn tick(&mut self) -> (Option<u64>, bool) {
        let (mut due_ms, mut has_children) = (None, false);
        for index in 0..self.memory.table.slots.len() {
            let want = self.want(index);
            self.step(index, Event::Tick(want));
            let Some(slot) = self.memory.table.slots.get_mut(index) else { continue };
            let mut slot_due_ms = slot.service.due_ms(want);
            if slot.edited && self.reader.is_none() {
                // Now that it has been unwanted for one tick; there may be another step at once.
                slot.edited = false;
                slot_due_ms = Some(self.now_ms);
            }
            due_ms = [due_ms, slot_due_ms].into_iter().flatten().min();
            has_children |= slot.service.pid().is_some();
        }
        (due_ms, has_children)
    }

    /// What the service at `index` should be.
    fn want(&mut self, index: usize) -> Want {
        let Memory { table, pipes, .. } = &mut *self.memory;
        let Some(slot) = table.slots.get(index) else { return Want::Down };
        let is_up = |slot: &Slot| slot.service.pid().is_some();
        let main_is_up = || table.slots.iter().any(|slot| slot.name == MAIN && is_up(slot));
        match self.shutdown {
            None => slot.want(),
            // It takes its time, as it would without us; the others end after it.
            Some(Want::Shutdown) if slot.name == MAIN => Want::Down,
            Some(Want::Shutdown) if main_is_up() => slot.want(),
            // Who once was logged to, and is no more, is like any other.
            Some(Want::Shutdown) if slot.logged_to && table.is_logged_to(&slot.name, |_| true) => {
                let may_go_on = matches!(slot.service.state, State::Up(_));
                if may_go_on && table.is_logged_to(&slot.name, is_up) {
                    return slot.want();
                }
                // The last that could write has ended: end-of-file.
                pipes.get_mut(index).map(Option::take);
                Want::Drain
            }
            Some(want) => want,
        }
    }

    /// Takes one step of the state machine, and does what it says.
    fn step(&mut self, index: usize, event: Event) {
        let Some(slot) = self.memory.table.slots.get_mut(index) else { return };
        let before = slot.service;
        let action = slot.service.step(event, self.now_ms);
        self.has_news |= slot.service.state != before.state;
        match action {
            None => {}
            Some(Action::Signal(pid, signal)) => {
                if matches!(slot.service.state, State::Killed(_)) {
                    let seconds = self.now_ms.saturating_sub(before.since_ms) / 1_000;
                    let (name, what) = (&slot.name, "does not stop after");
                    self.log.say(WARNING, format_args!("{name}: {what} {seconds} s, killing"));
                }
                signal_group(pid, signal);
                signal_group(pid, SIGCONT);
            }
            Some(Action::Spawn) => self.spawn(index),
        }
    }

    /// Makes the process of a service.
    fn spawn(&mut self, index: usize) {
        let Memory { table, pipes, .. } = &mut *self.memory;
        let Some(slot) = table.slots.get(index) else { return };
        let (name, text) = (slot.name.clone(), slot.text(&table.pool));
        let (policy, parent) = (Policy::of(text), getpid());
        let log = slot.log(&table.pool);
        match pipes::open_for(pipes, slot, &table.slots, log).and_then(|()| raw::fork()) {
            Ok(None) => child::become_service(&Birth {
                name: &name,
                text,
                table,
                stdin: pipes::find(pipes, &table.slots, name.as_bytes()).map(|pipe| &pipe.read),
                log: log
                    .and_then(|log| pipes::find(pipes, &table.slots, log))
                    .map(|pipe| &pipe.write),
                options: &self.options,
                is_main: name == MAIN,
                parent,
                syslog: &self.log,
            }),
            Ok(Some(pid)) => {
                self.log.say(INFO, format_args!("{name}: started, pid {pid}"));
                self.step(index, Event::Spawned(pid, policy));
            }
            Err(errno) => {
                self.step(index, Event::SpawnFailed);
                let delay_ms =
                    self.memory.table.slots.get(index).map(|slot| slot.service.delay_ms());
                let (why, delay) = (raw::reason(errno), delay_ms.unwrap_or(0) / 1_000);
                let text = format_args!("{name}: unable to fork: {why}, next start in {delay} s");
                self.log.say(WARNING, text);
            }
        }
    }

    /// Forgets who has gone.
    fn forget(&mut self) {
        let Memory { table, pipes, told, .. } = &mut *self.memory;
        while let Some(index) = table.forget_one() {
            self.has_news = true;
            pipes.get_mut(index).map(Option::take);
            // The last slot has moved there, and so does its pipe.
            let moved = pipes.get_mut(table.slots.len()).and_then(Option::take);
            if let Some(place) = pipes.get_mut(index) {
                *place = moved;
            }
            if !told.is_empty() {
                // There may be room now for what was turned away.
                self.rescan_ms = Some(0);
            }
        }
    }

    /// Brings RUNDIR/status up to date; what fails is tried again when we are next awake.
    fn write_status(&mut self) {
        if !self.has_news {
            return;
        }
        let status = Status::new(self.options.rundir, &mut self.lock);
        let written = status.and_then(|mut status| {
            status.add(format_args!(
                "going {VERSION} {} {}\n",
                getpid().as_raw_pid(),
                self.start_ms
            ))?;
            for slot in &self.memory.table.slots {
                status.add(format_args!("{}", Line(slot)))?;
            }
            status.publish()
        });
        self.has_news = written.is_err();
        if let Some(errno) = written.err().filter(|errno| self.unwritten != Some(*errno)) {
            let (path, why) = (self.options.rundir.to_bytes().escape_ascii(), raw::reason(errno));
            self.log.say(WARNING, format_args!("unable to write status in RUNDIR {path}: {why}"));
        }
        self.unwritten = written.err();
    }

    /// Ends the machine. A child does it, which may wait; PID 1 goes on reaping.
    pub fn end_machine(&self) -> ! {
        let mut child = None;
        loop {
            if child.is_none() {
                child = match raw::fork() {
                    Ok(None) => power::end_machine(self.ending, &self.log),
                    Ok(pid) => pid,
                    Err(_) => None,
                };
            }
            self.signals.wait(Some(clock::now_ms().saturating_add(END_RETRY_MS)), [None, None]);
            self.signals.read().for_each(drop);
            while let Some(pid) = raw::peek_ended_child() {
                child = child.filter(|child| *child != pid);
                reap(pid);
            }
        }
    }
}
