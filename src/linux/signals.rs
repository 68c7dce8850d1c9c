//! Signals as something to read, and the one place where the program waits.
//!
//! All signals are blocked for good, so none can interrupt anything, and none is lost between
//! looking and waiting. Never handles one: what a signal means is for `bin/` to say.

use crate::linux::{clock, raw};
use core::time::Duration;
use linux_raw_sys::general::SIGCHLD;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, read};

/// Bytes of a struct signalfd_siginfo, see signalfd(2); the signal's number comes first.
const RECORD_LEN: usize = 128;

/// The signals of this process.
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks all signals, from now on.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn new() -> Result<Self, Errno> {
        raw::block_signals(true);
        // Whoever started us may have left it ignored: then the kernel would do the reaping.
        raw::reset_action(SIGCHLD);
        raw::signal_descriptor().map(Self)
    }

    /// Waits until there is a signal, or until `due_ms` if it is given.
    pub fn wait(&self, due_ms: Option<u64>) {
        let left =
            due_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(clock::now_ms())));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        // EINTR (after STOP and CONT) is an early return like any other: nothing will be due.
        let _ready = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout.as_ref());
    }

    /// The next signal that has come, if any; does not wait.
    pub fn next(&self) -> Option<u32> {
        let mut record = [0; RECORD_LEN];
        read(&self.0, &mut record).ok()?;
        record.first_chunk().copied().map(u32::from_ne_bytes)
    }
}
