//! Signals as something to read, and the one place where the program waits.
//!
//! All signals are blocked for good, so none can interrupt anything, and none is lost between
//! looking and waiting. Never handles one: what a signal means is for `bin/` to say.

use crate::linux::{clock, raw};
use core::time::Duration;
use heapless::Vec;
use linux_raw_sys::general::_NSIG;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, read};

/// Bytes of a struct signalfd_siginfo, see signalfd(2); the signal's number comes first.
const RECORD_LEN: usize = 128;

/// Between two looks when there is no waiting for anything.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The signals of this process.
pub struct Signals(OwnedFd);

/// To be waited for beside other things; [`Signals::next`] reads them.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Signals {
    /// Blocks all signals, from now on.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn new() -> Result<Self, Errno> {
        raw::block_signals(true);
        // Whoever started us may have left some ignored. With SIGCHLD the kernel would do the
        // reaping, and services would inherit it.
        (1..=_NSIG).for_each(raw::reset_action);
        raw::signal_descriptor().map(Self)
    }

    /// Waits until there is a signal, one of `others` can be read, or it is `due_ms`.
    pub fn wait(&self, due_ms: Option<u64>, others: [Option<&OwnedFd>; 2]) {
        let left =
            due_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(clock::now_ms())));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        // EINTR (after STOP and CONT) is an early return like any other: nothing will be due.
        let fds = others.into_iter().flatten().chain([&self.0]);
        let mut fds: Vec<_, 3> = fds.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        if poll(&mut fds, timeout.as_ref()).is_err_and(|errno| errno != Errno::INTR) {
            // As with a limit of descriptors that was set to 0: it is all that can be done.
            let _pause = poll(&mut [], Some(&PAUSE));
        }
    }

    /// The next signal that has come, if any; does not wait.
    pub fn next(&self) -> Option<u32> {
        let mut record = [0; RECORD_LEN];
        read(&self.0, &mut record).ok()?;
        record.first_chunk().copied().map(u32::from_ne_bytes)
    }
}
