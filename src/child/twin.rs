//! No service runs twice, even if the supervisor was killed and started again.
//!
//! `RUNDIR/pid/NAME` says which process is the service. A child that becomes the service writes its
//! own process ID there. Before that it ends the process that the file names, if that is still the
//! service. The file is locked meanwhile, so children of different supervisors take turns. One that
//! finds its own supervisor dead when its turn comes gives up.
//!
//! Never trusts a process ID alone: it counts only if that process existed before the file was
//! written, and if the file was written in this boot of the machine and in this PID namespace.

use super::path::with_path;
use super::{Birth, descriptors};
use crate::linux::{clock, raw, rundir, signals::signal_group};
use crate::model::config::number;
use crate::model::service;
use core::ffi::CStr;
use core::time::Duration;
use heapless::{String, Vec, format};
use linux_raw_sys::general::{SIGKILL, SIGTERM};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, mkdirat, open, openat, stat};
use rustix::io::{Errno, pread, pwrite};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use rustix::process::{getpid, pidfd_open, setpgid, waitpid};

/// From TERM to KILL. The kernel has sent a TERM, too, when the supervisor died.
const TERM_MS: u64 = 5_000;
/// From KILL until we start all the same: a process in disk sleep may never end.
const KILL_MS: u64 = 2_000;
/// The interval of looking for the process where there is no pidfd that tells of its end.
const LOOK_MS: u64 = 50;
/// A clock tick of `/proc/PID/stat`: USER_HZ is 100 on every architecture that we build for.
const TICK_MS: u64 = 10;
/// More bytes than a pid file has, and than a file in /proc has up to what we look for.
const TEXT_MAX: usize = 512;

/// The beginning of a small file.
type Text = Vec<u8, TEXT_MAX>;

/// Makes sure that this process is the only one of its service. Does nothing without RUNDIR, nor if
/// the supervisor has died, because the set-up is going to fail then.
///
/// # Errors
/// Why the file cannot be written.
#[inline(never)]
pub fn be_the_only_one(birth: &Birth) -> Result<(), Errno> {
    let rundir = birth.options.rundir;
    let dir = if let Ok(dir) = open_pids(rundir) {
        dir
    } else {
        // That RUNDIR is missing is reported when the status cannot be written.
        let Ok(made) = rundir::open_dir(rundir) else { return Ok(()) };
        // Whether it exists now is seen when it is opened.
        let _exists = mkdirat(&made, c"pid", Mode::from_raw_mode(0o755));
        open_pids(rundir)?
    };
    let file = with_path(&[birth.name.as_bytes()], |name| lock(&dir, name))?;
    if birth.is_orphan() {
        return Ok(());
    }
    end_and_wait(&read_text(&file)?);
    // Without /proc a later supervisor could not tell this process from another with its number.
    let (life, now) = (life().ok_or(Errno::NOSYS)?, clock::now_ms() / TICK_MS);
    let line: String<TEXT_MAX> =
        format!("{} {now} {life}\n", getpid().as_raw_pid()).map_err(|_| Errno::MSGSIZE)?;
    // The rest of a longer old line may remain, but after the end of this one.
    pwrite(&file, line.as_bytes(), 0).map(|_| ())
}

/// Ends the process that the pid file `text` means, if it is still there, and waits for its end.
/// While it waits, this process can be stopped. The other one is ended all the same, unless fork(2)
/// has failed.
fn end_and_wait(text: &[u8]) {
    if find(text).is_none() {
        return;
    }
    let Ok(other) = end_apart(text).map(|pid| Pid::from_raw(pid.get())) else {
        raw::block_signals(0);
        return end(text);
    };
    // It does so itself, but may not have come to that yet, and what is left of our process group
    // is killed if we end.
    let _leads = setpgid(other, other);
    raw::block_signals(0);
    // Reaped, because a service does not expect to have a child.
    let _reaped = waitpid(other, WaitOptions::empty());
}

/// Ends what a killed supervisor has left behind of the service whose pid file in `dir` is `name`.
/// It ends the process that the file names at this moment, and so needs no lock.
///
/// # Errors
/// Why the file cannot be read, or why there is no process.
pub fn end_leftover(dir: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | rundir::FLAGS.difference(OFlags::CREATE);
    let file = openat(dir, name, flags, Mode::empty())?;
    end_apart(&read_text(&file)?).map(|_| ())
}

/// Ends the process that the pid file `text` means, if it is still there. Does so in a new process,
/// which may take its time because nobody stops it. The new process closes all descriptors, so that
/// it keeps nobody from seeing the end of a pipe or from taking the lock.
fn end_apart(text: &[u8]) -> Result<service::Pid, Errno> {
    raw::fork(|| {
        // Out of the process group of the service, which may be signalled.
        let _leads = setpgid(None, None);
        let _closed = descriptors::close_from(0, false);
        end(text);
        raw::exit(0)
    })
}

/// Opens the directory of the pid files. Does not follow a link in its place.
///
/// # Errors
/// Those of open(2).
pub fn open_pids(rundir: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    with_path(&[rundir.to_bytes(), b"/pid"], |path| open(path, flags, Mode::empty()))
}

/// Opens a pid file, and waits for its lock.
fn lock(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let file = openat(dir, name, rundir::FLAGS | OFlags::RDWR, rundir::PRIVATE)?;
    let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).or_else(|_| {
        // While it waits, this process can be stopped.
        raw::block_signals(0);
        flock(&file, FlockOperation::LockExclusive)
    });
    locked.map(|()| file)
}

/// Reads the beginning of `file`.
fn read_text(file: &OwnedFd) -> Result<Text, Errno> {
    let mut text = [0; TEXT_MAX];
    let len = pread(file, &mut text, 0)?;
    Ok(text.into_iter().take(len).collect())
}

/// Reads the beginning of a file in /proc.
fn read_proc(path: &[&[u8]]) -> Option<Text> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = with_path(path, |path| open(path, flags, Mode::empty()));
    read_text(&file.ok()?).ok()
}

/// A text that identifies this boot of the machine, see proc_sys_kernel(5), and this PID namespace,
/// see pid_namespaces(7). Two namespaces may have the same inode one after the other, but the
/// second begins only when all processes of the first have ended.
fn life() -> Option<String<TEXT_MAX>> {
    let boot = read_proc(&[b"/proc/sys/kernel/random/boot_id"])?;
    // A kernel without PID namespaces does not have this file.
    let numbers = stat(c"/proc/self/ns/pid").map_or(0, |stat| stat.st_ino);
    format!("{} {numbers}", str::from_utf8(boot.trim_ascii_end()).ok()?).ok()
}

/// Finds the process that the pid file `text` means, if it is still there; and a pidfd that tells
/// of its end, from Linux 5.3 on.
fn find(text: &[u8]) -> Option<(Pid, Option<OwnedFd>)> {
    let blank = |byte: &u8| *byte == b' ';
    let mut fields = text.split(|&byte| byte == b'\n').next()?.splitn(3, blank);
    let (digits, written, here) = (fields.next()?, number(fields.next()?)?, fields.next()?);
    let pid = Pid::from_raw(number(digits)?.try_into().ok()?);
    // If it is our own, it was another process's in a PID namespace that is gone.
    let pid = pid.filter(|pid| *pid != getpid())?;
    // The pidfd first: what is then found out about the number is true of the process that it
    // refers to.
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok();
    // If /proc is that of another PID namespace it tells of other processes; /proc/self shows it.
    let own = number(read_proc(&[b"/proc/self/stat"])?.split(blank).next()?)?;
    // The start time, 20 fields after the name in parentheses, see proc_pid_stat(5).
    let stat = read_proc(&[b"/proc/", digits, b"/stat"])?;
    let began = number(stat.rsplit(|&byte| byte == b')').next()?.split(blank).nth(20)?)?;
    let is_known = own == u64::try_from(getpid().as_raw_pid()).ok()?;
    let is_it = began <= written && life()?.as_bytes() == here;
    (is_known && is_it).then_some((pid, descriptor))
}

/// Ends the process that the pid file `text` means, if it is still there.
fn end(text: &[u8]) {
    let Some((pid, process)) = find(text) else { return };
    for (signal, wait_ms) in [(SIGTERM, TERM_MS), (SIGKILL, KILL_MS)] {
        signal_group(pid.as_raw_nonzero(), signal);
        let has_pidfd = process.is_some();
        let (look_ms, looks) = if has_pidfd { (wait_ms, 1) } else { (LOOK_MS, wait_ms / LOOK_MS) };
        let look = Timespec::try_from(Duration::from_millis(look_ms)).ok();
        for _ in 0..looks {
            let mut fd = process.as_ref().map(|process| PollFd::new(process, PollFlags::IN));
            let ended = poll(fd.as_mut_slice(), look.as_ref()).is_ok_and(|count| count > 0);
            if ended || !has_pidfd && find(text).is_none() {
                return;
            }
        }
    }
}
