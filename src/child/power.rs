//! The end of the machine, in a child process, because it has to wait, which PID 1 must not.
//!
//! Never decides that the machine is to end.

use crate::linux::raw;
use crate::linux::syslog::{ERROR, Log};
use core::time::Duration;
use linux_raw_sys::general::{SIGCONT, SIGINT, SIGKILL, SIGTERM, SIGUSR1};
use rustix::event::{Timespec, poll};
use rustix::fs::sync;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::system::{RebootCommand, reboot};

/// From TERM to KILL, for processes that belong to no service.
const TERM_MS: u64 = 2_000;
/// The time that sync(2) is given: a disk may never answer.
const SYNC_MS: u64 = 10_000;
/// The interval of looking whether sync(2) has returned.
const LOOK_MS: u64 = 20;

/// How `signal` ends the machine: the table in going(8).
pub fn command(signal: u32) -> RebootCommand {
    match signal {
        SIGTERM | SIGINT => RebootCommand::Restart,
        SIGUSR1 => RebootCommand::Halt,
        _ => RebootCommand::PowerOff,
    }
}

/// Ends all processes but PID 1, writes everything to disk, and ends the machine as `signal` says.
pub fn end_machine(signal: u32, log: &Log) -> ! {
    // It does not matter whether any process is left.
    raw::kill(-1, SIGTERM);
    raw::kill(-1, SIGCONT);
    wait(TERM_MS);
    raw::kill(-1, SIGKILL);
    let syncing = raw::fork(|| {
        sync();
        raw::exit(0)
    });
    match syncing {
        Ok(pid) => {
            // By looking again and again: there may be no room for a pidfd that tells of its end.
            for _ in 0..SYNC_MS / LOOK_MS {
                if !matches!(waitpid(Pid::from_raw(pid.get()), WaitOptions::NOHANG), Ok(None)) {
                    break;
                }
                wait(LOOK_MS);
            }
        }
        Err(_) => sync(),
    }
    let why = raw::reason(reboot(command(signal)).err().unwrap_or(Errno::IO));
    log.say(ERROR, format_args!("unable to end the machine: {why}"));
    raw::exit(super::EXIT_SET_UP.into())
}

fn wait(wait_ms: u64) {
    let timeout = Timespec::try_from(Duration::from_millis(wait_ms)).ok();
    let _elapsed = poll(&mut [], timeout.as_ref());
}
