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
use super::path::with_path;
use crate::linux::{process::signal_group, raw, rundir};
use core::ffi::CStr;
use core::time::Duration;
use heapless::Vec;
use linux_raw_sys::general::{SIGKILL, SIGTERM};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, ftruncate, mkdirat, open, openat};
use rustix::io::{Errno, pread, pwrite, read};
use rustix::process::{Pid, PidfdFlags, getpid, getppid, pidfd_open};

/// From TERM, which the kernel has sent when the supervisor died, to KILL.
const TERM_MS: u64 = 5_000;
/// From KILL until we start all the same: a process may be in disk sleep for ever.
const KILL_MS: u64 = 2_000;
/// Bytes of `/proc/PID/stat` up to what is of interest, and more.
const STAT_MAX: usize = 512;

/// A process: its number, a blank, and when it began, in clock ticks since the start of the
/// machine.
type Process = Vec<u8, STAT_MAX>;

/// Makes this process the one and only `birth`. The file it returns, without RUNDIR none, stays
/// locked until execve(2) closes it.
///
/// # Errors
/// Why the file cannot be written; ESRCH if the supervisor has died, so that another may have taken
/// over.
#[inline(never)]
pub fn be_the_only_one(birth: &Birth) -> Result<Option<OwnedFd>, Errno> {
    // Said when the status cannot be written there.
    let Ok(rundir) = rundir::open_dir(birth.options.rundir) else { return Ok(None) };
    let file = with_path(&[b"pid/", birth.name.as_bytes()], |path| {
        lock(&rundir, path).or_else(|_| {
            // Whether it is there will be seen at once.
            let _exists = mkdirat(&rundir, c"pid", Mode::from_raw_mode(0o755));
            lock(&rundir, path)
        })
    })?;
    if getppid() != Some(birth.parent) {
        return Err(Errno::SRCH);
    }
    end(&read_old(&file)?);
    // Without /proc nobody could tell this process from another of its number.
    let mut process = process(b"self").ok_or(Errno::NOSYS)?;
    process.push(b'\n').map_err(|_| Errno::MSGSIZE)?;
    ftruncate(&file, 0)?;
    pwrite(&file, &process, 0)?;
    Ok(Some(file))
}

/// Ends what a killed supervisor has left behind of the service whose file in `dir` is `name`, in a
/// process of its own: it may take its time. What the file says now is what is ended, whoever
/// starts meanwhile; so it needs no lock.
///
/// # Errors
/// Why the file cannot be read, or why there is no process.
pub fn end_leftover(dir: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | rundir::FLAGS.difference(OFlags::CREATE);
    let old = read_old(&openat(dir, name, flags, Mode::empty())?)?;
    if raw::fork()?.is_none() {
        end(&old);
        raw::exit(0);
    }
    Ok(())
}

/// Opens a pid file, and waits until it is ours.
fn lock(dir: &OwnedFd, path: &CStr) -> Result<OwnedFd, Errno> {
    let file = openat(dir, path, rundir::FLAGS | OFlags::RDWR, rundir::PRIVATE)?;
    flock(&file, FlockOperation::LockExclusive).map(|()| file)
}

/// The process that the pid file names.
fn read_old(file: &OwnedFd) -> Result<Process, Errno> {
    let mut old = [0; STAT_MAX];
    let len = pread(file, &mut old, 0)?;
    let line = old.get(..len).unwrap_or_default().trim_ascii_end();
    Ok(line.iter().copied().collect())
}

/// Ends the process that is `old`, if it still is.
fn end(old: &[u8]) {
    let number = old.split(|&byte| byte == b' ').next().unwrap_or_default();
    let pid = str::from_utf8(number).ok().and_then(|number| number.parse().ok());
    // Our own number was that of another in a PID namespace that is no more, which began in the
    // same clock tick.
    let other = pid.and_then(Pid::from_raw).filter(|pid| *pid != getpid());
    let Some(pid) = other else { return };
    // The descriptor first: what is then found true of the number is true of the process.
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if process(number).is_none_or(|process| process != old) {
        return;
    }
    // Who waits can be stopped. There is nothing to undo: the lock goes with the process.
    raw::block_signals(false);
    for (signal, wait_ms) in [(SIGTERM, TERM_MS), (SIGKILL, KILL_MS)] {
        signal_group(pid.as_raw_nonzero(), signal);
        let timeout = Timespec::try_from(Duration::from_millis(wait_ms)).ok();
        let ended = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], timeout.as_ref());
        if ended.is_ok_and(|count| count > 0) {
            return;
        }
    }
}

/// The process of this number, or `self`, see proc_pid_stat(5): the first field, and the 20th
/// behind the name in parentheses.
fn process(number: &[u8]) -> Option<Process> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = [b"/proc/", number, b"/stat"];
    let stat = with_path(&path, |path| open(path, flags, Mode::empty())).ok()?;
    let mut text = [0; STAT_MAX];
    let len = read(stat, &mut text).ok()?;
    let text = text.get(..len)?;
    let blank = |byte: &u8| *byte == b' ';
    let number = text.split(blank).next()?;
    let began = text.rsplit(|&byte| byte == b')').next()?.split(blank).nth(20)?;
    let mut process = Process::new();
    [number, b" ", began].iter().try_for_each(|part| process.extend_from_slice(part)).ok()?;
    Some(process)
}
