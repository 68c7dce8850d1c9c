//! Where the lines go: FILE, which is opened, locked and rotated here, and /dev/log, which gets a
//! datagram for each line, see syslog(3).
//!
//! Never opens FILE if it is a link, never truncates what it finds, and writes to nothing but a
//! regular file. Drops nothing: what cannot be sent is for the caller to send again. Waits for the
//! syslog daemon no longer than [`SEND_MAX`].

use core::ffi::CStr;
use core::fmt::Write;
use core::time::Duration;
use heapless::{String, Vec, format};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::fs::{fcntl_lock, fstat, lstat, open, rename, unlink};
use rustix::io::{Errno, IoSlice, retry_on_intr, writev};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};

/// Bytes of a path, see open(2), and of what the name of an older file has after it. If a name were
/// cut off, it could be that of another file.
const NAME_LEN: usize = 4096 + ".4294967295".len();
/// Bytes of a line that go into one message; a longer line becomes several. Many syslog daemons
/// take no more than the 1024 bytes that RFC 3164 allows, including the name and the rest.
pub const TEXT_MAX: usize = 900;
/// Bytes of the name before it.
const NAME_MAX: usize = 100;
/// How long we wait for a syslog daemon that does not read its queue.
const SEND_MAX: Duration = Duration::from_secs(1);

/// Opens FILE, which is created if it is missing, and locks it. Two goinglogs that write to one
/// file, each at the end that it knows of, would overwrite what the other wrote.
///
/// It is opened without `O_APPEND`, which splice(2) refuses, and also for reading, because its last
/// byte matters.
pub fn open_and_lock(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let file = open(path, flags | OFlags::NOCTTY, mode)?;
    if !FileType::from_raw_mode(fstat(&file)?.st_mode).is_file() {
        return Err(Errno::NXIO);
    }
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file)
}

/// Renames FILE to FILE.1, and before that each older file to the next number, up to the first
/// number that is free. A goinglog that was killed here has left such a gap, and filling it
/// deletes no file.
pub fn rotate(path: &CStr, count: u32) -> Result<(), Errno> {
    let is_free = |&number: &u32| matches!(lstat(name(path, number).as_slice()), Err(Errno::NOENT));
    let last = (1..count).find(is_free).unwrap_or(count);
    // The rename would replace this file anyway, but ext4 would then first write out all of the one
    // that replaces it.
    let _gone = unlink(name(path, last).as_slice());
    (1..=last).rev().try_for_each(|number| {
        let (old, new) = (name(path, number.saturating_sub(1)), name(path, number));
        let renamed = rename(old.as_slice(), new.as_slice());
        // Somebody else has renamed or removed it.
        if renamed == Err(Errno::NOENT) { Ok(()) } else { renamed }
    })
}

/// FILE, or FILE.NUMBER.
fn name(path: &CStr, number: u32) -> Vec<u8, NAME_LEN> {
    let mut name = Vec::from_slice(path.to_bytes()).unwrap_or_default();
    if number > 0 {
        let _fits = write!(name, ".{number}");
    }
    name
}

/// Sends one line to syslog, under the last part of the name of FILE. Each line gets a new socket,
/// so that none stays connected to a syslog daemon that is gone.
pub fn send_line(path: &CStr, priority: u8, line: &[u8]) -> Result<(), Errno> {
    let name = path.to_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let name = name.get(..NAME_MAX).unwrap_or(name);
    let priority: String<8> = format!("<{priority}>").unwrap_or_default();
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let message = [priority.as_bytes(), name, b": ", line].map(IoSlice::new);
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(SEND_MAX))?;
    connect(&socket, &SocketAddrUnix::new(c"/dev/log")?)?;
    retry_on_intr(|| writev(&socket, &message)).map(|_| ())
}
