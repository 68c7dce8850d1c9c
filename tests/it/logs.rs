//! Where the output of a service goes: the key `log`, and the pipes between services.

use crate::harness::{Going, send};
use crate::lines::tallied;
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::mkfifo;
use std::cell::Cell;
use std::fs;
use std::io::pipe;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(a_path_is_appended_to_and_closed_to_others),
        scenario!(null_and_inherit_are_what_they_say),
        scenario!(a_fifo_without_a_reader_stalls_nobody),
        scenario!(a_log_that_cannot_be_opened_is_reported),
        scenario!(two_services_and_a_pipe),
        scenario!(several_writers_share_a_reader),
        scenario!(any_user_opens_a_pipe_by_its_name, Root),
        scenario!(a_nonblocking_writer_loses_no_lines_of_others),
        scenario!(a_circle_is_reported_and_harms_no_other),
        scenario!(a_reader_that_does_not_exist_is_waited_for),
        scenario!(a_reader_that_goes_and_comes_back),
        scenario!(a_reader_that_is_done_is_started_for_its_first_writer),
        scenario!(a_pipe_goes_with_its_reader),
        scenario!(a_killed_reader_loses_no_line_in_the_pipe),
        scenario!(readers_see_end_of_file_and_stop_last),
        scenario!(a_reader_that_stays_gets_term_after_end_of_file),
        scenario!(a_rescan_that_hangs_keeps_no_end_of_file_away),
        scenario!(a_chain_of_readers_ends_in_its_order),
        scenario!(three_hundred_megabytes_through_restarts),
    ]
}

/// The line `cmd=` that runs a shell script.
fn sh(script: &str) -> String {
    format!("cmd=sh -c '{script}'\n")
}

/// The file is created with mode 0640 whatever the umask of the caller is, and it is never
/// truncated.
fn a_path_is_appended_to_and_closed_to_others() {
    let mut going = Going::new();
    let log = going.path("web.log");
    fs::write(going.path("old.log"), "before\n").expect("a file");
    let script = sh("echo out; echo error >&2; exec sleep 1000");
    going.write("web", format!("{script}log={}\n", log.display()));
    going.write("old", format!("{script}log={}\n", going.path("old.log").display()));
    symlink("linked.log", going.path("link.log")).expect("a new link");
    going.write("link", format!("{script}log={}\n", going.path("link.log").display()));
    going.start_with(|command| {
        let mask = || {
            umask(Mode::from_bits_truncate(0o077));
            Ok(())
        };
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(mask) };
    });
    let read = |name: &str| fs::read_to_string(going.path(name)).unwrap_or_default();
    going.wait_for("both lines", || read("web.log") == "out\nerror\n");
    going.wait_for("both lines behind the old one", || read("old.log") == "before\nout\nerror\n");
    going.wait_for("where the link leads", || read("linked.log") == "out\nerror\n");
    let mode = fs::metadata(&log).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "{mode:o}");
    let pid = going.wait_child("web", |words| words == ["sleep", "1000"]);
    // O_APPEND is set, but not O_NONBLOCK, which was only for opening the file.
    assert_eq!(flags(pid, 1) & 0o6000, 0o2000);
    going.terminate();
}

/// The flags of a descriptor, as fcntl(2) has them.
fn flags(pid: i32, fd: i32) -> u32 {
    let about = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).expect("it runs");
    let line = about.lines().find(|line| line.starts_with("flags:")).expect("flags");
    u32::from_str_radix(line.split_whitespace().last().expect("a number"), 8).expect("octal")
}

fn null_and_inherit_are_what_they_say() {
    let mut going = Going::new();
    going.write("null", "cmd=sleep 1001\nlog=null\n");
    going.write("inherit", "cmd=sleep 1002\nlog=inherit\n");
    going.start();
    let null = going.wait_child("null", |words| words == ["sleep", "1001"]);
    let inherit = going.wait_child("inherit", |words| words == ["sleep", "1002"]);
    let outputs = |pid: i32| [1, 2].map(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok());
    assert_eq!(outputs(null), [const { Some("/dev/null") }; 2].map(|path| path.map(Into::into)));
    assert_eq!(outputs(inherit), [Some(going.path("stdout")), Some(going.path("log"))]);
    going.terminate();
}

/// A FIFO that nobody reads is a fault of that service, which is logged and tried again.
fn a_fifo_without_a_reader_stalls_nobody() {
    let mut going = Going::new();
    let fifo = going.path("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).expect("a fifo");
    going.write("web", format!("{}log={}\n", going.cmd("hold", "web", &[]), fifo.display()));
    going.hold("other");
    going.start();
    going.up("other");
    let path = fifo.display();
    going.wait_log(&format!("web: unable to log to {path}: No such device or address"));
    going.wait_log("web: exited 111 after ");
    assert_eq!(going.starts("web"), []);
    // Now somebody reads it. Opened for reading and writing, a FIFO waits for nobody.
    let _reader = fs::File::options().read(true).write(true).open(&fifo).expect("a fifo");
    going.up("web");
    going.terminate();
}

fn a_log_that_cannot_be_opened_is_reported() {
    let mut going = Going::new();
    going.write("gone", "cmd=true\nlog=/nonexistent/log\n");
    going.write("directory", "cmd=true\nlog=/usr\n");
    going.start();
    going.wait_log("gone: unable to log to /nonexistent/log: No such file or directory");
    going.wait_log("gone: exited 111 after ");
    going.wait_log("directory: unable to log to /usr: Is a directory");
    going.wait_log("directory: exited 111 after ");
    going.terminate();
}

/// Writes a service that numbers lines for the service `reader`.
fn write_pair(going: &Going, writer: &str, reader: &str, count: u64, turn: u32) {
    let words = [count.to_string(), "100".to_owned(), turn.to_string()];
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    going.write(writer, format!("{}log={reader}\n", going.cmd("number", writer, &words)));
}

/// Waits until the writers are done, and ends going: only then does the reader say what it has
/// read.
#[track_caller]
fn assert_tallied(going: &mut Going, reader: &str, writers: &[&str], count: u64) {
    for writer in writers {
        going.wait_for(&format!("{writer} done"), || {
            !going.records(&format!("{writer}.done")).is_empty()
        });
    }
    going.terminate();
    let state = going.path("records").join(format!("{reader}.tally"));
    for writer in writers {
        assert_eq!(tallied(&state, writer), count, "of {writer}\n{}", going.report());
    }
    for fault in ["torn", "lost"] {
        assert_eq!(going.records(fault), [""; 0], "{fault}\n{}", going.report());
    }
}

fn two_services_and_a_pipe() {
    let mut going = Going::new();
    write_pair(&going, "web", "logger", 1_000, 0);
    going.write("logger", going.cmd("tally", "logger", &[]));
    going.start();
    let (web, logger) = (going.up("web"), going.up("logger"));
    let end = |pid: i32, fd: i32| fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("it runs");
    assert!(end(web, 1).to_string_lossy().starts_with("pipe:"));
    assert_eq!([end(web, 1), end(web, 2)], [end(logger, 0), end(logger, 0)]);
    assert_eq!(end(web, 0), Path::new("/dev/null"));
    assert_eq!([end(logger, 1), end(logger, 2)], [going.path("stdout"), going.path("log")]);
    let numbers = |pid| proc::descriptors(pid).into_iter().map(|(fd, _)| fd).collect::<Vec<_>>();
    // Neither has the other end of any pipe.
    assert_eq!(numbers(web).iter().filter(|fd| **fd < 3).count(), 3);
    assert!(!proc::descriptors(web)[3..].iter().any(|(_, to)| *to == end(web, 1)));
    assert!(!proc::descriptors(logger)[3..].iter().any(|(_, to)| *to == end(web, 1)));
    assert_tallied(&mut going, "logger", &["web"], 1_000);
}

fn several_writers_share_a_reader() {
    let mut going = Going::new();
    let writers = ["a", "b", "c", "d", "e"];
    for writer in writers {
        write_pair(&going, writer, "logger", 5_000, 0);
    }
    going.write("logger", going.cmd("tally", "logger", &[]));
    going.start();
    assert_tallied(&mut going, "logger", &writers, 5_000);
}

/// Web servers whose log is /dev/stdout open it when they are no longer root. They must not be able
/// to read what others write there.
fn any_user_opens_a_pipe_by_its_name() {
    let mut going = Going::new();
    let script = "(: </dev/stdout) 2>/dev/null && echo read; \
                  echo out >/dev/stdout; echo error >/dev/stderr; exec sleep 1000";
    let script = sh(script);
    going.write("web", format!("{script}user=1234\ngroup=5678\nlog=logger\n"));
    going.write("other", format!("{script}user=1235\ngroup=5679\nlog=logger\n"));
    going.write("logger", "cmd=sh -c 'exec cat >&2'\n");
    going.start();
    going.wait_for("all lines", || {
        let log = going.log();
        ["out", "error"].iter().all(|line| log.lines().filter(|it| it == line).count() == 2)
    });
    assert!(!going.log().lines().any(|line| line == "read"), "{}", going.report());
    going.terminate();
}

/// All processes that share an open file share its O_NONBLOCK, which also stays when the process
/// that set it has ended. With it, what the pipe has no room for is lost.
fn a_nonblocking_writer_loses_no_lines_of_others() {
    let mut going = Going::new();
    let (output, inherited) = pipe().expect("a pipe");
    for (name, log) in [("rude", "logger"), ("loud", "inherit"), ("logger", "null")] {
        going.write(name, format!("{}log={log}\n", going.cmd("never-waits", name, &[])));
    }
    going.write("web", "cmd=sleep 1001\nlog=logger\n");
    going.write("db", "cmd=sleep 1002\n");
    going.start_with(|command| {
        command.stdout(inherited);
    });
    let rude = going.up("rude");
    let (loud, logger) = (going.up("loud"), going.up("logger"));
    assert_eq!(
        [flags(rude, 1), flags(loud, 1), flags(logger, 0)].map(|it| it & 0o4000),
        [0o4000; 3]
    );
    let web = going.wait_child("web", |words| words == ["sleep", "1001"]);
    let db = going.wait_child("db", |words| words == ["sleep", "1002"]);
    assert_eq!([flags(web, 1), flags(web, 2), flags(db, 1)].map(|it| it & 0o4000), [0; 3]);
    let link = |pid, fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok();
    assert_eq!([link(web, 1), link(db, 1)], [link(rude, 1), link(loud, 1)]);
    // Nor do the next processes of these services have it.
    going.write("rude", "cmd=sleep 1003\nlog=logger\n");
    going.write("logger", "cmd=sleep 1004\n");
    let rude = going.wait_child("rude", |words| words == ["sleep", "1003"]);
    let logger = going.wait_child("logger", |words| words == ["sleep", "1004"]);
    assert_eq!([flags(rude, 1), flags(logger, 0)].map(|it| it & 0o4000), [0; 2]);
    going.terminate();
    drop(output);
}

/// Services log to themselves, directly or through another one, and into a circle that they are not
/// part of.
fn a_circle_is_reported_and_harms_no_other() {
    let mut going = Going::new();
    for (name, log) in [("self", "self"), ("a", "b"), ("b", "a"), ("into", "a")] {
        going.write(name, format!("{}log={log}\n", going.cmd("hold", name, &[])));
    }
    going.hold("web");
    going.start();
    going.up("web");
    for (name, log) in [("self", "self"), ("a", "b"), ("b", "a"), ("into", "a")] {
        going.wait_log(&format!("{name}: unable to log to {log}: they log in a circle"));
        going.wait_log(&format!("{name}: exited 111 after "));
        assert_eq!(going.starts(name), []);
    }
    // When the circle is broken, all of them run.
    going.hold("b");
    for name in ["a", "b", "into"] {
        going.up(name);
    }
    going.terminate();
}

fn a_reader_that_does_not_exist_is_waited_for() {
    let mut going = Going::new();
    write_pair(&going, "web", "logger", 10, 0);
    going.start();
    going.wait_log("web: unable to log to logger: no such service");
    going.wait_log("web: exited 111 after …next start in 4 s");
    going.write("logger", going.cmd("tally", "logger", &[]));
    let start = Instant::now();
    going.up("web");
    assert!(start.elapsed() < Duration::from_secs(3), "not at once: {:?}", start.elapsed());
    assert_tallied(&mut going, "logger", &["web"], 10);
}

/// The reader ended because it had nothing to read. Now a service writes to it, and would wait for
/// ever when the pipe is full.
fn a_reader_that_is_done_is_started_for_its_first_writer() {
    let mut going = Going::new();
    let reader = going.cmd("tally", "logger", &[]);
    going.write("logger", format!("{reader}restart=failure\n"));
    going.start();
    going.wait_status("logger", "done");
    write_pair(&going, "web", "logger", 1_000, 0);
    assert_tallied(&mut going, "logger", &["web"], 1_000);
}

/// The pipe goes with its reader. What still writes to it gets PIPE, and waits for a new one.
fn a_reader_that_goes_and_comes_back() {
    let mut going = Going::new();
    going.write("web", format!("{}log=logger\n", sh("while echo x; do sleep 0.05; done")));
    going.write("logger", sh("exec cat >/dev/null"));
    going.start();
    going.wait_log("web: started, ");
    going.rescan();
    going.remove("logger");
    going.wait_log("web: unable to log to logger: no such service");
    // A new pair works as if the old one had never been there.
    going.remove("web");
    write_pair(&going, "web", "logger", 10, 0);
    going.write("logger", going.cmd("tally", "logger", &[]));
    assert_tallied(&mut going, "logger", &["web"], 10);
}

/// A service that is added when the reader has gone does not get its pipe, and a reader that stays
/// keeps its own.
fn a_pipe_goes_with_its_reader() {
    let mut going = Going::new();
    for (writer, reader) in [("w1", "r1"), ("w2", "r2")] {
        going.write(writer, format!("cmd=sleep 1000\nlog={reader}\n"));
        going.hold(reader);
    }
    going.start();
    let input = |name: &str| {
        let pid = going.up(name);
        fs::read_link(format!("/proc/{pid}/fd/0")).expect("our own child").display().to_string()
    };
    let (first, second) = (input("r1"), input("r2"));
    assert!(first.starts_with("pipe:") && second.starts_with("pipe:"), "{first} {second}");
    going.remove("r1");
    going.wait_log("r1: stopped, ");
    for name in ["a", "b", "c", "d"] {
        going.hold(name);
        assert_eq!(input(name), "/dev/null", "{name}");
    }
    // The service may have moved in the table.
    send(going.up("r2"), Signal::SIGKILL);
    going.wait_starts("r2", 2);
    assert_eq!(input("r2"), second);
    going.terminate();
}

/// What it had not read yet waits in the pipe for the next reader.
fn a_killed_reader_loses_no_line_in_the_pipe() {
    let mut going = Going::new();
    going.write("logger", "cmd=sleep 1000\n");
    // 50 kB: they fit into a pipe.
    write_pair(&going, "web", "logger", 500, 0);
    going.start();
    going.wait_for("web done", || !going.records("web.done").is_empty());
    let deaf = going.wait_child("the reader", |words| words == ["sleep", "1000"]);
    send(deaf, Signal::SIGKILL);
    going.wait_gone("the reader", deaf);
    let web = going.up("web");
    going.write("logger", going.cmd("tally", "logger", &[]));
    going.up("logger");
    // The writer goes too, so that nothing but going has the pipe open for writing.
    going.remove("web");
    going.wait_gone("the writer", web);
    going.rescan();
    going.terminate();
    let state = going.path("records/logger.tally");
    assert_eq!(tallied(&state, "web"), 500, "{}", going.report());
    assert_eq!(going.records("torn"), [""; 0]);
}

/// The last lines of the writers are read before the reader is told to end, if it has to be told at
/// all.
fn readers_see_end_of_file_and_stop_last() {
    let mut going = Going::new();
    let script = "trap \"sleep 0.5; echo web 0 x; exit 0\" TERM; while :; do sleep 0.05; done";
    going.write("web", format!("{}log=logger\n", sh(script)));
    going.write("logger", going.cmd("tally", "logger", &[]));
    going.start();
    going.wait_log("web: started, ");
    let logger = going.up("logger");
    going.rescan();
    going.terminate();
    assert_eq!(tallied(&going.path("records/logger.tally"), "web"), 1, "{}", going.report());
    assert_eq!(going.records("logger.eof"), [logger.to_string()]);
    assert_eq!(going.records("logger.terms"), [""; 0], "it had ended by itself");
    let log = going.log();
    let (web, logger) = (log.find("web: stopped"), log.find("logger: stopped"));
    assert!(web.is_some() && web < logger, "{log}");
}

fn a_reader_that_stays_gets_term_after_end_of_file() {
    let mut going = Going::new();
    write_pair(&going, "web", "logger", 10, 0);
    going.write("logger", going.cmd("tally", "logger", &["stays"]));
    going.start();
    let logger = going.up("logger");
    assert_tallied(&mut going, "logger", &["web"], 10);
    assert_eq!(going.records("logger.eof"), [logger.to_string()]);
    assert_eq!(going.records("logger.terms"), [logger.to_string()]);
}

/// The process that reads CONFDIR is a copy of going, and so begins with the pipes of all services.
/// It may take as long as a hung disk does.
fn a_rescan_that_hangs_keeps_no_end_of_file_away() {
    let mut going = Going::new();
    // With so many lines a rescan takes long enough to be caught.
    for number in 0..200 {
        going.write(&format!("comments{number}"), "#\n".repeat(8192));
    }
    going.hold_logging("web", "logger");
    going.write("logger", going.cmd("tally", "logger", &[]));
    going.start();
    going.up("web");
    let logger = going.up("logger");
    let confdir = going.path("going.d");
    let is_at_work = |&pid: &i32| {
        send(pid, Signal::SIGSTOP);
        let is_at_work = proc::descriptors(pid).iter().any(|(_, path)| *path == confdir);
        if !is_at_work {
            send(pid, Signal::SIGCONT);
        }
        is_at_work
    };
    let rescan = Cell::new(None);
    going.wait_for("a rescan, to be stopped", || {
        going.signal(Signal::SIGHUP);
        let reader = going.children().into_iter().find(|&pid| !proc::is_executed(pid));
        rescan.set(reader.filter(is_at_work));
        rescan.get().is_some()
    });
    going.terminate();
    going.wait_gone("the rescan", rescan.get().expect("it was there"));
    assert_eq!(going.records("logger.eof"), [logger.to_string()], "{}", going.report());
    assert_eq!(going.records("logger.terms"), [""; 0], "it had ended by itself");
}

/// web writes to filter, filter to logger: each ends when nobody writes to it any more.
fn a_chain_of_readers_ends_in_its_order() {
    let mut going = Going::new();
    write_pair(&going, "web", "filter", 2_000, 0);
    going.write("filter", "cmd=sh -c 'trap : TERM; exec cat'\nlog=logger\n");
    going.write("logger", going.cmd("tally", "logger", &[]));
    going.start();
    going.up("logger");
    assert_tallied(&mut going, "logger", &["web"], 2_000);
    let log = going.log();
    let ends = ["web", "filter", "logger"].map(|name| log.find(&format!("{name}: stopped")));
    assert!(ends.iter().all(Option::is_some) && ends.is_sorted(), "{log}");
}

/// No line is lost or torn while both sides are restarted again and again. Each edit causes a TERM.
fn three_hundred_megabytes_through_restarts() {
    const LINES: u64 = 1_500_000;
    let mut going = Going::new();
    let edit_logger = |going: &Going, turn: u32| {
        going.write("logger", format!("{}env=T={turn}\n", going.cmd("tally", "logger", &[])));
    };
    let edit = |going: &Going, name: &str, turn: u32| match name {
        "logger" => edit_logger(going, turn),
        writer => write_pair(going, writer, "logger", LINES, turn),
    };
    for name in ["a", "b", "logger"] {
        edit(&going, name, 0);
    }
    going.start();
    for name in ["a", "b", "logger"] {
        going.up(name);
    }
    let is_done = |name: &str| !going.records(&format!("{name}.done")).is_empty();
    let mut turn = 0;
    while !(is_done("a") && is_done("b")) {
        turn += 1;
        for name in ["logger", "a", "logger", "b"] {
            let starts = going.starts(name).len();
            edit(&going, name, turn * 2 + u32::from(starts.is_multiple_of(2)));
            going.signal(Signal::SIGHUP);
            going.wait_for(&format!("{name} anew"), || going.starts(name).len() > starts);
        }
    }
    assert!(turn > 2, "no restarts to speak of");
    // A writer that is edited after its last line records once more that it is done.
    assert_tallied(&mut going, "logger", &["a", "b"], LINES);
    assert_eq!(going.log_count("does not stop"), 0, "{}", going.report());
}
