//! Descriptors 0, 1 and 2: that they are open, and what the command line prints.
//!
//! Never used by going's loop: who prints may have to wait for who reads.

use crate::linux::raw;
use rustix::fd::{AsRawFd, IntoRawFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::write;
use rustix::net::{AddressFamily, SocketType, socket};

/// Opens those that the caller has left closed: else the next files that we open would be the
/// standard output of every service.
pub fn fill() {
    // Without /dev what takes nothing: a socket that leads nowhere.
    let nowhere = || socket(AddressFamily::UNIX, SocketType::DGRAM, None);
    let null = || open(c"/dev/null", OFlags::RDWR, Mode::empty()).or_else(|_| nowhere());
    while let Ok(null) = null()
        && null.as_raw_fd() <= 2
    {
        let _stays_open = null.into_raw_fd();
    }
}

/// Prints `parts` to standard output (1) or error (2); returns the exit code of having done so.
#[inline(never)]
pub fn print(fd: i32, parts: &[&str]) -> u8 {
    let is_written = |part: &&str| write(raw::stdio(fd), part.as_bytes()) == Ok(part.len());
    u8::from(!parts.iter().all(is_written))
}
