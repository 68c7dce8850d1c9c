//! Children: to signal them, and to reap them.
//!
//! Never waits, and never remembers a number: that of a reaped child may be anybody's.

use crate::linux::raw;
use crate::model::service::Pid;
use rustix::process::{self, WaitOptions, waitpid};

/// Sends `signal` to the process group that `pid` leads. Right after fork(2), when there is no such
/// group yet, it goes to the process itself.
pub fn signal_group(pid: Pid, signal: u32) {
    if raw::kill(pid.get().wrapping_neg(), signal).is_err() {
        // ESRCH: it has ended. EPERM: it is another user's now; that it does not stop will be said.
        let _unheard = raw::kill(pid.get(), signal);
    }
}

/// Reaps `pid`, a child that has ended.
pub fn reap(pid: Pid) {
    // It is there until this: it cannot fail.
    let _reaped = waitpid(process::Pid::from_raw(pid.get()), WaitOptions::NOHANG);
}
