//! RUNDIR: the lock that keeps a second supervisor out, and the status.
//!
//! Never needed: without it going works, but a second one is not noticed. Found by its path each
//! time, for it may be made anew while we run.

use core::ffi::CStr;
use core::fmt::{self, Write};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat};
use rustix::fs::{fcntl_lock, fstat, mkdirat, open, openat, renameat, statat};
use rustix::io::{Errno, write};

/// What every file in it is opened with: nothing that waits, nothing that leads elsewhere.
pub const FLAGS: OFlags =
    OFlags::CREATE.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
/// Whoever can open a file can lock it: nobody else is to.
pub const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens RUNDIR, made if need be.
///
/// # Errors
/// Those of open(2).
pub fn open_dir(path: &CStr) -> Result<OwnedFd, Errno> {
    let open = || open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    open().or_else(|_| match mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        // Made by us, or by another of our processes at the same moment.
        Ok(()) | Err(Errno::EXIST) => open(),
        Err(errno) => Err(errno),
    })
}

/// Takes RUNDIR/lock, with a lock of fcntl(2): one of flock(2) would also be that of every child
/// until it is a service.
///
/// # Errors
/// EAGAIN if another supervisor has the lock; else why RUNDIR cannot be used.
pub fn lock(path: &CStr) -> Result<OwnedFd, Errno> {
    let file = openat(open_dir(path)?, c"lock", FLAGS | OFlags::RDWR, PRIVATE)?;
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file)
}

/// Lines of the status that are written at once.
const LINES_MAX: usize = 8;

/// Writes RUNDIR/status, under another name first, so that nobody reads half of one: the `first`
/// line, and the others. If RUNDIR is not the one that `lock` is of, it is locked before; whether
/// that was so.
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
    // Closed before it is opened anew: it may be the same file, and lose both locks with one.
    lock.take_if(|lock| there.is_err() || fstat(lock).map(place) != there);
    let is_new = lock.is_none();
    if is_new {
        *lock = Some(self::lock(path)?);
    }
    let flags = FLAGS | OFlags::WRONLY | OFlags::TRUNC;
    let file = openat(&dir, c"status.new", flags, Mode::from_raw_mode(0o644))?;
    // Each is a name, and seven words and numbers.
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
