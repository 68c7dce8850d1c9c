//! `goingctl start`, `stop`, `restart`, `signal`, `reload`: what they do, what they wait for, and
//! what they leave behind.

use crate::goingctl::{
    ABSENT, FAILED, Forked, NOT_UP, OK, Ran, command, ctl, ctl_full, ctl_to, is_held, program,
    status_line, wait_state,
};
use crate::harness::{Going, Helper, install_program, refuse, run_by, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::libc;
use nix::sys::signal::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::process::{Child, Command, Stdio};

/// The exit code after SIGINT, as shells have it.
const INTERRUPTED: i32 = 128 + Signal::SIGINT as i32;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(stop_holds_down_and_start_lets_go),
        scenario!(restart_makes_another_process),
        scenario!(restart_starts_what_was_held_down),
        scenario!(start_waits_for_what_has_just_been_put_there),
        scenario!(start_runs_again_what_is_done),
        scenario!(start_runs_again_what_was_done_and_has_just_been_held_down),
        scenario!(start_of_what_fails_says_how),
        scenario!(a_restart_by_a_file_that_is_rejected_fails),
        scenario!(a_process_that_has_not_executed_is_not_up),
        scenario!(patterns_and_all_mean_many),
        scenario!(two_hundred_and_fifty_six_at_once),
        scenario!(the_deadline_tells_the_state),
        scenario!(the_deadline_of_the_service_is_kept_to),
        scenario!(a_restart_that_takes_too_long_holds_nothing_down),
        scenario!(a_restart_of_a_held_service_that_takes_too_long_keeps_it_down),
        scenario!(an_interrupted_restart_holds_nothing_down),
        scenario!(what_was_held_down_before_stays_so_until_the_end),
        scenario!(what_is_ignored_interrupts_nothing),
        scenario!(a_stop_amid_a_restart_stays_in_force),
        scenario!(a_suspended_restart_goes_on),
        scenario!(an_interrupted_stop_stays_in_force),
        scenario!(a_restart_whose_going_is_killed_holds_nothing_down),
        scenario!(a_stopped_going_is_reported),
        scenario!(no_wait_waits_for_nobody),
        scenario!(restart_without_waiting_is_a_restart),
        scenario!(a_signal_goes_to_the_main_process_alone),
        scenario!(reload_is_hup),
        scenario!(a_signal_is_sent_by_an_old_kernel),
        scenario!(a_service_that_is_down_gets_no_signal),
        scenario!(a_number_that_is_anothers_gets_no_signal),
        scenario!(the_main_command_is_left_alone),
        scenario!(a_name_never_leads_out_of_its_directory),
        scenario!(a_full_stdout_stops_nothing_half_way),
        scenario!(two_restarts_at_once_both_end),
        scenario!(a_restart_that_somebody_else_ends_is_over),
        scenario!(a_restart_amid_another_ends_none),
        scenario!(another_restart_is_not_taken_for_a_touch),
        scenario!(a_restart_that_has_just_begun_is_not_undone),
        scenario!(lack_of_permission_is_reported, Root),
        scenario!(a_restart_says_that_it_cannot_let_go, Root),
        scenario!(a_stop_says_that_it_cannot_replace_the_file_of_a_restart, Root),
    ]
}

fn started(names: &[&str]) -> Going {
    let mut going = Going::new();
    going.hold_all(names);
    going.start();
    for name in names {
        wait_state(&going, name, "up");
        going.up(name);
    }
    going
}

fn stop_holds_down_and_start_lets_go() {
    let mut going = started(&["web", "other"]);
    let (web, other) = (going.up("web"), going.up("other"));
    assert_eq!(ctl_to(&going, OK, &["stop", "web"]).out, "web: down\n");
    assert!(!proc::is_running(web) && is_held(&going, "web"));
    // A second stop is not an error, and a rescan does not start the service.
    ctl_to(&going, OK, &["stop", "web"]);
    going.rescan();
    assert_eq!(going.starts("web").len(), 1);
    let ran = ctl_to(&going, OK, &["start", "web"]);
    let web = going.up("web");
    assert_eq!(ran.out, format!("web: up, pid {web}\n"));
    assert!(!is_held(&going, "web"));
    assert_eq!(ctl_to(&going, OK, &["start", "web"]).out, ran.out);
    assert_eq!((going.starts("web").len(), going.up("other")), (2, other));
    going.terminate();
}

fn restart_makes_another_process() {
    let mut going = started(&["web"]);
    let first = going.up("web");
    let ran = ctl_to(&going, OK, &["restart", "web"]);
    let second = going.wait_starts("web", 2)[1].pid;
    assert_eq!(ran.out, format!("web: up, pid {second}\n"));
    assert!(!proc::is_running(first) && !is_held(&going, "web"));
    going.terminate();
}

/// As elsewhere, asking for a restart means that the service is to run.
fn restart_starts_what_was_held_down() {
    let mut going = started(&["web"]);
    ctl_to(&going, OK, &["stop", "web"]);
    ctl_to(&going, OK, &["restart", "web"]);
    going.wait_starts("web", 2);
    assert!(!is_held(&going, "web"));
    going.terminate();
}

/// going will read the file in a moment, and may find a fault in it.
fn start_waits_for_what_has_just_been_put_there() {
    let mut going = started(&["web"]);
    for (word, name) in [("start", "new"), ("restart", "newer")] {
        going.hold(name);
        let ran = ctl_to(&going, OK, &[word, name]);
        assert_eq!(ran.out, format!("{name}: up, pid {}\n", going.up(name)));
    }
    going.write("bad", "comand=x\n");
    let ran = ctl_to(&going, FAILED, &["start", "bad", "--timeout", "1"]);
    assert_eq!(ran.out, "bad: not up after 1 s: rejected\n");
    assert!(ran.err.contains("\"goingctl check\" says why"), "{ran:?}");
    for name in ["nobody", "bad.name", "../going.d/web"] {
        ctl_to(&going, ABSENT, &["start", name]);
    }
    assert_eq!(going.starts("web").len(), 1);
    going.terminate();
}

fn start_runs_again_what_is_done() {
    let mut going = Going::new();
    going.write("once", going.cmd("exit", "once", &["0", "0"]) + "restart=never\n");
    going.write("poor", going.cmd("exit", "poor", &["3", "0"]) + "restart=never\n");
    going.start();
    wait_state(&going, "once", "done");
    wait_state(&going, "poor", "done");
    for (name, code, text) in [("once", OK, "done, exit 0"), ("poor", FAILED, "done, exit 3")] {
        for count in 2.. {
            let ran = ctl(&going, &["start", name]);
            going.wait_starts(name, count);
            wait_state(&going, name, "done");
            assert_eq!(going.starts(name).len(), count);
            // On a busy machine the service may have lived long enough to count as up.
            if !ran.out.contains(": up, pid ") {
                assert_eq!((ran.code, ran.out), (code, format!("{name}: {text}\n")));
                break;
            }
        }
    }
    going.terminate();
}

/// going has not noticed the file yet: if it were removed at once, nothing would happen.
fn start_runs_again_what_was_done_and_has_just_been_held_down() {
    let mut going = Going::new();
    going.write("once", going.cmd("exit", "once", &["0", "0"]) + "restart=never\n");
    going.start();
    wait_state(&going, "once", "done");
    let ran = ctl_to(&going, OK, &["start", "once", "--no-wait"]);
    assert_eq!(ran.out, "once: told to start\n");
    going.wait_starts("once", 2);
    wait_state(&going, "once", "done");
    going.signal(Signal::SIGSTOP);
    ctl_to(&going, OK, &["stop", "once", "--no-wait"]);
    ctl_to(&going, FAILED, &["start", "once", "--timeout", "0"]);
    assert!(!is_held(&going, "once"));
    ctl_to(&going, OK, &["stop", "once", "--no-wait"]);
    let mut command = command(&going);
    command.args(["start", "once", "--timeout", "60"]).stdout(Stdio::null());
    let mut process = command.spawn().expect("goingctl can be executed");
    going.wait_for("its start", || proc::status(pid(&process), "SigBlk") != "0000000000000000");
    going.signal(Signal::SIGCONT);
    assert!(process.wait().expect("our own child").success());
    assert_eq!(going.wait_starts("once", 3).len(), 3);
    going.terminate();
}

fn start_of_what_fails_says_how() {
    let mut going = Going::new();
    going.write("absent", "cmd=/does/not/exist\n");
    going.write("broken", "comand=x\n");
    going.start();
    wait_state(&going, "absent", "backoff");
    wait_state(&going, "broken", "rejected");
    // It is started at once, and again after 1 and 2 seconds; then it waits for 4.
    let ran = ctl_to(&going, FAILED, &["start", "absent", "--timeout", "5"]);
    let text = "absent: not up after 5 s: backoff, exit 127: not found, next start in ";
    assert!(ran.out.starts_with(text), "{ran:?}");
    let ran = ctl_to(&going, FAILED, &["restart", "broken", "--timeout", "1"]);
    assert_eq!(ran.out, "broken: not up after 1 s: rejected\n");
    assert!(!is_held(&going, "absent") && !is_held(&going, "broken"));
    going.terminate();
}

/// The last good version is started, but a user who edits the file and restarts the service wants
/// the new one.
fn a_restart_by_a_file_that_is_rejected_fails() {
    let mut going = started(&["web", "other"]);
    let pid = going.up("web");
    going.write("web", "cmd=true\ngarbage\n");
    going.wait_log("web:2:");
    for verb in ["restart", "start"] {
        let ran = ctl_to(&going, FAILED, &[verb, "web", "other"]);
        assert!(ran.out.contains("web: up, pid ") && ran.out.contains("other: up, "), "{ran:?}");
        assert_eq!(ran.err, "goingctl: web:2: no = in \"garbage\"; that is not what runs\n");
    }
    assert_ne!(going.up("web"), pid);
    ctl_to(&going, OK, &["restart", "other"]);
    ctl_to(&going, OK, &["stop", "web"]);
    going.terminate();
}

/// A process that has not executed its command is not up, however long ago it was forked.
fn a_process_that_has_not_executed_is_not_up() {
    let going = Going::new();
    let forked = Forked::new(&going);
    let (us, since_ms, pid) = (std::process::id(), proc::uptime_ms(), forked.pid);
    fs::write(going.path("run/status"), format!("going 1 {us} {since_ms}\nweb up {pid} 5 1 - -\n"))
        .expect("our own file");
    let ran = ctl_to(&going, FAILED, &["start", "web", "--timeout", "1"]);
    assert_eq!(ran.out, format!("web: not up after 1 s: up, pid {pid}, not executed yet\n"));
}

fn patterns_and_all_mean_many() {
    let mut going = started(&["web@1", "web@2", "db"]);
    let sorted = |ran: Ran| {
        let mut lines: Vec<_> = ran.out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let stopped = sorted(ctl_to(&going, OK, &["stop", "web*"]));
    assert_eq!(stopped, ["web@1: down", "web@2: down"]);
    // The services that exist are stopped all the same.
    let ran = ctl_to(&going, ABSENT, &["stop", "nobody", "db"]);
    assert_eq!((ran.out.as_str(), ran.err.contains("nobody")), ("db: down\n", true), "{ran:?}");
    assert_eq!(sorted(ctl_to(&going, OK, &["start", "all"])).len(), 3);
    assert_eq!(going.starts("db").len(), 2);
    ctl_to(&going, ABSENT, &["stop", "nobody"]);
    going.terminate();
}

fn two_hundred_and_fifty_six_at_once() {
    let mut going = Going::new();
    for number in 0..256 {
        going.write(&format!("s{number}"), "cmd=sleep 100000\n");
    }
    going.start();
    let is_shown = |ran: Ran| ran.code == OK && ran.out.lines().count() > 256;
    going.wait_for("all of them up", || is_shown(ctl(&going, &[])));
    let ran = ctl_to(&going, OK, &["restart", "all", "--timeout", "60"]);
    assert_eq!(ran.out.lines().filter(|line| line.contains(": up, pid ")).count(), 256, "{ran:?}");
    assert_eq!(held(&going), 0);
    ctl_to(&going, OK, &["stop", "all", "--timeout", "60"]);
    assert_eq!(held(&going), 256);
    going.terminate();
}

fn held(going: &Going) -> usize {
    fs::read_dir(going.path("run/down")).expect("a directory").count()
}

/// A service that ignores TERM, and that nothing but going's own end kills.
fn stubborn() -> Going {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["ignore"]) + "timeout=0\n");
    going.start();
    going.up("web");
    wait_state(&going, "web", "up");
    going
}

/// The message tells the state of this process, and not how the one before it ended.
fn the_deadline_tells_the_state() {
    let going = stubborn();
    send(going.up("web"), Signal::SIGKILL);
    going.wait_starts("web", 2);
    let pid = going.up("web");
    let ran = ctl_to(&going, FAILED, &["stop", "--timeout", "1", "web"]);
    assert_eq!(ran.out, format!("web: not down after 1 s: stopping, pid {pid}\n"));
    // The stop that was asked for still holds.
    assert!(is_held(&going, "web"));
}

/// A service may take as long to stop as its `timeout` allows, and goingctl, unless it is told how
/// long, waits for it: longer than the 10 s that it waits at least.
fn the_deadline_of_the_service_is_kept_to() {
    let mut going = Going::new();
    going.write("never", going.cmd("hold", "never", &["ignore"]) + "timeout=0\n");
    for (name, timeout) in [("slow", 60), ("web", 1)] {
        going.write(name, going.cmd("hold", name, &["10500"]) + &format!("timeout={timeout}\n"));
    }
    going.start();
    going.all_up(&["slow", "web"]);
    wait_state(&going, "slow", "up");
    let never = going.up("never");
    wait_state(&going, "never", "up");
    let mut stop = command(&going);
    let stop = stop.args(["stop", "never"]).stdout(Stdio::piped()).spawn();
    let stop = stop.expect("goingctl can be executed");
    let ran = command(&going).args(["restart", "slow", "web"]).output();
    let ran: Ran = ran.expect("goingctl can be executed").into();
    assert_eq!(ran.code, OK, "{ran:?}");
    let pids = going.all_up(&["slow", "web"]);
    let texts = [1, 0].map(|at| format!("{}: up, pid {}\n", ["slow", "web"][at], pids[at]));
    assert_eq!(ran.out, texts.concat());
    let ran = Ran::from(stop.wait_with_output().expect("our own child"));
    let text = format!("never: not down after 10 s: stopping, pid {never}\n");
    assert_eq!((ran.code, ran.out), (FAILED, text));
    for pid in pids.into_iter().chain([never]) {
        send(pid, Signal::SIGKILL);
    }
    going.terminate();
}

/// At the deadline a restart removes the file that it made in RUNDIR/down.
fn a_restart_that_takes_too_long_holds_nothing_down() {
    let going = stubborn();
    let pid = going.up("web");
    let ran = ctl_to(&going, FAILED, &["restart", "--timeout", "1", "web"]);
    let text = format!("web: not down after 1 s: stopping, pid {pid}; it starts when it is\n");
    assert_eq!(ran.out, text);
    assert!(!is_held(&going, "web"));
    // It comes up by itself as soon as the old process is gone.
    send(pid, Signal::SIGKILL);
    going.wait_starts("web", 2);
}

/// The file of an earlier stop stays at the deadline, so it must not say that the service starts.
fn a_restart_of_a_held_service_that_takes_too_long_keeps_it_down() {
    let going = stubborn();
    let pid = going.up("web");
    ctl_to(&going, OK, &["stop", "--no-wait", "web"]);
    wait_state(&going, "web", "stopping");
    let ran = ctl_to(&going, FAILED, &["restart", "--timeout", "1", "web"]);
    assert_eq!(ran.out, format!("web: not down after 1 s: stopping, pid {pid}\n"));
    assert!(is_held(&going, "web"));
}

/// goingctl in the middle of a restart.
fn restarting(going: &Going) -> Child {
    let mut command = command(going);
    command.args(["restart", "web", "--timeout", "600"]).stdout(Stdio::piped());
    let process = command.stderr(Stdio::piped()).spawn().expect("goingctl can be executed");
    wait_state(going, "web", "stopping");
    assert!(is_held(going, "web"));
    process
}

fn pid(process: &Child) -> i32 {
    process.id().try_into().expect("a pid")
}

/// Whatever signal ends a restart, the file that it made in RUNDIR/down goes.
fn an_interrupted_restart_holds_nothing_down() {
    let endings = [
        (Signal::SIGINT, INTERRUPTED),
        (Signal::SIGTERM, 128 + 15),
        (Signal::SIGHUP, 128 + 1),
        (Signal::SIGQUIT, 128 + 3),
    ];
    for (signal, code) in endings {
        let going = stubborn();
        let process = restarting(&going);
        send(pid(&process), signal);
        let ran = Ran::from(process.wait_with_output().expect("our own child"));
        assert_eq!((ran.code, ran.err.as_str()), (code, "goingctl: interrupted\n"), "{signal}");
        assert!(!is_held(&going, "web"), "{signal}");
    }
}

/// A restart that fails leaves a hold as it found it.
fn what_was_held_down_before_stays_so_until_the_end() {
    let going = stubborn();
    let web = going.up("web");
    ctl_to(&going, FAILED, &["stop", "web", "--timeout", "0"]);
    ctl_to(&going, FAILED, &["restart", "web", "--timeout", "1"]);
    assert!(is_held(&going, "web"));
    let mut process = restarting(&going);
    send(web, Signal::SIGKILL);
    assert!(process.wait().expect("our own child").success());
    assert_eq!((going.wait_starts("web", 2).len(), is_held(&going, "web")), (2, false));
}

/// Signals that were ignored from the start stay ignored, as under nohup(1) or in the background of
/// a script.
fn what_is_ignored_interrupts_nothing() {
    let going = stubborn();
    let web = going.up("web");
    let mut command = Command::new("sh");
    let script = "trap '' HUP INT; exec \"$0\" -d \"$1\" -r \"$2\" restart web --timeout 600";
    command.args(["-c", script]).arg(program()).arg(going.path("going.d")).arg(going.path("run"));
    let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let process = process.expect("sh can be executed");
    wait_state(&going, "web", "stopping");
    send(pid(&process), Signal::SIGHUP);
    send(pid(&process), Signal::SIGINT);
    send(web, Signal::SIGKILL);
    let ran = Ran::from(process.wait_with_output().expect("our own child"));
    assert_eq!(ran.code, OK, "{ran:?}");
    let process = restarting(&going);
    send(pid(&process), Signal::SIGHUP);
    let ran = Ran::from(process.wait_with_output().expect("our own child"));
    assert_eq!(ran.code, 128 + 1, "{ran:?}");
}

/// A stop holds even while somebody else is restarting the service.
fn a_stop_amid_a_restart_stays_in_force() {
    let stop = |going: &Going| {
        ctl_to(going, OK, &["stop", "web", "--no-wait"]);
    };
    let touch = |going: &Going| {
        fs::write(going.path("run/down/web"), "by hand").expect("our own file");
    };
    let stops: [fn(&Going); 2] = [stop, touch];
    for stop in stops {
        let going = stubborn();
        let web = going.up("web");
        let process = restarting(&going);
        stop(&going);
        send(web, Signal::SIGKILL);
        let ran = Ran::from(process.wait_with_output().expect("our own child"));
        let is_said = ran.out.ends_with(", and meanwhile held down by somebody else\n");
        assert!(ran.code == FAILED && is_said, "{ran:?}");
        wait_state(&going, "web", "down");
        assert_eq!((held(&going), is_held(&going, "web")), (1, true));
    }
}

/// If Ctrl-Z could suspend a restart half-way, the service would stay down.
fn a_suspended_restart_goes_on() {
    let going = stubborn();
    let web = going.up("web");
    let process = restarting(&going);
    send(pid(&process), Signal::SIGTSTP);
    send(web, Signal::SIGKILL);
    let ran = Ran::from(process.wait_with_output().expect("our own child"));
    assert_eq!(ran.code, OK, "{ran:?}");
    assert_eq!((going.wait_starts("web", 2).len(), is_held(&going, "web")), (2, false));
}

/// Unlike a restart, a stop that is interrupted still holds the service down.
fn an_interrupted_stop_stays_in_force() {
    let going = stubborn();
    let mut command = command(&going);
    command.args(["stop", "web"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = command.spawn().expect("goingctl can be executed");
    wait_state(&going, "web", "stopping");
    send(pid(&process), Signal::SIGINT);
    let ran = Ran::from(process.wait_with_output().expect("our own child"));
    assert_eq!(ran.code, INTERRUPTED);
    assert!(is_held(&going, "web"));
}

/// going is killed during a restart: goingctl notices, and the next going finds nothing held down.
fn a_restart_whose_going_is_killed_holds_nothing_down() {
    let mut going = stubborn();
    let process = restarting(&going);
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    let ran = Ran::from(process.wait_with_output().expect("our own child"));
    assert_eq!(ran.code, ABSENT, "{ran:?}");
    assert!(!is_held(&going, "web"));
}

fn a_stopped_going_is_reported() {
    let mut going = started(&["web"]);
    let web = going.up("web");
    going.signal(Signal::SIGSTOP);
    let pid = going.pid();
    going.wait_for("going standing still", || proc::stat(pid).is_some_and(|s| s.state == 'T'));
    let ran = ctl_to(&going, FAILED, &["restart", "web", "--timeout", "1"]);
    assert_eq!(ran.out, format!("web: not down after 1 s: up, pid {web}\n"));
    assert!(ran.err.contains("going is stopped"), "{ran:?}");
    assert!(!is_held(&going, "web"));
    // A stop takes effect when going continues.
    ctl_to(&going, FAILED, &["stop", "web", "--timeout", "0"]);
    going.signal(Signal::SIGCONT);
    going.wait_gone("the service", web);
    going.terminate();
}

fn no_wait_waits_for_nobody() {
    let mut going = started(&["web"]);
    let web = going.up("web");
    going.signal(Signal::SIGSTOP);
    let ran = ctl_to(&going, OK, &["stop", "web", "--no-wait"]);
    assert_eq!(ran.out, "web: told to stop\n");
    assert!(proc::is_running(web));
    going.signal(Signal::SIGCONT);
    going.wait_gone("the service", web);
    wait_state(&going, "web", "down");
    let ran = ctl_to(&going, OK, &["start", "web", "--no-wait"]);
    assert_eq!(ran.out, "web: told to start\n");
    going.wait_starts("web", 2);
    going.terminate();
}

/// Even with --no-wait, restart waits until going has noticed that the service is held down:
/// otherwise nothing would happen.
fn restart_without_waiting_is_a_restart() {
    let going = stubborn();
    let web = going.up("web");
    let ran = ctl_to(&going, OK, &["restart", "web", "--no-wait"]);
    assert_eq!(ran.out, "web: told to restart\n");
    assert!(proc::is_running(web) && !is_held(&going, "web"));
    assert!(status_line(&going, "web").expect("a line").contains(" stopping "));
    send(web, Signal::SIGKILL);
    going.wait_starts("web", 2);
}

fn a_signal_goes_to_the_main_process_alone() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["0"]));
    going.start();
    going.up("web");
    wait_state(&going, "web", "up");
    let pid = going.up("web");
    let ran = ctl_to(&going, OK, &["signal", "sigcont", "web"]);
    assert_eq!(ran.out, format!("web: sent signal 18 to pid {pid}\n"));
    for (word, count) in [("TERM", 1), ("15", 2)] {
        ctl_to(&going, OK, &["signal", word, "web"]);
        going.wait_for("its end by TERM", || going.records("web.terms").len() == count);
        going.wait_starts("web", count + 1);
        let pid = going.up("web").to_string();
        let is_told = || status_line(&going, "web").is_some_and(|line| line.contains(&pid));
        going.wait_for("the new process in the status", is_told);
    }
    going.terminate();
}

fn reload_is_hup() {
    let mut going = started(&["web"]);
    let pid = going.up("web");
    let ran = ctl_to(&going, OK, &["reload", "web"]);
    assert_eq!(ran.out, format!("web: sent signal 1 to pid {pid}\n"));
    going.wait_log("web: killed by signal 1 ");
    going.terminate();
}

/// Without a pidfd the signal goes to the number of the process. A container may have a seccomp
/// filter that does not know pidfd_open(2), and refuses it.
fn a_signal_is_sent_by_an_old_kernel() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let mut going = started(&["web"]);
        let pid = going.up("web");
        let mut command = command(&going);
        refuse(command.args(["reload", "web"]), libc::SYS_pidfd_open, 1, 0, errno);
        let ran = Ran::from(command.output().expect("goingctl can be executed"));
        assert_eq!((ran.code, ran.out), (OK, format!("web: sent signal 1 to pid {pid}\n")));
        going.wait_log("web: killed by signal 1 ");
        going.terminate();
    }
}

fn a_service_that_is_down_gets_no_signal() {
    let mut going = started(&["web"]);
    ctl_to(&going, OK, &["stop", "web"]);
    let ran = ctl_to(&going, FAILED, &["signal", "HUP", "web"]);
    assert_eq!(ran.out, "web: down, no process to signal\n");
    going.terminate();
}

/// The status is the last that going wrote, and a pid in it may belong to another process by now.
fn a_number_that_is_anothers_gets_no_signal() {
    let going = Going::new();
    // `other` is a child of this process, and not of the one that the status calls going.
    let other = Helper::spawn(going.service().arg("pause").stdin(Stdio::null()));
    let going_pid = Helper::spawn(going.service().arg("pause").stdin(Stdio::null()));
    let (web, header) = (other.pid(), going_pid.pid());
    let since_ms = proc::uptime_ms();
    let status = format!("going 1 {header} {since_ms}\nweb up {web} {since_ms} 1 - -\n");
    fs::write(going.path("run/status"), status).expect("our own file");
    let ran = ctl_to(&going, FAILED, &["signal", "KILL", "web"]);
    assert_eq!(ran.out, format!("web: pid {web} is no longer its process\n"));
    assert!(proc::is_running(web));
}

/// going itself would end with the main command.
fn the_main_command_is_left_alone() {
    let mut going = Going::new();
    going.hold("web");
    going.start_with(|command| {
        command.args(["--", "sleep", "100000"]);
    });
    wait_state(&going, "(main)", "up");
    wait_state(&going, "web", "up");
    let ran = ctl_to(&going, FAILED, &["stop", "(main)"]);
    assert!(ran.out.starts_with("(main): going ends with it"), "{ran:?}");
    let ran = ctl_to(&going, OK, &["stop", "all"]);
    assert_eq!(ran.out, "web: down\n");
    wait_state(&going, "(main)", "up");
    // A pattern never means the main command, and one that begins with `!` means nothing.
    for pattern in ["(*", "!web"] {
        let ran = ctl_to(&going, ABSENT, &["stop", pattern]);
        assert_eq!(ran.err, format!("goingctl: no such service: {pattern}\n"));
    }
    ctl_to(&going, OK, &["status"]);
    ctl_to(&going, OK, &["start", "web"]);
    // A file of its name holds nothing down.
    fs::write(going.path("run/down/(main)"), "").expect("our own file");
    let ran = ctl_to(&going, OK, &["status"]);
    assert!(!ran.out.contains("held"), "{ran:?}");
    going.signal(Signal::SIGTERM);
    going.wait_exit();
}

/// Names come from the status, which somebody else may have written.
fn a_name_never_leads_out_of_its_directory() {
    let going = Going::new();
    fs::create_dir(going.path("run/down")).expect("an empty directory");
    let (there, absent) = (going.path("records/there"), going.path("records/absent"));
    fs::write(&there, "").expect("room on the disk");
    let since_ms = proc::uptime_ms();
    let lines: Vec<_> = [
        "../../records/there".to_owned(),
        "../../records/absent".to_owned(),
        there.display().to_string(),
        absent.display().to_string(),
    ]
    .iter()
    .map(|name| format!("{name} down - {since_ms} 1 - -\n"))
    .collect();
    let header = format!("going 1 {} {since_ms}\n", std::process::id());
    fs::write(going.path("run/status"), header + &lines.concat()).expect("our own file");
    for word in ["stop", "restart", "start"] {
        let ran = ctl_to(&going, FAILED, &[word, "all", "--no-wait"]);
        assert_eq!(ran.out.matches("not the name of a service").count(), 4, "{ran:?}");
        assert!(there.exists() && !absent.exists(), "{word}");
    }
}

/// A full disk behind standard output is no reason to stop half-way.
fn a_full_stdout_stops_nothing_half_way() {
    let mut going = started(&["web", "db"]);
    let run = |words: &[&str]| {
        let ran = ctl_full(&going, words);
        assert_eq!(ran.err, "goingctl: unable to print: No space left on device\n", "{words:?}");
    };
    run(&["restart", "all", "--timeout", "60"]);
    let pids = [going.wait_starts("web", 2)[1].pid, going.wait_starts("db", 2)[1].pid];
    run(&["signal", "KILL", "all"]);
    for pid in pids {
        going.wait_gone("what was signalled", pid);
    }
    run(&["stop", "all", "--timeout", "60"]);
    assert!(is_held(&going, "web") && is_held(&going, "db"));
    going.terminate();
}

/// One of them lets the service go. The other one is late, and must not wait for the service to go
/// down once more.
fn two_restarts_at_once_both_end() {
    let going = stubborn();
    let web = going.up("web");
    let processes = [restarting(&going), restarting(&going)];
    let late = pid(&processes[1]);
    going.wait_for("both of them waiting", || {
        let has_begun = proc::status(late, "SigBlk") != "0000000000000000";
        has_begun && proc::stat(late).is_some_and(|stat| stat.state == 'S')
    });
    send(late, Signal::SIGSTOP);
    send(web, Signal::SIGKILL);
    going.wait_starts("web", 2);
    wait_state(&going, "web", "up");
    send(late, Signal::SIGCONT);
    for process in processes {
        let ran = Ran::from(process.wait_with_output().expect("our own child"));
        assert_eq!(ran.code, OK, "{ran:?}");
    }
    assert!(!is_held(&going, "web"));
}

/// Somebody removes the file of a restart before the service is down, so that the service starts
/// without ever being down.
fn a_restart_that_somebody_else_ends_is_over() {
    let going = stubborn();
    let web = going.up("web");
    let process = restarting(&going);
    ctl_to(&going, OK, &["start", "web", "--no-wait"]);
    going.rescan();
    send(web, Signal::SIGKILL);
    let web = going.wait_starts("web", 2)[1].pid;
    let ran = Ran::from(process.wait_with_output().expect("our own child"));
    assert_eq!((ran.code, ran.out), (OK, format!("web: up, pid {web}\n")));
}

/// Continues a stopped goingctl, and waits until it has looked at the file again.
fn go_on(going: &Going, pid: i32) {
    let switches = || proc::status_number(pid, "voluntary_ctxt_switches");
    let before = switches();
    send(pid, Signal::SIGCONT);
    // It may go to sleep once without a look, but from then on it looks before it sleeps.
    going.wait_for("another look", || switches() > before + 3);
}

/// One of them is late: meanwhile the first has ended, and a third has begun.
fn a_restart_amid_another_ends_none() {
    let going = stubborn();
    let web = going.up("web");
    let (first, late) = (restarting(&going), restarting(&going));
    going.wait_for("the late one to wait", || {
        let has_begun = proc::status(pid(&late), "SigBlk") != "0000000000000000";
        has_begun && proc::stat(pid(&late)).is_some_and(|stat| stat.state == 'S')
    });
    send(pid(&late), Signal::SIGSTOP);
    send(web, Signal::SIGKILL);
    going.wait_starts("web", 2);
    let web = going.up("web");
    let first = Ran::from(first.wait_with_output().expect("our own child"));
    assert_eq!(first.code, OK, "{first:?}");
    let third = restarting(&going);
    go_on(&going, pid(&late));
    send(web, Signal::SIGKILL);
    for process in [late, third] {
        let ran = Ran::from(process.wait_with_output().expect("our own child"));
        assert_eq!(ran.code, OK, "{ran:?}");
    }
    assert!(!is_held(&going, "web"));
    going.wait_starts("web", 3);
}

/// The other restart's file may have the inode number of the file before it, because ext4 reuses
/// numbers. It must still not be taken for the old file, touched.
fn another_restart_is_not_taken_for_a_touch() {
    let going = stubborn();
    let web = going.up("web");
    let down = going.path("run/down");
    let make = |name: &str| {
        let mut options = fs::File::options();
        let made = options.write(true).create_new(true).mode(0o744).open(down.join(name));
        let made = made.expect("room on the disk");
        made.metadata().expect("an open file").ino()
    };
    let first = make("web");
    let late = restarting(&going);
    going.wait_for("the late one to wait", || {
        let has_begun = proc::status(pid(&late), "SigBlk") != "0000000000000000";
        has_begun && proc::stat(pid(&late)).is_some_and(|stat| stat.state == 'S')
    });
    send(pid(&late), Signal::SIGSTOP);
    fs::remove_file(down.join("web")).expect("our own file");
    // On a file system that does not reuse the number there is nothing to confuse.
    let mut others = (0..500).map(|number| format!(".{number}"));
    let found = others.find(|other| make(other) == first).unwrap_or(".0".to_owned());
    fs::rename(down.join(found), down.join("web")).expect("our own file");
    go_on(&going, pid(&late));
    fs::remove_file(down.join("web")).expect("our own file");
    send(web, Signal::SIGKILL);
    let ran = Ran::from(late.wait_with_output().expect("our own child"));
    assert_eq!(ran.code, OK, "{ran:?}");
}

/// While this restart holds many services down one by one, another restart holds one of them down,
/// so that what this one saw before is out of date.
fn a_restart_that_has_just_begun_is_not_undone() {
    let mut going = Going::new();
    let mut names: Vec<_> = (0..250).map(|number| format!("s{number}")).collect();
    for name in &names {
        going.write(name, "cmd=sleep 100000\n");
    }
    going.hold("web");
    names.push("web".to_owned());
    going.start();
    going.up("web");
    wait_state(&going, "web", "up");
    for round in 2..=5 {
        let mut command = command(&going);
        command.arg("restart").args(&names).stdout(Stdio::null());
        let mut many = command.spawn().expect("goingctl can be executed");
        while !is_held(&going, "s0") {
            std::hint::spin_loop();
        }
        // The other restart's file, unless that came too late.
        let made = fs::File::create_new(going.path("run/down/web"));
        assert!(many.wait().expect("our own child").success(), "round {round}: {made:?}");
        assert_eq!(going.starts("web").len(), round, "{made:?}");
    }
    going.terminate();
}

/// A going with a service `web` that everybody may look at.
fn for_everybody() -> Going {
    let mut going = Going::new();
    going.open_to_everybody();
    install_program(&program(), &going.path("goingctl"));
    going.write("web", going.cmd("hold", "web", &[]));
    going.start();
    wait_state(&going, "web", "up");
    going
}

/// goingctl, run by an unprivileged user.
fn run_by_anybody(going: &Going, words: &[&str]) -> Ran {
    let mut command = Command::new(going.path("goingctl"));
    command.arg("-d").arg(going.path("going.d")).arg("-r").arg(going.path("run"));
    run_by(command.args(words), 12_345);
    command.output().expect("goingctl can be executed").into()
}

/// RUNDIR/down is sticky here, so that users can remove only their own files.
fn a_restart_says_that_it_cannot_let_go() {
    let mut going = for_everybody();
    let sticky = Permissions::from_mode(0o1777);
    fs::set_permissions(going.path("run/down"), sticky).expect("our own directory");
    ctl_to(&going, OK, &["stop", "web"]);
    for words in [&["restart", "web", "--no-wait"][..], &["restart", "web", "--timeout", "60"]] {
        let ran = run_by_anybody(&going, words);
        assert_eq!((ran.code, ran.out.as_str()), (FAILED, "web: down, and stays held down\n"));
        assert!(ran.err.ends_with("/down/web: Operation not permitted\n"), "{ran:?}");
    }
    going.terminate();
}

/// The file of a restart goes when the restart ends. A stop that cannot put its own in its place
/// does not hold the service down.
fn a_stop_says_that_it_cannot_replace_the_file_of_a_restart() {
    let mut going = for_everybody();
    let (sticky, file) = (Permissions::from_mode(0o1777), going.path("run/down/web"));
    fs::set_permissions(going.path("run/down"), sticky).expect("our own directory");
    let made = fs::File::options().write(true).create_new(true).mode(0o744).open(&file);
    made.expect("room on the disk");
    let ran = run_by_anybody(&going, &["stop", "web", "--no-wait"]);
    let said = format!("web: unable to create {}: Operation not permitted\n", file.display());
    assert_eq!((ran.code, ran.out), (FAILED, said));
    // The file of another stop stays, and so does the service.
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("our own file");
    let ran = run_by_anybody(&going, &["stop", "web", "--no-wait"]);
    assert_eq!((ran.code, ran.out.as_str()), (OK, "web: told to stop\n"));
    assert_eq!(held(&going), 1);
    going.terminate();
}

/// A command that lacks permission says so, and nothing is half done.
fn lack_of_permission_is_reported() {
    let mut going = for_everybody();
    let web = going.up("web");
    let run = |words: &[&str]| run_by_anybody(&going, words);
    let down = going.path("run/down/web").display().to_string();
    for words in [["stop", "web"], ["restart", "web"]] {
        let ran = run(&words);
        assert_eq!(ran.code, FAILED, "{ran:?}");
        assert_eq!(ran.out, format!("web: unable to create {down}: Permission denied\n"));
    }
    let ran = run(&["reload", "web"]);
    let refused = format!("web: unable to signal pid {web}: Operation not permitted\n");
    assert_eq!((ran.code, ran.out), (FAILED, refused));
    ctl_to(&going, OK, &["stop", "web"]);
    let ran = run(&["start", "web"]);
    assert_eq!(ran.code, FAILED, "{ran:?}");
    assert_eq!(ran.out, format!("web: unable to remove {down}: Permission denied\n"));
    assert_eq!(run(&["status"]).code, OK);
    assert_eq!(run(&["status", "nobody"]).code, ABSENT);
    assert_ne!(run(&["status"]).code, NOT_UP);
    going.terminate();
}
