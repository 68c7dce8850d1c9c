//! The loop: waits, reads signals, and lets lines take their next step from the pipe to FILE.
//!
//! Lines leave the pipe only when they are in FILE. So nothing has to be kept here, nothing is
//! lost with this process, and a writer waits for as long as FILE cannot be written. Waits nowhere
//! but at the head of the loop, for the disk, and a moment for the syslog daemon.

use crate::file::{Failure, is_fresh, open_and_lock, reason, rotate, unable};
use crate::input::Input;
use crate::syslog::{self, TEXT_MAX, send_line};
use core::ffi::CStr;
use core::fmt::{self, Write};
use core::slice::EscapeAscii;
use core::time::Duration;
use going::linux::{clock, raw, signals::Signals};
use going::model::lines::{HEAD_MAX, Room, first_line};
use going::model::stamp::{STAMP_MAX, Style, stamp};
use heapless::{String, Vec};
use linux_raw_sys::general::{CLOCK_REALTIME, SIGHUP, SIGTERM, SIGUSR1};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{fstat, ftruncate};
use rustix::io::{Errno, IoSlice, pwrite, writev};

/// Bytes written at once, when they pass through here.
const OUT_MAX: usize = 36 * 1024;
const _: () = assert!(OUT_MAX >= HEAD_MAX + STAMP_MAX, "a line as long as the head fits");
/// Bytes moved at once at the most: signals are to be heard in between.
const SPLICE_MAX: usize = 1 << 20;
/// What failed is tried again after so long, then after twice as long, and so on.
const DELAY_MS: u64 = 1_000;
const DELAY_MAX_MS: u64 = 30_000;
/// So long it waits for more, when there is little: a writer does not fill the pipe meanwhile.
const GATHER_MS: u64 = 2;
/// Bytes of a path in a message, and of a message.
const SHOWN_MAX: usize = 400;
const MESSAGE_MAX: usize = 2000;

/// What the command line says.
pub struct Options {
    /// FILE as it was given; empty as long as it was not.
    pub word: &'static CStr,
    pub limit: u64,
    pub count: u32,
    pub style: Option<Style>,
    pub drops: bool,
    pub has_syslog: bool,
    pub priority: u8,
}

impl Options {
    /// If it says nothing: 1 MiB, ten times; daemon.info.
    pub const DEFAULT: Self = Self {
        word: c"",
        limit: 1 << 20,
        count: 10,
        style: None,
        drops: false,
        has_syslog: false,
        priority: 3 << 3 | 6,
    };

    /// The last part of FILE.
    pub fn name(&self) -> &'static [u8] {
        self.word.to_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// The beginning of FILE, for messages.
    fn shown(&self) -> EscapeAscii<'static> {
        let word = self.word.to_bytes();
        word.get(..SHOWN_MAX).unwrap_or(word).escape_ascii()
    }

    /// FILE, unless it is only what syslog is to call the lines: that has no slash.
    fn path(&self) -> Option<&'static CStr> {
        let is_name = self.has_syslog && self.name() == self.word.to_bytes();
        (!is_name).then_some(self.word)
    }
}

/// What has a fixed size, but too large a one for the stack.
pub struct Memory {
    /// What is seen at the head of the pipe.
    head: Vec<u8, HEAD_MAX>,
    /// What is made of it.
    out: Vec<u8, OUT_MAX>,
}

impl Memory {
    pub const fn new() -> Self {
        Self { head: Vec::new(), out: Vec::new() }
    }
}

/// Everything there is.
pub struct Logger<'a> {
    options: &'a Options,
    memory: &'static mut Memory,
    signals: Signals,
    input: Input,
    file: Option<OwnedFd>,
    syslog: Option<OwnedFd>,
    /// Whether bytes can go to FILE without passing through here.
    splices: bool,
    now: Now,
}

/// What changes while it runs.
#[derive(Default)]
struct Now {
    /// What is to be done at the end of the line.
    turn: Option<Turn>,
    /// Bytes to be moved before it ends, when it was told to.
    left: Option<usize>,
    /// When what failed is tried again, and after how long; 0: nothing has failed.
    due_ms: u64,
    delay_ms: u64,
    /// Lines, since FILE could be written; whether the end of the last of them is still to come.
    dropped: usize,
    is_cut: bool,
    /// Whether the end of the line is waited for that goes to syslog next.
    is_open: bool,
}

/// Another FILE.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    /// This one gets another name.
    Rotate,
    /// It has got one already, from somebody else.
    Reopen,
}

impl<'a> Logger<'a> {
    /// Start-up, where errors still end the program.
    pub fn new(options: &'a Options, memory: &'static mut Memory) -> Result<Self, Failure> {
        let signals = Signals::new().map_err(unable("read signals for"))?;
        let input = Input::new().map_err(unable("read standard input for"))?;
        let file = options.path().map(open_and_lock).transpose()?;
        let syslog = options.has_syslog.then(syslog::open).transpose();
        let syslog = syslog.map_err(unable("send to /dev/log for"))?;
        let splices = options.style.is_none() && syslog.is_none();
        Ok(Self { options, memory, signals, input, file, syslog, splices, now: Now::default() })
    }

    /// Moves lines until their end, or until it is told to end; returns the exit code.
    pub fn run(&mut self) -> u8 {
        while self.now.left != Some(0) {
            self.wait();
            self.take_signals();
            if self.now.left.is_none() {
                self.input.fill();
            }
            let drops = self.options.drops && !self.is_due();
            match if drops { self.drop_lines() } else { self.step() } {
                Ok(false) => break,
                // The latter: nothing there after all.
                Ok(true) | Err(("write", Errno::AGAIN | Errno::INTR)) => self.recover(),
                Err(failure) => self.fail(failure),
            }
        }
        if self.now.dropped > 0 {
            say(format_args!("{} lines dropped", self.now.dropped));
        }
        (self.now.delay_ms > 0).into()
    }

    /// Whether FILE can be written, as far as is known, or has to be tried again.
    fn is_due(&self) -> bool {
        self.now.due_ms <= clock::now_ms()
    }

    /// Waits until there is something to do.
    fn wait(&self) {
        let stdin = self.input.source.as_ref().map(|(stdin, _)| stdin);
        let pipe = if self.now.is_open { &self.input.news } else { &self.input.pipe };
        let takes_more = self.is_due() || self.options.drops;
        let others = if takes_more { [Some(pipe), stdin] } else { [None; 2] };
        self.signals.wait((self.now.delay_ms > 0).then_some(self.now.due_ms), others);
        // With a moment's patience there is more to move at once: each time costs as much as
        // kilobytes do. Not for syslog, which takes a line at a time.
        if self.syslog.is_none() && stdin.is_none() && self.input.len() < HEAD_MAX {
            self.signals.wait(Some(clock::now_ms().saturating_add(GATHER_MS)), [None; 2]);
        }
    }

    fn take_signals(&mut self) {
        for signal in self.signals.read() {
            self.now.due_ms = 0;
            match signal {
                SIGHUP => self.now.turn = Some(Turn::Rotate),
                SIGUSR1 => self.now.turn = self.now.turn.or(Some(Turn::Reopen)),
                SIGTERM => self.now.left = Some(self.input.len()),
                _ => {}
            }
        }
    }

    /// Moves what goes into FILE next. Whether the input has not ended.
    fn step(&mut self) -> Result<bool, Failure> {
        let room = self.room()?;
        let is_note = self.now.dropped > 0;
        if is_note {
            self.note_dropped(room);
        } else if self.now.is_cut {
            return self.drop_lines();
        } else if self.splices && room.unseen() > 0 {
            return self.splice(room, room.unseen());
        } else if !self.peek()? {
            return Ok(false);
        } else if self.now.is_open {
            return Ok(true);
        }
        if !self.pack(room) {
            return Ok(true);
        }
        if self.splices && !is_note {
            return self.splice(room, self.memory.head.len() as u64);
        }
        self.write(room)?;
        if !is_note {
            return Ok(self.skip());
        }
        if room.is_fresh {
            self.now.dropped = 0;
        }
        Ok(true)
    }

    /// FILE as it is, opened anew or rotated if that is due and a line has ended.
    fn room(&mut self) -> Result<Room, Failure> {
        let Some(path) = self.options.path() else {
            return Ok(Room { size: 0, limit: u64::MAX, is_fresh: true });
        };
        loop {
            let file = self.file.take().map_or_else(|| open_and_lock(path), Ok)?;
            let stat = fstat(&file).map_err(unable("write"))?;
            let size = stat.st_size.unsigned_abs();
            let is_fresh = is_fresh(&file, size)?;
            match self.now.turn {
                Some(turn) if is_fresh => {
                    if turn == Turn::Rotate && size > 0 {
                        rotate(path, self.options.count)?;
                    }
                    self.now.turn = None;
                }
                turn if stat.st_nlink > 0 => {
                    self.file = Some(file);
                    let limit = if turn.is_some() { 0 } else { self.options.limit };
                    return Ok(Room { size, limit, is_fresh });
                }
                // Somebody has deleted it.
                _ => {}
            }
        }
    }

    /// Moves up to `max` bytes from the pipe to the end of FILE, unseen.
    fn splice(&mut self, room: Room, max: u64) -> Result<bool, Failure> {
        let Some(file) = &self.file else { return Ok(true) };
        let max = usize::try_from(max).unwrap_or(SPLICE_MAX).min(SPLICE_MAX);
        let moved = self.input.splice(file, room.size, max.min(self.now.left.unwrap_or(max)));
        // Some file systems have no way to do it.
        self.splices = moved != Err(Errno::INVAL);
        if !self.splices {
            return Ok(true);
        }
        moved.map(|len| self.moved(len)).map_err(unable("write"))
    }

    /// Looks at the head of the pipe. Whether there is anything, and it is not its end.
    fn peek(&mut self) -> Result<bool, Failure> {
        let head = &mut self.memory.head;
        let can_grow = self.syslog.is_some() && self.input.take_news() && self.now.left.is_none();
        self.input.peek(head, self.now.left.unwrap_or(HEAD_MAX)).map_err(unable("write"))?;
        self.now.is_open = can_grow && head.len() < TEXT_MAX && !head.contains(&b'\n');
        Ok(!head.is_empty())
    }

    /// Makes the head the line that says how many lines are missing; before that, the end of the
    /// line that had begun, for the rest of it was dropped too.
    fn note_dropped(&mut self, room: Room) {
        let head = &mut self.memory.head;
        head.clear();
        if room.is_fresh {
            let _fits = write!(head, "goinglog: {} lines dropped", self.now.dropped);
        }
        let _fits = writeln!(head);
    }

    /// Cuts the head down to what goes into FILE next, and makes of it what is to be written.
    /// Whether that is anything: else FILE is to be rotated before.
    fn pack(&mut self, room: Room) -> bool {
        let Memory { head, out } = &mut *self.memory;
        let now = Duration::try_from(raw::time(CLOCK_REALTIME)).unwrap_or_default();
        let stamp = self.options.style.map(|style| stamp(style, now.as_secs(), now.subsec_nanos()));
        if self.syslog.is_some() {
            // One message at a time, so that each is sent once.
            head.truncate(first_line(head).len().min(TEXT_MAX));
        }
        let Some(taken) = room.pack(head, stamp.unwrap_or_default().as_bytes(), out) else {
            self.now.turn = Some(Turn::Rotate);
            return false;
        };
        head.truncate(taken);
        true
    }

    /// Writes all that was packed, and sends what it was made of to syslog, or neither.
    fn write(&self, room: Room) -> Result<(), Failure> {
        let Memory { head, out } = &*self.memory;
        let written = self.file.as_ref().map_or(Ok(out.len()), |file| pwrite(file, out, room.size));
        let result = if written != Ok(out.len()) {
            Err(("write", written.err().unwrap_or(Errno::NOSPC)))
        } else if let Some(socket) = &self.syslog {
            send_line(socket, self.options, head).map_err(unable("send to /dev/log for"))
        } else {
            Ok(())
        };
        if result.is_err()
            && let Some(file) = &self.file
        {
            // It goes there again, from the pipe, when there is room.
            let _undone = ftruncate(file, room.size);
        }
        result
    }

    /// Removes the head from the pipe; without any, that is its end.
    fn skip(&mut self) -> bool {
        let len = self.input.skip(&mut self.memory.head);
        self.moved(len)
    }

    /// Takes note that so many bytes have left the pipe; 0 are its end.
    fn moved(&mut self, len: usize) -> bool {
        self.now.left = self.now.left.map(|left| left.saturating_sub(len));
        len > 0
    }

    /// Removes lines that cannot be written: the rest of one, or else all that is seen.
    fn drop_lines(&mut self) -> Result<bool, Failure> {
        self.peek()?;
        let head = &mut self.memory.head;
        let mut lines = head.split_inclusive(|&byte| byte == b'\n');
        if self.now.is_cut {
            let rest = lines.next().unwrap_or_default().len();
            head.truncate(rest);
        } else {
            self.now.dropped = self.now.dropped.saturating_add(lines.count());
        }
        self.now.is_cut = !head.ends_with(b"\n");
        Ok(self.skip())
    }

    /// Remembers when to try again, and says why; or ends, if it was told to.
    fn fail(&mut self, failure: Failure) {
        self.file = None;
        if self.now.delay_ms == 0 {
            say_unable(failure, self.options, ", trying again");
        }
        self.now.delay_ms = self.now.delay_ms.saturating_mul(2).clamp(DELAY_MS, DELAY_MAX_MS);
        self.now.due_ms = clock::now_ms().saturating_add(self.now.delay_ms);
        // What it was told to move stays in the pipe.
        self.now.left = self.now.left.and(Some(0));
    }

    /// Says that it goes on, when all that has waited is in FILE.
    fn recover(&mut self) {
        let is_failing = self.now.delay_ms > 0;
        if is_failing && self.is_due() && self.now.dropped == 0 && self.input.len() == 0 {
            self.now.delay_ms = 0;
            say(format_args!("writes {} again", self.options.shown()));
        }
    }
}

/// What failed, and what becomes of it in the `end`.
pub fn say_unable(failure: Failure, options: &Options, end: &str) {
    let (what, path, why) = (failure.0, options.shown(), reason(failure));
    say(format_args!("unable to {what} {path}: {why}{end}"));
}

/// To standard error, if that takes it at once.
pub fn say(text: fmt::Arguments) {
    let mut line = String::<MESSAGE_MAX>::new();
    let _cut = write!(line, "goinglog: {text}");
    let stderr = raw::stdio(2);
    let mut fds = [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)];
    if poll(&mut fds, Some(&Timespec::default())) == Ok(1) {
        let _lost = writev(stderr, &[IoSlice::new(line.as_bytes()), IoSlice::new(b"\n")]);
    }
}
