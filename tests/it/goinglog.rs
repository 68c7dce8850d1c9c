//! goinglog: scenarios against the real program, the one in the same directory as the going under
//! test. Here are the command line, memory and idleness, and what the other files build on:
//! `goinglog_files`, `goinglog_faults`, `goinglog_input` and `goinglog_syslog`.
//!
//! A scenario holds both ends of the pipe that goinglog reads open, as going does: what one
//! goinglog leaves in it is there for the next.

use crate::harness::{Going, going, peak_kb, send};
use crate::namespace::Namespace;
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::libc;
use nix::sys::signal::Signal;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// The exit codes, as documented.
pub const EXIT_UNDONE: Option<i32> = Some(1);
pub const EXIT_USAGE: Option<i32> = Some(64);
pub const EXIT_START: Option<i32> = Some(111);

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(version_and_help),
        scenario!(usage_errors_exit_64),
        scenario!(memory_is_fixed),
        scenario!(no_lines_take_no_stack),
        scenario!(nothing_to_do_is_no_wake_up),
    ]
}

/// A directory, the pipe, and the goinglog that reads from it.
pub struct Log {
    /// Used for its directory, its patience, and for cleaning up; going itself is not started.
    pub scene: Going,
    pub reader: PipeReader,
    /// Dropped to end the input.
    pub writer: Option<PipeWriter>,
    pub process: Option<Child>,
    /// FILE on the command line, and the same file as it is seen from this mount namespace.
    pub word: PathBuf,
    pub file: PathBuf,
}

impl Log {
    pub fn new() -> Log {
        let (reader, writer) = io::pipe().expect("a pipe");
        let scene = Going::new();
        let (word, file) = (scene.path("web"), scene.path("web"));
        Log { scene, reader, writer: Some(writer), process: None, word, file }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// `goinglog OPTIONS FILE`.
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(going().with_file_name("goinglog"));
        let log = OpenOptions::new().create(true).append(true).open(self.scene.path("log"));
        command.args(options).arg(&self.word);
        command.stdin(self.reader.try_clone().expect("a descriptor"));
        command.stderr(log.expect("our own file"));
        command
    }

    pub fn start(&mut self, options: &[&str]) {
        let command = self.command(options);
        self.start_as(command);
    }

    /// Starts it in the mount namespace of `namespace`.
    pub fn start_in(&mut self, namespace: &Namespace, options: &[&str]) {
        let mut command = self.command(options);
        namespace.enter(&mut command);
        self.start_as(command);
    }

    pub fn start_as(&mut self, mut command: Command) {
        self.process = Some(command.spawn().expect("goinglog can be executed"));
        // Until then a signal has its default action.
        let blocks_all = || {
            let mask = u64::from_str_radix(&proc::status(self.pid(), "SigBlk"), 16).unwrap_or(0);
            mask & 0x7fff_ffff & !(1 << 8 | 1 << 18) == 0x7fff_ffff & !(1 << 8 | 1 << 18)
        };
        self.scene.wait_for("goinglog blocking its signals", blocks_all);
    }

    pub fn pid(&self) -> i32 {
        let process = self.process.as_ref().expect("a started goinglog");
        process.id().try_into().expect("a pid")
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let writer = self.writer.as_mut().expect("the input has not ended");
        writer.write_all(bytes.as_ref()).expect("both ends are open");
    }

    /// Waits until it ends. Returns the exit code, or none if it was killed by a signal.
    #[track_caller]
    pub fn wait_exit(&mut self) -> Option<i32> {
        let pid = self.pid();
        self.scene.wait_gone("goinglog", pid);
        let status = self.process.take().expect("a started goinglog").wait();
        status.expect("our own child").code()
    }

    /// Ends the input; goinglog has to exit 0.
    #[track_caller]
    pub fn finish(&mut self) {
        self.writer = None;
        assert_eq!(self.wait_exit(), Some(0), "{}", self.scene.report());
    }

    /// The older file FILE.NUMBER.
    pub fn older(&self, number: usize) -> PathBuf {
        self.file.with_extension(number.to_string())
    }

    /// The content of all files, the oldest first.
    pub fn files(&self) -> Vec<Vec<u8>> {
        let mut numbers: Vec<usize> = (1..2000).filter(|&n| self.older(n).exists()).collect();
        numbers.reverse();
        let older = numbers.into_iter().map(|number| self.older(number));
        older.chain([self.file.clone()]).map(|path| fs::read(path).unwrap_or_default()).collect()
    }

    pub fn content(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_content(&self, content: impl AsRef<[u8]>) {
        let content = content.as_ref();
        let what = format!("{:?} in the file", String::from_utf8_lossy(content));
        self.scene.wait_for(&what, || self.content() == content);
    }

    /// Waits until it has nothing left to do with what it was given.
    #[track_caller]
    pub fn wait_idle(&self) {
        let pid = self.pid();
        let state = || (proc::stat(pid).map(|stat| stat.state), switches(pid));
        // It may still be waiting a moment for more input.
        self.scene.wait_for("the last wake-up", || {
            let before = state();
            thread::sleep(Duration::from_millis(50));
            before == state() && before.0 == Some('S')
        });
    }

    /// Waits until nothing is left in the pipe.
    #[track_caller]
    pub fn wait_empty(&self) {
        self.scene.wait_for("an empty pipe", || waiting(&self.reader) == 0);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only for a process that is already gone.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A log in a directory of its own, which can vanish.
pub fn in_a_directory() -> (Log, PathBuf) {
    let mut log = Log::new();
    let directory = log.scene.path("logs");
    fs::create_dir(&directory).expect("an empty directory");
    (log.word, log.file) = (directory.join("web"), directory.join("web"));
    (log, directory)
}

/// How often the process has gone to sleep to wait for something.
pub fn switches(pid: i32) -> u64 {
    proc::status_number(pid, "voluntary_ctxt_switches")
}

/// Bytes in the pipe.
pub fn waiting(pipe: &PipeReader) -> i32 {
    let mut len = 0;
    // SAFETY: the kernel writes one int.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut len) };
    assert_eq!(result, 0, "no pipe");
    len
}

pub fn numbered(numbers: Range<u32>) -> Vec<u8> {
    numbers
        .flat_map(|n| format!("line {n:07} {}\n", "x".repeat((n % 97) as usize)).into_bytes())
        .collect()
}

#[track_caller]
pub fn assert_same(found: &[u8], expected: &[u8]) {
    let same = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let (found_len, expected_len) = (found.len(), expected.len());
    let near = |bytes: &[u8]| {
        let part = &bytes[same.saturating_sub(60)..bytes.len().min(same + 60)];
        String::from_utf8_lossy(part).into_owned()
    };
    assert!(
        found == expected,
        "{found_len} bytes, not {expected_len}; first difference at {same}:\n{}\nnot\n{}",
        near(found),
        near(expected)
    );
}

pub fn with_stamps<'a>(options: &[&'a str], is_stamped: bool) -> Vec<&'a str> {
    let stamps: &[&str] = if is_stamped { &["-t"] } else { &[] };
    [options, stamps].concat()
}

/// Each line without its stamp, which must be there.
#[track_caller]
pub fn unstamped(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    let rest = |line: &[u8]| {
        let is_stamped = line.len() > 28 && line[26..28] == *b"Z ";
        assert!(is_stamped, "not stamped: {:?}", String::from_utf8_lossy(line));
        line[28..].to_vec()
    };
    lines.flat_map(rest).collect()
}

fn version_and_help() {
    let log = Log::new();
    let output = log.command(&["-V"]).stdout(Stdio::piped()).output().expect("it can be executed");
    let version = format!("goinglog {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((output.stdout, output.status.code()), (version.into_bytes(), Some(0)));
    let output = log.command(&["-h"]).stdout(Stdio::piped()).output().expect("it can be executed");
    let text = String::from_utf8(output.stdout).expect("plain text");
    for flag in ["-s", "-n", "-t", "-T", "-d", "-y", "-p", "-h", "-V"] {
        assert!(text.contains(flag), "no {flag} in {text}");
    }
    assert_eq!(output.status.code(), Some(0));
}

fn usage_errors_exit_64() {
    let log = Log::new();
    let wrong: [&[&str]; 12] = [
        &["-x"],
        &["-s"],
        &["-s", "1X"],
        &["-s", "-1"],
        &["-n", "0"],
        &["-n", "x"],
        &["-p", "daemon"],
        &["-p", "daemon.loud"],
        &["another"],
        &[""],
        &["--"],
        &["-tT"],
    ];
    for words in wrong {
        let output = log.command(words).stderr(Stdio::piped()).output();
        let output = output.expect("it can be executed");
        assert_eq!(output.status.code(), EXIT_USAGE, "{words:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("\nusage: goinglog "), "{text}");
    }
    assert!(!log.file().exists());
    let mut nothing = Command::new(going().with_file_name("goinglog"));
    let output = nothing.output().expect("it can be executed");
    assert_eq!(output.status.code(), EXIT_USAGE);
    assert!(output.stderr.starts_with(b"goinglog: "), "{output:?}");
}

/// Writes in a thread of its own, because that may block. The thread returns the writer.
pub fn write_beside(log: &mut Log, lines: Vec<u8>) -> thread::JoinHandle<PipeWriter> {
    let mut writer = log.writer.take().expect("the input has not ended");
    thread::spawn(move || {
        writer.write_all(&lines).expect("both ends are open");
        writer
    })
}

#[track_caller]
pub fn wait_again(log: &Log) {
    log.scene.wait_log(&format!("goinglog: writes {} again", log.word.display()));
    assert_eq!(log.scene.log().lines().count(), 2, "{}", log.scene.report());
}

/// A descriptor that can be read whenever the file at `path` is opened.
pub fn opens(path: &Path) -> File {
    // SAFETY: no memory is involved.
    let inotify = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
    assert!(inotify >= 0, "no inotify");
    // SAFETY: it is new, and has no other owner.
    let inotify = unsafe { OwnedFd::from_raw_fd(inotify) };
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
    // SAFETY: the path lives through the call.
    let watch =
        unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), libc::IN_OPEN) };
    assert!(watch >= 0, "no watch");
    inotify.into()
}

/// The descriptors are fixed too: a rotation leaves none open.
fn memory_is_fixed() {
    let mut log = Log::new();
    log.start(&["-t", "-s", "64K", "-n", "3"]);
    log.wait_idle();
    let descriptors = proc::descriptors(log.pid()).len();
    for _ in 0..10 {
        log.write(numbered(0..10_000));
        log.signal(Signal::SIGUSR1);
    }
    log.wait_idle();
    assert_eq!(proc::descriptors(log.pid()).len(), descriptors);
    let peak = proc::status_number(log.pid(), "VmPeak");
    assert!(peak < peak_kb(), "{peak} kB");
    log.finish();
}

/// There may be a logger for each service, and most of them have nothing to do.
fn no_lines_take_no_stack() {
    let mut log = Log::new();
    let mut command = log.command(&[]);
    // The environment is on the stack too.
    command.env_clear();
    log.start_as(command);
    log.wait_idle();
    let maps = fs::read_to_string(format!("/proc/{}/smaps", log.pid())).expect("it runs");
    let (_, stack) = maps.split_once("[stack]").expect("it has one");
    let resident = stack.lines().find_map(|line| line.strip_prefix("Rss:")).expect("its size");
    let kb: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kb <= 16, "{kb} kB");
    log.finish();
}

fn nothing_to_do_is_no_wake_up() {
    let mut log = Log::new();
    log.start(&[]);
    log.write("one\n");
    log.wait_content("one\n");
    log.wait_idle();
    let before = switches(log.pid());
    // This wait is the measurement.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(switches(log.pid()), before);
    log.finish();
}
