//! Lines as messages to /dev/log, see syslog(3): one datagram each.
//!
//! Never waits, and drops nothing: what cannot be sent at once is for the caller to send again.

use crate::file::Failure;
use core::fmt::Write;
use going::linux::raw;
use heapless::Vec;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{connect, send, socket_with};

/// Bytes of a line that go into one message; what is longer becomes several. Many take no more
/// than the 1024 that RFC 3164 allows, with the name and the rest.
pub const TEXT_MAX: usize = 900;

/// Where the lines of one service go.
pub struct Syslog {
    pub socket: OwnedFd,
    pub priority: u8,
    /// Of the service.
    pub name: &'static str,
    /// Whether the queue of who reads there was full.
    pub is_full: bool,
    /// Whether the line that goes next has been sent already, and only FILE has to take it.
    pub is_sent: bool,
}

impl Syslog {
    pub fn new(priority: u8, name: &'static str) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(Self { socket, priority, name, is_full: false, is_sent: false })
    }

    /// Sends one line, unless it was sent before. Whether it is: not if the queue is full.
    pub fn send(&mut self, line: &[u8]) -> Result<bool, Failure> {
        if self.is_sent {
            return Ok(true);
        }
        let mut message = Vec::<u8, 1024>::new();
        let _cut = write!(message, "<{}>{:.100}: ", self.priority, self.name);
        let _cut = message.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        let send = || send(&self.socket, &message, SendFlags::DONTWAIT);
        // Not connected yet, or to one that is no more.
        let sent = send().or_else(|errno| {
            if errno == Errno::AGAIN {
                return Err(errno);
            }
            connect(&self.socket, &SocketAddrUnix::new(c"/dev/log")?)?;
            send()
        });
        (self.is_sent, self.is_full) = (sent.is_ok(), sent == Err(Errno::AGAIN));
        match sent {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(("send to /dev/log for", raw::reason(errno))),
        }
    }
}
