//! Standard input as a pipe that can be looked into: tee(2) copies what is at its head, and
//! splice(2) moves it on. Until then it stays in the pipe, for the next goinglog if this one is
//! killed.
//!
//! Waits nowhere but in [`Input::wait`], and never changes the file status flags of standard input,
//! because others share it.

use crate::output::TEXT_MAX;
use core::mem::MaybeUninit;
use going::linux::{clock, raw, signals::Signals};
use going::model::lines::{HEAD_MAX, first_line};
use heapless::Vec;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, fcntl_dupfd_cloexec, ioctl_fionread, read, write};
use rustix::pipe::{SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe, splice, tee};

/// The most bytes moved at once, so that signals are read in between. This is also the largest pipe
/// that the kernel allows an ordinary user, see pipe(7).
const MOVE_MAX: usize = 1 << 20;
/// Bytes read at once from a standard input that is not a pipe. Since Linux 5.14 even the smallest
/// pipe has two pages: one of them has room for this many as long as no more than [`TEXT_MAX`] are
/// in the pipe.
const FILL_LEN: usize = 3072;
/// How long we wait for more when there is little to read. Hardly any writer fills the pipe in that
/// time.
const GATHER_MS: u64 = 1;
/// How long we wait for the end of a line before we look again. Linux wakes no reader when a write
/// fills a pipe that was not empty, and that writer then waits for room.
const OPEN_MS: u64 = 1_000;
/// How many pieces the copy has room for: the default of a pipe. A user with many pipes gets less.
const PIECES_MAX: usize = 16;

/// What is seen at the head of the pipe.
pub type Head = Vec<u8, HEAD_MAX>;

/// Where the lines come from.
pub struct Input {
    /// Standard input if that is a pipe, or else a pipe of our own that is filled from it.
    pipe: OwnedFd,
    /// In the latter case, until the end of the input: standard input, and the write end of the
    /// pipe.
    source: Option<(OwnedFd, OwnedFd)>,
    /// Can be read when something has come into the pipe since the last [`Input::wait`].
    news: OwnedFd,
    /// Whether we wait for the end of a line that is to be seen whole. Cleared as soon as more has
    /// come: that is reported only once, and this turn may fail before it looks at the pipe.
    is_open: bool,
    /// How many bytes are worth moving at once: an eighth of what the pipe can hold. 0 for syslog,
    /// which takes a line at a time, or if standard input is not a pipe.
    enough: usize,
    /// How many bytes are still to be moved, once we have been told to end.
    pub left: Option<usize>,
}

impl Input {
    pub fn new(by_line: bool) -> Result<Self, Errno> {
        let stdin = fcntl_dupfd_cloexec(raw::stdio(0), 3)?;
        let (inner, filler) = pipe()?;
        // Only a pipe has a pipe size.
        let size = fcntl_getpipe_size(&stdin).unwrap_or(0);
        let (pipe, source) = if size > 0 { (stdin, None) } else { (inner, Some((stdin, filler))) };
        // With a larger pipe, writers wait less often and more is moved at once. Not every user may
        // have one.
        let size = fcntl_setpipe_size(&pipe, size.max(MOVE_MAX)).unwrap_or(size);
        let enough = if by_line || source.is_some() { 0 } else { size / 8 };
        let news = epoll::create(epoll::CreateFlags::empty())?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&news, &pipe, epoll::EventData::new_u64(0), flags)?;
        Ok(Self { pipe, source, news, is_open: false, enough, left: None })
    }

    /// Waits until there is more to do, there is a signal, or it is `due_ms`. Then, if there is
    /// little in the pipe, reads more from a standard input that is not a pipe.
    pub fn wait(&mut self, signals: &Signals, due_ms: Option<u64>, takes_more: bool) {
        let pipe = if self.is_open && due_ms.is_none() { &self.news } else { &self.pipe };
        let stdin = self.source.as_ref().map(|(stdin, _)| stdin);
        let open_ms = self.is_open.then(|| clock::now_ms().saturating_add(OPEN_MS));
        signals.wait(due_ms.or(open_ms), if takes_more { [Some(pipe), stdin] } else { [None; 2] });
        if self.len() < self.enough {
            // Each move has a fixed cost, as high as that of moving some kilobytes.
            signals.wait(Some(clock::now_ms().saturating_add(GATHER_MS)), [None; 2]);
        } else if let Some((stdin, filler)) = &self.source
            && self.left.is_none()
            && self.len() <= TEXT_MAX
            && is_ready(stdin, PollFlags::IN, Timespec::default())
        {
            let mut bytes = [0; FILL_LEN];
            match read(stdin, &mut bytes) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(len @ 1..) => drop(write(filler, bytes.get(..len).unwrap_or_default())),
                // A terminal that has hung up is at its end, too.
                Ok(0) | Err(_) => self.source = None,
            }
        }
        // What comes from here on is news.
        let mut events = [MaybeUninit::uninit()];
        if let Ok(([_], _)) = epoll::wait(&self.news, &mut events, Some(&Timespec::default())) {
            self.is_open = false;
        }
    }

    /// Bytes that can be moved at once.
    pub fn len(&self) -> usize {
        ioctl_fionread(&self.pipe).map_or(0, |len| len.try_into().unwrap_or(usize::MAX))
    }

    /// Whether nothing is left to move: all that was to be moved has been, or nothing more can
    /// come.
    pub fn is_over(&self) -> bool {
        self.left == Some(0) || (self.left.is_some() || self.is_ended()) && self.len() == 0
    }

    /// Whether the pipe has no writer now. This is to be asked before what is in the pipe, because
    /// a writer may leave something there when it ends.
    fn is_ended(&self) -> bool {
        // Without requested events, poll(2) reports only the end.
        is_ready(&self.pipe, PollFlags::empty(), Timespec::default())
    }

    /// Copies what is at the head of the pipe. EAGAIN if there is nothing yet, or never again. For
    /// syslog it is one line whose end has come, or as much of a line as goes into one message.
    pub fn peek(&mut self, head: &mut Head, by_line: bool) -> Result<(), Errno> {
        // One more byte, so that a line that just fits is seen with its end.
        let max = if by_line { TEXT_MAX.saturating_add(1) } else { HEAD_MAX };
        let max = self.left.unwrap_or(max).min(max);
        let (copy, filler) = pipe()?;
        // If the end of the line has not come within `OPEN_MS`, its writer may be waiting for room.
        // A pipe that has no more pages than the copy may be full of what we see, with a piece of
        // the line in each page.
        let size = |pipe| fcntl_getpipe_size(pipe).unwrap_or(0);
        let is_full = self.is_open && size(&self.pipe) <= size(&filler);
        let can_grow = by_line && !is_full && self.left.is_none() && !self.is_ended();
        let waiting = self.len();
        let len = tee(&self.pipe, &filler, max, SpliceFlags::NONBLOCK)?;
        let _fits = head.resize_default(len);
        read_pieces(&copy, head)?;
        if len == 0 && is_ready(&copy, PollFlags::IN, Timespec::default()) {
            // Before Linux 6.15 a write from a bad address leaves an empty piece in the pipe. Move
            // one away, into a pipe that has room for one.
            let (_reader, away) = pipe()?;
            fcntl_setpipe_size(&away, 1)?;
            splice(&self.pipe, None, &away, None, 1, SpliceFlags::NONBLOCK)?;
        }
        if by_line {
            head.truncate(first_line(head, TEXT_MAX).len());
        }
        // If more is in the pipe than was copied, there is no need to wait for the end of the line.
        // Nor could we see it: the copy has room for only a few of the small pieces that splice(2)
        // puts into a pipe.
        self.is_open = can_grow && len >= waiting && !head.ends_with(b"\n");
        if self.is_open || len == 0 { Err(Errno::AGAIN) } else { Ok(()) }
    }

    /// Moves up to `max` bytes to `offset` in a file. What the file does not take stays in the
    /// pipe.
    pub fn splice(&mut self, file: &OwnedFd, mut offset: u64, max: usize) -> Result<(), Errno> {
        let max = self.left.unwrap_or(MOVE_MAX).min(MOVE_MAX).min(max);
        self.moved(splice(&self.pipe, None, file, Some(&mut offset), max, SpliceFlags::NONBLOCK)?)
    }

    /// Removes what was looked at from the pipe, by reading it into `head` once more.
    pub fn skip(&mut self, head: &mut Head) -> Result<(), Errno> {
        self.moved(read_pieces(&self.pipe, head)?)
    }

    /// Takes note that `len` bytes have left the pipe. EAGAIN if there were none.
    fn moved(&mut self, len: usize) -> Result<(), Errno> {
        self.left = self.left.map(|left| left.saturating_sub(len));
        if len == 0 { Err(Errno::AGAIN) } else { Ok(()) }
    }
}

/// Fills `head` with what is known to be at the head of the pipe. Returns how much that was. It may
/// take several reads, because a read ends after a piece that was written in packet mode. What it
/// leaves of such a piece is lost.
fn read_pieces(pipe: &OwnedFd, head: &mut [u8]) -> Result<usize, Errno> {
    let mut len = 0_usize;
    for _ in 0..PIECES_MAX {
        let rest = head.get_mut(len..).filter(|rest| !rest.is_empty());
        let Some(rest) = rest else { break };
        len = len.saturating_add(read(pipe, rest)?);
    }
    Ok(len)
}

/// Whether `fd` can be read or written, as `flags` ask, or is at its end, now or within `wait`.
pub fn is_ready(fd: impl AsFd, flags: PollFlags, wait: Timespec) -> bool {
    poll(&mut [PollFd::new(&fd, flags)], Some(&wait)) == Ok(1)
}
