//! Standard input as a pipe, which can be looked into: tee(2) shows what is at its head, splice(2)
//! moves it on, and until then it is still there, for the next goinglog if this one is killed.
//!
//! Never waits, and never changes how standard input is opened: others share it.

use core::mem::{MaybeUninit, replace};
use going::linux::raw;
use heapless::Vec;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, fcntl_dupfd_cloexec, ioctl_fionread, read, write};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size};
use rustix::pipe::{pipe_with, splice, tee};

/// What the kernel allows everybody for one pipe; and a quarter of that, should it be too much for
/// all pipes of one user, see pipe(7).
const PIPE_SIZES: [usize; 2] = [1024 * 1024, 256 * 1024];
/// Bytes taken at once from what is no pipe, which has room for several times as many.
const FILL_LEN: usize = 8 * 1024;

/// Where the lines come from.
pub struct Input {
    /// Standard input, or what is filled from it.
    pub pipe: OwnedFd,
    /// If the latter: standard input until its end, and the other end of the pipe.
    pub source: Option<(OwnedFd, OwnedFd)>,
    /// Can be read when something has come into the pipe that is there already.
    pub news: OwnedFd,
    /// What tee(2) copies into, empty in between: where from, where to.
    copy: (OwnedFd, OwnedFd),
}

impl Input {
    pub fn new() -> Result<Self, Errno> {
        let mut pipe = fcntl_dupfd_cloexec(raw::stdio(0), 3)?;
        let mut source = None;
        if !FileType::from_raw_mode(fstat(&pipe)?.st_mode).is_fifo() {
            let (inner, filler) = pipe_with(PipeFlags::CLOEXEC)?;
            source = Some((replace(&mut pipe, inner), filler));
        }
        // Its writers wait less often, and more is moved at once. Not everybody may.
        let size = fcntl_getpipe_size(&pipe)?;
        let mut larger = PIPE_SIZES.into_iter().filter(|&wanted| wanted > size);
        let _is_larger = larger.any(|wanted| fcntl_setpipe_size(&pipe, wanted).is_ok());
        let news = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&news, &pipe, epoll::EventData::new_u64(0), flags)?;
        Ok(Self { pipe, source, news, copy: pipe_with(PipeFlags::CLOEXEC)? })
    }

    /// Takes note of what has come. Whether more can come, for somebody may write.
    pub fn take_news(&self) -> bool {
        let mut events = [MaybeUninit::uninit()];
        let _none = epoll::wait(&self.news, &mut events, Some(&Timespec::default()));
        let mut fds = [PollFd::new(&self.pipe, PollFlags::IN)];
        let _ready = poll(&mut fds, Some(&Timespec::default()));
        !fds.iter().any(|pipe| pipe.revents().contains(PollFlags::HUP))
    }

    /// Bytes that can be moved at once.
    pub fn len(&self) -> usize {
        ioctl_fionread(&self.pipe).ok().and_then(|len| len.try_into().ok()).unwrap_or(0)
    }

    /// Takes more from a standard input that is no pipe, when there is little in the pipe.
    pub fn fill(&mut self) {
        let Some((stdin, filler)) = &self.source else { return };
        let mut fds = [PollFd::new(stdin, PollFlags::IN)];
        let is_ready = self.len() < FILL_LEN && poll(&mut fds, Some(&Timespec::default())) == Ok(1);
        let mut bytes = [0; FILL_LEN];
        match is_ready.then(|| read(stdin, &mut bytes)) {
            None | Some(Err(Errno::AGAIN | Errno::INTR)) => {}
            Some(Ok(len @ 1..)) => drop(write(filler, bytes.get(..len).unwrap_or_default())),
            // A terminal that has hung up is at its end too.
            Some(Ok(0) | Err(_)) => self.source = None,
        }
    }

    /// Copies what is at the head of the pipe, `max` bytes at the most; none is its end.
    pub fn peek<const N: usize>(&self, head: &mut Vec<u8, N>, max: usize) -> Result<(), Errno> {
        head.clear();
        let len = tee(&self.pipe, &self.copy.1, max.min(N), SpliceFlags::NONBLOCK)?;
        let _fits = head.resize_default(len);
        read(&self.copy.0, head.as_mut_slice()).map(|_| ())
    }

    /// Moves up to `max` bytes to the offset of a file; 0 are the end. What the file does not take
    /// stays.
    pub fn splice(&self, file: &OwnedFd, mut offset: u64, max: usize) -> Result<usize, Errno> {
        splice(&self.pipe, None, file, Some(&mut offset), max, SpliceFlags::NONBLOCK)
    }

    /// Removes what was looked at, which ends up in `head` once more.
    pub fn skip(&self, head: &mut [u8]) -> usize {
        read(&self.pipe, head).unwrap_or(0)
    }
}
