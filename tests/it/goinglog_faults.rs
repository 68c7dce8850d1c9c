//! goinglog when something fails: a full or broken disk, a directory that is gone, standard error
//! that takes nothing, a FILE that cannot be used.

use crate::goinglog::{
    EXIT_START, EXIT_UNDONE, Log, assert_same, in_a_directory, numbered, opens, unstamped,
    wait_again, waiting, with_stamps, write_beside,
};
use crate::harness::{going, install_program, limit, refuse, run_by};
use crate::namespace::Namespace;
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::mount::MsFlags;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
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
        scenario!(a_path_may_be_too_long_to_be_rotated),
        scenario!(lack_of_permission_is_reported, Root),
        scenario!(a_second_goinglog_on_the_same_file_refuses),
    ]
}

/// A log on a disk with 16 KiB left, its namespace, and the file that takes up the room.
fn on_a_full_disk(options: &[&str]) -> (Log, Namespace, PathBuf) {
    let mut log = Log::new();
    let disk = log.scene.path("disk");
    fs::create_dir(&disk).expect("an empty directory");
    let namespace = Namespace::with_disk(&disk);
    log.word = disk.join("web");
    log.file = namespace.view(&log.word);
    let in_the_way = namespace.view(&disk.join("in-the-way"));
    fs::write(&in_the_way, vec![0; (4 << 20) - (16 << 10)]).expect("room on the disk");
    log.start_in(&namespace, options);
    (log, namespace, in_the_way)
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
    let (mut log, namespace, in_the_way) = on_a_full_disk(&["-t"]);
    let lines = numbered(0..1000);
    log.write(&lines);
    log.scene.wait_log("No space left on device");
    log.signal(Signal::SIGTERM);
    assert_eq!(log.wait_exit(), EXIT_UNDONE);
    fs::remove_file(in_the_way).expect("our own file");
    log.start_in(&namespace, &["-t"]);
    log.finish();
    assert_same(&unstamped(&log.content()), &lines);
}

fn a_read_only_disk_is_waited_for() {
    let (mut log, namespace, in_the_way) = on_a_full_disk(&["-s", "0"]);
    let lines = numbered(0..1000);
    log.write(&lines);
    log.scene.wait_log("No space left on device, trying again");
    // goinglog has closed the file, or else this would not be possible.
    let disk = log.word.parent().expect("a directory").to_owned();
    namespace.remount(&disk, MsFlags::MS_RDONLY);
    log.signal(Signal::SIGUSR1);
    log.wait_idle();
    namespace.remount(&disk, MsFlags::empty());
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

/// FILE.1 would be a path that is too long for the kernel. Nothing is rotated, and no other file is
/// touched whose name begins like that of an older file.
fn a_path_may_be_too_long_to_be_rotated() {
    let mut log = Log::new();
    let directory = log.scene.path("").display().to_string();
    let slashes = "/".repeat(4094 - directory.len() - "web".len());
    log.word = format!("{directory}{slashes}web").into();
    let neighbour = log.scene.path("web.");
    fs::write(&neighbour, "").expect("our own file");
    log.start(&["-s", "8"]);
    log.write("123456\n");
    log.wait_content("123456\n");
    log.write("next\n");
    log.scene.wait_log("goinglog: unable to rotate …: Filename too long, trying again");
    assert!(neighbour.exists());
    log.signal(Signal::SIGTERM);
    assert_eq!(log.wait_exit(), EXIT_UNDONE, "{}", log.scene.report());
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
