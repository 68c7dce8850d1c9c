//! The rescan, as seen from the supervisor: when one is due, and what the reader found.

use crate::supervisor::{Memory, Supervisor};
use going::child::reader::{COMPLETE, INCOMPLETE, Reader, UNREAD, UNSETTLED};
use going::linux::syslog::WARNING;
use going::linux::{raw, watch};
use going::model::table::RECORD_MAX;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

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
        match self.start_reader() {
            Ok(channel) => self.reader = Some(channel),
            Err(errno) => {
                let why = raw::reason(errno);
                self.log.say(WARNING, format_args!("unable to fork for CONFDIR: {why}"));
                self.retry(RETRY_MS);
            }
        }
    }

    fn retry(&mut self, wait_ms: u64) {
        self.has_news = true;
        self.rescan_ms.get_or_insert(self.now_ms.saturating_add(wait_ms));
    }

    fn start_reader(&mut self) -> Result<OwnedFd, Errno> {
        // Without it the reader says so, and all is tried again.
        self.watch = self.watch.take().or_else(|| watch::open().ok());
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
        if raw::fork()?.is_none() {
            let Memory { table, told, .. } = &mut *self.memory;
            let is_first = !self.has_read;
            let reader = Reader::new(self.options.confdir, table, told, &self.log, is_first);
            reader.run(self.options.rundir, self.watch.as_ref(), &theirs)
        }
        Ok(ours)
    }

    /// Takes what the reader has sent by now. Whoever ends without a last word has failed.
    pub fn hear(&mut self) {
        while let Some(reader) = &self.reader {
            let Memory { table, told, .. } = &mut *self.memory;
            let mut record = [0; RECORD_MAX];
            let len = match recv(reader, &mut record[..], RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return,
                received => received.map_or(0, |(len, _)| len),
            };
            self.has_news = true;
            let received = record.get(..len).unwrap_or_default();
            match received {
                [COMPLETE | UNSETTLED | UNREAD | INCOMPLETE, faults @ ..] => {
                    told.clear();
                    told.extend(faults.as_chunks().0.iter().copied());
                }
                [_, ..] => {
                    // The reader has found room in its copy, in this order: so there is room.
                    let _known = table.apply(received, self.now_ms);
                    continue;
                }
                [] => {}
            }
            let again_ms = match received.first() {
                Some(&COMPLETE) => None,
                Some(&UNSETTLED) => Some(QUIET_MS),
                _ => Some(RETRY_MS),
            };
            self.has_read |= matches!(received, [COMPLETE | UNSETTLED | UNREAD, ..]);
            if !told.is_empty() && table.slots.iter().any(|slot| slot.edited) {
                // There may be room now for what was turned away.
                self.rescan_ms = Some(0);
            }
            self.reader = None;
            if let Some(wait_ms) = again_ms {
                self.retry(wait_ms);
            }
        }
    }
}
