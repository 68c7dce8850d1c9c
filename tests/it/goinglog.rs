//! goinglog: scenarios against the real program, the one in the same directory as the going under
//! test.
//!
//! A scenario holds both ends of the pipe that goinglog reads open, as going does: what one
//! goinglog leaves in it is there for the next.

use crate::harness::{
    Going, Helper, PATIENCE, going, install_program, limit, peak_kb, refuse, run_by, send, wait_for,
};
use crate::needs::scenario;
use crate::proc;
use going::model::stamp::{Stamp, rfc3339, tai64n};
use libtest_mimic::Trial;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use std::cell::RefCell;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::hash::BuildHasher;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::iter;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The exit codes, as documented.
const EXIT_UNDONE: Option<i32> = Some(1);
const EXIT_USAGE: Option<i32> = Some(64);
const EXIT_START: Option<i32> = Some(111);

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(version_and_help),
        scenario!(usage_errors_exit_64),
        scenario!(every_byte_goes_to_the_file),
        scenario!(lines_without_stamps_are_moved_unread),
        scenario!(what_is_there_is_continued),
        scenario!(files_are_rotated_and_bounded),
        scenario!(a_line_that_has_begun_is_no_reason_to_rotate),
        scenario!(long_lines_do_not_make_a_file_too_large),
        scenario!(files_have_a_size_and_a_number_unless_told_otherwise),
        scenario!(only_so_many_files_are_kept),
        scenario!(a_gap_in_the_numbers_is_filled),
        scenario!(stamps_stand_before_each_line),
        scenario!(stamps_tell_the_time),
        scenario!(a_rude_writer_harms_no_other),
        scenario!(term_ends_it_though_a_rude_writer_has_lost_something),
        scenario!(a_line_of_100_mb),
        scenario!(hup_rotates_at_the_end_of_the_line),
        scenario!(usr1_reopens_at_the_end_of_the_line),
        scenario!(hup_counts_for_more_than_usr1),
        scenario!(a_renamed_file_is_not_missed),
        scenario!(a_deleted_file_comes_back),
        scenario!(term_drains_the_pipe),
        scenario!(any_signal_at_any_time_loses_nothing),
        scenario!(kill_between_stamped_lines_loses_nothing),
        scenario!(kill_amid_stamped_lines_leaves_none_out),
        scenario!(a_full_disk_keeps_the_writer_waiting, Mounts),
        scenario!(a_full_disk_keeps_stamped_lines_whole, Mounts),
        scenario!(a_full_disk_drops_lines_if_told_to, Mounts),
        scenario!(term_on_a_full_disk_leaves_lines_in_the_pipe, Mounts),
        scenario!(a_read_only_disk_is_waited_for, Mounts),
        scenario!(a_broken_disk_is_waited_for),
        scenario!(a_disk_that_cannot_be_written_to_loses_nothing),
        scenario!(a_file_may_take_nothing_by_splice),
        scenario!(a_vanished_directory_is_waited_for),
        scenario!(the_end_of_the_input_does_not_end_the_waiting),
        scenario!(what_has_failed_is_tried_again_later_and_later),
        scenario!(a_stderr_that_is_full_for_a_moment_gets_the_message),
        scenario!(a_stderr_that_stays_full_holds_up_nothing),
        scenario!(a_vanished_directory_is_not_needed_for_nothing),
        scenario!(hup_rotates_amid_a_line_that_is_dropped),
        scenario!(a_limit_of_the_size_of_files_is_waited_for),
        scenario!(a_failed_rotation_keeps_the_size),
        scenario!(a_rotation_that_was_asked_for_is_not_forgotten),
        scenario!(what_is_no_regular_file_is_refused),
        scenario!(a_path_of_any_length_is_reported),
        scenario!(a_long_path_is_rotated),
        scenario!(lack_of_permission_is_reported, Root),
        scenario!(a_second_goinglog_on_the_same_file_refuses),
        scenario!(stdin_may_be_a_file),
        scenario!(a_pipe_is_made_larger_and_never_smaller),
        scenario!(descriptors_may_be_closed),
        scenario!(stdin_may_be_a_socket_though_there_is_little_room_in_pipes, Root),
        scenario!(stdin_may_be_a_socket),
        scenario!(stdin_may_be_a_socket_that_ends),
        scenario!(what_cannot_be_read_is_at_its_end),
        scenario!(lines_from_a_socket_are_dropped_too),
        scenario!(lines_go_to_syslog, Mounts),
        scenario!(lines_wait_for_syslog, Mounts),
        scenario!(a_syslog_that_does_not_read_is_waited_for, Mounts),
        scenario!(a_name_for_syslog_touches_no_file, Mounts),
        scenario!(a_writer_that_comes_amid_the_last_step_is_not_missed, Mounts),
        scenario!(syslog_has_whole_lines_of_names_of_any_kind, Mounts),
        scenario!(syslog_is_told_how_much_was_dropped, Mounts),
        scenario!(the_end_of_an_open_line_is_dropped_at_once, Mounts),
        scenario!(the_beginning_of_an_open_line_is_dropped_too, Mounts),
        scenario!(a_goinglog_stopped_amid_a_message_still_sends_it, Mounts),
        scenario!(syslog_waits_for_the_end_of_a_line, Mounts),
        scenario!(syslog_waits_for_longer_than_a_second, Mounts),
        scenario!(syslog_waits_for_the_end_of_a_line_from_a_socket, Mounts),
        scenario!(syslog_waits_for_the_end_of_a_line_from_a_small_pipe, Mounts),
        scenario!(syslog_takes_a_line_in_any_pieces, Mounts),
        scenario!(an_open_line_for_syslog_is_no_busy_wait, Mounts),
        scenario!(an_open_line_may_end_in_a_write_that_fills_the_pipe, Mounts),
        scenario!(an_open_line_may_fill_a_small_pipe, Mounts),
        scenario!(an_open_line_may_fill_a_pipe_in_pieces, Mounts),
        scenario!(syslog_has_what_the_file_has, Mounts),
        scenario!(memory_is_fixed),
        scenario!(no_lines_take_no_stack),
        scenario!(nothing_to_do_is_no_wake_up),
    ]
}

/// A directory, the pipe, and the goinglog that reads from it.
struct Log {
    /// Used for its directory, its patience, and for cleaning up; going itself is not started.
    scene: Going,
    reader: PipeReader,
    /// Dropped to end the input.
    writer: Option<PipeWriter>,
    process: Option<Child>,
    /// FILE on the command line, and the same file as it is seen from this mount namespace.
    word: PathBuf,
    file: PathBuf,
}

impl Log {
    fn new() -> Log {
        let (reader, writer) = io::pipe().expect("a pipe");
        let scene = Going::new();
        let (word, file) = (scene.path("web"), scene.path("web"));
        Log { scene, reader, writer: Some(writer), process: None, word, file }
    }

    fn file(&self) -> &Path {
        &self.file
    }

    /// `goinglog OPTIONS FILE`.
    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(going().with_file_name("goinglog"));
        let log = OpenOptions::new().create(true).append(true).open(self.scene.path("log"));
        command.args(options).arg(&self.word);
        command.stdin(self.reader.try_clone().expect("a descriptor"));
        command.stderr(log.expect("our own file"));
        command
    }

    fn start(&mut self, options: &[&str]) {
        let command = self.command(options);
        self.start_as(command);
    }

    /// Starts it in the mount namespace of `world`.
    fn start_in(&mut self, world: &World, options: &[&str]) {
        let mut command = self.command(options);
        world.enter(&mut command);
        self.start_as(command);
    }

    fn start_as(&mut self, mut command: Command) {
        self.process = Some(command.spawn().expect("goinglog can be executed"));
        // Until then a signal has its default action.
        let blocks_all = || {
            let mask = u64::from_str_radix(&proc::status(self.pid(), "SigBlk"), 16).unwrap_or(0);
            mask & 0x7fff_ffff & !(1 << 8 | 1 << 18) == 0x7fff_ffff & !(1 << 8 | 1 << 18)
        };
        self.scene.wait_for("goinglog blocking its signals", blocks_all);
    }

    fn pid(&self) -> i32 {
        let process = self.process.as_ref().expect("a started goinglog");
        process.id().try_into().expect("a pid")
    }

    fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let writer = self.writer.as_mut().expect("the input has not ended");
        writer.write_all(bytes.as_ref()).expect("both ends are open");
    }

    /// Waits until it ends. Returns the exit code, or none if it was killed by a signal.
    #[track_caller]
    fn wait_exit(&mut self) -> Option<i32> {
        let pid = self.pid();
        self.scene.wait_gone("goinglog", pid);
        let status = self.process.take().expect("a started goinglog").wait();
        status.expect("our own child").code()
    }

    /// Ends the input; goinglog has to exit 0.
    #[track_caller]
    fn finish(&mut self) {
        self.writer = None;
        assert_eq!(self.wait_exit(), Some(0), "{}", self.scene.report());
    }

    /// The older file FILE.NUMBER.
    fn older(&self, number: usize) -> PathBuf {
        self.file.with_extension(number.to_string())
    }

    /// The content of all files, the oldest first.
    fn files(&self) -> Vec<Vec<u8>> {
        let mut numbers: Vec<usize> = (1..2000).filter(|&n| self.older(n).exists()).collect();
        numbers.reverse();
        let older = numbers.into_iter().map(|number| self.older(number));
        older.chain([self.file.clone()]).map(|path| fs::read(path).unwrap_or_default()).collect()
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap_or_default()
    }

    #[track_caller]
    fn wait_content(&self, content: impl AsRef<[u8]>) {
        let content = content.as_ref();
        let what = format!("{:?} in the file", String::from_utf8_lossy(content));
        self.scene.wait_for(&what, || self.content() == content);
    }

    /// Waits until it has nothing left to do with what it was given.
    #[track_caller]
    fn wait_idle(&self) {
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
    fn wait_empty(&self) {
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
fn in_a_directory() -> (Log, PathBuf) {
    let mut log = Log::new();
    let directory = log.scene.path("logs");
    fs::create_dir(&directory).expect("an empty directory");
    (log.word, log.file) = (directory.join("web"), directory.join("web"));
    (log, directory)
}

/// A log that is called web and has no file, a world with a syslog daemon, and that daemon's
/// socket.
fn for_syslog() -> (Log, World, UnixDatagram) {
    let mut log = Log::new();
    log.word = "web".into();
    let world = World::with_dev(&log.scene.path(""));
    let socket = world.syslogd();
    (log, world, socket)
}

/// How often the process has gone to sleep to wait for something.
fn switches(pid: i32) -> u64 {
    proc::status_number(pid, "voluntary_ctxt_switches")
}

/// Bytes in the pipe.
fn waiting(pipe: &PipeReader) -> i32 {
    let mut len = 0;
    // SAFETY: the kernel writes one int.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut len) };
    assert_eq!(result, 0, "no pipe");
    len
}

fn numbered(numbers: Range<u32>) -> Vec<u8> {
    numbers
        .flat_map(|n| format!("line {n:07} {}\n", "x".repeat((n % 97) as usize)).into_bytes())
        .collect()
}

#[track_caller]
fn assert_same(found: &[u8], expected: &[u8]) {
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

fn with_stamps<'a>(options: &[&'a str], is_stamped: bool) -> Vec<&'a str> {
    let stamps: &[&str] = if is_stamped { &["-t"] } else { &[] };
    [options, stamps].concat()
}

/// Each line without its stamp, which must be there.
#[track_caller]
fn unstamped(text: &[u8]) -> Vec<u8> {
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

/// NUL bytes, bytes that are not UTF-8, empty lines, and no newline at the end.
fn every_byte_goes_to_the_file() {
    let all: Vec<u8> = (0..=255).cycle().take(5000).collect();
    for options in [&[][..], &["-s", "0"]] {
        let mut log = Log::new();
        log.start(options);
        log.write(b"\n\n\0\0\n");
        log.write(&all);
        log.finish();
        assert_same(&log.content(), &[b"\n\n\0\0\n", &all[..]].concat());
        assert_eq!(log.scene.log(), "");
        let mode = log.file().metadata().expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}

/// Lines without stamps are moved by splice(2) until the file is nearly full. To stamp lines,
/// goinglog has to read them, because it needs to see where each one begins.
fn lines_without_stamps_are_moved_unread() {
    let read_by = |options: &[&str]| {
        let mut log = Log::new();
        let lines = numbered(0..100_000);
        log.start(options);
        log.write(&lines);
        log.wait_empty();
        let text = fs::read_to_string(format!("/proc/{}/io", log.pid())).expect("it runs");
        let read = text.lines().find_map(|line| line.strip_prefix("rchar: "));
        let read = read.and_then(|read| read.parse::<usize>().ok()).expect("a number");
        log.finish();
        (read, lines.len())
    };
    let (read, all) = read_by(&["-s", "0"]);
    assert!(read < 20_000, "{read} of {all} bytes");
    // The last 32 KiB of each megabyte are read: once to look at them, and once to take them.
    let (read, all) = read_by(&["-s", "1M"]);
    assert!(read < all / 4, "{read} of {all} bytes");
    let (read, all) = read_by(&["-s", "0", "-t"]);
    assert!(read > all, "{read} of {all} bytes");
}

/// A line that has not ended yet is continued too.
fn what_is_there_is_continued() {
    let mut log = Log::new();
    log.start(&[]);
    log.write("one\ntwo");
    log.finish();
    let (reader, writer) = io::pipe().expect("a pipe");
    (log.reader, log.writer) = (reader, Some(writer));
    log.start(&["-t"]);
    log.write(" and a half\nthree\n");
    log.finish();
    let content = log.content();
    let (first, last) = content.split_at(b"one\ntwo and a half\n".len());
    assert_same(first, b"one\ntwo and a half\n");
    assert_same(&unstamped(last), b"three\n");
}

fn files_are_rotated_and_bounded() {
    // Small files get fewer lines, because there are many of them and each is renamed at every
    // rotation.
    let sizes = [
        (4096, "4K", 10_000),
        (10_000, "10000", 20_000),
        (65_536, "64K", 40_000),
        (1 << 20, "1M", 40_000),
    ];
    for (limit, words, count) in sizes {
        for is_stamped in [false, true] {
            let mut log = Log::new();
            let lines = numbered(0..count);
            // The later lines are written in pieces that do not end where the lines do.
            let (first, rest) = lines.split_at(lines.len() / 3);
            log.start(&with_stamps(&["-s", words, "-n", "1999"], is_stamped));
            for line in first.split_inclusive(|&byte| byte == b'\n') {
                log.write(line);
            }
            for piece in rest.chunks(4093) {
                log.write(piece);
            }
            log.finish();
            let files = log.files();
            let (last, full) = files.split_last().expect("one at least");
            for file in full {
                assert!(file.len() <= limit && file.len() > limit / 4, "{} bytes", file.len());
                assert!(file.ends_with(b"\n"), "a torn line");
            }
            assert!(last.len() <= limit);
            let all = files.concat();
            let all = if is_stamped { unstamped(&all) } else { all };
            assert_same(&all, &lines);
        }
    }
}

/// As documented: 1M, and 10 older files.
fn files_have_a_size_and_a_number_unless_told_otherwise() {
    let mut log = Log::new();
    log.start(&[]);
    (0..13).for_each(|_| log.write(("x".repeat(1023) + "\n").repeat(1024)));
    log.finish();
    let lens: Vec<_> = log.files().iter().map(Vec::len).collect();
    assert_eq!(lens, [1 << 20; 11]);
}

/// The lines are long, but not too long for the limit, and come in pieces.
fn long_lines_do_not_make_a_file_too_large() {
    for (limit, len) in [(1 << 20, 31_999), (10_000, 3_499)] {
        for is_stamped in [false, true] {
            let mut log = Log::new();
            log.start(&with_stamps(&["-n", "1999", "-s", &limit.to_string()], is_stamped));
            let lines = ("x".repeat(len) + "\n").repeat(100).into_bytes();
            lines.chunks(3001).for_each(|piece| log.write(piece));
            log.finish();
            let files = log.files();
            assert!(files.iter().all(|file| file.len() <= limit), "too large");
            let all = files.concat();
            assert_same(&if is_stamped { unstamped(&all) } else { all }, &lines);
        }
    }
}

/// It does not rotate before it knows that the line is too long.
fn a_line_that_has_begun_is_no_reason_to_rotate() {
    let mut log = Log::new();
    log.start(&["-s", "4K"]);
    log.write("one\n");
    log.wait_content("one\n");
    log.write("tw");
    log.wait_content("one\ntw");
    log.finish();
}

fn only_so_many_files_are_kept() {
    let mut log = Log::new();
    let lines = numbered(0..2000);
    fs::write(log.older(4), "older than we keep\n").expect("our own file");
    log.start(&["-s", "4K", "-n", "3"]);
    log.write(&lines);
    log.finish();
    fs::remove_file(log.older(4)).expect("left alone");
    let files = log.files();
    assert_eq!(files.len(), 4);
    let all = files.concat();
    assert_same(&all, &lines[lines.len() - all.len()..]);
}

/// A goinglog that is killed while it rotates leaves such a gap. The next rotation loses no file
/// because of it.
fn a_gap_in_the_numbers_is_filled() {
    let mut log = Log::new();
    for number in [1, 3, 4] {
        fs::write(log.older(number), number.to_string()).expect("our own file");
    }
    log.start(&["-n", "4"]);
    log.write("now\n");
    log.wait_content("now\n");
    log.signal(Signal::SIGHUP);
    log.wait_content("");
    log.finish();
    assert_eq!(log.files(), [&b"4"[..], b"3", b"1", b"now\n", b""]);
}

fn stamps_stand_before_each_line() {
    let mut log = Log::new();
    log.start(&["-T"]);
    log.write("one\n\n");
    log.write("two");
    log.finish();
    let text = String::from_utf8(log.content()).expect("plain text");
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, rest) in lines.iter().zip(["one\n", "\n", "two"]) {
        let (stamp, found) = line.split_once(' ').expect("a stamp");
        assert!(stamp.starts_with("@400000006") && stamp.len() == 25, "{line}");
        assert_eq!(found, rest);
    }
}

/// The stamp is that of today; other dates are checked by the tests of the model.
fn stamps_tell_the_time() {
    let stamps: [(&str, Stamp); 2] = [("-t", rfc3339), ("-T", tai64n)];
    for (option, stamp) in stamps {
        let now = || stamp(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970"));
        let mut log = Log::new();
        log.start(&[option]);
        let before = now();
        log.write("one\n");
        log.finish();
        let after = now();
        let text = String::from_utf8(log.content()).expect("plain text");
        let found = text.strip_suffix("one\n").expect("the line");
        assert!(before.as_str() <= found && found <= after.as_str(), "{before}{found}{after}");
    }
}

/// One writer writes in packet mode, and from a bad address, which before Linux 6.15 leaves a piece
/// without bytes in the pipe. The writers that share the pipe lose no line, and wait for nothing.
fn a_rude_writer_harms_no_other() {
    for limit in ["1M", "64"] {
        let mut log = Log::new();
        fcntl(&log.reader, FcntlArg::F_SETPIPE_SZ(1 << 20)).expect("a size for everybody");
        let writer = log.writer.as_ref().expect("it is open");
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let mut rude = OpenOptions::new().write(true).open(path).expect("a descriptor of its own");
        fcntl(&rude, FcntlArg::F_SETFL(OFlag::O_DIRECT | OFlag::O_NONBLOCK)).expect("valid flags");
        // These come first, because what can be appended to a piece of another writer is not a
        // packet.
        for number in 0..5 {
            rude.write_all(format!("rude {number}\n").as_bytes()).expect("there is room");
        }
        // More pieces without bytes than tee(2) can look past.
        for len in [100, 4096].repeat(10) {
            // SAFETY: the kernel finds nothing to read at a null pointer, which is the point here.
            let written = unsafe { libc::write(rude.as_raw_fd(), ptr::null(), len) };
            assert_eq!(written, -1);
        }
        log.write("amid\n");
        log.start(&["-t", "-s", limit, "-n", "99"]);
        log.wait_empty();
        let mut expected = Vec::new();
        (0..5).for_each(|number| writeln!(expected, "rude {number}").expect("memory"));
        expected.extend_from_slice(b"amid\n");
        for number in 0..20 {
            let line = format!("good {number}\n");
            log.write(&line);
            expected.extend_from_slice(line.as_bytes());
            log.wait_empty();
        }
        drop(rude);
        log.finish();
        assert_same(&unstamped(&log.files().concat()), &expected);
    }
}

/// What follows a line in the same packet is lost, but it counted as still to be moved when TERM
/// came.
fn term_ends_it_though_a_rude_writer_has_lost_something() {
    let mut log = Log::new();
    log.start(&["-t", "-s", "64"]);
    log.signal(Signal::SIGSTOP);
    let mut writer = log.writer.as_ref().expect("it is open");
    fcntl(writer, FcntlArg::F_SETFL(OFlag::O_DIRECT)).expect("a valid flag");
    for _ in 0..3 {
        writer.write_all(format!("{}\n", "x".repeat(30)).repeat(2).as_bytes()).expect("room");
    }
    log.signal(Signal::SIGTERM);
    log.signal(Signal::SIGCONT);
    assert_eq!(log.wait_exit(), Some(0), "{}", log.scene.report());
}

fn a_line_of_100_mb() {
    for is_stamped in [false, true] {
        let mut log = Log::new();
        log.start(&with_stamps(&["-s", "1M"], is_stamped));
        log.write("before\n");
        let part = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            log.write(&part);
        }
        log.write("\nafter\n");
        log.finish();
        let all = log.files().concat();
        let all = if is_stamped { unstamped(&all) } else { all };
        assert_eq!(all.len(), 7 + (100 << 20) + 7);
        assert!(all.starts_with(b"before\nx") && all.ends_with(b"x\nafter\n"));
        assert!(all[7..7 + (100 << 20)].iter().all(|&byte| byte == b'x'));
        assert_eq!(log.content().len(), if is_stamped { 34 } else { 6 });
    }
}

fn hup_rotates_at_the_end_of_the_line() {
    for is_stamped in [false, true] {
        let mut log = Log::new();
        log.start(&with_stamps(&[], is_stamped));
        // Nothing there yet, so nothing to rotate.
        log.signal(Signal::SIGHUP);
        log.write("one\ntw");
        log.wait_empty();
        log.scene.wait_for("the beginning", || log.content().ends_with(b"tw"));
        log.signal(Signal::SIGHUP);
        log.write("o");
        log.scene.wait_for("more of it", || log.content().ends_with(b"two"));
        log.write("!\nthree\n");
        log.scene.wait_for("the rest", || log.content().ends_with(b"three\n"));
        // Between two lines it rotates at once.
        log.signal(Signal::SIGHUP);
        log.scene.wait_for("an empty file", || log.content().is_empty());
        log.finish();
        let mut files = log.files();
        if is_stamped {
            files = files.iter().map(|file| unstamped(file)).collect();
        }
        assert_eq!(files, [&b"one\ntwo!\n"[..], b"three\n", b""]);
    }
}

fn usr1_reopens_at_the_end_of_the_line() {
    let mut log = Log::new();
    log.start(&[]);
    log.write("one\ntw");
    log.wait_content("one\ntw");
    let moved = log.scene.path("moved");
    fs::rename(log.file(), &moved).expect("our own file");
    log.signal(Signal::SIGUSR1);
    log.write("o\nthree\n");
    log.wait_content("three\n");
    assert_eq!(fs::read(&moved).expect("it is there"), b"one\ntwo\n");
    // Between two lines it reopens at once.
    fs::rename(log.file(), &moved).expect("our own file");
    log.signal(Signal::SIGUSR1);
    log.scene.wait_for("a new file", || log.file().exists());
    log.finish();
}

/// Whichever comes first: the sender of HUP expects FILE.1.
fn hup_counts_for_more_than_usr1() {
    for signals in [[Signal::SIGHUP, Signal::SIGUSR1], [Signal::SIGUSR1, Signal::SIGHUP]] {
        let mut log = Log::new();
        log.start(&[]);
        log.write("on");
        log.wait_content("on");
        for signal in signals {
            log.signal(signal);
            log.wait_idle();
        }
        log.write("e\ntwo\n");
        log.wait_content("two\n");
        log.finish();
        assert_eq!(log.files(), [b"one\n", b"two\n"]);
    }
}

/// A program that renames FILE may also send HUP, as newsyslog(8) does, or nothing.
fn a_renamed_file_is_not_missed() {
    for signal in [Some(Signal::SIGHUP), None] {
        let mut log = Log::new();
        log.start(&["-d", "-s", "8"]);
        log.write("one\ntwo\n");
        log.wait_content("one\ntwo\n");
        fs::rename(log.file(), log.scene.path("moved")).expect("our own file");
        if let Some(signal) = signal {
            log.signal(signal);
            log.wait_content("");
        }
        log.write("three\n");
        log.wait_content("three\n");
        log.finish();
        assert_eq!(fs::read(log.scene.path("moved")).expect("it is there"), b"one\ntwo\n");
        assert_eq!(log.scene.log(), "");
    }
}

fn a_deleted_file_comes_back() {
    let mut log = Log::new();
    log.start(&[]);
    log.write("one\n");
    log.wait_content("one\n");
    fs::remove_file(log.file()).expect("our own file");
    log.write("two\n");
    log.wait_content("two\n");
    // After a truncation by somebody else there is no hole.
    File::create(log.file()).expect("our own file");
    log.write("three\n");
    log.wait_content("three\n");
    log.finish();
}

/// All that is in the pipe is written, and nothing that comes after it.
fn term_drains_the_pipe() {
    for is_stamped in [false, true] {
        let mut log = Log::new();
        let lines = numbered(0..700);
        log.start(&with_stamps(&["-s", "16K"], is_stamped));
        log.signal(Signal::SIGSTOP);
        log.write(&lines);
        log.signal(Signal::SIGTERM);
        log.signal(Signal::SIGCONT);
        assert_eq!(log.wait_exit(), Some(0), "{}", log.scene.report());
        let all = log.files().concat();
        assert_same(&if is_stamped { unstamped(&all) } else { all }, &lines);
        // The same with an empty pipe.
        log.start(&[]);
        log.signal(Signal::SIGTERM);
        assert_eq!(log.wait_exit(), Some(0));
    }
}

/// Seeded anew in each run. The seed is printed, and `SEED=N cargo test -- goinglog` uses it again.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0) | 1);
        eprintln!("SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 8).expect("64 bits") % end
    }
}

/// Writes lines in pieces of any size, and sends signals between them. When a signal has ended
/// goinglog, another one follows at once on the same pipe. Returns the lines and the files.
fn storm(is_stamped: bool, before_kill: impl Fn(&Log)) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut random = Random::new();
    let mut log = Log::new();
    let lines = numbered(0..200_000);
    let limit = 300_000;
    let options = with_stamps(&["-s", "300000", "-n", "1999"], is_stamped);
    log.start(&options);
    let mut rest = &lines[..];
    while !rest.is_empty() {
        let most = [100, 5_000, 200_000][random.below(3)];
        let (piece, later) = rest.split_at(rest.len().min(1 + random.below(most)));
        log.write(piece);
        rest = later;
        match random.below(10) {
            0 => log.signal(Signal::SIGHUP),
            1 => log.signal(Signal::SIGUSR1),
            2 => {
                log.signal(Signal::SIGTERM);
                assert_eq!(log.wait_exit(), Some(0), "{}", log.scene.report());
                log.start(&options);
            }
            3 => {
                before_kill(&log);
                log.signal(Signal::SIGKILL);
                assert_eq!(log.wait_exit(), None);
                log.start(&options);
            }
            _ => {}
        }
    }
    log.finish();
    let files = log.files();
    for file in &files {
        assert!(file.len() <= limit, "{} bytes", file.len());
        assert!(file.is_empty() || file.ends_with(b"\n"), "a torn line");
    }
    assert_eq!(log.scene.log(), "");
    (lines, files)
}

/// No line is lost, duplicated or torn, and the order is kept: what is spliced is never in two
/// places.
fn any_signal_at_any_time_loses_nothing() {
    let (lines, files) = storm(false, |_| {});
    assert_same(&files.concat(), &lines);
}

/// KILL comes when everything is written. In the middle of a write it would leave lines to be
/// written again.
fn kill_between_stamped_lines_loses_nothing() {
    let (lines, files) = storm(true, Log::wait_empty);
    assert_same(&unstamped(&files.concat()), &lines);
}

/// After KILL in the middle of a write, lines may be there twice, and one of them may follow a torn
/// line.
fn kill_amid_stamped_lines_leaves_none_out() {
    let (lines, files) = storm(true, |_| {});
    let all = String::from_utf8(files.concat()).expect("plain text");
    // Each line up to its end, whatever stands before it.
    let ends = all.split("line ").filter_map(|text| Some(text.split_once('\n')?.0));
    let found: HashSet<_> = ends.collect();
    let lines = String::from_utf8(lines).expect("plain text");
    for line in lines.lines() {
        let rest = line.strip_prefix("line ").expect("a number");
        assert!(found.contains(rest), "{line}");
    }
}

/// A mount namespace for what is started in it, kept by a process that does nothing else.
struct World(Helper);

impl World {
    /// A small disk at `path`, which is a directory.
    fn with_disk(path: &Path) -> World {
        World::new(path, |path| {
            let size = Some(c"size=4m");
            mount(None::<&Path>, path, Some(c"tmpfs"), MsFlags::empty(), size)
        })
    }

    /// A /dev with nothing in it but /dev/null, and so without syslog.
    fn with_dev(path: &Path) -> World {
        World::new(path, |_| {
            mount(None::<&Path>, c"/dev", Some(c"tmpfs"), MsFlags::empty(), None::<&Path>)?;
            let mode = Mode::from_bits_truncate(0o666);
            mknod(c"/dev/null", SFlag::S_IFCHR, mode, makedev(1, 3))
        })
    }

    fn new(path: &Path, make: fn(&std::ffi::CStr) -> nix::Result<()>) -> World {
        let mut keeper = Command::new("/proc/self/exe");
        keeper.args(["service", "pause"]).arg(path);
        let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
        let make_it = move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let nothing = None::<&Path>;
            mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            Ok(make(&path)?)
        };
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { keeper.pre_exec(make_it) };
        World(Helper::spawn(&mut keeper))
    }

    fn namespace(&self) -> File {
        File::open(format!("/proc/{}/ns/mnt", self.0.pid())).expect("the keeper runs")
    }

    /// Changes how a disk is mounted there, as soon as no open file prevents it.
    fn remount(&self, path: &Path, flags: MsFlags) {
        thread::scope(|scope| {
            let remount = || {
                unshare(CloneFlags::CLONE_FS).expect("a thread of our own");
                setns(self.namespace(), CloneFlags::CLONE_NEWNS).expect("a mount namespace");
                let nothing = None::<&Path>;
                let mount = || mount(nothing, path, nothing, MsFlags::MS_REMOUNT | flags, nothing);
                wait_for("a remount", PATIENCE, || mount().is_ok(), String::new);
            };
            scope.spawn(remount).join().expect("it can be mounted so");
        });
    }

    fn enter(&self, command: &mut Command) {
        let namespace = self.namespace();
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(move || Ok(setns(&namespace, CloneFlags::CLONE_NEWNS)?)) };
    }

    /// Makes the socket of a syslog daemon there, which nobody reads yet.
    fn syslogd(&self) -> UnixDatagram {
        UnixDatagram::bind(self.view(Path::new("/dev/log"))).expect("a new socket")
    }

    /// The path from here to what is at `path` there.
    fn view(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.0.pid()));
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }
}

/// A log on a disk with 16 KiB left, its world, and the file that takes up the room.
fn on_a_full_disk(options: &[&str]) -> (Log, World, PathBuf) {
    let mut log = Log::new();
    let disk = log.scene.path("disk");
    fs::create_dir(&disk).expect("an empty directory");
    let world = World::with_disk(&disk);
    log.word = disk.join("web");
    log.file = world.view(&log.word);
    let in_the_way = world.view(&disk.join("in-the-way"));
    fs::write(&in_the_way, vec![0; (4 << 20) - (16 << 10)]).expect("room on the disk");
    log.start_in(&world, options);
    (log, world, in_the_way)
}

/// Writes in a thread of its own, because that may block. The thread returns the writer.
fn write_beside(log: &mut Log, lines: Vec<u8>) -> thread::JoinHandle<PipeWriter> {
    let mut writer = log.writer.take().expect("the input has not ended");
    thread::spawn(move || {
        writer.write_all(&lines).expect("both ends are open");
        writer
    })
}

#[track_caller]
fn wait_again(log: &Log) {
    log.scene.wait_log(&format!("goinglog: writes {} again", log.word.display()));
    assert_eq!(log.scene.log().lines().count(), 2, "{}", log.scene.report());
}

fn full_disk(is_stamped: bool) {
    let options = with_stamps(&["-s", "0"], is_stamped);
    let (mut log, _world, in_the_way) = on_a_full_disk(&options);
    let lines = numbered(0..30_000);
    let writing = write_beside(&mut log, lines.clone());
    let path = log.word.display();
    let text = format!("unable to write {path}: No space left on device, trying again");
    log.scene.wait_log(&text);
    assert!(!writing.is_finished(), "nobody waits");
    if is_stamped {
        assert!(log.content().is_empty() || log.content().ends_with(b"\n"), "a torn line");
    }
    fs::remove_file(in_the_way).expect("our own file");
    log.writer = Some(writing.join().expect("the writer goes on"));
    wait_again(&log);
    log.finish();
    let all = log.content();
    assert_same(&if is_stamped { unstamped(&all) } else { all }, &lines);
}

fn a_full_disk_keeps_the_writer_waiting() {
    full_disk(false);
}

fn a_full_disk_keeps_stamped_lines_whole() {
    full_disk(true);
}

fn a_full_disk_drops_lines_if_told_to() {
    for is_stamped in [false, true] {
        let (mut log, _world, in_the_way) =
            on_a_full_disk(&with_stamps(&["-d", "-s", "0"], is_stamped));
        let lines = numbered(0..60_000);
        let writing = write_beside(&mut log, lines.clone());
        // The writer does not wait.
        log.writer = Some(writing.join().expect("the writer goes on"));
        log.write("one that is dropped when half of it is there");
        log.wait_empty();
        fs::remove_file(in_the_way).expect("our own file");
        wait_again(&log);
        log.write("; the other half\nlast\n");
        log.finish();
        let all = log.content();
        let all = if is_stamped { unstamped(&all) } else { all };
        let known: Vec<_> = lines.split_inclusive(|&byte| byte == b'\n').collect();
        let (mut next, mut kept, mut dropped) = (0, 0, 0);
        for line in all.split_inclusive(|&byte| byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            if let Some(rest) = text.strip_prefix("goinglog: ") {
                let number = rest.strip_suffix(" lines dropped\n").expect("how many");
                dropped += number.parse::<usize>().expect("a number");
            } else if let Some(at) = known[next..].iter().position(|known| *known == line) {
                next += at + 1;
                kept += 1;
            } else {
                // The line that the full disk has cut off; it counts as dropped.
                assert!(text == "last\n" || !is_stamped && dropped == 0, "a torn line: {text}");
            }
        }
        assert_eq!(kept + dropped, 60_001);
        assert!(all.ends_with(b"last\n"));
    }
}

fn term_on_a_full_disk_leaves_lines_in_the_pipe() {
    let (mut log, world, in_the_way) = on_a_full_disk(&["-t"]);
    let lines = numbered(0..1000);
    log.write(&lines);
    log.scene.wait_log("No space left on device");
    log.signal(Signal::SIGTERM);
    assert_eq!(log.wait_exit(), EXIT_UNDONE);
    fs::remove_file(in_the_way).expect("our own file");
    log.start_in(&world, &["-t"]);
    log.finish();
    assert_same(&unstamped(&log.content()), &lines);
}

fn a_read_only_disk_is_waited_for() {
    let (mut log, world, in_the_way) = on_a_full_disk(&["-s", "0"]);
    let lines = numbered(0..1000);
    log.write(&lines);
    log.scene.wait_log("No space left on device, trying again");
    // goinglog has closed the file, or else this would not be possible.
    let disk = log.word.parent().expect("a directory").to_owned();
    world.remount(&disk, MsFlags::MS_RDONLY);
    log.signal(Signal::SIGUSR1);
    log.wait_idle();
    world.remount(&disk, MsFlags::empty());
    fs::remove_file(in_the_way).expect("our own file");
    log.signal(Signal::SIGUSR1);
    wait_again(&log);
    log.finish();
    assert_same(&log.content(), &lines);
}

/// FILE is /proc/self/mem, whose first page cannot be read, as on a broken disk: EIO.
fn a_broken_disk_is_waited_for() {
    for is_stamped in [false, true] {
        let mut log = Log::new();
        let (link, disk) = (log.scene.path("link"), log.scene.path("disk"));
        symlink("/proc/self", &link).expect("our own link");
        (log.word, log.file) = (link.join("mem"), disk.join("mem"));
        log.start(&with_stamps(&[], is_stamped));
        let lines = numbered(0..1000);
        log.write(&lines);
        log.scene.wait_log(": I/O error, trying again");
        assert_eq!(usize::try_from(waiting(&log.reader)), Ok(lines.len()), "not kept");
        fs::create_dir(&disk).expect("an empty directory");
        fs::remove_file(&link).expect("our own link");
        symlink("disk", &link).expect("our own link");
        log.signal(Signal::SIGUSR1);
        wait_again(&log);
        log.finish();
        let all = log.content();
        assert_same(&if is_stamped { unstamped(&all) } else { all }, &lines);
    }
}

/// The lines are still there for the next goinglog, when the disk works again.
fn a_disk_that_cannot_be_written_to_loses_nothing() {
    // What is refused: splice(2) from a pipe, which has no offset, and pwrite64(2) to the beginning
    // of FILE.
    for (is_stamped, call, index) in [(false, libc::SYS_splice, 1), (true, libc::SYS_pwrite64, 3)] {
        let mut log = Log::new();
        let options = with_stamps(&[], is_stamped);
        let mut command = log.command(&options);
        refuse(&mut command, call, index, 0, libc::EIO);
        log.start_as(command);
        let lines = numbered(0..1000);
        log.write(&lines);
        let path = log.word.display();
        log.scene.wait_log(&format!("unable to write {path}: I/O error, trying again"));
        log.signal(Signal::SIGTERM);
        assert_eq!(log.wait_exit(), EXIT_UNDONE);
        log.start(&options);
        log.finish();
        let all = log.content();
        assert_same(&if is_stamped { unstamped(&all) } else { all }, &lines);
    }
}

/// Some file systems do not support splice(2).
fn a_file_may_take_nothing_by_splice() {
    let mut log = Log::new();
    let mut command = log.command(&["-s", "64K", "-n", "1999"]);
    // This refuses any splice(2) from a pipe, which has no offset.
    refuse(&mut command, libc::SYS_splice, 1, 0, libc::EINVAL);
    log.start_as(command);
    let lines = numbered(0..5000);
    log.write(&lines);
    log.finish();
    assert_same(&log.files().concat(), &lines);
    assert_eq!(log.scene.log(), "");
}

/// A log with lines to write and without its directory, which has vanished, and that directory.
fn in_a_vanished_directory() -> (Log, PathBuf) {
    let (mut log, directory) = in_a_directory();
    log.start(&[]);
    log.write("one\n");
    log.wait_content("one\n");
    fs::remove_dir_all(&directory).expect("our own directory");
    log.write("two\n");
    (log, directory)
}

fn a_vanished_directory_is_waited_for() {
    let (mut log, directory) = in_a_vanished_directory();
    let path = log.word.display();
    let text = format!("unable to open {path}: No such file or directory, trying again");
    log.scene.wait_log(&text);
    log.write("three\n");
    fs::create_dir(&directory).expect("an empty directory");
    log.wait_content("two\nthree\n");
    wait_again(&log);
    log.finish();
}

/// There are still lines to write. It ends when the last of them is written.
fn the_end_of_the_input_does_not_end_the_waiting() {
    let (mut log, directory) = in_a_vanished_directory();
    log.scene.wait_log("unable to open");
    log.writer = None;
    fs::create_dir(&directory).expect("an empty directory");
    log.signal(Signal::SIGUSR1);
    assert_eq!(log.wait_exit(), Some(0), "{}", log.scene.report());
    assert_eq!(log.content(), b"two\n");
    wait_again(&log);
}

/// A descriptor that can be read whenever the file at `path` is opened.
fn opens(path: &Path) -> File {
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

/// It tries again after a second, then after two more, and so on, and at any signal.
fn what_has_failed_is_tried_again_later_and_later() {
    let mut log = Log::new();
    log.start(&[]);
    log.wait_idle();
    fs::remove_file(log.file()).expect("it is there from the beginning");
    mkfifo(log.file(), Mode::S_IRWXU).expect("our own fifo");
    let mut opens = opens(log.file());
    let mut next = || {
        let start = Instant::now();
        let mut event = [0; size_of::<libc::inotify_event>()];
        opens.read_exact(&mut event).expect("an event");
        start.elapsed().as_millis()
    };
    log.write("one\n");
    next();
    let delays = [next(), next()];
    log.signal(Signal::SIGWINCH);
    let at_once = next();
    // Without the signal the next one was due after 4 s.
    let is_right = delays[0] > 900 && delays[1] > 1900 && at_once < 3500;
    assert!(is_right, "{delays:?} ms, and {at_once}");
    fs::remove_file(log.file()).expect("our own fifo");
    log.signal(Signal::SIGWINCH);
    wait_again(&log);
    log.finish();
}

/// A log that has a message for a standard error that is full; its directory, which has vanished;
/// and the end of that pipe from which the message can be read.
fn with_a_full_stderr() -> (Log, PathBuf, PipeReader) {
    let (mut log, directory) = in_a_directory();
    let (read, mut write) = io::pipe().expect("a pipe");
    let mut command = log.command(&[]);
    command.stderr(write.try_clone().expect("a descriptor"));
    write.write_all(&vec![b'x'; 65_536]).expect("room for so many");
    log.start_as(command);
    log.write("one\n");
    log.wait_content("one\n");
    fs::remove_dir_all(&directory).expect("our own directory");
    log.write("two\n");
    let is_open = |(_, path): &(i32, PathBuf)| path.starts_with(&directory);
    let pid = log.pid();
    log.scene.wait_for("a failure", || !proc::descriptors(pid).iter().any(is_open));
    (log, directory, read)
}

/// Other goinglogs may have a message about the same disk at the same moment.
fn a_stderr_that_is_full_for_a_moment_gets_the_message() {
    let (log, _directory, read) = with_a_full_stderr();
    let set_flags = |flags| fcntl(&read, FcntlArg::F_SETFL(flags)).expect("an open pipe");
    set_flags(OFlag::O_NONBLOCK);
    let text = RefCell::new(Vec::new());
    log.scene.wait_for("the message", || {
        // EAGAIN, until there is more.
        let _more = (&read).read_to_end(&mut text.borrow_mut());
        text.borrow().ends_with(b": No such file or directory, trying again\n")
    });
}

fn a_stderr_that_stays_full_holds_up_nothing() {
    let (mut log, directory, _read) = with_a_full_stderr();
    fs::create_dir(&directory).expect("an empty directory");
    log.signal(Signal::SIGUSR1);
    log.wait_content("two\n");
    log.finish();
}

/// Everything is written and no more will come, so that it does not wait for the directory.
fn a_vanished_directory_is_not_needed_for_nothing() {
    let (mut log, directory) = in_a_directory();
    log.start(&[]);
    log.write("one\n");
    log.wait_content("one\n");
    fs::remove_dir_all(&directory).expect("our own directory");
    log.writer = None;
    assert_eq!(log.wait_exit(), EXIT_UNDONE);
}

/// The rest of that line may be long in coming, so HUP does not wait for it.
fn hup_rotates_amid_a_line_that_is_dropped() {
    let (mut log, directory) = in_a_directory();
    log.start(&["-d"]);
    log.write("one\n");
    log.wait_content("one\n");
    fs::remove_dir_all(&directory).expect("our own directory");
    log.write("half of ");
    log.wait_empty();
    fs::create_dir(&directory).expect("an empty directory");
    log.signal(Signal::SIGUSR1);
    let note = "goinglog: 1 lines dropped\n";
    log.wait_content(note);
    log.signal(Signal::SIGHUP);
    log.scene.wait_for("another file", || log.older(1).exists());
    log.write("a line\ntwo\n");
    log.wait_content("two\n");
    assert_eq!(fs::read_to_string(log.older(1)).expect("the note"), note);
    log.finish();
}

/// Each write beyond the limit brings a signal, which is no reason to try again.
fn a_limit_of_the_size_of_files_is_waited_for() {
    let mut log = Log::new();
    let lines = numbered(0..100);
    let limit = |pid, len| limit(pid, libc::RLIMIT_FSIZE, len, libc::RLIM_INFINITY);
    log.start(&[]);
    limit(log.pid(), 1000);
    log.write(&lines);
    log.scene.wait_log(": File too large, trying again");
    let before = proc::ticks(log.pid());
    // This wait is the measurement.
    thread::sleep(Duration::from_secs(2));
    let spent = proc::ticks(log.pid()) - before;
    assert!(spent < 5, "{spent} ticks of 10 ms in 2 s of waiting");
    limit(log.pid(), libc::RLIM_INFINITY);
    log.signal(Signal::SIGUSR1);
    wait_again(&log);
    log.finish();
    assert_same(&log.content(), &lines);
}

/// FILE does not grow by a single byte until it can be rotated.
fn a_failed_rotation_keeps_the_size() {
    let mut log = Log::new();
    fs::create_dir(log.older(1)).expect("an empty directory");
    let lines = numbered(0..300);
    log.start(&["-s", "4K", "-n", "1"]);
    log.write(&lines);
    log.scene.wait_log(": Is a directory, trying again");
    let len = log.content().len();
    assert!((2048..=4096).contains(&len), "{len} bytes");
    fs::remove_dir(log.older(1)).expect("our own directory");
    log.wait_empty();
    log.finish();
    let all = log.files().concat();
    assert_same(&all, &lines[lines.len() - all.len()..]);
}

/// Nothing goes into FILE before it is rotated.
fn a_rotation_that_was_asked_for_is_not_forgotten() {
    let mut log = Log::new();
    fs::create_dir(log.older(1)).expect("an empty directory");
    log.start(&["-n", "1"]);
    log.write("one\n");
    log.wait_content("one\n");
    log.signal(Signal::SIGHUP);
    log.scene.wait_log("unable to rotate");
    log.write("two\n");
    log.wait_idle();
    fs::remove_dir(log.older(1)).expect("our own directory");
    log.signal(Signal::SIGWINCH);
    log.wait_content("two\n");
    log.finish();
    assert_eq!(log.files(), [b"one\n", b"two\n"]);
}

/// Asserts that a goinglog with this FILE cannot start, and says `why`.
#[track_caller]
fn assert_refused(log: &Log, word: &Path, why: &str) {
    let mut command = Command::new(going().with_file_name("goinglog"));
    command.arg(word).stdin(Stdio::null());
    let output = command.output().expect("it can be executed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text, format!("goinglog: unable to open {}: {why}\n", word.display()));
    assert_eq!(output.status.code(), EXIT_START, "{}", log.scene.report());
}

fn what_is_no_regular_file_is_refused() {
    let log = Log::new();
    fs::write(log.scene.path("target"), "").expect("our own file");
    symlink("target", log.scene.path("link")).expect("our own link");
    symlink("nowhere", log.scene.path("dangling")).expect("our own link");
    let fifo = log.scene.path("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).expect("our own fifo");
    for name in ["link", "dangling", "fifo", "going.d"] {
        assert_refused(&log, &log.scene.path(name), "not a regular file");
    }
    let _reader = OpenOptions::new().read(true).write(true).open(&fifo).expect("our own fifo");
    assert_refused(&log, &fifo, "not a regular file");
    assert_refused(&log, Path::new("/dev/zero"), "not a regular file");
    assert_refused(&log, &log.scene.path("no/web"), "No such file or directory");
    assert_refused(&log, &log.scene.path(&"n".repeat(256)), "Filename too long");
    assert!(!log.scene.path("nowhere").exists());
}

fn a_path_of_any_length_is_reported() {
    let log = Log::new();
    let mut command = Command::new(going().with_file_name("goinglog"));
    let output = command.arg("\n".repeat(5000)).stdin(Stdio::null()).output();
    let text = String::from_utf8(output.expect("it can be executed").stderr).expect("plain text");
    assert!(text.starts_with("goinglog: unable to open \\n\\n"), "{text}");
    assert!(text.ends_with("\\n: Filename too long\n"), "{}", log.scene.report());
}

fn a_long_path_is_rotated() {
    let mut log = Log::new();
    log.word = log.scene.path(&("./".repeat(1900) + "web"));
    log.start(&[]);
    log.write("one\n");
    log.wait_content("one\n");
    log.signal(Signal::SIGHUP);
    log.wait_content("");
    log.finish();
    assert_eq!(log.files(), [&b"one\n"[..], b""]);
}

fn lack_of_permission_is_reported() {
    let log = Log::new();
    let copy = log.scene.path("goinglog");
    install_program(&going().with_file_name("goinglog"), &copy);
    for path in [log.scene.path(""), copy.clone()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own");
    }
    let mut command = Command::new(&copy);
    command.arg(log.file()).stdin(Stdio::null());
    run_by(&mut command, 20_000);
    let output = command.output().expect("it can be executed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.ends_with(": Permission denied\n"), "{text}");
    assert_eq!(output.status.code(), EXIT_START);
    assert!(!log.file().exists());
}

fn a_second_goinglog_on_the_same_file_refuses() {
    let mut log = Log::new();
    log.start(&[]);
    log.write("one\n");
    log.wait_content("one\n");
    assert_refused(&log, log.file(), "another goinglog writes to it");
    // The next file is locked too, and the same one if it is opened anew.
    for signal in [Signal::SIGUSR1, Signal::SIGHUP, Signal::SIGHUP] {
        log.signal(signal);
        log.wait_idle();
        assert_refused(&log, log.file(), "another goinglog writes to it");
    }
    assert_eq!(log.files(), [&b"one\n"[..], b""]);
    log.finish();
}

fn stdin_may_be_a_file() {
    for is_stamped in [false, true] {
        let mut log = Log::new();
        let lines = numbered(0..20_000);
        let path = log.scene.path("input");
        fs::write(&path, &lines).expect("our own file");
        let mut command = log.command(&with_stamps(&["-s", "64K", "-n", "1999"], is_stamped));
        command.stdin(File::open(&path).expect("our own file"));
        log.process = Some(command.spawn().expect("goinglog can be executed"));
        assert_eq!(log.wait_exit(), Some(0));
        let all = log.files().concat();
        assert_same(&if is_stamped { unstamped(&all) } else { all }, &lines);
    }
}

/// A pipe may already be larger, made so by a process that is allowed more.
fn a_pipe_is_made_larger_and_never_smaller() {
    for before in [1 << 16, 1 << 21] {
        let mut log = Log::new();
        let Ok(before) = fcntl(&log.reader, FcntlArg::F_SETPIPE_SZ(before)) else { continue };
        log.start(&[]);
        log.wait_idle();
        let after = fcntl(&log.reader, FcntlArg::F_GETPIPE_SZ);
        assert_eq!(after, Ok(before.max(1 << 20)));
        log.finish();
    }
}

/// All of the first three are closed: there is no input, and nothing that goinglog opens itself
/// gets one of their numbers.
fn descriptors_may_be_closed() {
    let mut log = Log::new();
    let mut command = log.command(&[]);
    let close_all = || {
        for fd in 0..3 {
            // SAFETY: no one uses it between fork and exec.
            unsafe { libc::close(fd) };
        }
        Ok(())
    };
    // SAFETY: it calls the kernel only.
    unsafe { command.pre_exec(close_all) };
    log.process = Some(command.spawn().expect("goinglog can be executed"));
    assert_eq!(log.wait_exit(), Some(0), "{}", log.scene.report());
    assert_eq!(log.content(), b"");
}

fn stdin_may_be_a_socket() {
    let mut log = Log::new();
    let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
    let mut command = log.command(&[]);
    command.stdin(OwnedFd::from(theirs));
    log.start_as(command);
    ours.write_all(b"one\n").expect("it is read");
    log.wait_content("one\n");
    let lines = numbered(0..5000);
    ours.write_all(&lines).expect("it is read");
    let all = [b"one\n", &lines[..]].concat();
    log.scene.wait_for("all of it", || log.content().len() == all.len());
    // There is nothing to read now, and no signal may have to wait until there is.
    log.signal(Signal::SIGHUP);
    log.wait_content("");
    log.signal(Signal::SIGTERM);
    assert_eq!(log.wait_exit(), Some(0));
    assert_same(&log.files().concat(), &all);
}

/// Bytes that the other end has not read yet.
fn unread(socket: &UnixStream) -> i32 {
    let mut len = 0;
    // SAFETY: the kernel writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut len) };
    assert_eq!(result, 0, "no socket");
    len
}

/// The user has so many pipes that a new one gets two pages, each of which may be taken up by a few
/// bytes.
fn stdin_may_be_a_socket_though_there_is_little_room_in_pipes() {
    const USER: u32 = 20_001;
    let mut log = Log::new();
    log.scene.open_to_everybody();
    let copy = log.scene.path("goinglog");
    install_program(&going().with_file_name("goinglog"), &copy);
    let mut pipes = log.scene.service();
    pipes.arg("pipes").arg(log.scene.path("records")).arg("pipes");
    run_by(&mut pipes, USER);
    let _pipes = Helper::spawn(&mut pipes);
    log.scene.wait_for("the pipes", || !log.scene.records("pipes.starts").is_empty());
    let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
    ours.set_write_timeout(Some(PATIENCE)).expect("a valid time");
    let mut command = Command::new(&copy);
    command.args(["-t", "-s", "100"]).arg(log.file()).stdin(OwnedFd::from(theirs));
    run_by(&mut command, USER);
    log.start_as(command);
    // A few bytes that are not merged with those before them, in turn with more than is read at
    // once.
    let (few, many) = ("x".repeat(99) + "\n", ("x".repeat(31) + "\n").repeat(128));
    for _ in 0..300 {
        for lines in [&many, &few] {
            ours.write_all(lines.as_bytes()).expect("it is read");
            let start = Instant::now();
            while unread(&ours) > 0 {
                assert!(start.elapsed() < PATIENCE, "it does not read them");
                thread::yield_now();
            }
        }
    }
    ours.write_all(b"the end\n").expect("it is read");
    drop(ours);
    assert_eq!(log.wait_exit(), Some(0), "{}", log.scene.report());
    assert!(log.content().ends_with(b"the end\n"), "{}", log.scene.report());
}

fn stdin_may_be_a_socket_that_ends() {
    let mut log = Log::new();
    let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
    let mut command = log.command(&[]);
    command.stdin(OwnedFd::from(theirs));
    log.start_as(command);
    ours.write_all(b"one").expect("it is read");
    drop(ours);
    assert_eq!(log.wait_exit(), Some(0));
    assert_eq!(log.content(), b"one");
}

/// An input that cannot be read counts as ended, for example a terminal that a program in the
/// background may not read.
fn what_cannot_be_read_is_at_its_end() {
    let mut log = Log::new();
    let mut command = log.command(&[]);
    command.stdin(File::open(log.scene.path("")).expect("a directory"));
    log.process = Some(command.spawn().expect("goinglog can be executed"));
    assert_eq!(log.wait_exit(), Some(0), "{}", log.scene.report());
}

fn lines_from_a_socket_are_dropped_too() {
    let (mut log, directory) = in_a_directory();
    let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
    ours.set_write_timeout(Some(PATIENCE)).expect("a valid time");
    let mut command = log.command(&["-d"]);
    command.stdin(OwnedFd::from(theirs));
    log.start_as(command);
    ours.write_all(b"zero\n").expect("it is read");
    log.wait_content("zero\n");
    fs::remove_dir_all(&directory).expect("our own directory");
    ours.write_all(b"one\n").expect("it is read");
    log.scene.wait_log("unable to open");
    ours.write_all(&numbered(1..20_000)).expect("it is read");
    log.wait_idle();
    fs::create_dir(&directory).expect("an empty directory");
    log.signal(Signal::SIGUSR1);
    log.wait_content("goinglog: 20000 lines dropped\n");
    drop(ours);
    assert_eq!(log.wait_exit(), Some(0));
}

/// Receives the next message and returns its length. If this process is stopped and continued,
/// recv(2) may return without one.
fn receive_into(socket: &UnixDatagram, message: &mut [u8]) -> usize {
    socket.set_read_timeout(Some(PATIENCE)).expect("a valid time");
    loop {
        match socket.recv(message) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received.expect("a message"),
        }
    }
}

fn receive(socket: &UnixDatagram) -> String {
    let mut message = [0; 2000];
    let len = receive_into(socket, &mut message);
    String::from_utf8_lossy(&message[..len]).into_owned()
}

/// The texts of the next messages of web, joined, until there are `len` bytes or more.
fn receive_text(socket: &UnixDatagram, len: usize) -> String {
    let mut text = String::new();
    while text.len() < len {
        text += receive(socket).strip_prefix("<30>web: ").expect("a priority and a name");
    }
    text
}

/// Lines go to syslog as well as to FILE, each of them once, a long one in pieces.
fn lines_go_to_syslog() {
    let mut log = Log::new();
    let world = World::with_dev(&log.scene.path(""));
    let socket = world.syslogd();
    // The second -y does not put the default in the place of the priority that was given.
    log.start_in(&world, &["-y", "-p", "local3.warning", "-y", "-t"]);
    let long = "x".repeat(2000);
    // A line that fits exactly into one message is not followed by another one.
    let full = "y".repeat(900);
    let start = format!("one\n\n{long}\n{full}\n");
    log.write(&start);
    let xs = "x".repeat(900);
    for part in ["one", "", &xs, &xs, &xs[..200], &full] {
        assert_eq!(receive(&socket), format!("<156>web: {part}"));
    }
    // More than the daemon's queue holds.
    let lines = numbered(0..1000);
    let writing = write_beside(&mut log, lines.clone());
    for line in String::from_utf8(lines.clone()).expect("plain text").lines() {
        assert_eq!(receive(&socket), format!("<156>web: {line}"));
    }
    log.writer = Some(writing.join().expect("it is read"));
    log.finish();
    assert_same(&unstamped(&log.content()), &[start.as_bytes(), &lines].concat());
}

/// A name without a slash names no file.
fn lines_wait_for_syslog() {
    let mut log = Log::new();
    let world = World::with_dev(&log.scene.path(""));
    log.word = "web".into();
    let mut command = log.command(&["-y"]);
    command.current_dir(log.scene.path(""));
    world.enter(&mut command);
    log.start_as(command);
    log.write("one\ntwo\n");
    let text = "unable to send to /dev/log for web: No such file or directory, trying again";
    log.scene.wait_log(text);
    let socket = world.syslogd();
    assert_eq!(receive(&socket), "<30>web: one");
    assert_eq!(receive(&socket), "<30>web: two");
    wait_again(&log);
    log.finish();
    assert!(!log.file().exists());
}

/// The daemon's queue is full, and stays so for longer than goinglog waits for it.
fn a_syslog_that_does_not_read_is_waited_for() {
    let (mut log, world, socket) = for_syslog();
    let filled = fill_queue(&world);
    log.start_in(&world, &["-y"]);
    log.write("one\n");
    let text = "unable to send to /dev/log for web: Resource temporarily unavailable, trying again";
    log.scene.wait_log(text);
    for _ in 0..filled {
        assert_eq!(receive(&socket), "x");
    }
    log.signal(Signal::SIGWINCH);
    assert_eq!(receive(&socket), "<30>web: one");
    wait_again(&log);
    log.finish();
}

/// It touches neither a file of that name nor what is at /dev/null, be that nothing, or a file that
/// should not be there.
fn a_name_for_syslog_touches_no_file() {
    for has_null in [false, true] {
        let mut log = Log::new();
        let world = World::with_dev(&log.scene.path(""));
        let socket = world.syslogd();
        let null = world.view(Path::new("/dev/null"));
        fs::remove_file(&null).expect("no one else sees it");
        if has_null {
            File::create(&null).expect("nothing is there");
        }
        fs::write(log.file(), "of somebody else").expect("a new file");
        log.word = "web".into();
        let mut command = log.command(&["-y", "-s", "10"]);
        command.current_dir(log.scene.path(""));
        world.enter(&mut command);
        log.start_as(command);
        for line in ["a longer one", "two", "three"] {
            log.write(format!("{line}\n"));
            assert_eq!(receive(&socket), format!("<30>web: {line}"));
            log.signal(Signal::SIGHUP);
        }
        log.finish();
        assert_eq!(log.files(), [b"of somebody else"]);
        assert_eq!(fs::metadata(&null).map_or(0, |null| null.len()), 0);
        assert_eq!(log.scene.log(), "");
    }
}

/// Fills the queue of a syslog daemon that does not read. Returns how many messages that took.
fn fill_queue(world: &World) -> usize {
    let (other, path) = (UnixDatagram::unbound().expect("a socket"), Path::new("/dev/log"));
    other.set_nonblocking(true).expect("a socket");
    let send = || other.send_to(b"x", world.view(path));
    iter::repeat_with(send).take_while(io::Result::is_ok).count()
}

/// The step takes long, because the queue of syslog is full. The previous writer has already ended.
fn a_writer_that_comes_amid_the_last_step_is_not_missed() {
    let (mut log, world, socket) = for_syslog();
    let filled = fill_queue(&world);
    let fifo = log.scene.path("fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).expect("a new FIFO");
    let nonblock = libc::O_NONBLOCK;
    let reader = OpenOptions::new().read(true).custom_flags(nonblock).open(&fifo);
    log.reader = OwnedFd::from(reader.expect("it waits for no writer")).into();
    let writer = || OpenOptions::new().write(true).open(&fifo).expect("there is a reader");
    writer().write_all(b"one\n").expect("both ends are open");
    log.start_in(&world, &["-y"]);
    // By now it should wait for the queue. If it does not yet, the scenario does not fail.
    thread::sleep(Duration::from_millis(300));
    log.writer = Some(OwnedFd::from(writer()).into());
    for _ in 0..filled {
        assert_eq!(receive(&socket), "x");
    }
    assert_eq!(receive(&socket), "<30>web: one");
    log.wait_idle();
    log.write("two\n");
    assert_eq!(receive(&socket), "<30>web: two");
    log.finish();
}

/// A name is cut at 100 bytes, even within a character, and need not be UTF-8. A line is not cut.
fn syslog_has_whole_lines_of_names_of_any_kind() {
    let (long, odd) = ("\u{65e5}".repeat(45), b"w\xffb".to_vec());
    for (name, shown) in [(long.as_bytes(), &long.as_bytes()[..100]), (&odd, &odd)] {
        let mut log = Log::new();
        let world = World::with_dev(&log.scene.path(""));
        let socket = world.syslogd();
        log.word = OsStr::from_bytes(name).into();
        log.start_in(&world, &["-y"]);
        let line = "x".repeat(900);
        log.write(format!("{line}\n"));
        let mut message = [0; 2000];
        let len = receive_into(&socket, &mut message);
        assert_same(&message[..len], &[b"<30>", shown, b": ", line.as_bytes()].concat());
        log.finish();
    }
}

/// Also if FILE ends in the middle of a line, which first gets a newline.
fn syslog_is_told_how_much_was_dropped() {
    // FILE has room for the newline and the number, or for the newline alone.
    for size in ["1M", "910"] {
        let mut log = Log::new();
        let world = World::with_dev(&log.scene.path(""));
        let path = world.view(Path::new("/dev/log"));
        let socket = UnixDatagram::bind(&path).expect("a new socket");
        log.start_in(&world, &["-y", "-d", "-s", size]);
        let line = "x".repeat(1000);
        log.write(&line);
        assert_eq!(receive(&socket), format!("<30>web: {}", &line[..900]));
        log.wait_idle();
        fs::remove_file(&path).expect("our own socket");
        log.write("rest\nmore\n");
        log.wait_empty();
        let socket = UnixDatagram::bind(&path).expect("a new socket");
        // Any signal makes it try again at once.
        log.signal(Signal::SIGWINCH);
        assert_eq!(receive(&socket), "<30>web: goinglog: 2 lines dropped");
        log.finish();
        let all = [&line[..900], "\ngoinglog: 2 lines dropped\n"].concat();
        assert_same(&log.files().concat(), all.as_bytes());
    }
}

/// goinglog is waiting for the end of the line, and finds that FILE cannot be written only when it
/// comes.
fn the_end_of_an_open_line_is_dropped_at_once() {
    let (mut log, directory) = in_a_directory();
    let world = World::with_dev(&log.scene.path(""));
    log.start_in(&world, &["-y", "-d"]);
    log.write("tw");
    log.wait_idle();
    fs::remove_dir_all(&directory).expect("our own directory");
    log.write("o\nthree\n");
    log.scene.wait_log("unable to open");
    log.wait_empty();
    log.writer = None;
    assert_eq!(log.wait_exit(), EXIT_UNDONE);
    log.scene.wait_log("goinglog: 2 lines dropped");
}

/// goinglog no longer waits for the end of the line when FILE cannot be written.
fn the_beginning_of_an_open_line_is_dropped_too() {
    let mut log = Log::new();
    let world = World::with_dev(&log.scene.path(""));
    let socket = world.syslogd();
    fs::create_dir(log.older(1)).expect("an empty directory");
    log.start_in(&world, &["-y", "-d", "-n", "1"]);
    log.write("one\ntw");
    assert_eq!(receive(&socket), "<30>web: one");
    log.wait_idle();
    log.signal(Signal::SIGHUP);
    log.scene.wait_log("unable to rotate");
    log.wait_empty();
    fs::remove_dir(log.older(1)).expect("our own directory");
    log.signal(Signal::SIGUSR1);
    assert_eq!(receive(&socket), "<30>web: goinglog: 1 lines dropped");
    log.finish();
}

/// It is stopped while it waits for room in the daemon's queue.
fn a_goinglog_stopped_amid_a_message_still_sends_it() {
    let (mut log, world, socket) = for_syslog();
    log.start_in(&world, &["-y"]);
    let lines = numbered(0..1000);
    let writing = write_beside(&mut log, lines.clone());
    let is_in = |state| proc::stat(log.pid()).is_some_and(|stat| stat.state == state);
    for line in String::from_utf8(lines).expect("plain text").lines() {
        // The queue is nearly always full, so that a hundred tries are enough to be sure.
        if line.contains("0 ") {
            log.signal(Signal::SIGSTOP);
            log.scene.wait_for("its being stopped", || is_in('T'));
            log.signal(Signal::SIGCONT);
        }
        assert_eq!(receive(&socket), format!("<30>web: {line}"));
    }
    log.writer = Some(writing.join().expect("it is read"));
    log.finish();
    assert_eq!(log.scene.log(), "");
}

/// Writers that have a buffer write lines in pieces.
fn syslog_waits_for_the_end_of_a_line() {
    for is_told in [false, true] {
        let (mut log, world, socket) = for_syslog();
        log.start_in(&world, &["-y"]);
        log.write("zero\non");
        assert_eq!(receive(&socket), "<30>web: zero");
        log.wait_idle();
        log.write("e, two");
        log.wait_idle();
        log.write(", three\nfo");
        assert_eq!(receive(&socket), "<30>web: one, two, three");
        log.wait_idle();
        // No more can come, so that the rest is sent as it is.
        if is_told {
            log.signal(Signal::SIGTERM);
            assert_eq!(log.wait_exit(), Some(0));
        } else {
            log.finish();
        }
        assert_eq!(receive(&socket), "<30>web: fo");
    }
}

/// It waits as long as the pipe has room for more of the line.
fn syslog_waits_for_longer_than_a_second() {
    let (mut log, world, socket) = for_syslog();
    log.start_in(&world, &["-y"]);
    log.write("tw");
    log.wait_idle();
    let before = switches(log.pid());
    log.scene.wait_for("another look at it", || switches(log.pid()) > before);
    log.write("o\n");
    assert_eq!(receive(&socket), "<30>web: two");
    log.finish();
}

fn syslog_waits_for_the_end_of_a_line_from_a_socket() {
    let (mut log, world, socket) = for_syslog();
    let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
    let mut command = log.command(&["-y"]);
    command.stdin(OwnedFd::from(theirs));
    world.enter(&mut command);
    log.start_as(command);
    for piece in ["tw", "o, th", "ree\n"] {
        ours.write_all(piece.as_bytes()).expect("it is read");
        log.wait_idle();
    }
    assert_eq!(receive(&socket), "<30>web: two, three");
    drop(ours);
    assert_eq!(log.wait_exit(), Some(0));
}

/// It waits for a second after each piece.
fn syslog_waits_for_the_end_of_a_line_from_a_small_pipe() {
    let (mut log, world, socket) = for_syslog();
    fcntl(&log.reader, FcntlArg::F_SETPIPE_SZ(1)).expect("an open pipe");
    let mut command = log.command(&["-y"]);
    world.enter(&mut command);
    refuse(&mut command, libc::SYS_fcntl, 1, libc::F_SETPIPE_SZ, libc::EPERM);
    log.start_as(command);
    let start = Instant::now();
    // On a busy machine that second may pass before the next piece comes.
    let is_whole = || {
        for piece in ["tw", "o, th", "ree\n"] {
            log.write(piece);
            log.wait_idle();
        }
        let parts = iter::repeat_with(|| receive(&socket));
        let mut parts = parts.skip_while(|part| !part.ends_with("ree"));
        parts.next().is_some_and(|last| last == "<30>web: two, three")
    };
    let mut tries = iter::repeat_with(is_whole);
    assert!(tries.any(|is_whole| is_whole || start.elapsed() > PATIENCE), "never whole");
    assert!(start.elapsed() < PATIENCE, "hardly ever whole");
    log.finish();
}

/// Also in more pieces than it can look at, when it does not wait for the end of the line.
fn syslog_takes_a_line_in_any_pieces() {
    let (mut log, world, socket) = for_syslog();
    log.start_in(&world, &["-y"]);
    // By then the pipe has been made large enough for so many pieces.
    log.wait_idle();
    log.signal(Signal::SIGSTOP);
    // What is moved from pipe to pipe is never merged.
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let line = "a line of which each byte has a buffer of its own\n";
    for byte in line.bytes() {
        writer.write_all(&[byte]).expect("both ends are open");
        let output = log.writer.as_ref().expect("the input has not ended").as_raw_fd();
        let none = ptr::null_mut();
        // SAFETY: both are ours, and neither has an offset.
        let moved = unsafe { libc::splice(reader.as_raw_fd(), none, output, none, 1, 0) };
        assert_eq!(moved, 1);
    }
    log.signal(Signal::SIGCONT);
    assert_eq!(receive_text(&socket, line.len() - 1), line.trim_end());
    log.finish();
}

/// Also after syslog was missing: the message that all is well again does not wait for the end of
/// the line.
fn an_open_line_for_syslog_is_no_busy_wait() {
    let mut log = Log::new();
    let world = World::with_dev(&log.scene.path(""));
    log.word = "web".into();
    log.start_in(&world, &["-y"]);
    log.write("one\ntw");
    log.scene.wait_log(", trying again");
    let socket = world.syslogd();
    log.signal(Signal::SIGUSR1);
    assert_eq!(receive(&socket), "<30>web: one");
    wait_again(&log);
    log.wait_idle();
    log.write("o\n");
    assert_eq!(receive(&socket), "<30>web: two");
    log.finish();
}

/// The kernel wakes no reader for such a write, because the pipe was not empty before.
fn an_open_line_may_end_in_a_write_that_fills_the_pipe() {
    let (mut log, world, socket) = for_syslog();
    log.start_in(&world, &["-y"]);
    log.write("tw");
    log.wait_idle();
    let line = "x".repeat(900);
    let writing = write_beside(&mut log, format!("o\n{}", format!("{line}\n").repeat(1500)).into());
    assert_eq!(receive(&socket), "<30>web: two");
    for _ in 0..1500 {
        assert_eq!(receive(&socket), format!("<30>web: {line}"));
    }
    log.writer = Some(writing.join().expect("it is read"));
    log.finish();
}

/// A user with too many pipes gets one like this: a few bytes may take up each of its two pages,
/// and then its writer waits for room.
fn an_open_line_may_fill_a_small_pipe() {
    let (mut log, world, socket) = for_syslog();
    // No pipe is smaller than a page.
    let page = fcntl(&log.reader, FcntlArg::F_SETPIPE_SZ(1)).expect("an open pipe");
    fcntl(&log.reader, FcntlArg::F_SETPIPE_SZ(2 * page)).expect("an open pipe");
    let mut command = log.command(&["-y"]);
    world.enter(&mut command);
    refuse(&mut command, libc::SYS_fcntl, 1, libc::F_SETPIPE_SZ, libc::EPERM);
    log.start_as(command);
    // A page that ends in the middle of a line, a bit more of that line, and more than there is
    // then room for.
    let page = usize::try_from(page).expect("it is positive");
    let line = "x".repeat(page - 97) + "\n";
    let parts = [line + &"x".repeat(96), "x".repeat(100), "x".repeat(page - 46)];
    log.write(&parts[0]);
    let mut found = receive_text(&socket, page - 97);
    log.wait_idle();
    log.write(&parts[1]);
    log.wait_idle();
    let writing = write_beside(&mut log, parts[2].clone().into());
    let text = parts.concat().replace('\n', "");
    found += &receive_text(&socket, text.len() - parts[2].len() - found.len());
    drop(writing.join().expect("it is read"));
    found += &receive_text(&socket, text.len() - found.len());
    log.finish();
    assert_same(found.as_bytes(), text.as_bytes());
}

/// The pipe has 16 pages and may not have more, and a single byte that is moved from pipe to pipe
/// may take up one of them.
fn an_open_line_may_fill_a_pipe_in_pieces() {
    let (mut log, world, socket) = for_syslog();
    let mut command = log.command(&["-y"]);
    world.enter(&mut command);
    refuse(&mut command, libc::SYS_fcntl, 1, libc::F_SETPIPE_SZ, libc::EPERM);
    log.start_as(command);
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let line = "a line of which each byte has a buffer of its own\n";
    let output = log.writer.take().expect("the input has not ended");
    let writing = thread::spawn(move || {
        for byte in line.bytes() {
            writer.write_all(&[byte]).expect("both ends are open");
            let none = ptr::null_mut();
            // SAFETY: both are ours, and neither has an offset.
            let moved =
                unsafe { libc::splice(reader.as_raw_fd(), none, output.as_raw_fd(), none, 1, 0) };
            assert_eq!(moved, 1);
        }
        output
    });
    assert_eq!(receive_text(&socket, line.len() - 1), line.trim_end());
    log.writer = Some(writing.join().expect("it is read"));
    log.finish();
}

/// Each line is in both once, even if one of them cannot take it at first.
fn syslog_has_what_the_file_has() {
    let (mut log, directory) = in_a_directory();
    let world = World::with_dev(&log.scene.path(""));
    log.start_in(&world, &["-y"]);
    log.write("one\n");
    log.scene.wait_log("unable to send to /dev/log");
    log.wait_content("");
    let socket = world.syslogd();
    assert_eq!(receive(&socket), "<30>web: one");
    wait_again(&log);
    assert_eq!(log.content(), b"one\n");
    fs::remove_dir_all(&directory).expect("our own directory");
    log.write("two\n");
    log.scene.wait_log("unable to open");
    fs::create_dir(&directory).expect("an empty directory");
    assert_eq!(receive(&socket), "<30>web: two");
    log.wait_content("two\n");
    log.finish();
    socket.set_nonblocking(true).expect("a socket");
    assert!(socket.recv(&mut [0; 100]).is_err(), "a line twice");
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
