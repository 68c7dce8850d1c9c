//! Messages: one datagram each to /dev/log, see syslog(3); standard error as the fallback.
//!
//! Never waits for a reader, on either way, and keeps nothing: what neither can take is lost.

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

/// Something does not work: the level and the `daemon` facility of syslog(3), as they stand before
/// a message.
pub const ERROR: &str = "<27>";
/// Something is not as it should be.
pub const WARNING: &str = "<28>";
/// What was asked for.
pub const INFO: &str = "<30>";

/// Where messages go.
pub struct Log {
    /// To /dev/log.
    pub socket: Option<OwnedFd>,
    /// Standard error as we write to it; the services share the original, or have another.
    pub stderr: Option<OwnedFd>,
    /// Whether to write there never waits for a reader, however that is done.
    pub never_waits: bool,
    /// The supervisor: its children speak in its name.
    pub pid: i32,
}

impl Log {
    /// Opens what messages need; what cannot be opened is done without.
    pub fn open() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok();
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let shared = raw::stdio(2);
        let ways = match fstat(shared).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            // It has no reader to wait for, but a position to share.
            Ok(FileType::RegularFile) => &[][..],
            // Another user's can be opened as our own; without /proc it is the console's.
            _ if isatty(shared) => &[c"/proc/self/fd/2", c"/dev/tty", c"/dev/console"],
            _ => &[c"/proc/self/fd/2"],
        };
        let anew = ways.iter().find_map(|path| open(*path, flags, Mode::empty()).ok());
        // A file may wait for a disk: told not to, XFS and btrfs would take next to nothing.
        let never_waits = ways.is_empty() || anew.is_some();
        let stderr = anew.or_else(|| fcntl_dupfd_cloexec(shared, 3).ok());
        Self { socket, stderr, never_waits, pid: rustix::process::getpid().as_raw_pid() }
    }

    /// Finds syslogd. Done for each message, for it may be another one by now; where there is none
    /// the socket stays with the one it had.
    pub fn connect(&self) {
        let address = SocketAddrUnix::new(c"/dev/log").ok();
        let _kept = self.socket.as_ref().zip(address).map(|(socket, log)| connect(socket, &log));
    }

    /// Says `text`, which is `NAME: what happened[: reason]`.
    #[inline(never)]
    pub fn say(&self, level: &str, text: fmt::Arguments) {
        self.connect();
        self.send(level, text);
    }

    /// The same, to whoever was found before: who is in a chroot must not look for another.
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
            // It could not be opened anew: a socket, which knows the flag of pwritev2 since Linux
            // 6.4 only, or another user's.
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
