//! Lines as messages to /dev/log, see syslog(3): one datagram each.
//!
//! Drops nothing: what cannot be sent is for the caller to send again. Waits no longer than it may.

use crate::Options;
use core::time::Duration;
use heapless::{String, format};
use rustix::io::{Errno, IoSlice, retry_on_intr, writev};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};

/// Bytes of a line that go into one message; what is longer becomes several. Many take no more
/// than the 1024 that RFC 3164 allows, with the name and the rest.
pub const TEXT_MAX: usize = 900;
/// Bytes of the name before it.
const NAME_MAX: usize = 100;
/// So long a syslog daemon may let us wait that does not read what is in its queue.
const SEND_MAX: Duration = Duration::from_secs(1);

/// Sends one line, to whoever is the syslog daemon by now: by a new socket, so that none is kept
/// to one that is no more.
pub fn send_line(options: &Options, priority: u8, line: &[u8]) -> Result<(), Errno> {
    // The last part of FILE.
    let name = options.word.to_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let name = name.get(..NAME_MAX).unwrap_or(name);
    // A note has one before it, too, should it end a line.
    let line = line.strip_prefix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let priority: String<8> = format!("<{priority}>").unwrap_or_default();
    let message = [priority.as_bytes(), name, b": ", line].map(IoSlice::new);
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(SEND_MAX))?;
    connect(&socket, &SocketAddrUnix::new(c"/dev/log")?)?;
    retry_on_intr(|| writev(&socket, &message)).map(|_| ())
}
