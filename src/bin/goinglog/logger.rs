//! The loop: waits, reads signals, and moves lines from the pipe to FILE.
//!
//! Lines leave the pipe only when they are in FILE. So nothing has to be kept here, nothing is lost
//! with this process, and a writer waits for as long as FILE cannot be written. Waits nowhere but
//! at the head of the loop, for the disk, and for at most a second each for the syslog daemon and
//! for standard error.

use crate::input::{Head, Input, is_ready};
use crate::output::{open_and_lock, rotate, send_line};
use crate::{Options, shown};
use core::fmt::{self, Write};
use going::linux::{clock, raw, signals::Signals, stdio};
use going::model::lines::{HEAD_MAX, OUT_MAX, Room, first_line};
use heapless::{String, Vec, format};
use linux_raw_sys::general::{CLOCK_REALTIME, SIGHUP, SIGTERM, SIGUSR1};
use rustix::event::{PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::fs::{fstat, ftruncate};
use rustix::io::{Errno, pread, pwrite};

/// The delay before what failed is tried again. It doubles with each failure, up to the maximum.
const DELAY_MS: u64 = 1_000;
const DELAY_MAX_MS: u64 = 30_000;
/// How long we wait for room in standard error.
const SAY_MAX: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Bytes of a message.
const MESSAGE_MAX: usize = 2000;

/// What could not be done, and why.
pub type Failure = (&'static str, Errno);
/// Lines with their stamps.
pub type Out = Vec<u8, OUT_MAX>;

/// The state of the program.
pub struct Logger<'a> {
    options: &'a Options,
    out: &'static mut Out,
    signals: Signals,
    input: Input,
    /// FILE. None after a failure, or if lines go to syslog only.
    file: Option<OwnedFd>,
    now: Now,
}

/// What changes while it runs.
#[derive(Default)]
struct Now {
    /// Whether lines are copied through this process instead of being spliced.
    copies: bool,
    /// What asks for a new FILE at the end of the line: SIGHUP if this one is to be renamed, which
    /// is also when it is full; SIGUSR1 if somebody else has renamed it.
    asked: Option<u32>,
    /// When what failed is tried again, and the delay before that. Without a failure the delay is
    /// 0.
    due_ms: u64,
    delay_ms: u64,
    /// Lines dropped since FILE could last be written, and whether the end of the last of them is
    /// still to come.
    dropped: usize,
    is_cut: bool,
}

impl<'a> Logger<'a> {
    /// Start-up, where errors still end the program.
    pub fn new(options: &'a Options, out: &'static mut Out) -> Result<Self, Failure> {
        let signals = Signals::new().map_err(unable("read signals for"))?;
        let by_line = options.syslog.is_some();
        let input = Input::new(by_line).map_err(unable("read standard input for"))?;
        let file = options.path().map(open_and_lock).transpose().map_err(unable("open"))?;
        let now = Now { copies: by_line || options.stamp.is_some(), ..Now::default() };
        Ok(Self { options, out, signals, input, file, now })
    }

    /// Moves lines until the input ends, or until we are told to end. Returns the exit code.
    pub fn run(&mut self) -> u8 {
        while !self.input.is_over() {
            self.wait();
            // As far as we know, FILE cannot be written yet.
            if clock::now_ms() < self.now.due_ms {
                let _nothing = self.options.drops.then(|| self.drop_lines());
                continue;
            }
            match self.step() {
                // Some file systems do not support splice(2).
                Err(("write", Errno::INVAL)) if !self.now.copies => self.now.copies = true,
                // EAGAIN is not a failure: there was nothing to move.
                Err(failure) if failure != ("write", Errno::AGAIN) => self.fail(failure),
                // All that was waiting is in FILE now.
                result if self.now.delay_ms > 0 && (result.is_err() || self.input.is_over()) => {
                    self.now.delay_ms = 0;
                    say(format_args!("writes {} again", shown(self.options.word)));
                }
                _ => {}
            }
        }
        if self.now.dropped > 0 {
            say(format_args!("{} lines dropped", self.now.dropped));
        }
        (self.now.delay_ms > 0 || self.now.dropped > 0).into()
    }

    /// Waits until there is something to do, and reads signals.
    fn wait(&mut self) {
        let due_ms = (self.now.delay_ms > 0).then_some(self.now.due_ms);
        self.input.wait(&self.signals, due_ms, due_ms.is_none() || self.options.drops);
        match self.signals.read() {
            Some(SIGHUP) => self.now.asked = Some(SIGHUP),
            Some(SIGUSR1) => self.now.asked = self.now.asked.or(Some(SIGUSR1)),
            Some(SIGTERM) => self.input.left = Some(self.input.len()),
            Some(_) => {}
            None => return,
        }
        // The sender may have mended what had failed, so try again at once.
        self.now.due_ms = 0;
    }

    /// Moves what goes into FILE next: whole lines, or what may be moved unseen.
    // Not inlined, so that its stack takes no memory until there are lines.
    #[inline(never)]
    fn step(&mut self) -> Result<(), Failure> {
        let (room, is_note) = (self.room()?, self.now.dropped > 0);
        let splices = !(is_note || self.now.copies);
        let unseen = Some(room.unseen()).filter(|&bytes| splices && bytes > 0);
        let (mut head, offset) = (Head::new(), room.size as u64);
        if is_note {
            let _fits = writeln!(head, "goinglog: {} lines dropped", self.now.dropped);
        } else if self.now.is_cut {
            // The beginning of this line has been dropped and counted, so the rest is not written.
            return self.drop_lines();
        } else if unseen.is_none() {
            self.input.peek(&mut head, self.options.syslog.is_some()).map_err(unable("write"))?;
        }
        let stamp = self.options.stamp.map(|it| it(raw::time(CLOCK_REALTIME))).unwrap_or_default();
        self.out.clear();
        let Some(taken) = unseen.or_else(|| room.pack(&head, stamp.as_bytes(), self.out)) else {
            self.now.asked = Some(SIGHUP);
            return Ok(());
        };
        if splices && let Some(file) = &self.file {
            return self.input.splice(file, offset, taken).map_err(unable("write"));
        }
        head.truncate(taken);
        let undo = |_: &Failure| _ = self.file.as_ref().map(|file| ftruncate(file, offset));
        self.put(offset, &head).inspect_err(undo)?;
        if is_note {
            self.now.dropped = 0;
            return Ok(());
        }
        self.input.skip(&mut head).map_err(unable("write"))
    }

    /// Writes `out`, which is made of `head`, to FILE, and sends `head` to syslog.
    fn put(&self, offset: u64, head: &[u8]) -> Result<(), Failure> {
        if let Some(file) = &self.file
            && pwrite(file, self.out, offset).map_err(unable("write"))? < self.out.len()
        {
            return Err(("write", Errno::NOSPC));
        }
        let send = |priority| send_line(self.options.word, priority, head);
        self.options.syslog.map_or(Ok(()), send).map_err(unable("send to /dev/log for"))
    }

    /// The state of FILE. It is opened anew or rotated first, if that is due and a line has ended.
    fn room(&mut self) -> Result<Room, Failure> {
        let Some(path) = self.options.path() else {
            return Ok(Room { size: 0, limit: usize::MAX, is_fresh: true });
        };
        // It stays open unless somebody has deleted it.
        let file = self.file.take().filter(|file| fstat(file).is_ok_and(|stat| stat.st_nlink > 0));
        let file = file.map_or_else(|| open_and_lock(path), Ok).map_err(unable("open"))?;
        let stat = fstat(&file).map_err(unable("write"))?;
        let mut size = stat.st_size.try_into().unwrap_or(usize::MAX);
        let mut last = *b"\n";
        pread(&file, &mut last, size.saturating_sub(1) as u64).map_err(unable("read"))?;
        if last != *b"\n" && self.now.dropped > 0 {
            // The rest of that line was dropped, so it ends here.
            last = *b"\n";
            size = size.saturating_add(pwrite(&file, &last, size as u64).map_err(unable("write"))?);
        }
        let is_fresh = last == *b"\n";
        if self.now.asked.is_none() || !is_fresh {
            self.file = Some(file);
            let limit = if self.now.asked.is_none() { self.options.limit } else { 0 };
            return Ok(Room { size, limit, is_fresh });
        }
        if self.now.asked == Some(SIGHUP) && size > 0 {
            rotate(path, self.options.count).map_err(unable("rotate"))?;
        }
        self.now.asked = None;
        // The file that we open next may be the same one. If this descriptor were closed after
        // that, both would lose their lock.
        drop(file);
        self.room()
    }

    /// Removes from the pipe what cannot be written: the rest of one line, or else all the lines
    /// that we see.
    fn drop_lines(&mut self) -> Result<(), Failure> {
        let mut head = Head::new();
        self.input.peek(&mut head, false).map_err(unable("write"))?;
        if self.now.is_cut {
            head.truncate(first_line(&head, HEAD_MAX).len());
        } else {
            let lines = head.split_inclusive(|&byte| byte == b'\n').count();
            self.now.dropped = self.now.dropped.saturating_add(lines);
        }
        self.now.is_cut = !head.ends_with(b"\n");
        self.input.skip(&mut head).map_err(unable("write"))
    }

    /// Sets when to try again, and says why. Ends instead if we have been told to.
    fn fail(&mut self, failure: Failure) {
        // While FILE is open, nobody can unmount its file system or mount it read-only.
        self.file = None;
        if self.now.delay_ms == 0 {
            say_unable(failure, self.options, ", trying again");
        }
        self.now.delay_ms = self.now.delay_ms.saturating_mul(2).clamp(DELAY_MS, DELAY_MAX_MS);
        self.now.due_ms = clock::now_ms().saturating_add(self.now.delay_ms);
        // What we were told to move before the end stays in the pipe.
        self.input.left = self.input.left.and(Some(0));
    }
}

/// Makes a failure of an error: `what` could not be done.
fn unable(what: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| (what, errno)
}

/// Says what failed and why. The `end` says what happens next.
pub fn say_unable((what, errno): Failure, options: &Options, end: &str) {
    let why = match (what, errno) {
        // A link; a FIFO, a device or a socket; a directory.
        ("open", Errno::LOOP | Errno::NXIO | Errno::ISDIR) => "not a regular file",
        ("open", Errno::AGAIN) => "another goinglog writes to it",
        _ => raw::reason(errno),
    };
    say(format_args!("unable to {what} {}: {why}{end}", shown(options.word)));
}

/// Prints a message to standard error, if there is room within [`SAY_MAX`]. We wait because it is
/// said only once, and a serial line may just be busy with the messages of others.
pub fn say(text: fmt::Arguments) {
    let line: String<MESSAGE_MAX> = format!("goinglog: {text}\n").unwrap_or_default();
    if is_ready(raw::stdio(2), PollFlags::OUT, SAY_MAX) {
        stdio::print(2, &[&line]);
    }
}
