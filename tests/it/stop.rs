//! How services end when they are asked to: on TERM to going, or because their file is gone.

use crate::harness::{Going, Helper, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::libc;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::{Duration, Instant};

/// From `stop` to KILL, as documented.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What a busy machine may add to any delay.
const SLACK: Duration = Duration::from_secs(3);

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(term_stops_everything_and_exits_0),
        scenario!(int_stops_everything_and_exits_0),
        scenario!(term_reaches_what_has_just_been_started),
        scenario!(term_waits_and_kills_what_ignores_it),
        scenario!(a_second_term_kills_at_once),
        scenario!(a_second_term_kills_a_main_command_too),
        scenario!(a_process_that_outlives_kill_is_not_waited_for),
        scenario!(by_default_all_is_over_within_ten_seconds),
        scenario!(nothing_is_started_during_the_shutdown),
        scenario!(a_stopped_process_is_woken_to_hear_term),
        scenario!(the_whole_group_gets_the_stop_signal),
        scenario!(leftovers_of_the_group_are_killed_before_the_next_start),
        scenario!(two_removed_in_one_rescan),
        scenario!(a_removed_service_that_ignores_term_is_killed),
        scenario!(removed_and_back_before_it_has_ended),
        scenario!(a_removed_service_in_backoff_signals_nobody),
        scenario!(orphans_are_reaped),
        scenario!(a_main_command_takes_its_time),
        scenario!(a_service_terminated_along_with_going_ends_as_asked),
    ]
}

fn term_stops_everything_and_exits_0() {
    let mut going = Going::new();
    going.hold("obeys");
    going.write("lingers", going.cmd("hold", "lingers", &["300"]));
    going.start();
    let (obeys, lingers) = (going.up("obeys"), going.up("lingers"));
    going.terminate();
    assert!(!proc::is_running(obeys) && !proc::is_running(lingers));
    // Waited for, not killed.
    going.wait_log("obeys: stopped, killed by signal 15");
    going.wait_log("lingers: stopped, exited 0");
}

fn int_stops_everything_and_exits_0() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let web = going.up("web");
    going.signal(Signal::SIGINT);
    assert!(going.wait_exit().success(), "{}", going.report());
    assert!(!proc::is_running(web));
}

/// Between fork and exec a service has neither its own group nor its own signal settings. With one
/// processor for all of them, many are still there when going reads TERM.
fn term_reaches_what_has_just_been_started() {
    let names: Vec<_> = (0..100).map(|number| format!("s{number}")).collect();
    let mut one = CpuSet::new();
    one.set(sched_getcpu().expect("Linux 3.1")).expect("a processor that exists");
    for _round in 0..3 {
        let mut going = Going::new();
        going.hold_all(&names);
        going.start_with(|command| {
            let stay = move || Ok(sched_setaffinity(Pid::from_raw(0), &one)?);
            // SAFETY: one system call between fork and exec.
            unsafe { command.pre_exec(stay) };
        });
        going.wait_log(": started, pid ");
        going.terminate();
        assert_eq!(going.log_count("does not stop"), 0, "{}", going.report());
        assert_eq!(going.log_count(": stopped, "), going.log_count(": started, pid "));
    }
}

/// Each is waited for separately: one that ignores TERM does not delay the end of one that obeys.
fn term_waits_and_kills_what_ignores_it() {
    let mut going = Going::new();
    going.hold("obeys");
    going.write("ignores", going.cmd("hold", "ignores", &["ignore"]));
    going.start();
    let (obeys, ignores) = (going.up("obeys"), going.up("ignores"));
    let start = Instant::now();
    going.signal(Signal::SIGTERM);
    going.wait_gone("the one that obeys", obeys);
    assert!(proc::is_running(ignores) && start.elapsed() < SLACK);
    assert!(going.wait_exit().success(), "{}", going.report());
    let took = start.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT + SLACK, "{took:?}");
    assert!(!proc::is_running(ignores));
    going.wait_log("ignores: does not stop after 5 s, killing");
    going.wait_log("ignores: stopped, killed by signal 9");
}

fn a_second_term_kills_at_once() {
    let mut going = Going::new();
    going.hold("obeys");
    going.write("ignores", going.cmd("hold", "ignores", &["ignore"]));
    going.start();
    let (obeys, ignores) = (going.up("obeys"), going.up("ignores"));
    going.signal(Signal::SIGTERM);
    // Two at the same time would count as one.
    going.wait_gone("the one that obeys", obeys);
    let start = Instant::now();
    going.signal(Signal::SIGTERM);
    assert!(going.wait_exit().success(), "{}", going.report());
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    assert!(!proc::is_running(ignores));
}

/// However long the first TERM lets it take.
fn a_second_term_kills_a_main_command_too() {
    let mut going = Going::new();
    let ready = going.path("ready");
    let script = format!("trap '' TERM; >'{}'; while :; do sleep 1; done", ready.display());
    going.start_with(|command| {
        command.args(["--", "/bin/sh", "-c", &script]);
    });
    going.wait_for("the main command", || ready.exists());
    going.signal(Signal::SIGTERM);
    going.wait_log("shutting down");
    let start = Instant::now();
    going.signal(Signal::SIGTERM);
    assert_eq!(going.wait_exit().code(), Some(128 + 9), "{}", going.report());
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
}

/// Like a process in disk sleep it is killed, and yet does not end: here its tracer has to hear of
/// its end first.
fn a_process_that_outlives_kill_is_not_waited_for() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["ignore"]) + "timeout=1\n");
    going.start();
    let web = going.up("web");
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: no memory is involved.
    let traced = unsafe { libc::ptrace(libc::PTRACE_SEIZE, web, none, none) };
    assert_eq!(traced, 0, "{}", std::io::Error::last_os_error());
    let start = Instant::now();
    going.signal(Signal::SIGTERM);
    assert!(going.wait_exit().success(), "{}", going.report());
    let took = start.elapsed();
    // A second until KILL, and two more.
    let documented = Duration::from_secs(3);
    assert!(took >= documented && took < documented + SLACK, "{took:?}");
    going.wait_log("web: does not stop after 1 s, killing");
    assert_eq!(going.log_count("web: stopped"), 0, "{}", going.report());
    // SAFETY: nothing is written.
    let reaped = unsafe { libc::waitpid(web, ptr::null_mut(), libc::__WALL) };
    assert_eq!(reaped, web);
}

/// `docker stop` waits that long. No service obeys here, not even the one that is logged to.
fn by_default_all_is_over_within_ten_seconds() {
    let mut going = Going::new();
    let deaf = |name| going.cmd("hold", name, &["ignore"]);
    going.write("log", deaf("log"));
    going.write("web", deaf("web") + "log=log\n");
    going.start();
    going.all_up(&["log", "web"]);
    let start = Instant::now();
    going.terminate();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    going.wait_log("web: does not stop after 5 s, killing");
    going.wait_log("log: does not stop after 2 s, killing");
}

/// Neither HUP, nor an end, nor a due backoff starts anything once going is shutting down.
fn nothing_is_started_during_the_shutdown() {
    let mut going = Going::new();
    going.hold("obeys");
    going.write("ignores", going.cmd("hold", "ignores", &["ignore"]));
    going.write("short", going.cmd("exit", "short", &["1", "0"]));
    going.start();
    let obeys = going.up("obeys");
    going.up("ignores");
    // Its next start is due in 1 s, within the 5 s that the other one takes.
    going.wait_log("short: exited 1");
    going.signal(Signal::SIGTERM);
    going.wait_gone("the one that obeys", obeys);
    going.hold("late");
    going.signal(Signal::SIGHUP);
    assert!(going.wait_exit().success(), "{}", going.report());
    let starts = ["obeys", "short", "late"].map(|name| going.starts(name).len());
    assert_eq!(starts, [1, 1, 0], "{}", going.report());
}

/// A process stopped by ctrl-z or `kill -STOP` does not act on TERM before CONT.
fn a_stopped_process_is_woken_to_hear_term() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["0"]));
    going.start();
    let pid = going.up("web");
    send(pid, Signal::SIGSTOP);
    let is_stopped = || proc::stat(pid).is_some_and(|stat| stat.state == 'T');
    going.wait_for("the process standing still", is_stopped);
    let start = Instant::now();
    going.terminate();
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    going.wait_log("web: stopped, exited 0");
}

/// TERM goes to the process group: what a shell script has started hears it too.
fn the_whole_group_gets_the_stop_signal() {
    let mut going = Going::new();
    let child = going.cmd("hold", "child", &["0"]);
    let (_, child) = child.trim().split_once('=').expect("cmd=");
    // The shell must not end first, because what is left of the group is killed then.
    let script = script(&going, &format!("trap : TERM\n{child} &\nwait\nwait\n"));
    going.write("web", script);
    going.start();
    let child = going.up("child");
    going.remove("web");
    going.rescan();
    going.wait_gone("the child", child);
    assert_eq!(going.records("child.terms").len(), 1, "{}", going.report());
    going.terminate();
}

/// The line `cmd=` of a service that is a shell script.
fn script(going: &Going, content: &str) -> String {
    let path = going.path("script");
    fs::write(&path, content).expect("room on the disk");
    format!("cmd=sh '{}'\n", path.display())
}

/// The end of the main process is the end of the service. What is left of its group gets KILL, and
/// is gone before the next start.
fn leftovers_of_the_group_are_killed_before_the_next_start() {
    let mut going = Going::new();
    going.write("web", going.cmd("family", "web", &[]));
    going.start();
    let (main, child) = (going.up("web"), going.up("web-child"));
    send(main, Signal::SIGKILL);
    going.wait_gone("the child", child);
    going.wait_starts("web", 2);
    let second = going.wait_starts("web-child", 2)[1].pid;
    // It holds the same lock as the first one did.
    assert_eq!(going.twins(), [""; 0]);
    going.remove("web");
    going.rescan();
    going.wait_gone("the second child", second);
    going.terminate();
}

/// The original going went on reading the slot that it had just freed.
fn two_removed_in_one_rescan() {
    let mut going = Going::new();
    let names = ["a", "b", "c", "d", "e"];
    going.hold_all(&names);
    going.start();
    let before = names.map(|name| going.up(name));
    going.remove("b");
    going.remove("c");
    going.remove("e");
    going.rescan();
    for gone in [1, 2, 4] {
        going.wait_gone(names[gone], before[gone]);
    }
    assert_eq!((going.up("a"), going.up("d")), (before[0], before[3]));
    going.wait_log("b: stopped, ");
    going.wait_log("c: stopped, ");
    going.terminate();
    assert_eq!(names.map(|name| going.starts(name).len()), [1; 5]);
}

/// Then it is forgotten, and nothing brings it back.
fn a_removed_service_that_ignores_term_is_killed() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["ignore"]));
    going.start();
    let pid = going.up("web");
    let start = Instant::now();
    going.remove("web");
    going.rescan();
    going.wait_gone("web", pid);
    let took = start.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT + SLACK, "{took:?}");
    going.wait_log("web: does not stop after 5 s, killing");
    going.wait_log("web: stopped, killed by signal 9");
    going.rescan();
    assert_eq!(going.starts("web").len(), 1, "{}", going.report());
    going.terminate();
}

/// A service is forgotten only after it was reaped. If its file comes back before that it is the
/// same service, and starts when the old process has ended.
fn removed_and_back_before_it_has_ended() {
    let mut going = Going::new();
    let content = going.cmd("hold", "web", &["1000"]);
    going.write("web", &content);
    going.start();
    let old = going.up("web");
    going.remove("web");
    going.signal(Signal::SIGHUP);
    going.wait_for("TERM for web", || !going.records("web.terms").is_empty());
    going.write("web", &content);
    going.rescan();
    assert!(proc::is_running(old), "too slow a machine for this scenario");
    let starts = going.wait_starts("web", 2);
    assert!(!proc::is_running(old));
    assert_eq!(going.twins(), [""; 0]);
    // The end of the old process is no failure of the new one.
    assert!(starts[1].at_ms - starts[0].at_ms < 5000, "{starts:?}");
    going.terminate();
    assert_eq!(going.starts("web").len(), 2);
}

/// It has no process. The original going signalled process group 0, which is its own group.
fn a_removed_service_in_backoff_signals_nobody() {
    let mut going = Going::new();
    going.write("short", going.cmd("exit", "short", &["1", "0"]));
    going.write("clock", going.cmd("exit", "clock", &["1", "0"]));
    going.start_with(|command| {
        command.process_group(0);
    });
    let mut witness = Command::new("/proc/self/exe");
    witness.args(["service", "pause"]).arg(going.path("")).process_group(going.pid());
    let witness = Helper::spawn(&mut witness);
    // It waits for 2 s now.
    going.wait_log("short: exited 1 after … s, next start in 2 s");
    going.remove("short");
    going.rescan();
    let before = going.starts("short").len();
    // Anything that was due for "short" has happened once "clock" has been started twice more.
    let clock = going.starts("clock").len();
    going.wait_starts("clock", clock + 2);
    assert_eq!(going.starts("short").len(), before, "{}", going.report());
    assert!(proc::is_running(witness.pid()), "the witness has been signalled");
    going.terminate();
    assert!(proc::is_running(witness.pid()), "the witness has been signalled");
}

/// Descendants of going that lose their parent become its children, and do not stay zombies.
fn orphans_are_reaped() {
    let mut going = Going::new();
    let orphan = going.cmd("pause", "orphan", &[]);
    let (_, orphan) = orphan.trim().split_once('=').expect("cmd=");
    // The subshell in between ends at once. setsid takes them out of the group, with which they
    // would die.
    let many = format!("(setsid {orphan} &)\n").repeat(600);
    going.write("mother", script(&going, &format!("{many}exec sleep 1000\n")));
    going.start();
    let orphans = || {
        let mut pids = going.children();
        pids.retain(|&pid| proc::arguments(pid).get(4).is_some_and(|word| word == "orphan"));
        pids
    };
    going.wait_for("all orphans", || orphans().len() == 600);
    // All end before going looks. It hears of that once, and reaps some of them in each turn.
    going.signal(Signal::SIGSTOP);
    for pid in orphans() {
        send(pid, Signal::SIGKILL);
    }
    going.wait_for("their end", || orphans().is_empty());
    going.signal(Signal::SIGCONT);
    going.wait_for("no child but the service", || going.children().len() == 1);
    going.terminate();
}

/// That is longer than the 5 s that a service has: how long it may take is for the container's
/// runtime to say.
fn a_main_command_takes_its_time() {
    let going = Going::new();
    let command = "trap '' TERM; kill -TERM $PPID; sleep 7; exit 9";
    let output = going.output(&["--", "/bin/sh", "-c", command]);
    assert_eq!(output.status.code(), Some(9), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("killing"), "{output:?}");
}

/// systemd ends a whole control group by TERM to every process in it, and so does `docker stop`
/// with `--pid=host`. Services may have ended before going hears of it.
fn a_service_terminated_along_with_going_ends_as_asked() {
    let mut going = Going::new();
    going.hold("web");
    going.write("job", going.cmd("hold", "job", &[]) + "restart=exit\n");
    going.start();
    let services = going.all_up(&["web", "job"]);
    going.signal(Signal::SIGSTOP);
    for &pid in services.iter().chain([&going.pid()]) {
        send(pid, Signal::SIGTERM);
    }
    going.wait_for("their end", || !services.iter().any(|&pid| proc::is_running(pid)));
    going.signal(Signal::SIGCONT);
    let status = going.wait_exit();
    assert!(status.success(), "{status}\n{}", going.report());
    going.wait_log("web: stopped, killed by signal 15");
    going.wait_log("job: stopped, killed by signal 15");
}
