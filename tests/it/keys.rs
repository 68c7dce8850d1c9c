//! The keys that say when a service is respawned and how it is stopped; `going -n` over all keys.

use crate::harness::{Going, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(failure_is_not_respawned_after_exit_0),
        scenario!(never_is_never_respawned),
        scenario!(done_starts_again_after_an_edit_and_a_down_file_only),
        scenario!(exit_ends_going_with_its_code),
        scenario!(exit_by_a_signal_is_128_and_its_number),
        scenario!(exit_that_cannot_be_executed_is_127),
        scenario!(of_two_exits_the_first_one_wins),
        scenario!(an_end_that_was_asked_for_ends_nothing_else),
        scenario!(stop_is_the_signal_of_the_process_there_is),
        scenario!(stop_goes_to_the_group_and_wakes_it),
        scenario!(timeout_is_until_kill),
        scenario!(timeout_0_is_for_ever),
        scenario!(timeout_0_is_the_default_in_the_shutdown),
        scenario!(a_long_timeout_is_waited_for_in_the_shutdown),
        scenario!(check_knows_every_key),
    ]
}

/// Writes a service that ends at once with `code`, and has more `settings`.
fn exit_with(going: &Going, name: &str, code: &str, settings: &str) {
    going.write(name, going.cmd("exit", name, &[code, "0"]) + settings);
}

fn failure_is_not_respawned_after_exit_0() {
    let mut going = Going::new();
    exit_with(&going, "good", "0", "restart=failure\n");
    exit_with(&going, "bad", "1", "restart=failure\n");
    going.write("killed", going.cmd("hold", "killed", &[]) + "restart=failure\n");
    going.start();
    send(going.up("killed"), Signal::SIGKILL);
    going.wait_starts("bad", 3);
    going.wait_starts("killed", 2);
    going.wait_status("good", "done");
    assert_eq!(going.starts("good").len(), 1);
    assert_eq!(going.status_of("good")[4..], ["1", "exit:0", "-"]);
    going.wait_log("good: exited 0 after … s");
    assert_eq!(going.log_count("good: exited 0 after … s, next"), 0, "{}", going.report());
    going.terminate();
}

fn never_is_never_respawned() {
    let mut going = Going::new();
    exit_with(&going, "good", "0", "restart=never\n");
    exit_with(&going, "bad", "9", "restart=never\n");
    exit_with(&going, "clock", "1", "");
    going.start();
    going.wait_starts("clock", 3);
    assert_eq!(["good", "bad"].map(|name| going.starts(name).len()), [1, 1]);
    assert_eq!(going.status_of("good")[1..3], ["done", "-"]);
    assert_eq!(going.status_of("bad")[4..], ["1", "exit:9", "-"]);
    going.terminate();
    assert_eq!(["good", "bad"].map(|name| going.starts(name).len()), [1, 1]);
}

/// HUP does not start it again, and a comment is not an edit.
fn done_starts_again_after_an_edit_and_a_down_file_only() {
    let mut going = Going::new();
    exit_with(&going, "once", "0", "restart=never\n");
    going.start();
    going.wait_status("once", "done");
    exit_with(&going, "once", "0", "# a comment\nrestart=never\n");
    going.rescan();
    going.rescan();
    assert_eq!(going.starts("once").len(), 1, "{}", going.report());
    exit_with(&going, "once", "0", "restart=never\nenv=A=1\n");
    going.wait_starts("once", 2);
    going.wait_status("once", "done");
    going.hold_down("once");
    going.wait_status("once", "down");
    going.let_up("once");
    going.wait_starts("once", 3);
    going.wait_status("once", "done");
    assert_eq!(going.status_of("once")[4], "3");
    going.terminate();
}

/// Asserts that going exits with `code`, because a service with `restart=exit` has ended by itself.
#[track_caller]
fn assert_exit(going: &mut Going, code: i32) {
    let status = going.wait_exit();
    assert_eq!(status.code(), Some(code), "{status}\n{}", going.report());
}

fn exit_ends_going_with_its_code() {
    let mut going = Going::new();
    going.write("lingers", going.cmd("hold", "lingers", &["300"]));
    going.hold("obeys");
    going.start();
    let services = going.all_up(&["lingers", "obeys"]);
    exit_with(&going, "job", "7", "restart=exit\n");
    assert_exit(&mut going, 7);
    assert!(services.iter().all(|&pid| !proc::is_running(pid)));
    going.wait_log("lingers: stopped, exited 0");
    assert_eq!(going.starts("job").len(), 1);
}

fn exit_by_a_signal_is_128_and_its_number() {
    let mut going = Going::new();
    going.write("job", going.cmd("hold", "job", &[]) + "restart=exit\n");
    going.hold("web");
    going.start();
    going.up("web");
    send(going.up("job"), Signal::SIGALRM);
    assert_exit(&mut going, 128 + 14);
}

fn exit_that_cannot_be_executed_is_127() {
    let mut going = Going::new();
    going.write("job", "cmd=/nonexistent/job\nrestart=exit\n");
    going.start();
    assert_exit(&mut going, 127);
    going.wait_log("job: unable to execute /nonexistent/job: No such file or directory");
}

/// The second one ends during the shutdown that the first has begun.
fn of_two_exits_the_first_one_wins() {
    let mut going = Going::new();
    let script = going.path("script");
    std::fs::write(&script, "trap \"exit 9\" TERM\nwhile :; do sleep 0.05; done\n").unwrap();
    going.write("second", format!("cmd=sh '{}'\nrestart=exit\n", script.display()));
    going.start();
    going.wait_log("second: started, ");
    going.rescan();
    exit_with(&going, "first", "3", "restart=exit\n");
    assert_exit(&mut going, 3);
    going.wait_log("second: stopped, ");
}

/// The service is edited, held down and removed, and the others stay up.
fn an_end_that_was_asked_for_ends_nothing_else() {
    let mut going = Going::new();
    going.write("job", going.cmd("hold", "job", &[]) + "restart=exit\n");
    going.hold("web");
    going.start();
    let (job, web) = (going.up("job"), going.up("web"));
    going.write("job", going.cmd("hold", "job", &[]) + "restart=exit\nenv=A=1\n");
    let second = going.wait_starts("job", 2)[1].pid;
    going.wait_gone("the first", job);
    going.hold_down("job");
    going.wait_status("job", "down");
    assert!(!proc::is_running(second));
    going.let_up("job");
    let third = going.wait_starts("job", 3)[2].pid;
    going.remove("job");
    going.wait_gone("the third", third);
    going.rescan();
    assert_eq!((going.up("web"), going.starts("web").len()), (web, 1));
    going.terminate();
}

/// An edit of `stop` is for the next process, not for the one there is.
fn stop_is_the_signal_of_the_process_there_is() {
    let mut going = Going::new();
    for (name, stop) in [("named", "USR1"), ("numbered", "37"), ("killed", "KILL")] {
        going.write(name, going.cmd("hold", name, &[]) + "stop=" + stop);
    }
    going.start();
    going.all_up(&["named", "numbered", "killed"]);
    going.write("named", going.cmd("hold", "named", &[]) + "stop=USR2\n");
    going.wait_starts("named", 2);
    going.wait_log("named: stopped, killed by signal 10");
    going.remove("numbered");
    going.wait_log("numbered: stopped, killed by signal 37");
    going.terminate();
    going.wait_log("named: stopped, killed by signal 12");
    going.wait_log("killed: stopped, killed by signal 9");
    assert_eq!(going.log_count("does not stop"), 0, "{}", going.report());
}

/// The whole group gets the signal, and CONT after it, so that stopped processes act on it.
fn stop_goes_to_the_group_and_wakes_it() {
    let mut going = Going::new();
    let child = going.cmd("hold", "child", &["0"]);
    let (_, child) = child.trim().split_once('=').expect("cmd=");
    let script = going.path("script");
    let traps = "trap : INT\ntrap 'echo usr1' USR1\n";
    // The child has no trap for USR1, and dies of it.
    std::fs::write(&script, format!("{traps}{child} &\nwait\nwait\nexit 5\n")).unwrap();
    going.write("web", format!("cmd=sh '{}'\nstop=USR1\ntimeout=0\n", script.display()));
    going.start();
    let child = going.up("child");
    let web = proc::stat(child).expect("it runs").parent;
    for pid in [child, web] {
        send(pid, Signal::SIGSTOP);
        going.wait_for("it standing still", || {
            proc::stat(pid).is_some_and(|stat| stat.state == 'T')
        });
    }
    going.remove("web");
    going.wait_gone("the child", child);
    going.wait_log("web: stopped, exited 5");
    going.terminate();
}

fn timeout_is_until_kill() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["ignore"]) + "timeout=1\n");
    going.start();
    let web = going.up("web");
    going.remove("web");
    going.wait_gone("the one that ignores TERM", web);
    going.wait_log("web: does not stop after 1 s, killing");
    going.wait_log("web: stopped, killed by signal 9");
    going.terminate();
}

/// A service with timeout=0 is still there when one with the default of five seconds is gone.
fn timeout_0_is_for_ever() {
    let mut going = Going::new();
    going.write("never", going.cmd("hold", "never", &["ignore"]) + "timeout=0\n");
    going.write("five", going.cmd("hold", "five", &["ignore"]));
    going.start();
    let (never, five) = (going.up("never"), going.up("five"));
    going.hold_down("never");
    going.wait_status("never", "stopping");
    going.hold_down("five");
    going.wait_gone("the one with a timeout", five);
    going.wait_status("five", "down");
    assert_eq!(going.status_of("never")[1..3], ["stopping".to_owned(), never.to_string()]);
    assert!(proc::is_running(never));
    // The stop signal was sent more than five seconds ago, so the shutdown does not wait any
    // longer.
    going.terminate();
    going.wait_log("never: stopped, killed by signal 9");
}

/// A shutdown must not wait for ever.
fn timeout_0_is_the_default_in_the_shutdown() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["ignore"]) + "timeout=0\n");
    going.start();
    going.up("web");
    going.terminate();
    going.wait_log("web: does not stop after 5 s, killing");
}

fn a_long_timeout_is_waited_for_in_the_shutdown() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["6000"]) + "timeout=60\n");
    going.start();
    going.up("web");
    going.terminate();
    going.wait_log("web: stopped, exited 0");
    assert_eq!(going.log_count("does not stop"), 0, "{}", going.report());
}

/// `going -n` uses the daemon's own parser; what that accepts is in the model's tables.
fn check_knows_every_key() {
    let going = Going::new();
    let all = "cmd=x 'y z'\ncwd=/\nchroot=/srv\nenv=A=1\nenv=B\nenv=*\nuser=web\ngroup=50\n\
               log=other\nrestart=exit\nstop=HUP\ntimeout=0\n";
    going.write("all", all);
    let output = going.output(&["-n"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "configuration OK\n");
    let faults = [
        ("chroot", "chroot=srv", "not an absolute path: \"srv\""),
        ("env", "env==x", "not NAME=VALUE, NAME or *: \"=x\""),
        ("user", "user=a b", "not the name or the number of a user: \"a b\""),
        ("group", "group=", "not the name or the number of a group: \"\""),
        ("log", "log=a/b", "not inherit, null, an absolute path or the name of a service: \"a/b\""),
        ("restart", "restart=on-failure", "not always, failure, never or exit: \"on-failure\""),
        ("stop", "stop=SIGTERM", "not a signal's name without SIG, or its number: \"SIGTERM\""),
        ("timeout", "timeout=5s", "not a number of seconds, at most 999999: \"5s\""),
        ("twice", "cwd=/\nlog=null\nlog=null", "given twice: \"log\""),
    ];
    for (name, setting, _) in faults {
        going.write(name, format!("cmd=x\n# two\n{setting}\n"));
    }
    let output = going.output(&["-n"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let line = |name| if name == "twice" { 5 } else { 3 };
    let mut expected: Vec<_> =
        faults.iter().map(|(name, _, why)| format!("{name}:{}: {why}", line(*name))).collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}
