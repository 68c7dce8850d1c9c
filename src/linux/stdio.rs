//! Descriptors 0, 1 and 2: making sure that they are open, and printing for the command line.
//!
//! Never used in going's loop, because printing may have to wait for a reader.

use crate::linux::raw;
use rustix::fd::{AsRawFd, IntoRawFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::write;
use rustix::net::{AddressFamily, SocketType, socket};

/// Opens those that our parent has left closed. Otherwise files that we open would become the
/// standard input, output or error of services.
pub fn fill() {
    // Without /dev, a socket that is connected to nothing will do.
    let nowhere = || socket(AddressFamily::UNIX, SocketType::DGRAM, None);
    let null = || open(c"/dev/null", OFlags::RDWR, Mode::empty()).or_else(|_| nowhere());
    while let Ok(null) = null()
        && null.as_raw_fd() <= 2
    {
        let _stays_open = null.into_raw_fd();
    }
}

/// Prints `parts` to standard output (1) or error (2). Returns the exit code: 1 if that failed.
#[inline(never)]
pub fn print(fd: i32, parts: &[&str]) -> u8 {
    let is_written = |part: &&str| write(raw::stdio(fd), part.as_bytes()) == Ok(part.len());
    u8::from(!parts.iter().all(is_written))
}
