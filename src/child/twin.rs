//! No service runs twice, even if the supervisor was killed and started again.
//!
//! `RUNDIR/pid/NAME` says which process is the service. A child writes itself there, and before it
//! does, it ends the process that the file names, should that still be the service. It is locked
//! meanwhile, so two children of different supervisors take turns, and who finds his own supervisor
//! dead when his turn comes leaves.
//!
//! Never trusts a number alone: it means a service only if that process has had it since before the
//! file was written, in this life of the machine and in this PID namespace.

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

/// From TERM, which the kernel has sent when the supervisor died, to KILL.
const TERM_MS: u64 = 5_000;
/// From KILL until we start all the same: a process may be in disk sleep for ever.
const KILL_MS: u64 = 2_000;
/// How often it is looked for, where the kernel tells nobody of its end.
const LOOK_MS: u64 = 50;
/// A clock tick of `/proc/PID/stat`: USER_HZ is 100 wherever there is a Linux that we build for.
const TICK_MS: u64 = 10;
/// Bytes of a pid file, and of what is read in /proc up to what is of interest, and more.
const TEXT_MAX: usize = 512;

/// The beginning of a small file.
type Text = Vec<u8, TEXT_MAX>;

/// Makes this process the one and only `birth`; does nothing without RUNDIR, nor for an orphan,
/// which will be told to leave.
///
/// # Errors
/// Why the file cannot be written.
#[inline(never)]
pub fn be_the_only_one(birth: &Birth) -> Result<(), Errno> {
    let rundir = birth.options.rundir;
    let dir = if let Ok(dir) = open_pids(rundir) {
        dir
    } else {
        // Said when the status cannot be written there.
        let Ok(made) = rundir::open_dir(rundir) else { return Ok(()) };
        // Whether it is there will be seen at once.
        let _exists = mkdirat(&made, c"pid", Mode::from_raw_mode(0o755));
        open_pids(rundir)?
    };
    let file = with_path(&[birth.name.as_bytes()], |name| lock(&dir, name))?;
    if birth.is_orphan() {
        return Ok(());
    }
    end_and_wait(&read_text(&file)?);
    // Without /proc nobody could tell this process from another of its number.
    let (life, now) = (life().ok_or(Errno::NOSYS)?, clock::now_ms() / TICK_MS);
    let line: String<TEXT_MAX> =
        format!("{} {now} {life}\n", getpid().as_raw_pid()).map_err(|_| Errno::MSGSIZE)?;
    // What is left of a longer line is behind this one's end.
    pwrite(&file, line.as_bytes(), 0).map(|_| ())
}

/// Ends the process that the pid file `text` means, if it still is there. Who waits for that can be
/// stopped, and yet it is ended.
fn end_and_wait(text: &[u8]) {
    if find(text).is_none() {
        return;
    }
    let Ok(other) = end_apart(text).map(|pid| Pid::from_raw(pid.get())) else {
        raw::block_signals(0);
        return end(text);
    };
    // It may not have come to that yet; and what is left of our group ends with us.
    let _leads = setpgid(other, other);
    raw::block_signals(0);
    // A service would not know what to do with a child of ours.
    let _reaped = waitpid(other, WaitOptions::empty());
}

/// Ends what a killed supervisor has left behind of the service whose file in `dir` is `name`. What
/// the file says now is what is ended, whoever starts meanwhile; so it needs no lock.
///
/// # Errors
/// Why the file cannot be read, or why there is no process.
pub fn end_leftover(dir: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | rundir::FLAGS.difference(OFlags::CREATE);
    let file = openat(dir, name, flags, Mode::empty())?;
    end_apart(&read_text(&file)?).map(|_| ())
}

/// Ends the process that the pid file `text` means, if it still is there, in a process of its own,
/// which nobody stops: it may take its time. It keeps nothing open: whoever reads from a pipe is to
/// see the end of that, and whoever waits for the lock need not wait for this.
fn end_apart(text: &[u8]) -> Result<service::Pid, Errno> {
    raw::fork(|| {
        // Not of the group of a service, which may be told to end.
        let _leads = setpgid(None, None);
        let _closed = descriptors::close_from(0, false);
        end(text);
        raw::exit(0)
    })
}

/// Opens the directory of the pid files, itself and not what a link in its place leads to.
///
/// # Errors
/// Those of open(2).
pub fn open_pids(rundir: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    with_path(&[rundir.to_bytes(), b"/pid"], |path| open(path, flags, Mode::empty()))
}

/// Opens a pid file, and waits until it is ours.
fn lock(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let file = openat(dir, name, rundir::FLAGS | OFlags::RDWR, rundir::PRIVATE)?;
    let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).or_else(|_| {
        // Who waits can be stopped.
        raw::block_signals(0);
        flock(&file, FlockOperation::LockExclusive)
    });
    locked.map(|()| file)
}

/// The beginning of `file`.
fn read_text(file: &OwnedFd) -> Result<Text, Errno> {
    let mut text = [0; TEXT_MAX];
    let len = pread(file, &mut text, 0)?;
    Ok(text.into_iter().take(len).collect())
}

/// The beginning of a file in /proc.
fn read_proc(path: &[&[u8]]) -> Option<Text> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = with_path(path, |path| open(path, flags, Mode::empty()));
    read_text(&file.ok()?).ok()
}

/// What tells this life of the machine from all others, see proc_sys_kernel(5), and the numbers
/// that processes have here from those elsewhere, see pid_namespaces(7): of two namespaces with the
/// same inode, the second has begun when all of the first had ended.
fn life() -> Option<String<TEXT_MAX>> {
    let boot = read_proc(&[b"/proc/sys/kernel/random/boot_id"])?;
    // A kernel without namespaces has no such file.
    let numbers = stat(c"/proc/self/ns/pid").map_or(0, |stat| stat.st_ino);
    format!("{} {numbers}", str::from_utf8(boot.trim_ascii_end()).ok()?).ok()
}

/// The process that the pid file `text` means, if there still is that one; and what tells of its
/// end, which Linux has since 5.3.
fn find(text: &[u8]) -> Option<(Pid, Option<OwnedFd>)> {
    let blank = |byte: &u8| *byte == b' ';
    let mut fields = text.split(|&byte| byte == b'\n').next()?.splitn(3, blank);
    let (digits, written, here) = (fields.next()?, number(fields.next()?)?, fields.next()?);
    let pid = Pid::from_raw(number(digits)?.try_into().ok()?);
    // Our own number was that of another in a PID namespace that is no more.
    let pid = pid.filter(|pid| *pid != getpid())?;
    // The descriptor first: what is then found true of the number is true of the process.
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok();
    // A /proc of another PID namespace tells of other processes.
    let own = number(read_proc(&[b"/proc/self/stat"])?.split(blank).next()?)?;
    // The 20th field behind the name in parentheses, see proc_pid_stat(5).
    let stat = read_proc(&[b"/proc/", digits, b"/stat"])?;
    let began = number(stat.rsplit(|&byte| byte == b')').next()?.split(blank).nth(20)?)?;
    let is_known = own == u64::try_from(getpid().as_raw_pid()).ok()?;
    let is_it = began <= written && life()?.as_bytes() == here;
    (is_known && is_it).then_some((pid, descriptor))
}

/// Ends the process that the pid file `text` means, if it still is there.
fn end(text: &[u8]) {
    let Some((pid, process)) = find(text) else { return };
    for (signal, wait_ms) in [(SIGTERM, TERM_MS), (SIGKILL, KILL_MS)] {
        signal_group(pid.as_raw_nonzero(), signal);
        let is_told = process.is_some();
        let (look_ms, looks) = if is_told { (wait_ms, 1) } else { (LOOK_MS, wait_ms / LOOK_MS) };
        let look = Timespec::try_from(Duration::from_millis(look_ms)).ok();
        for _ in 0..looks {
            let mut fd = process.as_ref().map(|process| PollFd::new(process, PollFlags::IN));
            let ended = poll(fd.as_mut_slice(), look.as_ref()).is_ok_and(|count| count > 0);
            if ended || !is_told && find(text).is_none() {
                return;
            }
        }
    }
}
