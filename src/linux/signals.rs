//! Signals: read from a descriptor, and sent to process groups; the terminal that such a group may
//! have; and the one place where the program waits.
//!
//! All signals stay blocked, so that none interrupts anything, and none is lost between looking for
//! it and waiting. Never installs a handler, and never decides what a signal means.

use crate::linux::{clock, raw};
use crate::model::service::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, read};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// The interval of looking for work if poll(2) itself fails.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The signals of this process.
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks all signals, for as long as the program runs.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn new() -> Result<Self, Errno> {
        raw::block_signals(u64::MAX);
        // Our parent may have left some ignored. Services would inherit that, and if SIGCHLD is
        // ignored, the kernel reaps children itself.
        (1..=linux_raw_sys::general::_NSIG).for_each(|signal| raw::set_ignored(signal, false));
        raw::signal_descriptor().map(Self)
    }

    /// Waits until there is a signal, one of `others` can be read, or `due_ms` is reached. May
    /// return early.
    pub fn wait(&self, due_ms: Option<u64>, others: [Option<&OwnedFd>; 2]) {
        let left_ms = due_ms.map(|due_ms| due_ms.saturating_sub(clock::now_ms()));
        let timeout = left_ms.and_then(|ms| core::time::Duration::from_millis(ms).try_into().ok());
        // In place of a missing one we wait for the signals twice.
        let [first, second] = others.map(|fd| fd.unwrap_or(&self.0));
        let mut fds = [first, second, &self.0].map(|fd| PollFd::new(fd, PollFlags::IN));
        // EINTR is an early return, which does no harm. After any other error, such as EINVAL if
        // somebody has set our limit of descriptors below 3, all that is left is to look for work
        // from time to time.
        if poll(&mut fds, timeout.as_ref()).is_err_and(|errno| errno != Errno::INTR) {
            let _elapsed = poll(&mut [], Some(&PAUSE));
        }
    }

    /// Returns a signal that has come, if there is one. Never waits. If there are more, the next
    /// [`Signals::wait`] returns at once.
    ///
    /// Returns none, too, for a signal that this process has caused itself: PIPE, by a message to a
    /// pipe that nobody reads, or XFSZ. It means nothing, and must not reach the main command.
    pub fn read(&self) -> Option<u32> {
        // A struct signalfd_siginfo seen as numbers, see signalfd(2).
        let mut record = [[0; 4]; 32];
        read(&self.0, record.as_flattened_mut()).ok()?;
        let [signal, _, _, sender, ..] = record.map(u32::from_ne_bytes);
        (sender != rustix::process::getpid().as_raw_pid().unsigned_abs()).then_some(signal)
    }
}

/// Takes the terminal back from the process group that `pid` leads, which has ended, if that is the
/// foreground process group of our standard input. Otherwise the shell that has started us could
/// not read from the terminal again.
pub fn take_terminal(pid: Pid) {
    let terminal = raw::stdio(0);
    if tcgetpgrp(terminal).is_ok_and(|group| group.as_raw_nonzero() == pid) {
        let _stays = raw::getpgid(0).map(|group| tcsetpgrp(terminal, group));
    }
}

/// Sends `signal` to the process group that `pid` leads. That process must not be reaped yet, for
/// then its number may be another's. If there is no such group yet, right after fork(2), the signal
/// goes to the process itself.
pub fn signal_group(pid: Pid, signal: u32) {
    if raw::kill(pid.get().wrapping_neg(), signal) < 0 {
        // If this fails, too: ESRCH, it has ended. EPERM, it has become another user's; that it
        // does not stop will be logged.
        raw::kill(pid.get(), signal);
    }
}
