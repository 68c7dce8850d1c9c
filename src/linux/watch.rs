//! inotify(7): tells that something has changed. Never looks at what it was: a rescan finds out.

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{CreateFlags, init};
use rustix::io::{Errno, read};

/// Bytes read at once. No event is longer: a name has at most 4095 bytes, in FUSE, and its NUL.
const EVENTS_LEN: usize = 16 + 4096;

/// Opens an inotify descriptor, to which readers will add their watches.
///
/// # Errors
/// EMFILE, ENOMEM, ENOSYS.
pub fn open() -> Result<OwnedFd, Errno> {
    init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
}

/// Whether something has changed since the last call. Never waits. Reads one bufferful only,
/// because changes may come faster than we can read them all.
pub fn has_news(watch: &OwnedFd) -> bool {
    read(watch, &mut [0; EVENTS_LEN]).is_ok()
}
