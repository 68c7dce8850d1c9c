//! Signals: as something to read, and sent to process groups; and the one place where the program
//! waits.
//!
//! All signals are blocked for good, so none can interrupt anything, and none is lost between
//! looking and waiting. Never handles one: what a signal means is for `bin/` to say.

use crate::linux::{clock, raw};
use crate::model::service::Pid;
use core::time::Duration;
use linux_raw_sys::general::{_NSIG, SIGCHLD};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, read};
use rustix::process::getpid;
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// Bytes of a struct signalfd_siginfo, see signalfd(2); the signal's number comes first.
const RECORD_LEN: usize = 128;
/// Where in it the process stands that has sent the signal.
const SENDER: usize = 12;
/// Signals read at once.
const RECORDS: usize = 8;

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
        raw::block_signals(true);
        // Whoever started us may have left some ignored. With SIGCHLD the kernel would do the
        // reaping, and services would inherit it.
        (1..=_NSIG).for_each(|signal| raw::set_ignored(signal, false));
        raw::signal_descriptor().map(Self)
    }

    /// Waits until there is a signal, one of `others` can be read, or it is `due_ms`; whether there
    /// may be something in the first of them.
    pub fn wait(&self, due_ms: Option<u64>, others: [Option<&OwnedFd>; 2]) -> bool {
        let left =
            due_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(clock::now_ms())));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        // EINTR (after STOP and CONT) is an early return like any other: nothing will be due.
        // In the place of one that is not there the signals stand a second time.
        let [first, second] = others.map(|fd| fd.unwrap_or(&self.0));
        let mut fds = [first, second, &self.0].map(|fd| PollFd::new(fd, PollFlags::IN));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => return fds.first().is_some_and(|fd| !fd.revents().is_empty()),
            Err(Errno::INTR) => {}
            // As with a limit of descriptors that was set to 0: it is all that can be done.
            Err(_) => drop(poll(&mut [], Some(&PAUSE))),
        }
        true
    }

    /// The signals that have come; does not wait. Are there more, the next [`Signals::wait`] does
    /// not, either.
    pub fn read(&self) -> impl Iterator<Item = u32> + use<> {
        let mut records = [[0; RECORD_LEN]; RECORDS];
        let len = read(&self.0, records.as_flattened_mut()).unwrap_or(0);
        records.into_iter().take(len / RECORD_LEN).filter_map(|record| number(&record))
    }
}

/// The number of the signal; none if we have brought it upon ourselves: PIPE, by a message to a
/// pipe that nobody reads, or XFSZ. It means nothing, and is nobody else's.
fn number(record: &[u8; RECORD_LEN]) -> Option<u32> {
    let field = |at: usize| record.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let is_own = |number: &u32| {
        *number != SIGCHLD && field(SENDER) == Some(getpid().as_raw_pid().unsigned_abs())
    };
    field(0).filter(|number| !is_own(number))
}

/// Takes the terminal, if that is our standard input, from the group that `pid` leads, which is to
/// be no more: else whoever has started us could not read from it again.
pub fn take_terminal(pid: Pid) {
    let terminal = raw::stdio(0);
    if tcgetpgrp(terminal).is_ok_and(|group| group.as_raw_nonzero() == pid) {
        let _stays = raw::own_group().map(|group| tcsetpgrp(terminal, group));
    }
}

/// Sends `signal` to the process group that `pid` leads, which is not reaped yet: after that its
/// number may be anybody's. Right after fork(2), when there is no such group yet, it goes to the
/// process itself.
pub fn signal_group(pid: Pid, signal: u32) {
    if raw::kill(pid.get().wrapping_neg(), signal).is_err() {
        // ESRCH: it has ended. EPERM: it is another user's now; that it does not stop will be said.
        let _unheard = raw::kill(pid.get(), signal);
    }
}
