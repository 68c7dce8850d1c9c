//! Lines that goinglog sends to syslog.

use crate::goinglog::{
    EXIT_UNDONE, Log, assert_same, in_a_directory, numbered, switches, unstamped, wait_again,
    write_beside,
};
use crate::harness::{PATIENCE, refuse};
use crate::namespace::Namespace;
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::iter;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
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
    ]
}

/// A log that is called web and has no file, a namespace with a syslog daemon, and that daemon's
/// socket.
fn for_syslog() -> (Log, Namespace, UnixDatagram) {
    let mut log = Log::new();
    log.word = "web".into();
    let namespace = Namespace::with_dev(&log.scene.path(""));
    let socket = namespace.syslogd();
    (log, namespace, socket)
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
    let namespace = Namespace::with_dev(&log.scene.path(""));
    let socket = namespace.syslogd();
    // The second -y does not put the default in the place of the priority that was given.
    log.start_in(&namespace, &["-y", "-p", "local3.warning", "-y", "-t"]);
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
    let namespace = Namespace::with_dev(&log.scene.path(""));
    log.word = "web".into();
    let mut command = log.command(&["-y"]);
    command.current_dir(log.scene.path(""));
    namespace.enter(&mut command);
    log.start_as(command);
    log.write("one\ntwo\n");
    let text = "unable to send to /dev/log for web: No such file or directory, trying again";
    log.scene.wait_log(text);
    let socket = namespace.syslogd();
    assert_eq!(receive(&socket), "<30>web: one");
    assert_eq!(receive(&socket), "<30>web: two");
    wait_again(&log);
    log.finish();
    assert!(!log.file().exists());
}

/// The daemon's queue is full, and stays so for longer than goinglog waits for it.
fn a_syslog_that_does_not_read_is_waited_for() {
    let (mut log, namespace, socket) = for_syslog();
    let filled = fill_queue(&namespace);
    log.start_in(&namespace, &["-y"]);
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
        let namespace = Namespace::with_dev(&log.scene.path(""));
        let socket = namespace.syslogd();
        let null = namespace.view(Path::new("/dev/null"));
        fs::remove_file(&null).expect("no one else sees it");
        if has_null {
            File::create(&null).expect("nothing is there");
        }
        fs::write(log.file(), "of somebody else").expect("a new file");
        log.word = "web".into();
        let mut command = log.command(&["-y", "-s", "10"]);
        command.current_dir(log.scene.path(""));
        namespace.enter(&mut command);
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
fn fill_queue(namespace: &Namespace) -> usize {
    let (other, path) = (UnixDatagram::unbound().expect("a socket"), Path::new("/dev/log"));
    other.set_nonblocking(true).expect("a socket");
    let send = || other.send_to(b"x", namespace.view(path));
    iter::repeat_with(send).take_while(io::Result::is_ok).count()
}

/// The step takes long, because the queue of syslog is full. The previous writer has already ended.
fn a_writer_that_comes_amid_the_last_step_is_not_missed() {
    let (mut log, namespace, socket) = for_syslog();
    let filled = fill_queue(&namespace);
    let fifo = log.scene.path("fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).expect("a new FIFO");
    let nonblock = libc::O_NONBLOCK;
    let reader = OpenOptions::new().read(true).custom_flags(nonblock).open(&fifo);
    log.reader = OwnedFd::from(reader.expect("it waits for no writer")).into();
    let writer = || OpenOptions::new().write(true).open(&fifo).expect("there is a reader");
    writer().write_all(b"one\n").expect("both ends are open");
    log.start_in(&namespace, &["-y"]);
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
        let namespace = Namespace::with_dev(&log.scene.path(""));
        let socket = namespace.syslogd();
        log.word = OsStr::from_bytes(name).into();
        log.start_in(&namespace, &["-y"]);
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
        let namespace = Namespace::with_dev(&log.scene.path(""));
        let path = namespace.view(Path::new("/dev/log"));
        let socket = UnixDatagram::bind(&path).expect("a new socket");
        log.start_in(&namespace, &["-y", "-d", "-s", size]);
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
    let namespace = Namespace::with_dev(&log.scene.path(""));
    log.start_in(&namespace, &["-y", "-d"]);
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
    let namespace = Namespace::with_dev(&log.scene.path(""));
    let socket = namespace.syslogd();
    fs::create_dir(log.older(1)).expect("an empty directory");
    log.start_in(&namespace, &["-y", "-d", "-n", "1"]);
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
    let (mut log, namespace, socket) = for_syslog();
    log.start_in(&namespace, &["-y"]);
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
        let (mut log, namespace, socket) = for_syslog();
        log.start_in(&namespace, &["-y"]);
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
    let (mut log, namespace, socket) = for_syslog();
    log.start_in(&namespace, &["-y"]);
    log.write("tw");
    log.wait_idle();
    let before = switches(log.pid());
    log.scene.wait_for("another look at it", || switches(log.pid()) > before);
    log.write("o\n");
    assert_eq!(receive(&socket), "<30>web: two");
    log.finish();
}

fn syslog_waits_for_the_end_of_a_line_from_a_socket() {
    let (mut log, namespace, socket) = for_syslog();
    let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
    let mut command = log.command(&["-y"]);
    command.stdin(OwnedFd::from(theirs));
    namespace.enter(&mut command);
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
    let (mut log, namespace, socket) = for_syslog();
    fcntl(&log.reader, FcntlArg::F_SETPIPE_SZ(1)).expect("an open pipe");
    let mut command = log.command(&["-y"]);
    namespace.enter(&mut command);
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
    let (mut log, namespace, socket) = for_syslog();
    log.start_in(&namespace, &["-y"]);
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
    let namespace = Namespace::with_dev(&log.scene.path(""));
    log.word = "web".into();
    log.start_in(&namespace, &["-y"]);
    log.write("one\ntw");
    log.scene.wait_log(", trying again");
    let socket = namespace.syslogd();
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
    let (mut log, namespace, socket) = for_syslog();
    log.start_in(&namespace, &["-y"]);
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
    let (mut log, namespace, socket) = for_syslog();
    // No pipe is smaller than a page.
    let page = fcntl(&log.reader, FcntlArg::F_SETPIPE_SZ(1)).expect("an open pipe");
    fcntl(&log.reader, FcntlArg::F_SETPIPE_SZ(2 * page)).expect("an open pipe");
    let mut command = log.command(&["-y"]);
    namespace.enter(&mut command);
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
    let (mut log, namespace, socket) = for_syslog();
    let mut command = log.command(&["-y"]);
    namespace.enter(&mut command);
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
    let namespace = Namespace::with_dev(&log.scene.path(""));
    log.start_in(&namespace, &["-y"]);
    log.write("one\n");
    log.scene.wait_log("unable to send to /dev/log");
    log.wait_content("");
    let socket = namespace.syslogd();
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
