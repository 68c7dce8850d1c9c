//! Defects that were found by looking for them: each scenario failed before its defect was fixed.

use crate::harness::{Going, PATIENCE, limit, refuse, run_by, send};
use crate::namespace::Namespace;
use crate::needs::scenario;
use crate::proc;
use going::child::plan::ENTRIES;
use going::model::entry::Record;
use libtest_mimic::Trial;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::{Mode, umask};
use std::fs::{self, File, Permissions};
use std::io::{Read, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(a_shutdown_waits_without_spinning),
        scenario!(a_down_directory_that_cannot_be_searched_stops_nobody, Root),
        scenario!(leftovers_are_ended_though_confdir_comes_late),
        scenario!(a_shutdown_ends_though_a_service_logs_to_itself),
        scenario!(a_shutdown_ends_though_a_stopping_service_logs_to_a_writer),
        scenario!(a_fault_among_many_is_reported_once),
        scenario!(a_fault_is_reported_once_though_confdir_goes_and_comes),
        scenario!(a_planted_pid_directory_leads_nowhere),
        scenario!(a_file_that_a_scanner_refuses_is_tried_again),
        scenario!(a_file_that_is_leased_is_tried_again),
        scenario!(a_file_that_could_not_be_opened_is_tried_again, Root),
        scenario!(a_main_command_has_all_the_variables_of_its_caller),
        scenario!(a_deleted_rundir_is_locked_anew),
        scenario!(a_lock_that_cannot_be_looked_at_stays),
        scenario!(a_nul_byte_rejects_wherever_it_is),
        scenario!(the_first_signal_hastens_no_shutdown_that_has_begun),
        scenario!(a_former_logger_has_its_own_timeout),
        scenario!(a_service_in_the_slot_of_a_logger_has_its_own_timeout),
        scenario!(a_shutdown_ends_though_a_writer_logs_to_a_removed_service),
        scenario!(messages_that_cannot_be_written_are_no_signal_for_the_main_command),
        scenario!(a_writer_has_the_pipe_of_a_logger_that_came_back),
        scenario!(a_rescan_that_ends_in_a_shutdown_changes_nothing),
        scenario!(a_removal_brings_no_rescan_amid_a_change),
        scenario!(a_limit_of_the_size_of_files_keeps_nobody_from_starting),
        scenario!(a_plan_that_is_cut_off_is_none, Root),
        scenario!(a_service_without_its_own_settings_is_not_started),
        scenario!(a_check_needs_no_room_for_files, Root),
        scenario!(a_check_without_room_says_so, Root),
        scenario!(children_made_faster_than_reaped_hold_nothing_up),
        scenario!(a_writer_whose_logger_is_held_down_stops_in_order),
        scenario!(a_logger_that_dies_in_a_shutdown_comes_back_for_its_writers),
        scenario!(a_done_service_stays_done_though_its_logger_is_replaced),
        scenario!(a_killed_reader_of_confdir_is_reported),
        scenario!(a_rundir_that_comes_late_is_looked_into),
        scenario!(the_umask_of_the_caller_is_not_that_of_rundir),
        scenario!(a_down_file_of_the_main_command_is_none),
        scenario!(a_logger_waits_for_a_writer_whose_file_is_gone),
        scenario!(a_logger_waits_for_a_writer_that_logs_elsewhere_next),
        scenario!(nothing_logs_to_a_service_that_is_gone),
        scenario!(a_former_logger_that_comes_back_reads_nothing),
        scenario!(ending_leftovers_keeps_no_log_open),
        scenario!(a_missing_dev_null_is_not_created, Mounts),
        scenario!(ending_leftovers_keeps_no_log_open_on_an_old_kernel),
        scenario!(what_a_child_says_goes_to_no_log_of_a_service, Root),
        scenario!(a_machine_ends_though_no_plan_can_be_made, Root),
    ]
}

/// A rescan that is due, but will not be done any more, is no reason to wake up.
fn a_shutdown_waits_without_spinning() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["4000"]) + "timeout=60\n");
    going.start();
    going.up("web");
    going.rescan();
    going.signal(Signal::SIGTERM);
    going.wait_log("mark: stopped");
    // HUP makes a rescan due, as does an edit, or a missing CONFDIR.
    going.signal(Signal::SIGHUP);
    let before = proc::ticks(going.pid());
    sleep(Duration::from_secs(2));
    let spent = proc::ticks(going.pid()) - before;
    assert!(going.wait_exit().success(), "{}", going.report());
    assert!(spent < 5, "{spent} ticks of 10 ms in 2 s of waiting");
}

/// EACCES does not mean that a down file is there: if we cannot look for it, nothing changes.
fn a_down_directory_that_cannot_be_searched_stops_nobody() {
    let mut going = Going::new();
    going.open_to_everybody();
    going.hold_all(&["web", "held"]);
    going.start_with(|command| run_by(command, 12_345));
    let web = going.up("web");
    going.hold_down("held");
    going.wait_status("held", "down");
    let starts = going.starts("held").len();
    // With the second mode it cannot be listed either.
    for mode in [0o444, 0] {
        fs::set_permissions(going.path("run/down"), Permissions::from_mode(mode)).expect("ours");
        going.rescan();
        assert_eq!((going.up("web"), going.starts("web").len()), (web, 1), "{}", going.report());
        assert_eq!(going.starts("held").len(), starts, "{}", going.report());
    }
}

/// Leftovers are not only ended by the first rescan, which may have read nothing or have failed.
fn leftovers_are_ended_though_confdir_comes_late() {
    let mut going = Going::new();
    going.write("held", going.cmd("hold", "held", &["ignore"]));
    going.start();
    let old = going.up("held");
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    fs::write(going.path("run/down/held"), "").expect("a down file");
    fs::rename(going.path("going.d"), going.path("later.d")).expect("our own directory");
    going.start();
    going.wait_log("unable to read CONFDIR");
    fs::rename(going.path("later.d"), going.path("going.d")).expect("our own directory");
    going.signal(Signal::SIGHUP);
    going.wait_gone("what a killed going has left", old);
}

/// A service that waits for all services that log to it must not wait for itself.
fn a_shutdown_ends_though_a_service_logs_to_itself() {
    let mut going = Going::new();
    let text = going.cmd("hold", "web", &["ignore"]) + "timeout=0\n";
    going.write("web", &text);
    going.start();
    going.up("web");
    going.write("web", text + "log=web\n");
    going.wait_status("web", "stopping");
    going.terminate();
}

/// The two services waited for each other to end, and nothing killed the one that ignores TERM.
fn a_shutdown_ends_though_a_stopping_service_logs_to_a_writer() {
    let mut going = Going::new();
    let text = going.cmd("hold", "web", &["ignore"]) + "timeout=0\n";
    going.write("web", text.clone() + "log=filter\n");
    going.hold("filter");
    going.start();
    going.all_up(&["filter", "web"]);
    going.write("web", text + "log=null\n");
    going.wait_status("web", "stopping");
    let starts = going.starts("filter").len();
    going.hold_logging("filter", "web");
    going.wait_starts("filter", starts + 1);
    going.terminate();
}

#[track_caller]
fn assert_told_once(going: &Going, part: &str) {
    let log = going.log();
    let mut lines: Vec<_> = log.lines().filter(|line| line.contains(part)).collect();
    let count = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(count, lines.len(), "{count} lines, {} of them different", lines.len());
}

fn a_fault_among_many_is_reported_once() {
    let mut going = Going::new();
    for number in 0..300 {
        going.write(&format!("not.a.name.{number}"), "");
    }
    going.start();
    going.rescan();
    assert_told_once(&going, "not.a.name");
    going.terminate();
}

fn a_fault_is_reported_once_though_confdir_goes_and_comes() {
    let mut going = Going::new();
    going.write("bad", "comand=x\n");
    going.start();
    going.wait_log("bad:1:");
    fs::rename(going.path("going.d"), going.path("later.d")).expect("our own directory");
    going.signal(Signal::SIGHUP);
    going.wait_log("unable to read CONFDIR");
    fs::rename(going.path("later.d"), going.path("going.d")).expect("our own directory");
    going.rescan();
    assert_told_once(&going, "bad:1:");
    going.terminate();
}

/// The directory can be a symbolic link as well as the file in it.
fn a_planted_pid_directory_leads_nowhere() {
    let mut going = Going::new();
    fs::create_dir(going.path("victim")).expect("a directory");
    fs::write(going.path("victim/web"), "precious\n").expect("a file");
    symlink(going.path("victim"), going.path("run/pid")).expect("a symlink");
    going.hold("web");
    going.start();
    going.up("web");
    assert_eq!(fs::read_to_string(going.path("victim/web")).expect("a file"), "precious\n");
    going.terminate();
}

/// EMFILE, ENFILE, ENOMEM and EIO are not the file's fault, and no event makes going look again.
fn a_file_that_could_not_be_opened_is_tried_again() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    going.up("web");
    going.rescan();
    going.wait_quiet();
    let limit = |count: usize| limit(going.pid(), libc::RLIMIT_NOFILE, count as u64, 1024);
    // Leave room for the reader's plan and for the directory, but for no file in it. How much that
    // is depends on what this process has left open.
    let open = proc::descriptors(going.pid()).len();
    let told = "unable to read: No file descriptors available";
    for count in 0..8 {
        limit(open + count);
        going.write("new", going.cmd("hold", "new", &["0", &count.to_string()]));
        let start = Instant::now();
        while going.log_count(told) == 0 && start.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(10));
        }
        if going.log_count(told) > 0 {
            break;
        }
    }
    assert!(going.log_count(told) > 0, "{}", going.report());
    limit(1024);
    going.up("new");
    going.terminate();
}

/// A virus scanner may do that, for example. No event says that it has changed its mind.
fn a_file_that_a_scanner_refuses_is_tried_again() {
    let mut going = Going::new();
    going.hold("web");
    let mut command = going.command();
    // The flags that service files are opened with; the last one is O_LARGEFILE.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC | 0x8000;
    refuse(&mut command, libc::SYS_openat, 2, flags, libc::EPERM);
    going.start_as(command);
    going.wait_log("web: unable to read: Operation not permitted");
    going.wait_status("web", "rejected");
    // This wait is the measurement: after it, nothing but the retry can still be due.
    sleep(Duration::from_secs(1));
    assert!(!proc::waits_for_ever(going.pid()), "{}", going.report());
    going.terminate();
}

/// EAGAIN, while a file server has a lease on the file, is not the file's fault; nor are ESTALE,
/// ENOTCONN and others.
fn a_file_that_is_leased_is_tried_again() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    going.up("web");
    // It is moved there later, because a lease can only be taken before anybody else opens the
    // file.
    fs::write(going.path("new"), going.cmd("hold", "new", &[])).expect("a file");
    let file = File::open(going.path("new")).expect("our own file");
    // SAFETY: no handler; SIGIO would kill us when the kernel wants the lease back.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.expect("a valid signal");
    // SAFETY: no memory is involved.
    let lease = |kind: i32| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    assert_eq!(lease(libc::F_WRLCK), 0, "{}", std::io::Error::last_os_error());
    fs::rename(going.path("new"), going.path("going.d/new")).expect("the same file system");
    going.wait_log("new: unable to read: Resource temporarily unavailable");
    assert_eq!(lease(libc::F_UNLCK), 0);
    going.up("new");
    going.terminate();
}

/// In a namespace with 150 services, Kubernetes gives every container more than 1024 variables.
fn a_main_command_has_all_the_variables_of_its_caller() {
    let going = Going::new();
    let mut command = going.command();
    command.args(["--", "/bin/sh", "-c", "exit 7"]);
    command.envs((0..1100).map(|number| (format!("V{number}"), "x")));
    let status = command.status().expect("going can be executed");
    assert_eq!(status.code(), Some(7), "{}", going.report());
}

fn a_deleted_rundir_is_locked_anew() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    going.up("web");
    going.rescan();
    going.wait_quiet();
    fs::remove_dir_all(going.path("run")).expect("our own directory");
    going.wait_for("RUNDIR made anew", || going.path("run/status").exists());
    going.rescan();
    assert_eq!(second_going(&going), Some(111), "{:?}", going.twins());
}

/// Closing any descriptor of a file drops all locks that the process has on that file.
fn a_lock_that_cannot_be_looked_at_stays() {
    let mut going = Going::new();
    going.hold("web");
    going.start_with(|command| {
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        refuse(command, libc::SYS_newfstatat, 3, flags, libc::ENOMEM);
    });
    going.up("web");
    going.rescan();
    going.wait_quiet();
    assert_eq!(second_going(&going), Some(111), "{:?}", going.twins());
}

/// The exit code of a second going on the same RUNDIR, if it ends.
fn second_going(going: &Going) -> Option<i32> {
    let mut second = going.command().spawn().expect("going can be executed");
    let start = Instant::now();
    let status = loop {
        let status = second.try_wait().expect("our own child");
        if status.is_some() || start.elapsed() > Duration::from_secs(3) {
            break status;
        }
        sleep(Duration::from_millis(10));
    };
    let _ = second.kill();
    let _ = second.wait();
    status.and_then(|status| status.code())
}

fn a_nul_byte_rejects_wherever_it_is() {
    let going = Going::new();
    going.write("web", "# a\0b\ncmd=true\n");
    assert_eq!(going.output(&["-n"]).status.code(), Some(1));
}

/// The shutdown began because the main command ended, so the first signal is not yet the second
/// request that hastens it.
fn the_first_signal_hastens_no_shutdown_that_has_begun() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["1000"]));
    let script = format!("until [ -e '{}' ]; do sleep 0.05; done", going.path("end").display());
    going.start_with(|command| {
        command.args(["--", "/bin/sh", "-c", &script]);
    });
    going.up("web");
    fs::write(going.path("end"), "").expect("a file");
    going.wait_log("shutting down");
    going.signal(Signal::SIGTERM);
    assert!(going.wait_exit().success(), "{}", going.report());
    assert_eq!(going.log_count("killing"), 0, "{}", going.report());
    going.wait_log("web: stopped, exited 0");
}

/// In a shutdown, services that are logged to have 3 s. That must not apply to one that nobody logs
/// to any more.
fn a_former_logger_has_its_own_timeout() {
    let mut going = Going::new();
    going.write("db", going.cmd("hold", "db", &["4000"]) + "timeout=60\n");
    going.hold_logging("web", "db");
    going.start();
    going.all_up(&["db", "web"]);
    going.remove("web");
    going.wait_log("web: stopped, ");
    going.rescan();
    going.terminate();
    assert_eq!(going.log_count("killing"), 0, "{}", going.report());
}

/// The new service got the table slot that the writer still logged to. It was mistaken for a
/// logger, and killed after 2 s.
fn a_service_in_the_slot_of_a_logger_has_its_own_timeout() {
    let mut going = Going::new();
    going.hold("log");
    going.hold_logging("web", "log");
    going.start();
    going.all_up(&["log", "web"]);
    going.remove("log");
    going.wait_for("log being forgotten", || going.status_of("log").is_empty());
    going.write("db", going.cmd("hold", "db", &["4000"]) + "timeout=60\n");
    going.up("db");
    assert_eq!(going.starts("web").len(), 1, "{}", going.report());
    going.terminate();
    assert_eq!(going.log_count("killing"), 0, "{}", going.report());
}

/// The service in the slot of the removed logger logs to the writer: each waited for the other to
/// end.
fn a_shutdown_ends_though_a_writer_logs_to_a_removed_service() {
    let mut going = Going::new();
    going.hold("log");
    going.hold_logging("filter", "log");
    going.hold_logging("web", "filter");
    going.start();
    going.all_up(&["log", "filter", "web"]);
    going.remove("log");
    going.wait_for("log being forgotten", || going.status_of("log").is_empty());
    going.hold_logging("db", "filter");
    going.up("db");
    // And another service logs to it.
    going.hold_logging("cron", "db");
    going.wait_starts("db", 2);
    going.all_up(&["db", "cron"]);
    assert_eq!(going.starts("filter").len(), 1, "{}", going.report());
    going.terminate();
}

/// PIPE and XFSZ are sent to the process that writes. going passed them on like any other signal,
/// and that killed the main command.
fn messages_that_cannot_be_written_are_no_signal_for_the_main_command() {
    let going = Going::new();
    fs::write(going.path("task"), "cmd=true\nrestart=never\n").expect("our own file");
    // Gives going something to say while the main command runs.
    let (file, link) = (going.path("task"), going.path("going.d/task"));
    let script = format!(
        "rm -f {1}; sleep 0.5; ln -s {0} {1}; sleep 1; exit 7",
        file.display(),
        link.display()
    );
    let run = |mut command: Command| {
        command.args(["--", "/bin/sh", "-c", &script]);
        command.status().expect("going can be executed").code()
    };
    let mut unread = going.command();
    // The reading end is closed at once.
    let (_, writer) = pipe().expect("a pipe");
    unread.stderr(writer);
    assert_eq!(run(unread), Some(7));
    let mut limited = going.command();
    // SAFETY: only setrlimit(2) is called.
    unsafe { limited.pre_exec(|| Ok(setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?)) };
    assert_eq!(run(limited), Some(7));
    // Nor do they change the exit code of a command that cannot be executed.
    let (_, writer) = pipe().expect("a pipe");
    let mut unread = going.command();
    unread.args(["--", "/nonexistent"]).stderr(writer);
    assert_eq!(unread.status().expect("going can be executed").code(), Some(127));
}

/// Bad files, which keep a reader busy long enough to be stopped by a signal.
fn write_ballast(going: &Going) {
    let text = "#".repeat(16_000) + "\nbad\n";
    (0..200).for_each(|number| going.write(&format!("bad{number:03}"), &text));
}

/// Replaces a service file by a link, in one step, so that it does not count as a file that has
/// just changed.
fn put_link(going: &Going, name: &str, file: &str) {
    symlink(going.path(file), going.path("link")).expect("a symlink");
    fs::rename(going.path("link"), going.path("going.d").join(name)).expect("the same disk");
}

/// Has CONFDIR read at once. Returns the reader, stopped before it could end, unless it was too
/// fast.
fn held_reader(going: &Going) -> Option<i32> {
    let path = format!("/proc/{0}/task/{0}/children", going.pid());
    let children = || fs::read_to_string(&path).expect("it runs");
    let before = children();
    let is_known = |pid: &&str| before.split(' ').any(|known| known == *pid);
    going.signal(Signal::SIGHUP);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        let now = children();
        if let Some(pid) = now.split_whitespace().find(|pid| !is_known(pid)) {
            let pid = pid.parse().expect("a pid");
            send(pid, Signal::SIGSTOP);
            let state = || proc::stat(pid).map_or('Z', |stat| stat.state);
            // On a busy machine this takes a while. A reader that we did not wait for would stay
            // stopped.
            going.wait_for("the reader held or ended", || "TZX".contains(state()));
            return (state() == 'T').then_some(pid);
        }
    }
    None
}

/// A file that comes back while its service is still stopping is read. Before the reader's result
/// arrives, the service has ended and its pipe is gone. A service that logged through it needs the
/// new pipe.
fn a_writer_has_the_pipe_of_a_logger_that_came_back() {
    let mut going = Going::new();
    write_ballast(&going);
    let text = going.cmd("hold", "log", &["ignore"]) + "timeout=0\n";
    fs::write(going.path("log.file"), text).expect("a file");
    put_link(&going, "log", "log.file");
    going.hold_logging("web", "log");
    going.start();
    let log = going.up("log");
    going.up("web");
    going.rescan();
    let mut reader = None;
    while reader.is_none() {
        going.remove("log");
        going.rescan();
        going.wait_quiet();
        put_link(&going, "log", "log.file");
        reader = held_reader(&going);
    }
    send(log, Signal::SIGKILL);
    // It may be forgotten by now, or only after the reader has ended.
    let is_stopping = || going.status_of("log").iter().any(|field| field == "stopping");
    going.wait_for("the end of log", || !is_stopping());
    send(reader.expect("it was held"), Signal::SIGCONT);
    going.wait_starts("log", 2);
    let end = |name, fd| fs::read_link(format!("/proc/{}/fd/{fd}", going.up(name))).ok();
    going.wait_for("web and log having the same pipe", || end("web", 1) == end("log", 0));
    going.terminate();
}

/// What a reader has found comes too late if a shutdown has begun. An edited logger would be
/// stopped before the services that log to it, and their last lines would be lost.
fn a_rescan_that_ends_in_a_shutdown_changes_nothing() {
    let mut going = Going::new();
    write_ballast(&going);
    let text = going.cmd("hold", "log", &[]);
    fs::write(going.path("log.0"), &text).expect("a file");
    fs::write(going.path("log.1"), text + "timeout=6\n").expect("a file");
    put_link(&going, "log", "log.0");
    going.write("web", going.cmd("hold", "web", &["1500"]) + "log=log\n");
    going.start();
    going.all_up(&["log", "web"]);
    going.rescan();
    going.wait_quiet();
    let mut files = ["log.1", "log.0"].into_iter().cycle();
    let reader = loop {
        put_link(&going, "log", files.next().expect("they go round"));
        if let Some(reader) = held_reader(&going) {
            break reader;
        }
        going.wait_quiet();
    };
    going.up("log");
    going.signal(Signal::SIGTERM);
    going.wait_log("shutting down");
    send(reader, Signal::SIGCONT);
    assert!(going.wait_exit().success(), "{}", going.report());
    let text = going.log();
    let (_, text) = text.split_once("shutting down").expect("it was said");
    let place = |name| text.find(&format!("{name}: stopped"));
    let (web, log) = (place("web"), place("log"));
    assert!(web.is_some() && web < log, "{}", going.report());
}

/// An editor moves the file away and writes it anew. Nothing is read before changes have ceased for
/// 200 ms, not even because a service that has ended may have left room for another.
fn a_removal_brings_no_rescan_amid_a_change() {
    let mut going = Going::new();
    let text = going.cmd("hold", "old", &["ignore"]) + "timeout=0\n";
    let (file, outside) = (going.path("going.d/web"), going.path("outside"));
    going.hold("web");
    going.start();
    loop {
        let before = (going.up("web"), going.starts("web").len());
        going.write("old", &text);
        let old = going.up("old");
        going.rescan();
        going.remove("old");
        going.wait_status("old", "stopping");
        going.wait_quiet();
        let start = Instant::now();
        fs::rename(&file, &outside).expect("the same disk");
        send(old, Signal::SIGKILL);
        going.wait_gone("old", old);
        sleep(Duration::from_millis(50));
        fs::rename(&outside, &file).expect("the same disk");
        // Otherwise changes had ceased for long enough to be read.
        let is_quick = start.elapsed() < Duration::from_millis(150);
        going.rescan();
        if is_quick {
            let after = (going.up("web"), going.starts("web").len());
            assert_eq!(after, before, "{}", going.report());
            break;
        }
    }
    going.terminate();
}

/// RLIMIT_FSIZE is meant for files on disk. As far as it can be raised, it does not keep going from
/// reading CONFDIR.
fn a_limit_of_the_size_of_files_keeps_nobody_from_starting() {
    let mut going = Going::new();
    going.write("web", "cmd=sleep 1000\n");
    going.start_with(|command| {
        // SAFETY: only setrlimit(2) is called.
        unsafe {
            command.pre_exec(|| Ok(setrlimit(Resource::RLIMIT_FSIZE, 30, libc::RLIM_INFINITY)?))
        };
    });
    going.wait_child("web", |words| words == ["sleep", "1000"]);
    // The signal that this causes does not make going write the status again: this wait is the
    // measurement.
    let before = proc::ticks(going.pid());
    sleep(Duration::from_secs(2));
    let spent = proc::ticks(going.pid()) - before;
    assert!(spent < 5, "{spent} ticks of 10 ms in 2 s of waiting");
    assert!(!going.path("run/status").exists(), "one that is cut off is none");
    going.terminate();
}

/// Where the limit cannot be raised, a write may end in the middle of an entry.
fn a_plan_that_is_cut_off_is_none() {
    let mut going = Going::new();
    going.open_to_everybody();
    going.hold_all(&["web", "db"]);
    // After the entry of the main command, and 8 bytes of the next one.
    let limit = ENTRIES + size_of::<Record>() as u64 + 8;
    going.start_with(|command| {
        run_by(command, 12_345);
        // SAFETY: only setrlimit(2) is called.
        unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_FSIZE, limit, limit)?)) };
    });
    going.wait_log("unable to make a plan: No space left on device");
    assert_eq!(going.log_count("started"), 0, "{}", going.report());
    going.terminate();
}

/// No service runs with what may be the settings of another.
fn a_service_without_its_own_settings_is_not_started() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let web = going.up("web");
    going.rescan();
    going.wait_quiet();
    let is_plan = |path: &Path| path.to_string_lossy().starts_with("/memfd:plan");
    let all = proc::descriptors(going.pid());
    let (plan, _) = all.iter().find(|(_, path)| is_plan(path)).expect("it has one");
    let file = File::options().write(true).open(format!("/proc/{}/fd/{plan}", going.pid()));
    file.expect("our own").write_at(&[b'x'; 100], 0).expect("room in memory");
    send(web, Signal::SIGKILL);
    going.wait_log("web: unable to read the settings of web: Bad message");
    going.wait_log("web: exited 111 after ");
    // The service file still has them.
    going.signal(Signal::SIGHUP);
    going.wait_starts("web", 2);
    going.terminate();
}

/// A limit of the size of files does not keep `going -n` from its check either, which writes
/// nothing to disk.
fn a_check_needs_no_room_for_files() {
    let mut going = Going::new();
    going.open_to_everybody();
    going.hold("web");
    for (user, highest) in [(0, libc::RLIM_INFINITY), (12_345, 1 << 20)] {
        let mut command = going.command();
        command.arg("-n").stdout(Stdio::null());
        run_by(&mut command, user);
        // SAFETY: only setrlimit(2) is called.
        unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_FSIZE, 0, highest)?)) };
        let status = command.status().expect("going can be executed");
        assert!(status.success(), "{user} {highest}: {status}\n{}", going.report());
    }
}

/// `going -n` died of XFSZ, without a message.
fn a_check_without_room_says_so() {
    let mut going = Going::new();
    going.open_to_everybody();
    going.hold("web");
    let mut command = going.command();
    command.arg("-n").stdout(Stdio::piped());
    run_by(&mut command, 12_345);
    // SAFETY: only setrlimit(2) is called.
    unsafe { command.pre_exec(|| Ok(setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?)) };
    let output = command.output().expect("going can be executed");
    let text = "unable to make a plan: File too large\n";
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), text.as_bytes()));
}

/// The children become going's, and the more of them live, the longer the search for one that has
/// ended.
fn children_made_faster_than_reaped_hold_nothing_up() {
    let mut going = Going::new();
    going.write("storm", going.cmd("storm", "storm", &["3000", "5000"]));
    going.start();
    going.up("storm");
    // There have to be many of them first.
    going.wait_for("the storm", || !going.records("storm.blows").is_empty());
    going.signal(Signal::SIGTERM);
    going.wait_log("shutting down");
    assert!(going.records("storm.over").is_empty(), "heard when it was over");
    assert!(going.wait_exit().success(), "{}", going.report());
}

/// A service that takes some time to stop, and logs a line at the end of it.
fn write_last_words(going: &Going, name: &str, seconds: u32) {
    let script =
        format!("trap \"sleep {seconds}; echo bye; exit 0\" TERM; while :; do sleep 0.1; done");
    going.write(name, format!("cmd=/bin/sh -c '{script}'\ntimeout=60\nlog=log\n"));
}

/// Waits until the script is in its loop, and so has set its trap.
fn wait_for_last_words(going: &Going) {
    let pid = || going.status_of("web").get(2).and_then(|pid| pid.parse().ok());
    going.wait_for("its loop", || pid().is_some_and(|pid| !proc::children(pid).is_empty()));
}

/// The logger's pipe was closed as soon as a shutdown began: writers died of PIPE while they were
/// stopping.
fn a_writer_whose_logger_is_held_down_stops_in_order() {
    let mut going = Going::new();
    going.hold("log");
    write_last_words(&going, "web", 0);
    going.start();
    going.up("log");
    going.hold_down("log");
    going.wait_status("log", "down");
    going.wait_status("web", "up");
    wait_for_last_words(&going);
    going.terminate();
    going.wait_log("web: stopped, exited 0");
}

/// Until the last of its writers has ended, the logger is wanted like any other service.
fn a_logger_that_dies_in_a_shutdown_comes_back_for_its_writers() {
    let mut going = Going::new();
    let file = going.path("lines");
    going.write("log", format!("cmd=/bin/sh -c 'exec cat >>\"{}\"'\n", file.display()));
    write_last_words(&going, "web", 3);
    going.start();
    let log = going.wait_child("log", |words| words == ["cat"]);
    wait_for_last_words(&going);
    going.signal(Signal::SIGTERM);
    going.wait_log("shutting down");
    send(log, Signal::SIGKILL);
    assert!(going.wait_exit().success(), "{}", going.report());
    going.wait_log("web: stopped, exited 0");
    let lines = fs::read_to_string(file).expect("a log");
    assert!(lines.ends_with("bye\n"), "{lines}\n{}", going.report());
}

/// The file of a service that is done has not changed, so it is not started again.
fn a_done_service_stays_done_though_its_logger_is_replaced() {
    let mut going = Going::new();
    going.hold("log");
    let once = going.cmd("exit", "once", &["0", "0"]) + "restart=never\nlog=log\n";
    going.write("once", once);
    // Another service logs to it too, and runs.
    going.hold_logging("web", "log");
    going.start();
    going.all_up(&["log", "web"]);
    going.wait_status("once", "done");
    going.remove("log");
    going.wait_log("log: stopped");
    going.rescan();
    going.hold("log");
    going.wait_starts("web", 2);
    going.rescan();
    assert_eq!(going.starts("once").len(), 1, "{}", going.report());
    going.terminate();
}

/// A reader may be killed for lack of memory, or by a limit of the stack. Nothing would be started
/// then, and no message would say why.
fn a_killed_reader_of_confdir_is_reported() {
    let mut going = Going::new();
    write_ballast(&going);
    going.hold("web");
    going.start();
    going.up("web");
    let reader = loop {
        going.wait_quiet();
        if let Some(reader) = held_reader(&going) {
            break reader;
        }
    };
    send(reader, Signal::SIGKILL);
    going.wait_log("unable to read CONFDIR: killed by signal 9");
    // Its unfinished plan does not count. The previous plan stands, and no service is restarted.
    going.rescan();
    assert_eq!(going.starts("web").len(), 1, "{}", going.report());
    going.terminate();
}

/// When RUNDIR is deleted, its down files are gone too. Down files in a new RUNDIR are seen.
fn a_rundir_that_comes_late_is_looked_into() {
    let mut going = Going::new();
    let (above, rundir) = (going.path("above"), going.path("above/run"));
    going.hold_all(&["web", "other"]);
    going.start_as(going.command_on(&going.path("going.d"), &rundir));
    going.all_up(&["web", "other"]);
    fs::create_dir(&above).expect("a directory");
    going.signal(Signal::SIGHUP);
    going.wait_for("its lock", || rundir.join("lock").exists());
    let down = rundir.join("down");
    going.wait_for("its directory", || down.is_dir());
    fs::write(down.join("web"), "").expect("a down file");
    going.wait_log("web: stopped");
    going.wait_quiet();
    fs::remove_dir_all(&above).expect("our own directory");
    going.wait_starts("web", 2);
    fs::create_dir(&above).expect("a directory");
    // going looks for it only when there is something to do anyway.
    going.signal(Signal::SIGHUP);
    going.wait_for("its directory", || down.is_dir());
    fs::write(down.join("other"), "").expect("a down file");
    going.wait_log("other: stopped");
    going.terminate();
}

/// Other users should be able to read the status, and the main command keeps the umask it was
/// given.
fn the_umask_of_the_caller_is_not_that_of_rundir() {
    let mut going = Going::new();
    fs::remove_dir(going.path("run")).expect("our own directory");
    let script = format!("umask >'{}'; exec sleep 1000", going.path("umask").display());
    going.start_with(|command| {
        command.args(["--", "/bin/sh", "-c", &script]);
        // SAFETY: only umask(2) is called.
        unsafe {
            command.pre_exec(|| {
                umask(Mode::from_bits_truncate(0o077));
                Ok(())
            });
        }
    });
    going.wait_for("the status", || going.path("run/down").is_dir());
    going.wait_status("(main)", "up");
    let umask = || fs::read_to_string(going.path("umask")).unwrap_or_default();
    going.wait_for("its umask", || umask().trim().ends_with("077"));
    let modes = [("run", 0o755), ("run/down", 0o755), ("run/pid", 0o755), ("run/status", 0o644)];
    for (name, expected) in modes {
        let mode = fs::metadata(going.path(name)).expect("going makes it").permissions().mode();
        assert_eq!(mode & 0o777, expected, "{name}");
    }
    let main = going.status_of("(main)")[2].parse().expect("a pid");
    assert_eq!(proc::stat(main).map(|stat| stat.session), Some(main), "one without a terminal");
    going.signal(Signal::SIGTERM);
    going.wait_exit();
}

/// No service file can have its name, and no down file holds it down.
fn a_down_file_of_the_main_command_is_none() {
    let mut going = Going::new();
    going.hold("web");
    going.start_with(|command| {
        command.args(["--", "sleep", "1000"]);
    });
    going.wait_status("(main)", "up");
    going.up("web");
    going.hold_down("(main)");
    going.hold_down("web");
    going.wait_status("web", "down");
    assert_eq!(going.status_of("(main)")[1], "up", "{}", going.report());
    going.signal(Signal::SIGTERM);
    assert_eq!(going.wait_exit().code(), Some(143), "{}", going.report());
}

/// Tests a writer that comes before its logger in the table, and is already being stopped when the
/// shutdown begins, because `change` was made to its file.
#[track_caller]
fn assert_last_words_are_kept(change: fn(&Going)) {
    let mut going = Going::new();
    let file = going.path("lines");
    write_last_words(&going, "web", 1);
    going.start();
    going.wait_log("web: unable to log to log: no such service");
    // It writes nothing before it has read all lines.
    let script = format!("lines=$(cat); echo \"$lines\" >\"{}\"", file.display());
    going.write("log", format!("cmd=/bin/sh -c '{script}'\n"));
    going.wait_status("log", "up");
    going.wait_status("web", "up");
    wait_for_last_words(&going);
    change(&going);
    going.wait_status("web", "stopping");
    going.signal(Signal::SIGTERM);
    assert!(going.wait_exit().success(), "{}", going.report());
    let lines = fs::read_to_string(file).expect("a log");
    assert!(lines.ends_with("bye\n"), "{lines}\n{}", going.report());
}

fn a_logger_waits_for_a_writer_whose_file_is_gone() {
    assert_last_words_are_kept(|going| going.remove("web"));
}

/// What counts is the pipe that the process has.
fn a_logger_waits_for_a_writer_that_logs_elsewhere_next() {
    assert_last_words_are_kept(|going| going.write("web", "cmd=sleep 1000\nlog=null\n"));
}

/// Not even before the logger is forgotten. A service that still got its pipe would run on, and
/// what it wrote would be lost.
fn nothing_logs_to_a_service_that_is_gone() {
    let mut going = Going::new();
    let script = "trap \"sleep 0.1; exit\" TERM; while :; do sleep 1000 & wait; done";
    let write = |going: &Going, text: &str| {
        going.write("web", format!("cmd=/bin/sh -c '{script}' {text}\nlog=log\n"));
    };
    going.hold("log");
    write(&going, "before");
    going.start();
    going.up("log");
    going.wait_log("web: started");
    write(&going, "after");
    going.remove("log");
    going.wait_log("web: unable to log to log: no such service");
    going.terminate();
}

/// A service that came back before it was forgotten would read what was left in its predecessor's
/// pipe.
fn a_former_logger_that_comes_back_reads_nothing() {
    let mut going = Going::new();
    going.hold("log");
    going.hold_logging("web", "log");
    going.start();
    going.all_up(&["log", "web"]);
    let starts = going.starts("log").len();
    going.hold("web");
    going.remove("log");
    going.wait_log("log: stopped");
    going.hold("log");
    let pid = going.wait_starts("log", starts + 1)[starts].pid;
    let input = fs::read_link(format!("/proc/{pid}/fd/0")).expect("it runs");
    assert_eq!(input.to_str(), Some("/dev/null"), "{}", going.report());
    going.terminate();
}

/// When all writers have ended, the logger has to see end-of-file, and may have something to write
/// then.
fn ending_leftovers_keeps_no_log_open() {
    leftovers_are_ended(|_| {});
}

/// Where /dev had no null, log=null created a file of that name, and filled the memory with it.
fn a_missing_dev_null_is_not_created() {
    let mut going = Going::new();
    let namespace = Namespace::with_dev(&going.path(""));
    let null = namespace.view(Path::new("/dev/null"));
    fs::remove_file(&null).expect("a device of our own");
    going.write("web", going.cmd("hold", "web", &[]) + "log=null\n");
    going.start_with(|command| namespace.enter(command));
    going.wait_log("web: unable to log to null: No such file or directory");
    going.wait_log("web: exited 111");
    assert!(!null.exists(), "{}", going.report());
    going.terminate();
}

/// close_range(2) exists since Linux 5.9.
fn ending_leftovers_keeps_no_log_open_on_an_old_kernel() {
    leftovers_are_ended(|command| refuse(command, libc::SYS_close_range, 2, 0, libc::ENOSYS));
}

fn leftovers_are_ended(change: impl FnOnce(&mut Command)) {
    let mut going = Going::new();
    // Several, so that some of them are started after the pipe was made.
    let deaf: Vec<_> = (0..8).map(|number| format!("deaf{number}")).collect();
    for name in &deaf {
        going.write(name, going.cmd("hold", name, &["ignore"]));
    }
    going.start();
    going.all_up(&deaf);
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    let file = going.path("end");
    let script = format!("cat >/dev/null; echo end >\"{}\"", file.display());
    going.write("log", format!("cmd=/bin/sh -c '{script}'\n"));
    going.hold_logging("web", "log");
    going.start_with(change);
    going.up("web");
    going.wait_child("a process that ends them", |words| words.iter().any(|word| word == "-r"));
    going.signal(Signal::SIGTERM);
    going.wait_exit();
    assert!(file.exists(), "{}", going.report());
    for name in &deaf {
        let pid = going.starts(name)[0].pid;
        going.wait_gone("what a killed going has left", pid);
    }
}

/// This matters where standard error cannot be opened anew, as may be the case if it came from our
/// caller.
fn what_a_child_says_goes_to_no_log_of_a_service() {
    let mut going = Going::new();
    going.open_to_everybody();
    let log = going.path("records/web.log");
    going.write("web", format!("cmd=/nothere\nlog={}\n", log.display()));
    // Before Linux 6.4, a pipe of another user gets no messages.
    let (mut reader, writer) = UnixStream::pair().expect("two sockets");
    reader.set_read_timeout(Some(PATIENCE)).expect("a valid time");
    going.start_with(|command| {
        run_by(command, 12_345);
        command.stderr(OwnedFd::from(writer));
    });
    let mut said = String::new();
    while !said.contains("web: exited 127") {
        let mut bytes = [0; 4096];
        let len = reader.read(&mut bytes).expect("more messages");
        assert!(len > 0, "{said}");
        said += &String::from_utf8_lossy(&bytes[..len]);
    }
    assert!(said.contains("web: unable to execute /nothere: No such file or directory"), "{said}");
    assert_eq!(fs::read_to_string(log).expect("its log"), "");
    going.terminate();
}

/// The process that ends the machine needs no file in memory, unlike a reader. Here the kernel
/// seems to let a PID 1 take over Ctrl-Alt-Del, and then ends its PID namespace in place of a
/// machine.
fn a_machine_ends_though_no_plan_can_be_made() {
    let mut going = Going::new();
    going.start_as_pid_1(|command| {
        let (command_index, flags_index) = (2, 1);
        refuse(command, libc::SYS_reboot, command_index, libc::RB_DISABLE_CAD, 0);
        for flags in [libc::MFD_CLOEXEC, libc::MFD_CLOEXEC | libc::MFD_NOEXEC_SEAL] {
            let flags = flags.cast_signed();
            refuse(command, libc::SYS_memfd_create, flags_index, flags, libc::ENOSYS);
        }
    });
    going.wait_log("unable to begin to read CONFDIR: Function not implemented");
    going.signal(Signal::SIGUSR2);
    // Killed by the kernel.
    assert_eq!(going.wait_exit().code(), Some(255), "{}", going.report());
    assert!(going.log().ends_with("going[1]: shutting down\n"), "{}", going.report());
}
