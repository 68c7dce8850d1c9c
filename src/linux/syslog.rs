//! Messages: one datagram each to /dev/log, see syslog(3); standard error as the fallback.
//!
//! Never waits for a reader of either, and never stores a message: what neither takes is lost.

use crate::linux::raw;
use core::fmt::{self, Write};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{IoSlice, ReadWriteFlags, fcntl_dupfd_cloexec, pwritev2, writev};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags};
use rustix::net::{SocketType, connect, sendmsg, socket_with};
use rustix::termios::isatty;

/// Bytes of one message; the rest is cut off.
const MESSAGE_MAX: usize = 512;

/// Something does not work. This is the level `err` of the facility `daemon`, see syslog(3), as it
/// stands before a message.
pub const ERROR: &str = "<27>";
/// Something abnormal has happened: `daemon.warning`.
pub const WARNING: &str = "<28>";
/// Something has happened that was asked for: `daemon.info`.
pub const INFO: &str = "<30>";

/// Where messages go.
pub struct Log {
    /// A socket for /dev/log.
    pub socket: Option<OwnedFd>,
    /// Standard error, opened separately for us where that is possible.
    pub stderr: Option<OwnedFd>,
    /// Whether a plain write(2) to it never waits for a reader.
    pub never_waits: bool,
    /// The process ID of the supervisor, in whose name its children log, too.
    pub pid: i32,
}

impl Log {
    /// Opens what messages need, and does without what cannot be opened.
    pub fn open() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok();
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let shared = raw::stdio(2);
        let ways = match fstat(shared).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            // A regular file has no reader to wait for, and its position has to stay shared.
            Ok(FileType::RegularFile) => &[][..],
            // The device of a terminal may be another user's, which we cannot open: /dev/tty is the
            // same one. Without /proc it is most likely the console.
            _ if isatty(shared) => &[c"/proc/self/fd/2", c"/dev/tty", c"/dev/console"],
            _ => &[c"/proc/self/fd/2"],
        };
        let anew = ways.iter().find_map(|path| open(*path, flags, Mode::empty()).ok());
        // Writing to a file may wait for a disk, but with RWF_NOWAIT XFS and btrfs would refuse
        // almost every write.
        let never_waits = ways.is_empty() || anew.is_some();
        let stderr = anew.or_else(|| fcntl_dupfd_cloexec(shared, 3).ok());
        Self { socket, stderr, never_waits, pid: rustix::process::getpid().as_raw_pid() }
    }

    /// Connects to syslogd. This is done for every message, because syslogd may have been
    /// restarted. If there is none now, the socket stays connected to the last one.
    pub fn connect(&self) {
        let address = SocketAddrUnix::new(c"/dev/log").ok();
        let _kept = self.socket.as_ref().zip(address).map(|(socket, log)| connect(socket, &log));
    }

    /// Logs `text`, which has the form `NAME: what happened[: reason]`.
    #[inline(never)]
    pub fn say(&self, level: &str, text: fmt::Arguments) {
        self.connect();
        self.send(level, text);
    }

    /// Logs `text` to the syslogd that was connected to before: inside a chroot, /dev/log may be
    /// that of somebody else.
    pub fn send(&self, level: &str, text: fmt::Arguments) {
        let mut message = Message::default();
        let _cut = write!(message, "going[{}]: {text}", self.pid);
        let [level, text, end] = [level, &message.0, "\n"].map(|it| IoSlice::new(it.as_bytes()));
        if self.socket.as_ref().is_some_and(|socket| writev(socket, &[level, text]).is_ok()) {
            return;
        }
        let stderr = self.stderr.as_ref().map_or(raw::stdio(2), AsFd::as_fd);
        let line = [text, end];
        let _lost = if self.never_waits {
            writev(stderr, &line)
        } else {
            // It could not be opened separately: it is a socket, for which RWF_NOWAIT works only
            // since Linux 6.4, or another user's.
            let mut nothing = SendAncillaryBuffer::default();
            let sent = sendmsg(stderr, &line, &mut nothing, SendFlags::DONTWAIT);
            sent.or_else(|_| pwritev2(stderr, &line, u64::MAX, ReadWriteFlags::NOWAIT))
        };
    }
}

/// Text that is cut off where there is no more room.
#[derive(Default)]
pub struct Message(pub heapless::String<MESSAGE_MAX>);

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|char| self.0.push(char)).map_err(|_| fmt::Error)
    }
}
