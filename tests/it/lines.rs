//! Numbered lines: the services that write them, and the one that reads them and finds out whether
//! one is missing, torn, or there twice. When they are started again, all go on where they were.

use crate::service::record;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{read, write};
use std::collections::BTreeMap;
use std::fs;
use std::io::{stdin, stdout};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// What pipe(7) promises to keep in one piece.
const PIPE_BUF: usize = 4096;
/// Bytes that a reader still reads when it was told to end: others may go on writing.
const DRAIN_MAX: usize = 1 << 20;

/// A descriptor that TERM is read from.
fn term() -> SignalFd {
    let mask = SigSet::from(Signal::SIGTERM);
    mask.thread_block().expect("a valid signal");
    SignalFd::new(&mask).expect("Linux 2.6.22")
}

fn has_input(file: impl AsFd, timeout: PollTimeout) -> bool {
    let mut file = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut file, timeout).is_ok_and(|ready| ready > 0)
}

/// Writes lines of `len` bytes, `NAME NUMBER xxx…`, until `count` are written, in pieces of at most
/// PIPE_BUF. On TERM it ends between two pieces, and saves where it was.
pub fn write_numbered(directory: &str, name: &str, count: u64, len: usize) {
    let (state, term) = (Path::new(directory).join(format!("{name}.next")), term());
    let next = fs::read_to_string(&state).ok().and_then(|text| text.parse().ok());
    let mut next: u64 = next.unwrap_or(0);
    record(directory, &format!("{name}.starts"), &format!("{} 0", std::process::id()));
    while next < count && !has_input(&term, PollTimeout::ZERO) {
        let mut piece = String::new();
        while next < count && piece.len() + len <= PIPE_BUF {
            let line = format!("{name} {next} ");
            piece += &line;
            piece += &"x".repeat(len - line.len() - 1);
            piece.push('\n');
            next += 1;
        }
        if write(stdout(), piece.as_bytes()) != Ok(piece.len()) {
            record(directory, "lost", &format!("{name} {next}: {}", Errno::last()));
        }
    }
    fs::write(&state, next.to_string()).expect("room on the disk");
    if next >= count {
        record(directory, &format!("{name}.done"), &count.to_string());
        has_input(&term, PollTimeout::NONE);
    }
}

/// What a reader has seen.
#[derive(Default)]
struct Tally {
    next: BTreeMap<String, u64>,
    /// A line that has not ended yet.
    rest: Vec<u8>,
}

impl Tally {
    fn load(path: &Path) -> Tally {
        let mut tally = Tally::default();
        let text = fs::read(path).unwrap_or_default();
        for line in text.split(|&byte| byte == b'\n') {
            match line.strip_prefix(b"rest ") {
                Some(rest) => tally.rest = rest.to_vec(),
                None => drop(tally.take(line)),
            }
        }
        tally
    }

    fn save(&self, path: &Path) {
        let lines = self.next.iter().filter(|(_, next)| **next > 0);
        let mut text: Vec<u8> =
            lines.flat_map(|(name, next)| format!("{name} {}\n", next - 1).into_bytes()).collect();
        text.extend([b"rest ", self.rest.as_slice()].concat());
        // The file is replaced as a whole, because somebody may be reading it.
        let new: PathBuf = path.with_extension("new");
        fs::write(&new, text).expect("room on the disk");
        fs::rename(&new, path).expect("our own file");
    }

    /// Takes `NAME NUMBER …`. Returns whether that is the line that had to come.
    fn take(&mut self, line: &[u8]) -> bool {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        let (Some(name), Some(number)) = (words.next(), words.next()) else { return false };
        let Ok(number) = number.parse::<u64>() else { return false };
        let next = self.next.entry(name.to_owned()).or_default();
        let is_next = *next == number;
        *next = number + 1;
        is_next && words.next().is_none_or(|x| x.bytes().all(|byte| byte == b'x'))
    }

    fn read(&mut self, directory: &str, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let mut lines: Vec<_> = rest.split(|&byte| byte == b'\n').collect();
        self.rest = lines.pop().unwrap_or_default().to_vec();
        for line in lines {
            if !self.take(line) {
                record(directory, "torn", &String::from_utf8_lossy(line));
            }
        }
    }
}

/// Reads numbered lines. On TERM it reads what is there, and ends. With `stays` it does not end at
/// end-of-file.
pub fn tally(directory: &str, name: &str, stays: bool) {
    let (state, term) = (Path::new(directory).join(format!("{name}.tally")), term());
    let mut tally = Tally::load(&state);
    let note = |what: &str, text: &str| record(directory, &format!("{name}.{what}"), text);
    let pid = std::process::id().to_string();
    note("starts", &format!("{pid} 0"));
    let (stdin, mut buffer, mut left) = (stdin(), vec![0; 1 << 16], None);
    loop {
        if left.is_none() {
            let mut fds =
                [stdin.as_fd(), term.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            poll(&mut fds, PollTimeout::NONE).expect("two descriptors");
            if fds[1].revents().is_some_and(|ready| !ready.is_empty()) {
                note("terms", &pid);
                left = Some(DRAIN_MAX);
            }
        }
        if left == Some(0) || !has_input(&stdin, PollTimeout::ZERO) {
            if left.is_some() {
                break;
            }
            continue;
        }
        let len = read(&stdin, &mut buffer).expect("a pipe");
        if len == 0 {
            note("eof", &pid);
            if stays && left.is_none() {
                has_input(&term, PollTimeout::NONE);
                note("terms", &pid);
            }
            break;
        }
        tally.read(directory, &buffer[..len]);
        left = left.map(|left| left.saturating_sub(len));
    }
    tally.save(&state);
}

/// How many lines of a writer the reader has read, as far as it has saved that.
pub fn tallied(state: &Path, writer: &str) -> u64 {
    Tally::load(state).next.get(writer).copied().unwrap_or(0)
}
