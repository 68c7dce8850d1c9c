//! RUNDIR: the lock that keeps a second supervisor out, and the status.
//!
//! Never required: without it going works, but does not notice a second going. It is opened by path
//! every time, because somebody may replace it while we run.

use core::ffi::CStr;
use core::fmt::{self, Write};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat};
use rustix::fs::{fcntl_lock, fstat, mkdirat, open, openat, renameat, statat};
use rustix::io::{Errno, write};

/// How every file in it is opened: without waiting, and without following a link.
pub const FLAGS: OFlags =
    OFlags::CREATE.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
/// The mode of files that are locked: anybody who can open one could lock it, too.
pub const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens RUNDIR, and creates it if it is missing.
///
/// # Errors
/// Those of open(2).
pub fn open_dir(path: &CStr) -> Result<OwnedFd, Errno> {
    let open = || open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    open().or_else(|_| match mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        // EEXIST: another of our processes has created it at the same moment.
        Ok(()) | Err(Errno::EXIST) => open(),
        Err(errno) => Err(errno),
    })
}

/// Locks RUNDIR/lock with fcntl(2). A lock of flock(2) would be shared with every child until its
/// execve(2), and so outlive us.
///
/// # Errors
/// EAGAIN if another supervisor has the lock; otherwise why RUNDIR cannot be used.
pub fn lock(path: &CStr) -> Result<OwnedFd, Errno> {
    let file = openat(open_dir(path)?, c"lock", FLAGS | OFlags::RDWR, PRIVATE)?;
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file)
}

/// Lines of the status per write(2).
const LINES_MAX: usize = 8;

/// Writes RUNDIR/status: the `first` line, and the others. Writes it under another name and then
/// renames it, so that nobody can read half of it. If `lock` is missing, or is not that of RUNDIR,
/// which may have been replaced, RUNDIR is locked first. Returns whether that was so.
///
/// # Errors
/// Those of open(2), write(2) and rename(2), and of [`lock`].
pub fn write_status(
    path: &CStr,
    lock: &mut Option<OwnedFd>,
    first: fmt::Arguments,
    mut others: impl Iterator<Item = impl fmt::Display>,
) -> Result<bool, Errno> {
    let dir = open_dir(path)?;
    let place = |stat: Stat| (stat.st_dev, stat.st_ino);
    let there = statat(&dir, c"lock", AtFlags::SYMLINK_NOFOLLOW).map(place);
    // Closed before it is opened again: if it is the same file after all, closing one descriptor
    // would drop the lock of the other, see fcntl(2).
    lock.take_if(|lock| there.is_err() || fstat(lock).map(place) != there);
    let is_new = lock.is_none();
    if is_new {
        *lock = Some(self::lock(path)?);
    }
    let flags = FLAGS | OFlags::WRONLY | OFlags::TRUNC;
    let file = openat(&dir, c"status.new", flags, Mode::from_raw_mode(0o644))?;
    // A line has less than 128 bytes: it is a name, and six short words and numbers.
    let mut lines = heapless::String::<{ LINES_MAX * 128 }>::new();
    lines.write_fmt(first).map_err(|_| Errno::MSGSIZE)?;
    while !lines.is_empty() {
        if write(&file, lines.as_bytes())? < lines.len() {
            return Err(Errno::NOSPC);
        }
        lines.clear();
        let mut next = others.by_ref().take(LINES_MAX);
        next.try_for_each(|line| write!(lines, "{line}")).map_err(|_| Errno::MSGSIZE)?;
    }
    renameat(&dir, c"status.new", &dir, c"status").map(|()| is_new)
}
