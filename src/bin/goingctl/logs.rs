//! logs: the end of the file that a service logs to, and what is added to it.

use crate::confdir;
use crate::interrupt;
use crate::options::Options;
use crate::output::{EXIT_ABSENT, EXIT_OK, Failure, fault, print, unable};
use crate::regular;
use crate::rundir;
use going::linux::signals::Signals;
use going::linux::{clock, watch};
use going::model::config::value;
use rustix::fs::inotify::WatchFlags;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file is looked at so often even if nothing is heard: where it is may tell nobody.
const RECHECK_MS: u64 = 1_000;
/// Bytes that are looked at for the last lines, at first.
const TAIL_LEN: u64 = 64 * 1024;
/// Bytes that are printed at once: a signal is to be heard however fast the file grows.
const COPY_MAX: u64 = 64 * 1024;

/// Prints the end of the log of the one service; with `-f` what is added, too.
pub fn show(options: &Options) -> Result<u8, Failure> {
    let name = options.words.first().map_or("", String::as_str);
    let path = path(&options.confdir, name)?;
    let what = || unable(format!("read {}", path.display()));
    let mut file = regular::open(&path).map_err(what())?;
    print(tail(&mut file, options.lines).map_err(what())?)?;
    if options.is_following {
        let signals = interrupt::signals()?;
        match follow(&path, file, &signals) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            followed => followed.map_err(unable(format!("follow {}", path.display())))?,
        }
    }
    Ok(EXIT_OK)
}

/// Where a service logs to, if that is a file.
fn path(confdir: &Path, name: &str) -> Result<PathBuf, Failure> {
    let file = confdir::file(confdir, name).symlink_metadata();
    if file.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Err(Failure::new(EXIT_ABSENT, format!("no such service: {name}")));
    }
    let text = confdir::text(confdir, name)?;
    let log = value(&text, b"log").unwrap_or(b"inherit");
    let word = log.escape_ascii();
    let why = match log {
        b"null" => "what it says is thrown away".to_owned(),
        b"inherit" => "its output is that of going".to_owned(),
        path if path.starts_with(b"/") => return Ok(PathBuf::from(OsStr::from_bytes(path))),
        _ => format!("the service {word} writes it down"),
    };
    Err(fault(format!("{name} logs to no file, but has log={word}: {why}")))
}

/// The last lines; the file is read to what was its end then.
fn tail(file: &mut File, lines: usize) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    let mut tail_len = TAIL_LEN;
    loop {
        let start = len.saturating_sub(tail_len);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        // No further: whoever writes may be faster.
        file.take(tail_len).read_to_end(&mut bytes)?;
        let mut ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        let last = usize::from(bytes.ends_with(b"\n"));
        match ends.nth(lines.saturating_add(last).saturating_sub(1)) {
            _ if lines == 0 => return Ok(Vec::new()),
            Some((index, _)) => return Ok(bytes.split_off(index.saturating_add(1))),
            None if start == 0 => return Ok(bytes),
            None => tail_len = tail_len.saturating_mul(4),
        }
    }
}

/// Prints what is added, until a signal comes. A file that was replaced or cut off is read from its
/// beginning.
fn follow(path: &Path, mut file: File, signals: &Signals) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    let news = rundir::watch(directory, changes);
    loop {
        let is_more = copy(&mut file)? == COPY_MAX;
        if interrupt::code(signals).is_some() {
            return Ok(());
        }
        if is_more {
            continue;
        }
        if let Some(next) = regular::open(path).ok().filter(|next| is_other(&file, next)) {
            // What was added to the old one meanwhile.
            if copy(&mut file)? < COPY_MAX {
                file = next;
            }
            continue;
        }
        if file.metadata()?.len() < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
            continue;
        }
        let next_ms = clock::now_ms().saturating_add(RECHECK_MS);
        signals.wait(Some(next_ms), [news.as_ref(), None]);
        let _changed = news.as_ref().is_some_and(watch::has_news);
    }
}

/// Prints what comes next; how many bytes that were.
fn copy(file: &mut File) -> io::Result<u64> {
    let mut stdout = io::stdout().lock();
    let len = io::copy(&mut file.take(COPY_MAX), &mut stdout)?;
    stdout.flush().map(|()| len)
}

/// Whether two descriptors are of two files.
fn is_other(one: &File, other: &File) -> bool {
    let identity = |file: &File| file.metadata().map(|stat| (stat.dev(), stat.ino())).ok();
    identity(one) != identity(other)
}
