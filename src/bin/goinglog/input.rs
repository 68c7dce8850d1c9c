//! Standard input as a pipe, which can be looked into: tee(2) shows what is at its head, splice(2)
//! moves it on, and until then it is still there, for the next goinglog if this one is killed.
//!
//! Never waits, and never changes how standard input is opened: others share it.

use going::linux::raw;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, fcntl_dupfd_cloexec, ioctl_fionread, read, write};
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice, tee,
};

/// A quarter of what the kernel allows everybody for one pipe, so that it is also allowed for the
/// pipes of hundreds of services, see pipe(7).
const PIPE_SIZE: usize = 256 * 1024;

/// Bytes moved at once at the most: signals are to be heard in between.
const SPLICE_MAX: u64 = 1 << 20;

/// Where the lines come from.
pub struct Input {
    /// Standard input, or what is filled from it.
    pub pipe: OwnedFd,
    /// The other end of the latter, until the end of standard input.
    filler: Option<OwnedFd>,
    /// What tee(2) copies into, empty in between: where from, where to.
    copy: (OwnedFd, OwnedFd),
}

impl Input {
    pub fn new() -> Result<Self, Errno> {
        let copy = pipe_with(PipeFlags::CLOEXEC)?;
        let stat = fstat(raw::stdio(0))?;
        if FileType::from_raw_mode(stat.st_mode).is_fifo() {
            // Its writers wait less often, and more is moved at once. Not everybody may.
            if fcntl_getpipe_size(raw::stdio(0)).is_ok_and(|size| size < PIPE_SIZE) {
                let _size = fcntl_setpipe_size(raw::stdio(0), PIPE_SIZE);
            }
            return Ok(Self { pipe: fcntl_dupfd_cloexec(raw::stdio(0), 3)?, filler: None, copy });
        }
        let (pipe, filler) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self { pipe, filler: Some(filler), copy })
    }

    /// Bytes that can be moved at once.
    pub fn len(&self) -> u64 {
        ioctl_fionread(&self.pipe).unwrap_or(0)
    }

    /// Takes more from a standard input that is no pipe, when the pipe is empty; `buffer` fits
    /// into it.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let Some(filler) = self.filler.as_ref().filter(|_| self.len() == 0) else { return };
        let mut stdin = [PollFd::from_borrowed_fd(raw::stdio(0), PollFlags::IN)];
        if poll(&mut stdin, Some(&Timespec::default())) != Ok(1) {
            return;
        }
        match read(raw::stdio(0), &mut *buffer) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal that has hung up is at its end too.
            Ok(0) | Err(_) => self.filler = None,
            Ok(len) => {
                let _all = write(filler, buffer.get(..len).unwrap_or_default());
            }
        }
    }

    /// Copies what is at the head of the pipe; 0 bytes are its end.
    pub fn peek(&self, head: &mut [u8], max: Option<u64>) -> Result<usize, Errno> {
        let max = max.and_then(|max| max.try_into().ok()).unwrap_or(usize::MAX).min(head.len());
        let len = tee(&self.pipe, &self.copy.1, max, SpliceFlags::NONBLOCK)?;
        read(&self.copy.0, head.get_mut(..len).unwrap_or_default())
    }

    /// Moves up to `max` bytes to the offset of a file; 0 are the end. What the file does not take
    /// stays.
    pub fn splice(&self, file: &OwnedFd, mut offset: u64, max: u64) -> Result<usize, Errno> {
        let max = usize::try_from(max.min(SPLICE_MAX)).unwrap_or(0);
        splice(&self.pipe, None, file, Some(&mut offset), max, SpliceFlags::NONBLOCK)
    }

    /// Removes what was looked at, which ends up in `head` once more.
    pub fn skip(&self, head: &mut [u8]) {
        let _there = read(&self.pipe, head);
    }
}
