//! Signals: as something to read, and sent to process groups, whose terminal is seen to here too;
//! and the one place where the program waits.
//!
//! All signals are blocked for good, so none can interrupt anything, and none is lost between
//! looking and waiting. Never handles one: what a signal means is for `bin/` to say.

use crate::linux::{clock, raw};
use crate::model::service::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, read};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// Between two looks when there is no waiting for anything.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The signals of this process.
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks all signals, from now on.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn new() -> Result<Self, Errno> {
        raw::block_signals(u64::MAX);
        // Whoever started us may have left some ignored. With SIGCHLD the kernel would do the
        // reaping, and services would inherit it.
        (1..=linux_raw_sys::general::_NSIG).for_each(|signal| raw::set_ignored(signal, false));
        raw::signal_descriptor().map(Self)
    }

    /// Waits until there is a signal, one of `others` can be read, or it is `due_ms`; or less.
    pub fn wait(&self, due_ms: Option<u64>, others: [Option<&OwnedFd>; 2]) {
        let left_ms = due_ms.map(|due_ms| due_ms.saturating_sub(clock::now_ms()));
        let timeout = left_ms.and_then(|ms| core::time::Duration::from_millis(ms).try_into().ok());
        // In the place of one that is not there the signals stand a second time.
        let [first, second] = others.map(|fd| fd.unwrap_or(&self.0));
        let mut fds = [first, second, &self.0].map(|fd| PollFd::new(fd, PollFlags::IN));
        // EINTR (after STOP and CONT) is an early return like any other: nothing will be due. What
        // else there is, as a limit of descriptors that was set to 0, leaves nothing else to do.
        if poll(&mut fds, timeout.as_ref()).is_err_and(|errno| errno != Errno::INTR) {
            let _elapsed = poll(&mut [], Some(&PAUSE));
        }
    }

    /// A signal that has come, if one has; does not wait. Are there more, the next
    /// [`Signals::wait`] does not, either.
    ///
    /// None, too, if it is one that we have brought upon ourselves: PIPE, by a message to a pipe
    /// that nobody reads, or XFSZ. They mean nothing, and are nobody else's.
    pub fn read(&self) -> Option<u32> {
        // A struct signalfd_siginfo seen as numbers, see signalfd(2).
        let mut record = [[0; 4]; 32];
        read(&self.0, record.as_flattened_mut()).ok()?;
        let [signal, _, _, sender, ..] = record.map(u32::from_ne_bytes);
        (sender != rustix::process::getpid().as_raw_pid().unsigned_abs()).then_some(signal)
    }
}

/// Takes the terminal, if that is our standard input, from the group that `pid` leads, which is to
/// be no more: else whoever has started us could not read from it again.
pub fn take_terminal(pid: Pid) {
    let terminal = raw::stdio(0);
    if tcgetpgrp(terminal).is_ok_and(|group| group.as_raw_nonzero() == pid) {
        let _stays = raw::getpgid(0).map(|group| tcsetpgrp(terminal, group));
    }
}

/// Sends `signal` to the process group that `pid` leads, which is not reaped yet: after that its
/// number may be anybody's. Right after fork(2), when there is no such group yet, it goes to the
/// process itself.
pub fn signal_group(pid: Pid, signal: u32) {
    if raw::kill(pid.get().wrapping_neg(), signal) < 0 {
        // ESRCH: it has ended. EPERM: it is another user's now; that it does not stop will be said.
        raw::kill(pid.get(), signal);
    }
}
