//! RUNDIR: the lock that keeps a second supervisor out, and the status.
//!
//! Never needed: without it going works, but a second one is not noticed. Found by its path each
//! time, for it may be made anew while we run.

use core::ffi::CStr;
use core::fmt::{self, Write};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, Stat, fcntl_lock, fstat, mkdirat, open, openat,
    renameat, statat,
};
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
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// No line of the status has more bytes: a name, and seven words and numbers.
const LINE_MAX: usize = 128;
/// Bytes that are written at once.
type Buffer = heapless::String<512>;

/// RUNDIR/status while it is being written, under another name.
pub struct Status {
    dir: OwnedFd,
    file: OwnedFd,
    buffer: Buffer,
}

impl Status {
    /// Begins a new one. If RUNDIR is not the one that `lock` is of, it is locked first.
    ///
    /// # Errors
    /// Those of open(2), and of [`lock`].
    pub fn new(path: &CStr, lock: &mut Option<OwnedFd>) -> Result<Self, Errno> {
        let dir = open_dir(path)?;
        let place = |stat: Stat| (stat.st_dev, stat.st_ino);
        let there = statat(&dir, c"lock", AtFlags::SYMLINK_NOFOLLOW).map(place).ok();
        if there.is_none() || there != lock.as_ref().and_then(|lock| fstat(lock).map(place).ok()) {
            *lock = Some(self::lock(path)?);
        }
        let flags = FLAGS | OFlags::WRONLY | OFlags::TRUNC;
        let file = openat(&dir, c"status.new", flags, Mode::from_raw_mode(0o644))?;
        Ok(Self { dir, file, buffer: Buffer::new() })
    }

    /// Adds one line.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn add(&mut self, line: fmt::Arguments) -> Result<(), Errno> {
        if self.buffer.capacity().saturating_sub(self.buffer.len()) < LINE_MAX {
            self.flush()?;
        }
        self.buffer.write_fmt(line).map_err(|_| Errno::MSGSIZE)
    }

    /// Has it read from now on.
    ///
    /// # Errors
    /// Those of write(2) and rename(2).
    pub fn publish(mut self) -> Result<(), Errno> {
        self.flush()?;
        renameat(&self.dir, c"status.new", &self.dir, c"status")
    }

    fn flush(&mut self) -> Result<(), Errno> {
        let written = write(&self.file, self.buffer.as_bytes())?;
        let is_whole = written == self.buffer.len();
        self.buffer.clear();
        if is_whole { Ok(()) } else { Err(Errno::NOSPC) }
    }
}
