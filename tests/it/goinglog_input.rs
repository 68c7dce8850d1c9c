//! What goinglog reads: a pipe, a file, a socket.

use crate::goinglog::{Log, assert_same, in_a_directory, numbered, unstamped, with_stamps};
use crate::harness::{Helper, PATIENCE, going, install_program, run_by};
use crate::needs::scenario;
use libtest_mimic::Trial;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Instant;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(stdin_may_be_a_file),
        scenario!(a_pipe_is_made_larger_and_never_smaller),
        scenario!(descriptors_may_be_closed),
        scenario!(stdin_may_be_a_socket_though_there_is_little_room_in_pipes, Root),
        scenario!(stdin_may_be_a_socket),
        scenario!(stdin_may_be_a_socket_that_ends),
        scenario!(what_cannot_be_read_is_at_its_end),
        scenario!(lines_from_a_socket_are_dropped_too),
    ]
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
