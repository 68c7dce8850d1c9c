//! signal and reload: send a signal to the main process of each service, and to no other process.
//!
//! A PID may belong to another process by the time it is used. So we open a pidfd first, and check
//! the PID only then: what we find out about the PID is true of the process that we opened. Before
//! Linux 5.3, or behind a seccomp filter that does not know them, there are no pidfds, and the PID
//! alone has to do.

use crate::output::{EXIT_FAILED, EXIT_OK, EXIT_USAGE, Failure, tell};
use crate::proc;
use crate::rundir::Rundir;
use crate::status::Status;
use going::linux::raw::reason;
use going::model::config::signal as signal_number;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// The signal that `word` means: its name in upper or lower case, with or without SIG, or its
/// number.
pub fn signal(word: &str) -> Result<Signal, Failure> {
    let name = word.to_ascii_uppercase();
    let number = signal_number(name.strip_prefix("SIG").unwrap_or(&name).as_bytes());
    let signal = number.and_then(|number| Signal::from_named_raw(number.into()));
    signal.ok_or_else(|| Failure::new(EXIT_USAGE, format!("not a signal from 1 to 31: {word}")))
}

/// Sends the signal to all of `names`. Returns the exit code.
pub fn send(rundir: &Rundir, signal: Signal, names: &[String]) -> u8 {
    let mut code = EXIT_OK;
    for name in names {
        let sent = open(rundir, name).and_then(|(process, pid)| {
            let number = pid.as_raw_nonzero();
            process
                .map_or_else(|| kill_process(pid, signal), |it| pidfd_send_signal(it, signal))
                .map(|()| format!("sent signal {} to pid {number}", signal.as_raw()))
                .map_err(|errno| format!("unable to signal pid {number}: {}", reason(errno)))
        });
        let is_told = tell(name, sent.as_ref().unwrap_or_else(|why| why));
        if sent.is_err() || !is_told {
            code = EXIT_FAILED;
        }
    }
    code
}

/// The main process of a service, with a pidfd if there are any, or why there is none to signal.
fn open(rundir: &Rundir, name: &str) -> Result<(Option<OwnedFd>, Pid), String> {
    let read = || rundir.read().map_err(|failure| failure.text);
    let pid_in = |status: &Status| status.service(name).and_then(|service| service.pid);
    let status = read()?;
    let state = status.service(name).map_or("gone", |service| service.state.as_str());
    let number = pid_in(&status).ok_or_else(|| format!("{state}, no process to signal"))?;
    let pid = Pid::from_raw(number).ok_or("no process to signal")?;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Some(process),
        Err(Errno::NOSYS | Errno::PERM) => None,
        Err(errno) => return Err(format!("unable to open pid {number}: {}", reason(errno))),
    };
    let status = read()?;
    let is_same = pid_in(&status) == Some(number);
    let is_child = proc::stat(number).is_none_or(|stat| Some(stat.parent) == status.pid);
    if is_same && is_child {
        Ok((process, pid))
    } else {
        Err(format!("pid {number} is no longer its process"))
    }
}
