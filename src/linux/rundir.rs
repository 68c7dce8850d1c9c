//! RUNDIR: what is true now, and who may say so.
//!
//! Never needed: without it going works, but a second one is not noticed.

use core::ffi::CStr;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, fcntl_lock, mkdirat, open, openat};
use rustix::io::Errno;

/// Makes RUNDIR and what is in it, opens it, and takes RUNDIR/lock, with a lock of fcntl(2): one of
/// flock(2) would also be that of every child until it is a service.
///
/// # Errors
/// EAGAIN if another supervisor has the lock; else why RUNDIR cannot be used.
pub fn open_and_lock(path: &CStr) -> Result<[OwnedFd; 2], Errno> {
    // Whether they are there will be seen at once.
    let _exists = mkdirat(CWD, path, Mode::from_raw_mode(0o755));
    let dir = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let _exists = mkdirat(&dir, c"pid", Mode::from_raw_mode(0o755));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    // Whoever can open it can lock it, and keep us from starting.
    let lock = openat(&dir, c"lock", flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
    fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok([dir, lock])
}
