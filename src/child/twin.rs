//! No service runs twice, even if the supervisor was killed and started again.
//!
//! `RUNDIR/pid/NAME` says which process is the service. A child writes itself there, and before it
//! does, it ends the process that the file names, should that still be the service. It is locked
//! from before that until execve(2), so two children of different supervisors take turns, and who
//! finds his own supervisor dead when his turn comes leaves.
//!
//! Never trusts a number alone: it means a service only if that process also began when the file
//! says.

use super::Birth;
use crate::linux::{process::signal_group, raw};
use core::fmt::Write;
use core::time::Duration;
use heapless::String;
use linux_raw_sys::general::{SIGKILL, SIGTERM};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, ftruncate, open, openat};
use rustix::io::{Errno, pread, pwrite, read};
use rustix::process::{Pid, PidfdFlags, getpid, getppid, pidfd_open};

/// One clock tick of `/proc/PID/stat`; there are 100 in a second wherever we run.
const TICK_MS: u64 = 10;
/// From TERM, which the kernel has sent when the supervisor died, to KILL.
const TERM_MS: u64 = 5_000;
/// From KILL until we start all the same: a process may be in disk sleep for ever.
const KILL_MS: u64 = 2_000;

/// Makes this process the one and only `birth`. The file it returns stays locked until execve(2)
/// closes it.
///
/// # Errors
/// Why the file cannot be written; ESRCH if the supervisor has died, so that another may have taken
/// over.
pub fn be_the_only_one(birth: &Birth, rundir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut path = String::<64>::new();
    write!(path, "pid/{}", birth.name).map_err(|_| Errno::NAMETOOLONG)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    // Whoever can open it can lock it, and keep the service from starting.
    let mode = Mode::RUSR | Mode::WUSR;
    let file = openat(rundir, path.as_str(), flags | OFlags::CLOEXEC, mode)?;
    flock(&file, FlockOperation::LockExclusive)?;
    if getppid() != Some(birth.parent) {
        return Err(Errno::SRCH);
    }
    if let Some((pid, began)) = read_line(&file) {
        end(pid, began);
    }
    let mut line = String::<32>::new();
    // Without /proc nobody could tell this process from another of its number.
    let began = began_ms(getpid()).ok_or(Errno::NOSYS)?;
    let _fits = writeln!(line, "{} {began}", getpid().as_raw_pid());
    ftruncate(&file, 0)?;
    pwrite(&file, line.as_bytes(), 0)?;
    Ok(file)
}

/// What the file says: a process, and when it began.
fn read_line(file: &OwnedFd) -> Option<(Pid, u64)> {
    let mut line = [0; 32];
    let len = pread(file, &mut line, 0).ok()?;
    let mut words = core::str::from_utf8(line.get(..len)?).ok()?.split_ascii_whitespace();
    let pid = words.next()?.parse().ok().and_then(Pid::from_raw)?;
    Some((pid, words.next()?.parse().ok()?))
}

/// Ends the process `pid` if it is the one that began at `began`.
fn end(pid: Pid, began: u64) {
    // The descriptor first: what is then found true of the number is true of the process.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if began_ms(pid) != Some(began) {
        return;
    }
    // Who waits can be stopped. There is nothing to undo: the lock goes with the process.
    raw::block_signals(false);
    for (signal, wait_ms) in [(SIGTERM, TERM_MS), (SIGKILL, KILL_MS)] {
        signal_group(pid.as_raw_nonzero(), signal);
        let timeout = Timespec::try_from(Duration::from_millis(wait_ms)).ok();
        let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], timeout.as_ref());
        if ended.is_ok_and(|count| count > 0) {
            return;
        }
    }
}

/// When the process began, see proc_pid_stat(5): the 20th field behind the name in parentheses.
fn began_ms(pid: Pid) -> Option<u64> {
    let mut path = String::<32>::new();
    write!(path, "/proc/{}/stat", pid.as_raw_pid()).ok()?;
    let stat = open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 512];
    let len = read(stat, &mut text).ok()?;
    let fields = text.get(..len)?.rsplit(|&byte| byte == b')').next()?;
    let ticks = fields.split(|&byte| byte == b' ').nth(20)?;
    core::str::from_utf8(ticks).ok()?.parse::<u64>().ok()?.checked_mul(TICK_MS)
}
