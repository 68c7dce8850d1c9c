//! Descriptors that must not be passed on: closes them, now or by execve(2), on any kernel.
//!
//! Never looks at what they refer to.

use super::scan;
use crate::linux::raw;
use crate::model::config::number;
use rustix::fd::{AsRawFd, RawFd};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Closes all descriptors from `first` on, now or at the next execve(2).
///
/// # Errors
/// Those of reading /proc/self/fd, if close_range(2) fails.
#[inline(never)]
pub fn close_from(first: RawFd, at_exec: bool) -> Result<(), Errno> {
    if raw::close_from(first.unsigned_abs(), at_exec).is_ok() {
        return Ok(());
    }
    // One by one, then: those that /proc lists or, without /proc, every one that is possible.
    let close = |fd: u64| match RawFd::try_from(fd) {
        Ok(fd) if fd >= first && at_exec => raw::close_at_exec(fd),
        Ok(fd) if fd >= first => _ = raw::close(fd),
        _ => {}
    };
    let Ok(dir) = scan::open_dir(c"/proc/self/fd") else {
        (0..getrlimit(Resource::Nofile).current.unwrap_or(0)).for_each(close);
        return Ok(());
    };
    // The descriptor of the directory itself is needed until all are found.
    let own = u64::from(dir.as_raw_fd().unsigned_abs());
    scan::each_name(&dir, &mut |name| {
        number(name.to_bytes()).into_iter().filter(|fd| *fd != own).for_each(close);
    })
}
