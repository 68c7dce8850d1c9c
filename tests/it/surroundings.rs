//! The unusual surroundings that going itself may be started in.

use crate::harness::{Going, refuse, run_by, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::pipe;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// See close_range(2).
const CLOSE_RANGE_CLOEXEC: i32 = 4;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(inherited_descriptors_reach_no_service),
        scenario!(inherited_descriptors_reach_no_service_with_an_old_kernel),
        scenario!(inherited_descriptors_reach_no_service_without_proc, Mounts),
        scenario!(closed_standard_descriptors_harm_nothing),
        scenario!(a_full_pipe_as_stderr_stalls_nothing),
        scenario!(a_full_pipe_of_another_user_stalls_nothing, Root),
        scenario!(a_socket_as_stderr_gets_the_messages),
        scenario!(a_socket_as_stderr_gets_the_messages_with_an_old_kernel),
        scenario!(a_file_that_takes_nothing_without_waiting_gets_the_messages),
        scenario!(a_stderr_of_another_user_gets_the_messages, Root),
        scenario!(signals_ignored_by_the_caller_harm_nothing),
        scenario!(relative_directories_stay_what_they_were),
        scenario!(without_a_writable_rundir_it_works_with_a_warning),
    ]
}

fn inherited_descriptors_reach_no_service() {
    let mut going = nine_hundred_descriptors_reach_no_service(|_| {});
    going.rescan();
    going.terminate();
}

/// Linux has `CLOSE_RANGE_CLOEXEC` since 5.11.
fn inherited_descriptors_reach_no_service_with_an_old_kernel() {
    let mut going = nine_hundred_descriptors_reach_no_service(refuse_close_range);
    going.rescan();
    going.terminate();
}

fn inherited_descriptors_reach_no_service_without_proc() {
    let mut going = nine_hundred_descriptors_reach_no_service(|command| {
        let hide = || {
            let nothing = None::<&Path>;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            Ok(mount(nothing, c"/proc", Some(c"tmpfs"), MsFlags::empty(), nothing)?)
        };
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(hide) };
        refuse_close_range(command);
    });
    // Without /proc a service cannot be told from another process with its pid.
    going.wait_log("plain: unable to write pid/plain in RUNDIR: Function not implemented");
    going.terminate();
}

fn refuse_close_range(command: &mut Command) {
    refuse(command, libc::SYS_close_range, 2, CLOSE_RANGE_CLOEXEC, libc::EINVAL);
}

/// As left open by a careless caller: 900 descriptors, none of them close-on-exec.
fn nine_hundred_descriptors_reach_no_service(change: impl FnOnce(&mut Command)) -> Going {
    let mut going = Going::new();
    going.write("plain", "cmd=sleep 1000\n");
    let leave_open = || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, soft.max(2000.min(hard)), hard)?;
        for number in 3..10 {
            // SAFETY: the only one of these in use is that by which this process would report a
            // failed exec.
            unsafe { libc::dup2(0, number) };
        }
        for _ in 0..900 {
            // SAFETY: it makes a descriptor, and nothing else here knows its number.
            let number = unsafe { libc::fcntl(0, libc::F_DUPFD, 3) };
            if number < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    going.start_with(|command| {
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(leave_open) };
        change(command);
    });
    let pid = going.wait_child("sleep", |words| words == ["sleep", "1000"]);
    let only_standard = |pid| proc::descriptors(pid).into_iter().map(|(fd, _)| fd).eq([0, 1, 2]);
    // Not at once, because the dynamic linker may have a library open.
    going.wait_for("three descriptors", || only_standard(pid));
    going
}

/// Nothing that going opens may get number 0, 1 or 2, where a service or a message would reach it.
fn closed_standard_descriptors_harm_nothing() {
    let mut going = Going::new();
    going.hold("web");
    going.write("plain", "cmd=sleep 1000\n");
    let close = || {
        for number in 0..3 {
            // SAFETY: nothing uses them between here and exec.
            unsafe { libc::close(number) };
        }
        Ok(())
    };
    going.start_with(|command| {
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(close) };
    });
    going.up("web");
    going.rescan();
    let null = Path::new("/dev/null").to_owned();
    let expected: Vec<_> = (0..3).map(|number| (number, null.clone())).collect();
    let pid = going.wait_child("sleep", |words| words == ["sleep", "1000"]);
    going.wait_for("three descriptors on /dev/null", || proc::descriptors(pid) == expected);
    going.terminate();
}

/// A terminal stopped by ctrl-s, or a `| logger` that no longer reads: messages are lost, nothing
/// else.
fn a_full_pipe_as_stderr_stalls_nothing() {
    a_full_pipe_stalls_nothing(Going::new(), |_| {});
}

/// going cannot open it anew, and so cannot make it non-blocking for itself alone.
fn a_full_pipe_of_another_user_stalls_nothing() {
    let mut going = Going::new();
    going.open_to_everybody();
    a_full_pipe_stalls_nothing(going, |command| run_by(command, 12_345));
}

#[track_caller]
fn a_full_pipe_stalls_nothing(mut going: Going, change: impl FnOnce(&mut Command)) {
    going.hold("web");
    going.write("short", going.cmd("exit", "short", &["1", "0"]));
    let (_unread, full) = pipe().expect("a pipe");
    fill(&full);
    going.start_with(|command| {
        command.stderr(full);
        change(command);
    });
    let pid = going.up("web");
    // Reaped, respawned, killed, rescanned, with a message for each.
    going.wait_starts("short", 3);
    send(pid, Signal::SIGKILL);
    going.wait_starts("web", 2);
    going.rescan();
    going.terminate();
}

/// Fills it to the last byte, and leaves it blocking, as a shell would pass it on.
fn fill(pipe: &OwnedFd) {
    let set_flags = |flags| fcntl(pipe, FcntlArg::F_SETFL(flags)).expect("an open pipe");
    set_flags(OFlag::O_NONBLOCK);
    while nix::unistd::write(pipe, &[b'x'; 4096]).is_ok() {}
    while nix::unistd::write(pipe, b"x").is_ok() {}
    set_flags(OFlag::empty());
}

/// XFS and btrfs refuse such a write whenever they have to record a new time as well. Here the
/// kernel refuses it for any file.
fn a_file_that_takes_nothing_without_waiting_gets_the_messages() {
    let mut going = Going::new();
    going.hold("web");
    going.start_with(|command| {
        refuse(command, libc::SYS_pwritev2, 5, libc::RWF_NOWAIT, libc::EAGAIN);
    });
    going.up("web");
    going.wait_log("web: started, pid");
    going.terminate();
}

/// systemd and others pass one on. It cannot be opened anew through /proc.
fn a_socket_as_stderr_gets_the_messages() {
    a_socket_gets_the_messages(|_| {});
}

/// Since Linux 6.4 a single write to a socket can have flags.
fn a_socket_as_stderr_gets_the_messages_with_an_old_kernel() {
    a_socket_gets_the_messages(|command| {
        refuse(command, libc::SYS_pwritev2, 5, libc::RWF_NOWAIT, libc::EOPNOTSUPP);
    });
}

#[track_caller]
fn a_socket_gets_the_messages(set_up: impl FnOnce(&mut Command)) {
    let mut going = Going::new();
    going.hold("web");
    let (ours, theirs) = UnixStream::pair().expect("two sockets");
    let full = OwnedFd::from(theirs.try_clone().expect("an open socket"));
    going.start_with(|command| {
        command.stderr(OwnedFd::from(theirs));
        set_up(command);
    });
    let pid = going.up("web");
    let message = format!("going[{}]: web: started, pid {pid}", going.pid());
    ours.set_read_timeout(Some(Duration::from_secs(20))).expect("an open socket");
    let mut lines = BufReader::new(&ours).lines();
    assert_eq!(lines.next().expect("a line").expect("a line"), message);
    // going does not wait for a reader that does not read.
    fill(&full);
    send(pid, Signal::SIGKILL);
    going.wait_starts("web", 2);
    going.terminate();
}

/// A shell opens the file, then a program drops its privileges and executes going. The descriptor
/// works, although going could not open the file again.
fn a_stderr_of_another_user_gets_the_messages() {
    let mut going = Going::new();
    going.open_to_everybody();
    going.hold("web");
    let log = going.path("log");
    fs::set_permissions(log, fs::Permissions::from_mode(0o600)).expect("our own file");
    going.start_with(|command| run_by(command, 12_345));
    let pid = going.up("web");
    going.wait_log(&format!("web: started, pid {pid}"));
    going.terminate();
}

/// Under `nohup`, in the background of a script, or below a careless parent, SIGINT, HUP or even
/// CHLD may be ignored from the start.
fn signals_ignored_by_the_caller_harm_nothing() {
    let mut going = Going::new();
    going.write("short", going.cmd("exit", "short", &["3", "0"]));
    let ignore = || {
        for ignored in [Signal::SIGINT, Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGTERM] {
            // SAFETY: no handler.
            unsafe { signal(ignored, SigHandler::SigIgn)? };
        }
        Ok(())
    };
    going.start_with(|command| {
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(ignore) };
    });
    // Where CHLD is ignored, the wait status would be lost.
    going.wait_log("short: exited 3 after ");
    going.wait_starts("short", 2);
    going.rescan();
    let mark = going.up("mark");
    going.signal(Signal::SIGINT);
    assert!(going.wait_exit().success(), "{}", going.report());
    assert!(!proc::is_running(mark));
}

/// `-d` and `-r` may be relative, and mean the same directories as long as going runs.
fn relative_directories_stay_what_they_were() {
    let mut going = Going::new();
    going.hold("web");
    let mut command = going.command_on(Path::new("going.d"), Path::new("run"));
    command.current_dir(going.path(""));
    going.start_as(command);
    going.up("web");
    going.rescan();
    going.terminate();
}

/// RUNDIR lets others see and steer the services; running them comes first.
fn without_a_writable_rundir_it_works_with_a_warning() {
    let mut going = Going::new();
    going.hold("web");
    // A file in the place of the directory keeps even root from writing.
    fs::remove_dir_all(going.path("run")).expect("our own directory");
    fs::write(going.path("run"), "").expect("a file");
    going.start();
    going.up("web");
    going.wait_log("RUNDIR");
    going.rescan();
    assert_eq!(going.log_count("RUNDIR"), 1, "each start says so too\n{}", going.report());
    going.terminate();
}
