//! inotify(7): that something has changed. What it was is for the rescan to find out.

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{CreateFlags, init};
use rustix::io::{Errno, read};

/// Bytes read at once; no event is longer, for a name has 1024 bytes at the most, in FUSE.
const EVENTS_LEN: usize = 2048;

/// Opens what readers add their watches to.
///
/// # Errors
/// EMFILE, ENOMEM, ENOSYS.
pub fn open() -> Result<OwnedFd, Errno> {
    init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
}

/// Whether something has changed since the last call. Does not wait. Not all of it is read at once:
/// whoever makes changes may be faster.
pub fn has_news(watch: &OwnedFd) -> bool {
    read(watch, &mut [0; EVENTS_LEN]).is_ok()
}
