//! The rescan, as seen from the supervisor: when one is due, and what became of it.

use crate::supervisor::Supervisor;
use going::child::plan::ENTRIES;
use going::child::power;
use going::child::reader::{self, COMPLETE, INCOMPLETE, UNSETTLED};
use going::linux::syslog::WARNING;
use going::linux::table::{self, Slot};
use going::linux::{raw, watch};
use going::model::entry::{Entry, GONE, Record};
use going::model::service::End;
use linux_raw_sys::general::SIGKILL;
use rustix::fd::OwnedFd;
use rustix::io::{Errno, pread};

/// From the last change of a file until CONFDIR is read: a change may have several steps.
pub const QUIET_MS: u64 = 200;
/// From the first change, should there be no quiet.
const WAIT_MS: u64 = 2_000;
/// While CONFDIR cannot be read or watched it is tried again so often: the one exception to no
/// polling.
const RETRY_MS: u64 = 5_000;

impl Supervisor {
    /// Takes note of changes, which make a rescan due.
    pub fn notice(&mut self) {
        if self.watch.as_ref().is_some_and(watch::has_news) {
            let latest_ms = self.now_ms.saturating_add(WAIT_MS);
            let latest_ms = *self.latest_ms.get_or_insert(latest_ms);
            self.rescan_ms = Some(latest_ms.min(self.now_ms.saturating_add(QUIET_MS)));
        }
    }

    /// Starts a helper if that is due and there is none; says when it is due by itself. In a
    /// shutdown none is started before that `is_over`: then it ends the machine.
    pub fn help(&mut self, is_over: bool) -> Option<u64> {
        let may_start = self.helper.is_none() && (is_over || self.ending.is_none());
        // Whoever has ended and has no file any more is forgotten then, which may make room.
        if may_start && self.slots.iter().any(|slot| slot.entry.has(GONE) && !slot.is_up()) {
            self.rescan_in(QUIET_MS);
        }
        if may_start && self.rescan_ms.is_some_and(|due_ms| due_ms <= self.now_ms) {
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
    pub fn rescan_in(&mut self, wait_ms: u64) {
        self.rescan_ms.get_or_insert(self.now_ms.saturating_add(wait_ms));
    }

    fn start_helper(&mut self) -> Result<(), Errno> {
        // Without it the reader says so, and all is tried again.
        self.watch = self.watch.take().or_else(|| watch::open().ok());
        let plan = table::plan()?;
        let (old, watch) = (self.plan.as_ref(), self.watch.as_ref());
        let helper = || match self.ending {
            // It may wait; PID 1 goes on reaping.
            Some(ending) => power::end_machine(ending, &self.log),
            None => reader::run(&self.options, self.slots, &plan, old, watch, &self.log),
        };
        self.helper = Some((raw::fork(helper)?, plan));
        Ok(())
    }

    /// Hears how a helper ended, which has left this plan. Whoever has not come to the end has
    /// failed.
    pub fn hear(&mut self, end: End, plan: OwnedFd) {
        let outcome = end.code();
        if let End::Killed(signal) = end {
            let text = format_args!("unable to read CONFDIR: killed by signal {signal}");
            self.log.say(WARNING, text);
        }
        let is_adopted = outcome <= INCOMPLETE && self.adopt(plan).is_ok();
        if outcome != COMPLETE || !is_adopted {
            self.rescan_in(if outcome == UNSETTLED { QUIET_MS } else { RETRY_MS });
        }
    }

    /// Takes over the entries of a plan, and makes it the one that services are started by. If not
    /// all can be read, those that were notice that their text is not in the old one.
    fn adopt(&mut self, plan: OwnedFd) -> Result<(), Errno> {
        let mut record = Record::default();
        self.has_news = true;
        for (index, offset) in (ENTRIES..).step_by(size_of::<Record>()).enumerate() {
            if pread(&plan, record.as_flattened_mut(), offset)? < size_of::<Record>() {
                break;
            }
            let entry = Entry::decode(record);
            match self.slots.get_mut(index) {
                Some(slot) if slot.entry.name == entry.name => slot.entry = entry,
                Some(slot) => *slot = Slot::new(entry, self.now_ms),
                None => drop(self.slots.push(Slot::new(entry, self.now_ms))),
            }
        }
        self.plan = Some(plan);
        Ok(())
    }
}
