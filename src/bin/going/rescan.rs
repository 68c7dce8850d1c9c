//! The rescan, as seen from the supervisor: when one is due, and what became of it.

use crate::supervisor::Supervisor;
use going::child::plan::ENTRIES;
use going::child::reader::{COMPLETE, INCOMPLETE, Reader, UNSETTLED};
use going::linux::syslog::WARNING;
use going::linux::table::Slot;
use going::linux::{raw, watch};
use going::model::entry::{EDITED, Entry, Record};
use going::model::service::{End, Event, Want};
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, pread};

/// From the last change of a file until CONFDIR is read: a change may have several steps.
const QUIET_MS: u64 = 200;
/// From the first change, should there be no quiet.
const WAIT_MS: u64 = 2_000;
/// While CONFDIR cannot be read or watched it is tried again so often: the one exception to no
/// polling.
const RETRY_MS: u64 = 5_000;

impl Supervisor {
    /// Takes note of changes, which make a rescan due.
    pub fn notice(&mut self) {
        if self.watch.as_ref().is_some_and(watch::has_news) {
            let noticed_ms = *self.noticed_ms.get_or_insert(self.now_ms);
            let quiet_ms = self.now_ms.saturating_add(QUIET_MS);
            self.rescan_ms = Some(quiet_ms.min(noticed_ms.saturating_add(WAIT_MS)));
        }
    }

    /// Starts a reader if a rescan is due and there is none.
    pub fn rescan(&mut self) {
        let is_due = self.rescan_ms.is_some_and(|due_ms| due_ms <= self.now_ms);
        if !is_due || self.reader.is_some() || self.shutdown.is_some() {
            return;
        }
        (self.rescan_ms, self.noticed_ms) = (None, None);
        if let Err(errno) = self.start_reader() {
            let why = raw::reason(errno);
            self.log.say(WARNING, format_args!("unable to fork for CONFDIR: {why}"));
            self.retry(RETRY_MS);
        }
    }

    fn retry(&mut self, wait_ms: u64) {
        self.rescan_ms.get_or_insert(self.now_ms.saturating_add(wait_ms));
    }

    fn start_reader(&mut self) -> Result<(), Errno> {
        // Without it the reader says so, and all is tried again.
        self.watch = self.watch.take().or_else(|| watch::open().ok());
        let plan = memfd_create(c"plan", MemfdFlags::CLOEXEC)?;
        let Some(pid) = raw::fork()? else {
            let (confdir, log) = (self.options.confdir, Some(&self.log));
            let reader = Reader::new(confdir, self.slots, &plan, log);
            reader.run(self.options.rundir, self.watch.as_ref(), self.plan.as_ref())
        };
        self.reader = Some((pid, plan));
        Ok(())
    }

    /// Hears how a reader ended, which has left this plan. Whoever has not come to the end has
    /// failed.
    pub fn hear(&mut self, end: End, plan: OwnedFd) {
        let outcome = end.code();
        if outcome <= INCOMPLETE {
            self.adopt(plan);
        }
        match outcome {
            COMPLETE => {}
            UNSETTLED => self.retry(QUIET_MS),
            _ => self.retry(RETRY_MS),
        }
    }

    /// Takes over the entries of a plan, and makes it the one that services are started by.
    fn adopt(&mut self, plan: OwnedFd) {
        let mut record = Record::default();
        let offsets = (ENTRIES..).step_by(size_of::<Record>());
        for (index, offset) in offsets.enumerate() {
            if pread(&plan, record.as_flattened_mut(), offset) != Ok(size_of::<Record>()) {
                break;
            }
            let entry = Entry::decode(record);
            if index == self.slots.len() {
                let _fits = self.slots.push(Slot::new(Entry::NONE, self.now_ms));
            }
            let Some(slot) = self.slots.get_mut(index) else { break };
            if slot.entry.name != entry.name {
                *slot = Slot::new(Entry::NONE, self.now_ms);
            }
            let is_edited = entry.has(EDITED);
            slot.entry = entry;
            if is_edited {
                // To be unwanted for a moment is what starts it anew.
                self.step(index, Event::Tick(Want::Down));
            }
        }
        self.plan = Some(plan);
        self.has_news = true;
    }
}
