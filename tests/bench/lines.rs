//! What loggers cost, and whether they keep everything. Numbered lines go through a pipe into the
//! logger of each peer, one by one or in blocks, as from programs that do not buffer their output,
//! or do. The logs are on a disk, as usual. Each logger rotates after a megabyte. While it is timed
//! it keeps ten files, as is usual; once it keeps all of them, so that the lines can be counted.

use crate::peers::{self, Peer, write};
use crate::processes::Usage;
use crate::results::Results;
use crate::session::{Session, check_interrupt, now_ns, open_fifo};
use crate::{Choice, Result};
use nix::sys::statvfs::statvfs;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::fs;
use std::io::{PipeWriter, pipe};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use temp_dir::TempDir;

/// Where logs are kept during the measurement: beside the results.
const KEPT: &str = "target/bench/kept";

const LINES: usize = 2_000_000;
/// Bytes of a line, with its newline.
const LINE: usize = 100;
/// Bytes of a write, if lines are written in blocks.
const BLOCK: usize = 65_536;
/// Room for all lines with time stamps, and for the rounding up of each file.
const ROOM_BYTES: u64 = 320_000_000;
/// How many files are kept while a logger is timed, and how many hold all lines.
const FEW: usize = 10;
const ALL: usize = 300;
/// Runs of which the median is taken.
const RUNS: usize = 3;
/// No run begins later than this, because the other measures need time too.
const BUDGET: Duration = Duration::from_secs(75);

/// Time for a logger to get ready before the first line.
const MOMENT: Duration = Duration::from_millis(100);
/// The longest wait for the first line. supervisord takes a while.
const START_MAX: Duration = Duration::from_secs(20);
/// The longest wait until everything is kept.
const KEPT_MAX: Duration = Duration::from_mins(1);
/// Between two checks whether the logger has ended, and whether the files have their full size.
const GLANCE: Duration = Duration::from_millis(1);
const LOOK: Duration = Duration::from_millis(10);
/// Files that have not grown for this long will not grow any more.
const STILL: Duration = Duration::from_secs(2);

/// How lines are written and kept.
struct Way {
    name: &'static str,
    /// Bytes per write.
    size: usize,
    is_stamped: bool,
}

const WAYS: [Way; 4] = [
    Way { name: "200 MB of lines, line by line", size: LINE, is_stamped: false },
    Way { name: "200 MB of lines, in blocks", size: BLOCK, is_stamped: false },
    Way { name: "200 MB of lines, line by line, stamped", size: LINE, is_stamped: true },
    Way { name: "200 MB of lines, in blocks, stamped", size: BLOCK, is_stamped: true },
];

/// The directory of the logs, which is removed in the end.
struct Kept(PathBuf);

impl Kept {
    fn new() -> Result<Kept> {
        let _none = fs::remove_dir_all(KEPT);
        let made = fs::create_dir_all(KEPT).and_then(|()| fs::canonicalize(KEPT));
        made.map(Kept).map_err(|error| format!("{KEPT}: {error}"))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _none = fs::remove_dir_all(&self.0);
    }
}

/// How the logger of a peer is started.
struct Logger {
    words: Vec<String>,
    /// Whether it starts the writer itself.
    has_writer: bool,
}

pub fn measure(choice: &Choice, results: &mut Results) -> Result<()> {
    let kept = Kept::new()?;
    let room = statvfs(&kept.0)
        .map(|file_system| file_system.blocks_available() * file_system.fragment_size());
    if room.is_ok_and(|bytes| bytes < ROOM_BYTES) {
        eprintln!("bench: lines are left out: they need 320 MB in {}", kept.0.display());
        return Ok(());
    }
    let start = Instant::now();
    for run in 0..RUNS {
        if start.elapsed() > BUDGET {
            eprintln!("bench: lines: no time for more than {run} of {RUNS} runs");
            break;
        }
        for way in &WAYS {
            for peer in &choice.peers {
                keep(peer, way, FEW, results)?;
                if run == 0 {
                    keep(peer, way, ALL, results)?;
                }
            }
        }
    }
    Ok(())
}

/// The logger of `peer`, which keeps lines in so many `files` in `dir`; none if it has no logger,
/// or no time stamps that the `way` asks for.
fn logger(
    peer: &Peer,
    dir: &Path,
    way: &Way,
    files: usize,
    writer: &[String],
) -> Result<Option<Logger>> {
    let path = dir.display().to_string();
    let (count, old) = (format!("n{files}"), files.to_string());
    let stamped = |option| if way.is_stamped { option } else { "" };
    let (goinglog, file) = (peers::logger()?.display().to_string(), format!("{path}/current"));
    // The time is stamped as people read it, if the logger can do that; multilog cannot.
    let words: &[&str] = match peer.name {
        "going" => &[&goinglog, stamped("-t"), "-s", "1M", "-n", &old, &file],
        "runit" => &["svlogd", stamped("-ttt"), &path],
        "s6" => &["s6-log", &count, "s1000000", stamped("T"), &path],
        "daemontools" => &["multilog", stamped("t"), "s1000000", &count, &path],
        "busybox" if peers::has("busybox svlogd") => &["busybox", "svlogd", stamped("-ttt"), &path],
        "supervisor" if !way.is_stamped => return supervisord(dir, files, writer).map(Some),
        _ => return Ok(None),
    };
    // The configuration of svlogd; the others ignore it.
    write(&dir.join("config"), &format!("s1000000\n{count}\n"))?;
    let words = words.iter().filter(|word| !word.is_empty());
    Ok(Some(Logger { words: words.map(|&word| word.into()).collect(), has_writer: false }))
}

/// supervisord writes the logs itself.
fn supervisord(dir: &Path, files: usize, writer: &[String]) -> Result<Logger> {
    let (conf, dir, writer) = (dir.join("supervisord.conf"), dir.display(), writer.join(" "));
    let text = format!(
        "[supervisord]\nnodaemon=true\nuser=root\nlogfile={dir}/supervisord.log\n\
         pidfile={dir}/supervisord.pid\n\
         [program:writer]\ncommand={writer}\nautorestart=false\nstartsecs=0\n\
         stdout_logfile={dir}/current\nstdout_logfile_maxbytes=1MB\nstdout_logfile_backups={files}\n\
         stderr_logfile=NONE\n"
    );
    write(&conf, &text)?;
    let words = ["supervisord".into(), "-c".into(), conf.display().to_string()];
    Ok(Logger { words: words.into(), has_writer: true })
}

/// One run, in which this many files are kept.
fn keep(peer: &Peer, way: &Way, files: usize, results: &mut Results) -> Result<()> {
    check_interrupt()?;
    let dir = TempDir::with_prefix("going-bench-").map_err(|error| error.to_string())?;
    let fifo_path = dir.child("fifo");
    let fifo = open_fifo(&fifo_path)?;
    let Kept(kept) = &Kept::new()?;
    let (count, size) = (LINES.to_string(), way.size.to_string());
    let (service, fifo_path) = (peers::service()?, fifo_path.display().to_string());
    let writer = [service.display().to_string(), "--lines".into(), count, size, fifo_path];
    let Some(logger) = logger(peer, kept, way, files, &writer)? else { return Ok(()) };
    eprintln!("bench: {}, {}", way.name, peer.name);
    let mut session = if logger.has_writer {
        Session::execute(dir, fifo, &logger.words, Stdio::null())?
    } else {
        let (output, input) = pipe().map_err(|error| format!("pipe: {error}"))?;
        let session = Session::execute(dir, fifo, &logger.words, output.into())?;
        sleep(MOMENT);
        start_writer(&writer, input)?;
        session
    };
    let Some(first) = session.next(START_MAX)? else {
        eprintln!("bench: {}: nothing is written:\n  {}", peer.name, session.last_words());
        return Ok(());
    };
    let before = if logger.has_writer { Usage::of(&[session.root()]).cpu_ns } else { 0 };
    let end_ns = if logger.has_writer {
        // This record says that all is written, but not that all is kept.
        let _written = session.next(KEPT_MAX)?;
        wait_for_files(kept)?
    } else {
        match wait_for_end(&session)? {
            Ok(end_ns) => end_ns,
            Err(why) => {
                eprintln!("bench: {}: {why}:\n  {}", peer.name, session.last_words());
                return Ok(());
            }
        }
    };
    if files == ALL {
        let lost = count_lost(kept, way.is_stamped)?;
        results.add(way.name, "lost or torn", "", peer.name, lost as f64);
        return Ok(());
    }
    // A zombie still has its CPU times.
    let cpu_ns = Usage::of(&[session.root()]).cpu_ns - before;
    let time_ns = end_ns.saturating_sub(first.at_ns);
    results.add(way.name, "all kept", "s", peer.name, time_ns as f64 / 1e9);
    results.add(way.name, "CPU", "s", peer.name, cpu_ns as f64 / 1e9);
    Ok(())
}

/// Starts the writer. The session that is under way ends it, and reaps it.
fn start_writer(words: &[String], output: PipeWriter) -> Result<()> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(output);
    command.spawn().map(drop).map_err(|error| format!("{}: {error}", words[0]))
}

/// When the logger had ended, or how it failed.
fn wait_for_end(session: &Session) -> Result<Result<u64>> {
    let root = Pid::from_raw(session.root());
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let due_ns = now_ns() + KEPT_MAX.as_nanos() as u64;
    let mut status = Ok(WaitStatus::StillAlive);
    while status == Ok(WaitStatus::StillAlive) && now_ns() < due_ns {
        check_interrupt()?;
        sleep(GLANCE);
        status = waitid(Id::Pid(root), flags);
    }
    let end_ns = now_ns();
    Ok(match status {
        Ok(WaitStatus::Exited(_, 0)) => Ok(end_ns),
        Ok(WaitStatus::Exited(_, code)) => Err(format!("exited {code}")),
        Ok(WaitStatus::StillAlive) => Err("has not ended".into()),
        other => Err(format!("{other:?}")),
    })
}

/// When the files were complete, or last grew.
fn wait_for_files(dir: &Path) -> Result<u64> {
    let (mut bytes, mut grown_ns) = (0, now_ns());
    while bytes < (LINES * LINE) as u64 && now_ns() < grown_ns + STILL.as_nanos() as u64 {
        check_interrupt()?;
        sleep(LOOK);
        let found =
            files(dir)?.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
        if found != bytes {
            (bytes, grown_ns) = (found, now_ns());
        }
    }
    Ok(grown_ns)
}

/// The files with the lines, the oldest first: those called `@` and a time are older than
/// `current`, and `current.2` is older than `current.1`.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<_> = names
        .filter(|name| name.starts_with('@') || name.starts_with("current"))
        .map(|name| {
            let number = name.strip_prefix("current").and_then(|rest| {
                if rest.is_empty() { Some(0) } else { rest.strip_prefix('.')?.parse().ok() }
            });
            (number.map_or(i32::MIN, |number: i32| -number), name)
        })
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, name)| dir.join(name)).collect())
}

/// Counts the lines that occur nowhere whole and in order, or the whole lines that occur again, if
/// there are more of these. The pieces of a line that is torn between two files are not whole.
fn count_lost(dir: &Path, is_stamped: bool) -> Result<usize> {
    let (mut whole, mut repeated, mut next, mut stamp_len) = (0_usize, 0, 0, None);
    for path in files(dir)? {
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            // All stamps are of the same length.
            let stamp_len = *stamp_len.get_or_insert(line.len().saturating_sub(LINE));
            let parts = line.split_at_checked(stamp_len);
            let line = parts.filter(|(stamp, _)| stamp.ends_with(b" ") == is_stamped);
            match line.and_then(|(_, line)| number(line)) {
                Some(number) if number >= next => (whole, next) = (whole + 1, number + 1),
                Some(_) => repeated += 1,
                None => {}
            }
        }
    }
    Ok(LINES.saturating_sub(whole).max(repeated))
}

/// The number of a whole line, which has its digits, its text and its newline.
fn number(line: &[u8]) -> Option<usize> {
    let (digits, rest) = line.split_at_checked(10)?;
    let is_whole = line.len() == LINE && rest.starts_with(b" The") && rest.ends_with(b"one eye\n");
    str::from_utf8(digits).ok().filter(|_| is_whole)?.parse().ok()
}
