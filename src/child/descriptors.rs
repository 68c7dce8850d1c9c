//! Descriptors that are not to be handed on: closed, now or by execve(2), with any kernel.
//!
//! Never looks at what they are.

use super::scan;
use crate::linux::raw;
use crate::model::config::number;
use rustix::fd::{AsRawFd, RawFd};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Closes all from `first` on, or has them closed at the next execve(2).
///
/// # Errors
/// Why not all of them can be found.
#[inline(never)]
pub fn close_from(first: RawFd, at_exec: bool) -> Result<(), Errno> {
    if raw::close_from(first.unsigned_abs(), at_exec).is_ok() {
        return Ok(());
    }
    // Then one by one; and without /proc there is no telling which there are.
    let close = |fd: u64| match RawFd::try_from(fd) {
        Ok(fd) if fd >= first && at_exec => raw::close_at_exec(fd),
        Ok(fd) if fd >= first => _ = raw::close(fd),
        _ => {}
    };
    let Ok(dir) = scan::open_dir(c"/proc/self/fd") else {
        (0..getrlimit(Resource::Nofile).current.unwrap_or(0)).for_each(close);
        return Ok(());
    };
    // Its own is needed until all are found.
    let own = u64::from(dir.as_raw_fd().unsigned_abs());
    scan::each_name(&dir, &mut |name| {
        number(name.to_bytes()).into_iter().filter(|fd| *fd != own).for_each(close);
    })
}
