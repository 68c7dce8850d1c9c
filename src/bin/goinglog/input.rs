//! Standard input as a pipe, which can be looked into: tee(2) shows what is at its head, splice(2)
//! moves it on, and until then it is still there, for the next goinglog if this one is killed.
//!
//! Waits nowhere but in [`Input::wait`], and never changes how standard input is opened: others
//! share it.

use crate::output::TEXT_MAX;
use core::mem::MaybeUninit;
use going::linux::{clock, raw, signals::Signals};
use going::model::lines::{HEAD_MAX, first_line};
use heapless::Vec;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, fcntl_dupfd_cloexec, ioctl_fionread, read, write};
use rustix::pipe::{SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe, splice, tee};

/// Bytes moved at once at the most: signals are to be heard in between. What the kernel allows
/// everybody for one pipe, see pipe(7), is as much.
const MOVE_MAX: usize = 1 << 20;
/// Bytes taken at once from what is no pipe. The smallest pipe has two pages, since Linux 5.14:
/// there is room for so many, in one of them, as long as no more than [`TEXT_MAX`] are in it.
const FILL_LEN: usize = 3072;
/// So long it waits for more, when there is little: hardly any writer fills the pipe meanwhile.
const GATHER_MS: u64 = 1;
/// So long it waits for the end of a line before it looks again: Linux wakes nobody when a write
/// fills a pipe that was not empty, and that writer waits for room then.
const OPEN_MS: u64 = 1_000;
/// Pieces that a pipe has room for, unless somebody asks for more or may have less: the copy.
const PIECES_MAX: usize = 16;

/// What is seen at the head of the pipe.
pub type Head = Vec<u8, HEAD_MAX>;

/// Where the lines come from.
pub struct Input {
    /// Standard input, or what is filled from it.
    pipe: OwnedFd,
    /// If the latter: standard input until its end, and the other end of the pipe.
    source: Option<(OwnedFd, OwnedFd)>,
    /// Can be read when something has come into the pipe since the last [`Input::wait`].
    news: OwnedFd,
    /// Whether it is that which is waited for: the end of a line that is to be seen whole. Not when
    /// it has come, for it may not be looked at in this turn.
    is_open: bool,
    /// Bytes that are worth moving at once: an eighth of what there could be. Any, for syslog,
    /// which takes a line at a time.
    enough: usize,
    /// Bytes before its end, when that is known.
    pub left: Option<usize>,
}

impl Input {
    pub fn new(by_line: bool) -> Result<Self, Errno> {
        let stdin = fcntl_dupfd_cloexec(raw::stdio(0), 3)?;
        let (inner, filler) = pipe()?;
        // Nothing else has such a size.
        let size = fcntl_getpipe_size(&stdin).unwrap_or(0);
        let (pipe, source) = if size > 0 { (stdin, None) } else { (inner, Some((stdin, filler))) };
        // Its writers wait less often, and more is moved at once. Not everybody may.
        let size = fcntl_setpipe_size(&pipe, size.max(MOVE_MAX)).unwrap_or(size);
        let enough = if by_line || source.is_some() { 0 } else { size / 8 };
        let news = epoll::create(epoll::CreateFlags::empty())?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&news, &pipe, epoll::EventData::new_u64(0), flags)?;
        Ok(Self { pipe, source, news, is_open: false, enough, left: None })
    }

    /// Waits until there is more to do, there is a signal, or it is `due_ms`; takes more from a
    /// standard input that is no pipe, when there is little in the pipe.
    pub fn wait(&mut self, signals: &Signals, due_ms: Option<u64>, takes_more: bool) {
        let pipe = if self.is_open && due_ms.is_none() { &self.news } else { &self.pipe };
        let stdin = self.source.as_ref().map(|(stdin, _)| stdin);
        let open_ms = self.is_open.then(|| clock::now_ms().saturating_add(OPEN_MS));
        signals.wait(due_ms.or(open_ms), if takes_more { [Some(pipe), stdin] } else { [None; 2] });
        if self.len() < self.enough {
            // Each time that it moves costs as much as kilobytes do.
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
                // A terminal that has hung up is at its end too.
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

    /// Whether all is moved that is to be, and nothing more can come.
    pub fn is_over(&self) -> bool {
        self.left == Some(0) || (self.left.is_some() || self.is_ended()) && self.len() == 0
    }

    /// Whether the pipe has no writer now. Asked for before what is in it: one that ends may leave
    /// something.
    fn is_ended(&self) -> bool {
        // Asked for nothing, it tells of the end alone.
        is_ready(&self.pipe, PollFlags::empty(), Timespec::default())
    }

    /// Copies what is at the head of the pipe, or EAGAIN: there is nothing yet, or never again.
    /// For syslog that is one line, when its end has come, or as much as goes into one message.
    pub fn peek(&mut self, head: &mut Head, by_line: bool) -> Result<(), Errno> {
        // A line that fits is seen with its end.
        let max = if by_line { TEXT_MAX.saturating_add(1) } else { HEAD_MAX };
        let max = self.left.unwrap_or(max).min(max);
        let (copy, filler) = pipe()?;
        // When nothing has come for so long, its writer may wait for room: if it has no more pages
        // than the copy, the pipe may be full of what is seen of it, a piece of a line in each.
        let size = |pipe| fcntl_getpipe_size(pipe).unwrap_or(0);
        let is_full = self.is_open && size(&self.pipe) <= size(&filler);
        let can_grow = by_line && !is_full && self.left.is_none() && !self.is_ended();
        let waiting = self.len();
        let len = tee(&self.pipe, &filler, max, SpliceFlags::NONBLOCK)?;
        let _fits = head.resize_default(len);
        read_pieces(&copy, head)?;
        if len == 0 && is_ready(&copy, PollFlags::IN, Timespec::default()) {
            // Before Linux 6.15 a write from a bad address leaves a piece without bytes. There is
            // room for one of them.
            let (_reader, away) = pipe()?;
            fcntl_setpipe_size(&away, 1)?;
            splice(&self.pipe, None, &away, None, 1, SpliceFlags::NONBLOCK)?;
        }
        if by_line {
            head.truncate(first_line(head, TEXT_MAX).len());
        }
        // Where more waits than was copied there is no need to wait for the end; nor can it be seen
        // then: the copy has room for few of the small pieces that splice(2) puts into the pipe.
        self.is_open = can_grow && len >= waiting && !head.ends_with(b"\n");
        if self.is_open || len == 0 { Err(Errno::AGAIN) } else { Ok(()) }
    }

    /// Moves up to `max` bytes to the offset of a file. What the file does not take stays.
    pub fn splice(&mut self, file: &OwnedFd, mut offset: u64, max: usize) -> Result<(), Errno> {
        let max = self.left.unwrap_or(MOVE_MAX).min(MOVE_MAX).min(max);
        self.moved(splice(&self.pipe, None, file, Some(&mut offset), max, SpliceFlags::NONBLOCK)?)
    }

    /// Removes what was looked at, which ends up in `head` once more.
    pub fn skip(&mut self, head: &mut Head) -> Result<(), Errno> {
        self.moved(read_pieces(&self.pipe, head)?)
    }

    /// Takes note that so many bytes have left the pipe, or EAGAIN: there were none.
    fn moved(&mut self, len: usize) -> Result<(), Errno> {
        self.left = self.left.map(|left| left.saturating_sub(len));
        if len == 0 { Err(Errno::AGAIN) } else { Ok(()) }
    }
}

/// Fills `head` with what is known to be at the head of the pipe; says how much that was. A piece
/// that was written in packet mode ends a read, and what is not read of it is lost.
fn read_pieces(pipe: &OwnedFd, head: &mut [u8]) -> Result<usize, Errno> {
    let mut len = 0_usize;
    for _ in 0..PIECES_MAX {
        let rest = head.get_mut(len..).filter(|rest| !rest.is_empty());
        let Some(rest) = rest else { break };
        len = len.saturating_add(read(pipe, rest)?);
    }
    Ok(len)
}

/// Whether `fd` can be read, or written, or is at its end, as `flags` ask; or will be in so long.
pub fn is_ready(fd: impl AsFd, flags: PollFlags, wait: Timespec) -> bool {
    poll(&mut [PollFd::new(&fd, flags)], Some(&wait)) == Ok(1)
}
