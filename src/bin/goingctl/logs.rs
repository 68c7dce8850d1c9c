//! logs: prints the end of the file that a service logs to, directly or through a goinglog, and
//! what is added to it.
//!
//! Never reads anything but a regular file.

use crate::confdir;
use crate::interrupt::Interrupts;
use crate::options::Options;
use crate::output::{EXIT_ABSENT, EXIT_OK, Failure, fault, unable};
use crate::regular;
use crate::rundir;
use going::linux::raw::stdio;
use going::linux::{clock, watch};
use going::model::config::{service_name, value};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::WatchFlags;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How often the file is checked without an event: not every file system reports changes.
const RECHECK_MS: u64 = 1_000;
/// Bytes searched at once for the last lines, which may be of any size.
const BLOCK_LEN: u64 = 64 * 1024;
/// Bytes printed at once: if poll(2) finds room in a pipe at all, there is room for this many.
const COPY_MAX: u64 = 4096;
/// How often we look for signals while there is no room.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Prints the end of the log of one service; with `-f` also what is added.
pub fn show(options: &Options) -> Result<u8, Failure> {
    let name = options.words.first().map_or("", String::as_str);
    let path = path(&options.confdir, name)?;
    let what = || unable(format!("read {}", path.display()));
    let mut file = regular::open(&path).map_err(what())?;
    let len = file.metadata().map_err(what())?.len();
    let start = start(&mut file, len, options.lines).map_err(what())?;
    // Without -f a signal simply kills us.
    let interrupts = options.is_following.then(Interrupts::open).transpose()?;
    let printed = print(&mut file, start, len, interrupts.as_ref());
    let Some(interrupts) = interrupts.filter(|_| printed.is_ok()) else {
        return end(printed, "print", &path);
    };
    end(follow(&path, file, &interrupts), "follow", &path)
}

/// The exit code after printing. A pipe that nobody reads any more is not a failure, nor is a
/// signal.
fn end(printed: io::Result<()>, verb: &str, path: &Path) -> Result<u8, Failure> {
    match printed {
        Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {
            Err(unable(format!("{verb} {}", path.display()))(error))
        }
        _ => Ok(EXIT_OK),
    }
}

/// The file that holds the log of a service, if there is one.
fn path(confdir: &Path, name: &str) -> Result<PathBuf, Failure> {
    let file = confdir::file(confdir, name).symlink_metadata();
    let is_absent = file.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    // Errors quote what is wrong in a file, so none outside the directory may be read.
    if is_absent || service_name(name.as_bytes()).is_none() {
        return Err(Failure::new(EXIT_ABSENT, format!("no such service: {name}")));
    }
    let text = confdir::text(confdir, name)?;
    let log = value(&text, b"log").unwrap_or(b"inherit");
    let word = log.escape_ascii();
    let reader = || confdir::text(confdir, &service_name(log)?).ok();
    let why = match log {
        path if path.starts_with(b"/") => return Ok(PathBuf::from(OsStr::from_bytes(path))),
        _ if let Some(path) = kept(&text) => return Ok(path),
        b"null" => "its output is discarded".to_owned(),
        b"inherit" => "its output is that of going".to_owned(),
        _ if let Some(path) = reader().and_then(|text| kept(&text)) => return Ok(path),
        _ => format!("its output goes to the service {word}"),
    };
    Err(fault(format!("{name} logs to no file, but has log={word}: {why}")))
}

/// The file that a service writes, if it is a goinglog that writes one.
fn kept(text: &[u8]) -> Option<PathBuf> {
    let words = confdir::words(value(text, b"cmd")?)?;
    let mut words = words.split(|&byte| byte == 0);
    let program = Path::new(OsStr::from_bytes(words.next()?)).file_name();
    program.filter(|name| *name == "goinglog")?;
    let (mut file, mut is_named) = (&b""[..], false);
    while let Some(word) = words.next() {
        is_named |= matches!(word, b"-y" | b"-p");
        match word {
            b"-s" | b"-n" | b"-p" => drop(words.next()),
            [b'-', ..] | [] => {}
            word => file = word,
        }
    }
    // With syslog, a word without a slash is not a file but only the name for syslog.
    let is_file = !file.is_empty() && (!is_named || file.contains(&b'/'));
    let path = |key, default| Path::new(OsStr::from_bytes(value(text, key).unwrap_or(default)));
    let inside = path(b"cwd", b"/").join(OsStr::from_bytes(file));
    let inside = inside.strip_prefix("/").ok().filter(|_| is_file)?;
    Some(path(b"chroot", b"/").join(inside))
}

/// Where the last lines of a file of this length begin.
fn start(file: &mut File, len: u64, lines: usize) -> io::Result<u64> {
    let mut before = len;
    let mut missing = lines;
    while before > 0 && missing > 0 {
        let block = before.saturating_sub(BLOCK_LEN);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(block))?;
        file.take(before.saturating_sub(block)).read_to_end(&mut bytes)?;
        let mut end = before;
        for byte in bytes.iter().rev() {
            // The newline at the end of the file ends a line, but begins none.
            if *byte == b'\n' && end < len {
                missing = missing.saturating_sub(1);
            }
            if missing == 0 {
                return Ok(end);
            }
            end = end.saturating_sub(1);
        }
        before = block;
    }
    Ok(before)
}

/// Prints up to `len` and no further: a writer may add lines faster than we print them.
fn print(file: &mut File, start: u64, len: u64, interrupts: Option<&Interrupts>) -> io::Result<()> {
    let mut next = file.seek(SeekFrom::Start(start))?;
    while next < len {
        interrupts.map_or(Ok(()), wait_for_room)?;
        match copy(file, len.saturating_sub(next).min(COPY_MAX))? {
            0 => break,
            printed => next = next.saturating_add(printed),
        }
    }
    Ok(())
}

/// Prints what is added, until a signal arrives. A file that was replaced or truncated is read from
/// its beginning.
fn follow(path: &Path, mut file: File, interrupts: &Interrupts) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    let news = rundir::watch(directory, changes);
    loop {
        wait_for_room(interrupts)?;
        if copy(&mut file, COPY_MAX)? == COPY_MAX {
            continue;
        }
        if let Some(next) = regular::open(path).ok().filter(|next| is_other(&file, next)) {
            // First, what was added to the old file meanwhile.
            wait_for_room(interrupts)?;
            if copy(&mut file, COPY_MAX)? < COPY_MAX {
                file = next;
            }
            continue;
        }
        if file.metadata()?.len() < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
            continue;
        }
        let next_ms = clock::now_ms().saturating_add(RECHECK_MS);
        interrupts.signals.wait(Some(next_ms), [news.as_ref(), None]);
        let _changed = news.as_ref().is_some_and(watch::has_news);
    }
}

/// Waits until something can be printed; fails if a signal has arrived. Signals are blocked, so
/// none would interrupt a write.
fn wait_for_room(interrupts: &Interrupts) -> io::Result<()> {
    loop {
        if interrupts.code().is_some() {
            return Err(ErrorKind::Interrupted.into());
        }
        // Any other error shows when we print.
        if poll(&mut [PollFd::new(&stdio(1), PollFlags::OUT)], Some(&PAUSE)) != Ok(0) {
            return Ok(());
        }
    }
}

/// Prints the next bytes of the file. Returns how many.
fn copy(file: &mut File, len_max: u64) -> io::Result<u64> {
    let mut bytes = Vec::new();
    let len = file.take(len_max).read_to_end(&mut bytes)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&bytes)?;
    stdout.flush()?;
    Ok(len.try_into().unwrap_or(u64::MAX))
}

/// Whether two descriptors refer to different files.
fn is_other(one: &File, other: &File) -> bool {
    let identity = |file: &File| file.metadata().map(|stat| (stat.dev(), stat.ino())).ok();
    identity(one) != identity(other)
}
