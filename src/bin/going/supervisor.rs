//! The loop: waits, reads signals, reaps, rescans, and lets every service take its next step.
//!
//! The one place that turns an [`Action`] into a syscall. Waits nowhere but at the head of the
//! loop, and ends by [`Want::Shutdown`] alone.

use core::ffi::CStr;
use going::child::{self, Birth};
use going::linux::process::{reap, signal_group};
use going::linux::syslog::{INFO, Log, WARNING};
use going::linux::{clock, raw, scan, signals::Signals};
use going::model::config::Text;
use going::model::service::{Action, End, Event, State, Want};
use going::model::table::{SERVICES_MAX, Slot, Table};
use heapless::{HistoryBuf, Vec};
use linux_raw_sys::general::{SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGTERM};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::getpid;

/// What has a fixed size, but too large a one for the stack.
pub struct Memory {
    pub table: Table,
    /// The service file that is being read.
    pub file: scan::File,
    /// Its normalised text.
    pub text: Text,
    /// Hashes of the files whose faults were told last.
    pub told: HistoryBuf<u32, SERVICES_MAX>,
}

impl Memory {
    pub const fn new() -> Self {
        let table = Table::new();
        Self { table, file: Vec::new(), text: Vec::new(), told: HistoryBuf::new() }
    }
}

/// What every action needs.
pub struct Shell {
    pub log: Log,
    /// RUNDIR and the lock in it.
    pub rundir: Option<[OwnedFd; 2]>,
}

/// Everything there is.
pub struct Supervisor {
    pub confdir: &'static CStr,
    pub memory: &'static mut Memory,
    pub shell: Shell,
    pub signals: Signals,
    /// When CONFDIR is read next.
    pub rescan_ms: Option<u64>,
    /// Why it could not be read the last time.
    pub unreadable: Option<Errno>,
    /// What everything is wanted to be, whatever CONFDIR says: the supervisor is to end.
    pub shutdown: Option<Want>,
}

impl Supervisor {
    /// Supervises until it is told to end; returns the exit code.
    pub fn run(&mut self) -> u8 {
        // Whichever comes first: what is due although nothing happens.
        let mut due_ms = self.rescan_ms;
        loop {
            self.signals.wait(due_ms);
            while let Some(signal) = self.signals.next() {
                self.take(signal);
            }
            while self.reap_one().is_some() {}
            if self.rescan_ms.is_some_and(|due_ms| due_ms <= clock::now_ms()) {
                self.rescan();
            }
            let Table { slots, pool } = &mut self.memory.table;
            let mut has_children = false;
            due_ms = None;
            for slot in slots {
                let want = self.shutdown.unwrap_or(slot.want());
                self.shell.step(slot, pool, Event::Tick(want));
                due_ms = [due_ms, slot.service.due_ms(want)].into_iter().flatten().min();
                has_children |= slot.service.pid().is_some();
            }
            if self.shutdown.is_some() && !has_children {
                return 0;
            }
            while self.memory.table.forget_one().is_some() {
                // There may be room now for what was turned away.
                self.rescan_ms = Some(0);
            }
            due_ms = [due_ms, self.rescan_ms].into_iter().flatten().min();
        }
    }

    /// What a signal means to us. All others mean nothing.
    fn take(&mut self, signal: u32) {
        match signal {
            SIGHUP => self.rescan_ms = Some(0),
            SIGTERM | SIGINT if self.shutdown.is_none() => {
                self.shell.log.say(INFO, format_args!("shutting down"));
                self.shutdown = Some(Want::Shutdown);
            }
            SIGTERM | SIGINT => self.shutdown = Some(Want::Kill),
            _ => {}
        }
    }

    /// Reaps a child that has ended, if there is one: a service, or an orphan that became ours.
    fn reap_one(&mut self) -> Option<()> {
        let Table { slots, pool } = &mut self.memory.table;
        let pid = raw::peek_ended_child()?;
        let slot = slots.iter_mut().find(|slot| slot.service.pid() == Some(pid));
        if slot.is_some() {
            // What is left of its group; until the leader is reaped nobody else has the number.
            signal_group(pid, SIGKILL);
        }
        let end = reap(pid)?;
        slot.map(|slot| self.shell.end(slot, pool, end)).or(Some(()))
    }
}

impl Shell {
    /// Takes one step of the state machine, and does what it says.
    pub fn step(&self, slot: &mut Slot, pool: &[u8], event: Event) {
        let (now_ms, since_ms) = (clock::now_ms(), slot.service.since_ms);
        match slot.service.step(event, now_ms) {
            None => {}
            Some(Action::Signal(pid, signal)) => {
                if signal == SIGKILL {
                    let seconds = now_ms.saturating_sub(since_ms) / 1_000;
                    let (name, what) = (&slot.name, "does not stop after");
                    self.log.say(WARNING, format_args!("{name}: {what} {seconds} s, killing"));
                }
                signal_group(pid, signal);
                signal_group(pid, SIGCONT);
            }
            Some(Action::Spawn) => self.spawn(slot, pool),
        }
    }

    /// Makes the process of a service.
    fn spawn(&self, slot: &mut Slot, pool: &[u8]) {
        let (name, text, parent) = (slot.name.as_str(), slot.text(pool), getpid());
        let rundir = self.rundir.as_ref().map(|[dir, _]| dir);
        match raw::fork() {
            Ok(None) => {
                child::become_service(&Birth { name, text, rundir, parent, log: &self.log })
            }
            Ok(Some(pid)) => {
                self.log.say(INFO, format_args!("{name}: started, pid {pid}"));
                self.step(slot, pool, Event::Spawned(pid));
            }
            Err(errno) => {
                self.step(slot, pool, Event::SpawnFailed);
                let (name, seconds) = (&slot.name, slot.service.delay_ms() / 1_000);
                let why = raw::reason(errno);
                let text = format_args!("{name}: unable to fork: {why}, next start in {seconds} s");
                self.log.say(WARNING, text);
            }
        }
    }

    /// Takes the step that the end of its process means to a service, and says so.
    fn end(&self, slot: &mut Slot, pool: &[u8], end: End) {
        let before = slot.service;
        self.step(slot, pool, Event::Ended);
        let (name, after) = (&slot.name, &slot.service);
        let (how, number) = end;
        if !matches!(before.state, State::Up(_)) {
            return self.log.say(INFO, format_args!("{name}: stopped, {how} {number}"));
        }
        let tenths = after.since_ms.saturating_sub(before.since_ms) / 100;
        let (up, tenth, delay) = (tenths / 10, tenths % 10, after.delay_ms() / 1_000);
        let text =
            format_args!("{name}: {how} {number} after {up}.{tenth} s, next start in {delay} s");
        self.log.say(WARNING, text);
    }
}
