//! The loop: waits, reads signals, and lets lines take their next step from the pipe to FILE.
//!
//! Lines leave the pipe only when they are in FILE. So nothing has to be kept here, nothing is
//! lost with this process, and a writer waits for as long as FILE cannot be written. Waits nowhere
//! but at the head of the loop, and for the disk.

use crate::file::{Failure, is_fresh, open_and_lock, rotate, unable};
use crate::input::Input;
use crate::syslog::{Syslog, TEXT_MAX};
use core::ffi::CStr;
use core::fmt::{self, Write};
use core::time::Duration;
use going::linux::{clock, raw, signals::Signals};
use going::model::lines::{HEAD_MAX, Room};
use going::model::stamp::{STAMP_MAX, Style, stamp};
use heapless::{String, Vec};
use linux_raw_sys::general::{CLOCK_REALTIME, SIGHUP, SIGTERM, SIGUSR1};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{fstat, ftruncate};
use rustix::io::{Errno, pwrite, write};

/// Bytes written at once, when they pass through here.
const OUT_MAX: usize = 36 * 1024;
const _: () = assert!(OUT_MAX >= HEAD_MAX + STAMP_MAX, "a line as long as the head fits");
/// What failed is tried again after so long, then after twice as long, and so on.
const DELAY_MS: u64 = 1_000;
const DELAY_MAX_MS: u64 = 30_000;
/// So long it waits for more, when there is little.
const GATHER_MS: u64 = 1;

/// What has a fixed size, but too large a one for the stack.
pub struct Memory {
    /// What is at the head of the pipe.
    head: [u8; HEAD_MAX],
    /// What is made of it.
    out: Vec<u8, OUT_MAX>,
}

impl Memory {
    #[expect(clippy::large_stack_arrays, reason = "it initialises a static, and runs never")]
    pub const fn new() -> Self {
        Self { head: [0; HEAD_MAX], out: Vec::new() }
    }
}

/// What the command line says.
pub struct Options {
    /// FILE as it was given.
    pub word: &'static CStr,
    /// FILE, unless it is the name of a service only.
    pub path: Option<&'static CStr>,
    pub limit: u64,
    pub count: u32,
    pub style: Option<Style>,
    pub drops: bool,
}

/// Everything there is.
pub struct Logger {
    pub options: Options,
    pub memory: &'static mut Memory,
    pub signals: Signals,
    pub input: Input,
    pub file: Option<OwnedFd>,
    pub syslog: Option<Syslog>,
    pub now: Now,
}

/// What changes while it runs.
#[derive(Default)]
pub struct Now {
    /// Whether bytes can go to FILE without passing through here.
    splices: bool,
    /// What is to be done at the end of the line.
    turn: Option<Turn>,
    /// Bytes to be moved before it ends, when it was told to.
    left: Option<u64>,
    /// In a row, and when it is tried again.
    failures: u32,
    due_ms: u64,
    /// Lines, since FILE could be written; whether the end of the last of them is still to come.
    dropped: usize,
    is_cut: bool,
}

/// Another FILE.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    /// This one gets another name.
    Rotate,
    /// It has got one already, from somebody else.
    Reopen,
}

impl Logger {
    /// Moves lines until their end, or until it is told to end; returns the exit code.
    pub fn run(&mut self) -> u8 {
        self.now.splices = self.options.style.is_none() && self.syslog.is_none();
        while self.now.left != Some(0) {
            if self.wait() {
                self.take_signals();
            }
            if self.is_due() || self.options.drops {
                match self.step() {
                    Ok(true) => self.recover(),
                    Ok(false) => break,
                    Err(failure) => self.fail(failure),
                }
            }
        }
        if self.now.dropped > 0 {
            say(format_args!("{} lines dropped", self.now.dropped));
        }
        (self.now.failures > 0).into()
    }

    /// Whether FILE can be written, as far as is known, or has to be tried again.
    fn is_due(&self) -> bool {
        self.now.due_ms <= clock::now_ms()
    }

    /// Waits until there is something to do; whether that is a signal.
    fn wait(&self) -> bool {
        let now = &self.now;
        let is_full = self.syslog.as_ref().is_some_and(|syslog| syslog.is_full);
        let (fd, flags) = match &self.syslog {
            Some(syslog) if syslog.is_full => (syslog.socket.as_fd(), PollFlags::OUT),
            _ => (self.input.pipe.as_fd(), PollFlags::IN),
        };
        let mut fds = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(fd, flags),
            PollFd::from_borrowed_fd(raw::stdio(0), PollFlags::IN),
        ];
        let is_waiting = !self.is_due() && !self.options.drops;
        let len = if is_waiting { 1 } else { fds.len().saturating_sub(is_full.into()) };
        let left_ms = now.due_ms.saturating_sub(clock::now_ms());
        await_any(fds.get_mut(..len), (now.failures > 0).then_some(left_ms));
        // With a moment's patience there is more to move at once: each time costs as much as
        // kilobytes do. Not for syslog, which takes a line at a time.
        if self.syslog.is_none() && self.input.len() < HEAD_MAX as u64 {
            await_any(fds.get_mut(..1), Some(GATHER_MS));
        }
        let [signals, ..] = fds;
        !signals.revents().is_empty()
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

    /// Moves, or drops, what is there. Whether this is not the end.
    fn step(&mut self) -> Result<bool, Failure> {
        self.input.fill(&mut self.memory.head);
        // While FILE cannot be written there is none.
        let room = if self.is_due() { Some(self.room()?) } else { None };
        if let Some(room) = room {
            let unseen = room.left().saturating_sub(room.reserve());
            if self.now.dropped > 0 {
                return self.tell_dropped(room);
            }
            if self.now.splices && unseen > 0 && !self.now.is_cut {
                return self.splice(room.size, unseen);
            }
        }
        match (self.input.peek(&mut self.memory.head, self.now.left), room) {
            (Ok(0), _) => Ok(false),
            (Ok(len), Some(room)) => self.pass(room, len),
            (Ok(len), None) => Ok(self.drop_lines(len)),
            (Err(errno), _) => again(errno, "read standard input for"),
        }
    }

    /// FILE as it is, opened anew or rotated if that is due and a line has ended.
    fn room(&mut self) -> Result<Room, Failure> {
        let Some(path) = self.options.path else {
            return Ok(Room { size: 0, limit: u64::MAX, is_fresh: true });
        };
        loop {
            let file = match self.file.take() {
                Some(file) => file,
                None => open_and_lock(path)?,
            };
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
    fn splice(&mut self, size: u64, max: u64) -> Result<bool, Failure> {
        let Some(file) = &self.file else { return Ok(true) };
        match self.input.splice(file, size, max.min(self.now.left.unwrap_or(u64::MAX))) {
            Ok(0) => Ok(false),
            Ok(len) => {
                self.moved(len);
                Ok(true)
            }
            // Some file systems have no way to do it.
            Err(Errno::INVAL) => {
                self.now.splices = false;
                Ok(true)
            }
            Err(errno) => again(errno, "write"),
        }
    }

    /// Moves what goes into FILE next, of the `len` bytes that were looked at.
    fn pass(&mut self, room: Room, len: usize) -> Result<bool, Failure> {
        let mut lines = self.head(len).split_inclusive(|&byte| byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let (first, is_whole) = (first.len(), first.ends_with(b"\n"));
        if self.now.is_cut {
            self.now.is_cut = !is_whole;
            return Ok(self.skip(first));
        }
        // With syslog one line at a time, so that each is sent once.
        let len = if self.syslog.is_some() { first.min(TEXT_MAX) } else { len };
        let taken = self.pack(room, len)?;
        if taken == 0 {
            return Ok(true);
        }
        if self.now.splices {
            return self.splice(room.size, taken as u64);
        }
        self.append(room.size)?;
        Ok(self.skip(taken))
    }

    /// Packs what goes into FILE next, of the first `len` bytes of the head, and sends it to syslog
    /// before; returns how many bytes that are. 0: not yet.
    fn pack(&mut self, room: Room, len: usize) -> Result<usize, Failure> {
        let stamp = self.stamp();
        let head = self.memory.head.get(..len).unwrap_or_default();
        let Some(taken) = room.pack(head, stamp.as_bytes(), &mut self.memory.out) else {
            self.now.turn = Some(Turn::Rotate);
            return Ok(0);
        };
        let is_sent = self.syslog.as_mut().map_or(Ok(true), |syslog| syslog.send(head))?;
        Ok(if is_sent { taken } else { 0 })
    }

    /// What was looked at last.
    fn head(&self, len: usize) -> &[u8] {
        self.memory.head.get(..len).unwrap_or_default()
    }

    /// The time of now, as it goes before a line.
    fn stamp(&self) -> String<STAMP_MAX> {
        let Some(style) = self.options.style else { return String::new() };
        let time = raw::time(CLOCK_REALTIME);
        stamp(style, time.tv_sec.unsigned_abs(), time.tv_nsec.try_into().unwrap_or(0))
    }

    /// Writes all that was made, or nothing of it.
    fn append(&self, size: u64) -> Result<(), Failure> {
        let (Some(file), out) = (&self.file, &self.memory.out) else { return Ok(()) };
        let written = pwrite(file, out, size);
        if written == Ok(out.len()) {
            return Ok(());
        }
        // It goes there again, from the pipe, when there is room.
        let _undone = ftruncate(file, size);
        Err(unable("write")(written.err().unwrap_or(Errno::NOSPC)))
    }

    /// Removes from the pipe what has been dealt with.
    fn skip(&mut self, len: usize) -> bool {
        self.input.skip(self.memory.head.get_mut(..len).unwrap_or_default());
        self.moved(len);
        true
    }

    /// Takes note that so many bytes have left the pipe.
    fn moved(&mut self, len: usize) {
        self.now.left = self.now.left.map(|left| left.saturating_sub(len as u64));
        if let Some(syslog) = &mut self.syslog {
            syslog.is_sent = false;
        }
    }

    /// Removes what was looked at, because it cannot be written.
    fn drop_lines(&mut self, len: usize) -> bool {
        let lines = self.head(len).split_inclusive(|&byte| byte == b'\n').count();
        let new = lines.saturating_sub(self.now.is_cut.into());
        self.now.dropped = self.now.dropped.saturating_add(new);
        self.now.is_cut = !self.head(len).ends_with(b"\n");
        self.skip(len)
    }

    /// Writes how many lines are missing, on a line of its own.
    fn tell_dropped(&mut self, room: Room) -> Result<bool, Failure> {
        // The rest of a line that had begun was dropped too.
        let end = if room.is_fresh { "" } else { "\n" };
        let mut text = Vec::<u8, 64>::new();
        let _fits = writeln!(text, "{end}goinglog: {} lines dropped", self.now.dropped);
        if let Some(head) = self.memory.head.get_mut(..text.len()) {
            head.copy_from_slice(&text);
        }
        let taken = self.pack(room, text.len())?;
        if taken > 0 {
            self.append(room.size)?;
        }
        if taken == text.len() {
            self.now.dropped = 0;
            // Syslog has this, but not yet the line that goes next.
            self.moved(0);
        }
        Ok(true)
    }

    /// Remembers when to try again, and says why; or ends, if it was told to.
    fn fail(&mut self, (what, why): Failure) {
        self.file = None;
        if self.now.failures == 0 {
            let path = self.options.word.to_bytes().escape_ascii();
            say(format_args!("unable to {what} {path}: {why}, trying again"));
        }
        let delay_ms = DELAY_MS.saturating_mul(1 << self.now.failures.min(5)).min(DELAY_MAX_MS);
        self.now.failures = self.now.failures.saturating_add(1);
        self.now.due_ms = clock::now_ms().saturating_add(delay_ms);
        // What it was told to move stays in the pipe.
        self.now.left = self.now.left.and(Some(0));
    }

    /// Says that it goes on, when all that has waited is in FILE.
    fn recover(&mut self) {
        let is_failing = self.now.failures > 0;
        if is_failing && self.is_due() && self.now.dropped == 0 && self.input.len() == 0 {
            self.now.failures = 0;
            let path = self.options.word.to_bytes().escape_ascii();
            say(format_args!("writes {path} again"));
        }
    }
}

/// To standard error, if that takes it at once.
pub fn say(text: fmt::Arguments) {
    let mut line = String::<512>::new();
    let _cut = write!(line, "goinglog: {text}");
    let _cut = line.push('\n');
    let stderr = raw::stdio(2);
    let mut fds = [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)];
    if poll(&mut fds, Some(&Timespec::default())) == Ok(1) {
        let _lost = write(stderr, line.as_bytes());
    }
}

/// Waits for one of these, and no longer than so long.
fn await_any(fds: Option<&mut [PollFd]>, left_ms: Option<u64>) {
    let timeout = left_ms.and_then(|ms| Timespec::try_from(Duration::from_millis(ms)).ok());
    // EINTR (after STOP and CONT) is an early return like any other.
    let _ready = poll(fds.unwrap_or_default(), timeout.as_ref());
}

/// Nothing there after all; else what failed.
fn again(errno: Errno, what: &'static str) -> Result<bool, Failure> {
    match errno {
        Errno::AGAIN | Errno::INTR => Ok(true),
        _ => Err(unable(what)(errno)),
    }
}
