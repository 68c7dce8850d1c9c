//! Standard input as a pipe, which can be looked into: tee(2) shows what is at its head, splice(2)
//! moves it on, and until then it is still there, for the next goinglog if this one is killed.
//!
//! Waits nowhere but in [`Input::wait`], and never changes how standard input is opened: others
//! share it.

use crate::output::TEXT_MAX;
use going::linux::{clock, raw, signals::Signals};
use going::model::lines::{HEAD_MAX, first_line};
use heapless::Vec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, fcntl_dupfd_cloexec, ioctl_fionread, read, write};
use rustix::pipe::{SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe, splice, tee};

/// Bytes moved at once at the most: signals are to be heard in between. What the kernel allows
/// everybody for one pipe, see pipe(7), is as much.
const MOVE_MAX: usize = 1 << 20;
/// Bytes taken at once from what is no pipe. The smallest pipe has two pages: there is room for so
/// many, in one of them, as long as no more than [`TEXT_MAX`] are in it.
const FILL_LEN: usize = 3072;
/// So long it waits for more, when there is little: hardly any writer fills the pipe meanwhile.
const GATHER_MS: u64 = 1;
/// So long it waits for the end of a line before it looks again, at the most: at first it is a
/// millisecond, and then twice as long each time. The kernel does not tell of more when there is
/// something already.
const OPEN_MAX_MS: u64 = 1_000;

/// What is seen at the head of the pipe.
pub type Head = Vec<u8, HEAD_MAX>;

/// Where the lines come from.
pub struct Input {
    /// Standard input, or what is filled from it.
    pipe: OwnedFd,
    /// If the latter: standard input until its end, and the other end of the pipe.
    source: Option<(OwnedFd, OwnedFd)>,
    /// What tee(2) copies into, empty in between: where from, where to.
    copy: (OwnedFd, OwnedFd),
    /// So long it looks for nothing, and more may come: the end of a line that is to be seen whole,
    /// or enough to be worth its while.
    pause_ms: u64,
    /// Bytes that are worth moving at once: an eighth of what there could be. Any, for syslog,
    /// which takes a line at a time.
    enough: usize,
    /// Bytes before its end, when that is known.
    pub left: Option<usize>,
}

impl Input {
    pub fn new(by_line: bool) -> Result<Self, Errno> {
        let stdin = fcntl_dupfd_cloexec(raw::stdio(0), 3)?;
        let (copy, (inner, filler)) = (pipe()?, pipe()?);
        // Nothing else has such a size.
        let size = fcntl_getpipe_size(&stdin).unwrap_or(0);
        let (pipe, source) = if size > 0 { (stdin, None) } else { (inner, Some((stdin, filler))) };
        // Its writers wait less often, and more is moved at once. Not everybody may.
        let size = fcntl_setpipe_size(&pipe, size.max(MOVE_MAX)).unwrap_or(size);
        let enough = if by_line || source.is_some() { 0 } else { size / 8 };
        Ok(Self { pipe, source, copy, pause_ms: 0, enough, left: None })
    }

    /// Waits until there is more to do, there is a signal, or it is `due_ms`; takes more from a
    /// standard input that is no pipe, when there is little in the pipe.
    pub fn wait(&mut self, signals: &Signals, due_ms: Option<u64>, takes_more: bool) {
        if self.pause_ms > 0 {
            signals.wait(Some(clock::now_ms().saturating_add(self.pause_ms)), [None; 2]);
        }
        let stdin = self.source.as_ref().map(|(stdin, _)| stdin);
        signals.wait(due_ms, if takes_more { [Some(&self.pipe), stdin] } else { [None; 2] });
        if let Some((stdin, filler)) = &self.source
            && self.left.is_none()
            && self.len() <= TEXT_MAX
            && is_ready(stdin, PollFlags::IN)
        {
            let mut bytes = [0; FILL_LEN];
            match read(stdin, &mut bytes) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(len @ 1..) => drop(write(filler, bytes.get(..len).unwrap_or_default())),
                // A terminal that has hung up is at its end too.
                Ok(0) | Err(_) => self.source = None,
            }
        }
    }

    /// Bytes that can be moved at once.
    pub fn len(&self) -> usize {
        ioctl_fionread(&self.pipe).map_or(0, |len| len.try_into().unwrap_or(usize::MAX))
    }

    /// Whether all is moved that is to be, and nothing more can come.
    pub fn is_over(&self) -> bool {
        self.left == Some(0) || self.is_ended() && self.len() == 0
    }

    /// Whether the pipe has no writer now. Asked for before what is in it: one that ends may leave
    /// something.
    fn is_ended(&self) -> bool {
        // Asked for nothing, it tells of the end alone.
        is_ready(&self.pipe, PollFlags::empty())
    }

    /// Copies what is at the head of the pipe, or EAGAIN: there is nothing yet, or never again.
    /// For syslog that is one line, when its end has come, or as much as goes into one message.
    pub fn peek(&mut self, head: &mut Head, by_line: bool) -> Result<(), Errno> {
        let paused_ms = core::mem::take(&mut self.pause_ms);
        // A line that fits is seen with its end.
        let max = if by_line { TEXT_MAX.saturating_add(1) } else { HEAD_MAX };
        let max = self.left.unwrap_or(max).min(max);
        let can_grow = self.left.is_none() && !self.is_ended();
        // What splice(2) has put there in small pieces: the copy has room for few of them.
        let least = self.len().min(max);
        let len = tee(&self.pipe, &self.copy.1, max, SpliceFlags::NONBLOCK)?;
        let _fits = head.resize_default(len);
        read(&self.copy.0, head.as_mut_slice())?;
        if by_line {
            head.truncate(first_line(head).len());
        }
        if by_line && !head.ends_with(b"\n") {
            if can_grow && len >= least && len <= TEXT_MAX {
                self.pause_ms = paused_ms.saturating_mul(2).clamp(1, OPEN_MAX_MS);
                return Err(Errno::AGAIN);
            }
            head.truncate(TEXT_MAX);
        }
        if len == 0 { Err(Errno::AGAIN) } else { Ok(()) }
    }

    /// Moves up to `max` bytes to the offset of a file. What the file does not take stays.
    pub fn splice(&mut self, file: &OwnedFd, mut offset: u64, max: usize) -> Result<(), Errno> {
        let max = self.left.unwrap_or(MOVE_MAX).min(MOVE_MAX).min(max);
        self.moved(splice(&self.pipe, None, file, Some(&mut offset), max, SpliceFlags::NONBLOCK)?)
    }

    /// Removes what was looked at, which ends up in `head` once more.
    pub fn skip(&mut self, head: &mut Head) -> Result<(), Errno> {
        self.moved(read(&self.pipe, head.as_mut_slice())?)
    }

    /// Takes note that so many bytes have left the pipe, or EAGAIN: there were none.
    fn moved(&mut self, len: usize) -> Result<(), Errno> {
        self.left = self.left.map(|left| left.saturating_sub(len));
        // Each time that it moves costs as much as kilobytes do.
        self.pause_ms = if self.len() < self.enough { GATHER_MS } else { 0 };
        if len == 0 { Err(Errno::AGAIN) } else { Ok(()) }
    }
}

/// Whether `fd` can be read, or written, or is at its end; as `flags` ask.
pub fn is_ready(fd: impl AsFd, flags: PollFlags) -> bool {
    poll(&mut [PollFd::new(&fd, flags)], Some(&Timespec::default())) == Ok(1)
}
