//! The end of the machine, in a process of its own: it waits, which PID 1 must not.

use crate::linux::raw;
use crate::linux::syslog::{ERROR, Log};
use core::time::Duration;
use linux_raw_sys::general::{SIGCONT, SIGINT, SIGKILL, SIGTERM, SIGUSR1};
use rustix::event::{Timespec, poll};
use rustix::fs::sync;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::system::{RebootCommand, reboot};

/// From TERM to KILL, for whatever is no service.
const TERM_MS: u64 = 2_000;
/// For sync(2): a disk may never answer.
const SYNC_MS: u64 = 10_000;
/// How often it is looked whether that has ended.
const LOOK_MS: u64 = 20;

/// What the machine comes to when `signal` has ended everything: the table of going(8).
pub fn command(signal: u32) -> RebootCommand {
    match signal {
        SIGTERM | SIGINT => RebootCommand::Restart,
        SIGUSR1 => RebootCommand::Halt,
        _ => RebootCommand::PowerOff,
    }
}

/// Ends all processes but PID 1, writes everything to disk, and ends the machine as `signal` says.
pub fn end_machine(signal: u32, log: &Log) -> ! {
    // Whether there is anybody does not matter.
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
            // Looked at, for there need be no room for a descriptor that tells of its end.
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
