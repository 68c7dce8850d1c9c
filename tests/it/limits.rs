//! The limits: a full table, a full pool, a thousand crashes, no processes to be had, nothing to
//! do.

use crate::harness::{Going, peak_kb, run_by, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::collections::HashSet;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::thread::sleep;
use std::time::Duration;

/// The number of services, as documented under LIMITS.
const SERVICES: usize = 256;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(a_full_table_and_a_thousand_crashes),
        scenario!(a_full_table_with_all_that_a_file_can_say, Root),
        scenario!(one_too_many_waits_for_room),
        scenario!(a_full_pool_refuses_one_file_only),
        scenario!(nothing_to_do_is_no_wake_up),
        scenario!(a_failing_fork_leaves_going_responsive, Root),
        scenario!(a_failing_fork_keeps_nobody_from_ending_it, Root),
        scenario!(without_any_process_going_waits_for_better_times, Root),
    ]
}

/// 256 services are killed four times over. Each comes back, and going has the same memory and
/// descriptors as before, and no zombie.
fn a_full_table_and_a_thousand_crashes() {
    let mut going = Going::new();
    for number in 0..SERVICES {
        going.write(&format!("s{number:03}"), going.cmd("pause", "-", &[]));
    }
    going.start();
    let pid = going.pid();
    let is_full = || going.children().len() == SERVICES;
    going.wait_for("256 services", is_full);
    going.wait_quiet();
    let descriptors = proc::descriptors(pid);
    assert!(proc::status_number(pid, "VmPeak") < peak_kb(), "{}", proc::status(pid, "VmPeak"));

    let mut seen: HashSet<i32> = going.children().into_iter().collect();
    for _round in 0..3 {
        for child in going.children() {
            send(child, Signal::SIGKILL);
        }
        // They come back after 1, 2 and 4 s.
        let is_new = |child: &i32| !seen.contains(child) && proc::is_running(*child);
        let all_new = || going.children().iter().filter(|child| is_new(child)).count() == SERVICES;
        going.wait_for("256 new ones", all_new);
        seen.extend(going.children());
    }
    assert_eq!(seen.len(), 4 * SERVICES);
    // The next delay is 8 s, long enough to see all of them reaped.
    for child in going.children() {
        send(child, Signal::SIGKILL);
    }
    let reaped = || going.log_count(": killed by signal 9 after ");
    going.wait_for("all of them reaped", || reaped() == 4 * SERVICES);

    // going may be writing its status at this moment.
    going.wait_for("no descriptor more", || proc::descriptors(pid) == descriptors);
    assert!(proc::status_number(pid, "VmPeak") < peak_kb(), "{}", proc::status(pid, "VmPeak"));
    assert_eq!(proc::status_number(pid, "Threads"), 1);
    going.terminate();
}

/// Every second service logs to the one before it. They are killed, held down and edited; all of
/// them come back, and going is as it was before.
fn a_full_table_with_all_that_a_file_can_say() {
    let mut going = Going::new();
    let settings = "chroot=/\ncwd=/tmp\nenv=A=1\nenv=*\nuser=12345\ngroup=12345\nstop=INT\n\
                    restart=always\n";
    let write = |going: &Going, number: usize, timeout: u32| {
        let to = if number.is_multiple_of(2) { "null" } else { &format!("s{:03}", number - 1) };
        let text = format!("cmd=sleep 1000\n{settings}timeout={timeout}\nlog={to}\n");
        going.write(&format!("s{number:03}"), text);
    };
    (0..SERVICES).for_each(|number| write(&going, number, 5));
    going.start_with(|command| {
        let allow = || {
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.max(1024.min(hard)), hard)?)
        };
        // SAFETY: getrlimit(2) and setrlimit(2) alone.
        unsafe { command.pre_exec(allow) };
    });
    let pid = going.pid();
    let wait_up = |count: usize, starts: u64| {
        going.wait_for("all of them up", || {
            let status = going.status();
            let is_so = |fields: &&Vec<String>| {
                fields[1] == "up" && fields[4].parse::<u64>().is_ok_and(|it| it >= starts)
            };
            status.iter().filter(is_so).count() == count
        });
        going.wait_quiet();
    };
    wait_up(SERVICES, 1);
    let descriptors = proc::descriptors(pid).len();
    // Each service that is logged to has a pipe.
    assert!(descriptors > SERVICES, "{descriptors}");
    going.children().into_iter().for_each(|child| send(child, Signal::SIGKILL));
    wait_up(SERVICES, 2);
    (0..20).for_each(|number| going.hold_down(&format!("s{number:03}")));
    wait_up(SERVICES - 20, 2);
    (0..20).for_each(|number| going.let_up(&format!("s{number:03}")));
    (0..SERVICES).for_each(|number| write(&going, number, 6));
    wait_up(SERVICES, 3);
    assert_eq!(proc::descriptors(pid).len(), descriptors);
    assert!(proc::status_number(pid, "VmPeak") < peak_kb(), "{}", proc::status(pid, "VmPeak"));
    assert_eq!(going.log_count("no room"), 0, "{}", going.report());
    going.terminate();
}

/// The 257th service is refused with a message, harms no other, and starts by itself when another
/// one goes.
fn one_too_many_waits_for_room() {
    let mut going = Going::new();
    for number in 0..SERVICES {
        going.write(&format!("s{number:03}"), going.cmd("pause", "-", &[]));
    }
    going.start();
    going.wait_for("256 services", || going.children().len() == SERVICES);
    going.wait_quiet();
    let before: HashSet<i32> = going.children().into_iter().collect();
    going.hold("late");
    going.signal(Signal::SIGHUP);
    going.wait_log("late: no room: 256 services are the limit");
    // The reader of the rescan may be there for a moment.
    let is_as_before = || going.children().into_iter().collect::<HashSet<_>>() == before;
    going.wait_for("the processes that were there before", is_as_before);
    // going does not look again and again: this wait is the measurement.
    going.wait_quiet();
    let switches = || proc::status_number(going.pid(), "voluntary_ctxt_switches");
    let count = switches();
    sleep(Duration::from_millis(500));
    assert_eq!(switches(), count);
    going.remove("s100");
    going.signal(Signal::SIGHUP);
    going.up("late");
    going.wait_log("s100: stopped, ");
    let kept = going.children().into_iter().filter(|pid| before.contains(pid)).count();
    assert_eq!(kept, SERVICES - 1);
    going.terminate();
}

/// The limit is 48 KiB of settings in all files together.
fn a_full_pool_refuses_one_file_only() {
    let mut going = Going::new();
    let word = "w".repeat(3700);
    let names: Vec<_> = (0..20).map(|number| format!("big{number:02}")).collect();
    going.hold("small");
    going.start();
    going.up("small");
    for name in &names {
        going.write(name, going.cmd("hold", name, &["0", &word]));
    }
    going.signal(Signal::SIGHUP);
    let is_told = |name: &String| going.log_count(&format!("{name}: ")) > 0;
    going.wait_for("a word on each", || names.iter().all(is_told));
    let refused = names.iter().filter(|name| going.log_count(&format!("{name}: no room")) > 0);
    let refused: Vec<_> = refused.cloned().collect();
    let (first, rest) = refused.split_first().expect("one at least");
    let fitting: Vec<_> = names.iter().filter(|name| !refused.contains(name)).collect();
    // Of some 3.8 KiB each, 12 fit into 48 KiB beside the small one.
    assert!((10..=13).contains(&fitting.len()), "{fitting:?}\n{}", going.report());
    going.all_up(&fitting);
    assert_eq!(going.starts("small").len(), 1);
    // Now there is room for one, and only one is waiting for it.
    for name in rest {
        going.remove(name);
    }
    going.remove(fitting[0]);
    going.signal(Signal::SIGHUP);
    going.up(first);
    going.terminate();
}

/// No timer ticks, nothing is polled: not one wake-up.
fn nothing_to_do_is_no_wake_up() {
    let mut going = Going::new();
    let names: Vec<_> = (0..10).map(|number| format!("s{number}")).collect();
    going.hold_all(&names);
    going.start();
    going.all_up(&names);
    let switches = || {
        ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
            .map(|field| proc::status_number(going.pid(), field))
    };
    // None of these can be read, and none is a reason to try again.
    for (name, target) in [
        ("dangling", "/nonexistent/service"),
        ("circle", "circle"),
        ("below", "/etc/passwd/service"),
        ("long", &"l".repeat(256)),
    ] {
        symlink(target, going.path("going.d").join(name)).expect("a new link");
    }
    let _socket = UnixListener::bind(going.path("going.d/socket")).expect("a new socket");
    // One service is held down, one is done, and one does not stop though its file is gone: none of
    // them needs a timer. And going has noticed a change.
    going.write("once", format!("{}restart=never\n", going.cmd("exit", "once", &["0", "0"])));
    going.write("deaf", going.cmd("hold", "deaf", &["ignore"]) + "timeout=0\n");
    let deaf = going.up("deaf");
    going.remove("deaf");
    going.hold_down("s3");
    going.wait_status("deaf", "stopping");
    going.wait_status("once", "done");
    going.wait_status("s3", "down");
    // going may still be busy with what follows.
    going.wait_quiet();
    let before = switches();
    // This wait is the measurement. It is longer than the 5 s after which CONFDIR may be tried
    // again.
    sleep(Duration::from_secs(6));
    assert_eq!(switches(), before);
    send(deaf, Signal::SIGKILL);
    going.terminate();
}

/// A user that no other scenario has, and no other run of the tests.
fn user(nth: u32) -> u32 {
    20_000 + 3 * (std::process::id() % 10_000) + nth
}

/// Lets the user have one process, which is going, or as many as before.
fn allow_processes(going: &Going, user: u32, count: &str) {
    // Only that user may do this, unless root has every capability.
    let mut allow = going.service();
    allow.args(["allow", &going.pid().to_string(), count]);
    run_by(&mut allow, user);
    assert!(allow.status().expect("it can be executed").success());
}

/// Starts going and a service as this user, then allows no more processes and kills the service.
fn start_and_take_processes_away(going: &mut Going, user: u32) {
    going.open_to_everybody();
    going.hold("web");
    going.start_with(|command| run_by(command, user));
    let web = going.up("web");
    going.rescan();
    allow_processes(going, user, "1");
    send(web, Signal::SIGKILL);
}

/// A failed fork counts as an end of that service, and is retried like any other. going goes on
/// serving the rest.
fn a_failing_fork_leaves_going_responsive() {
    let mut going = Going::new();
    let user = user(0);
    start_and_take_processes_away(&mut going, user);
    going.wait_log("web: unable to fork: Resource temporarily unavailable, next start in 2 s");
    going.wait_log("web: unable to fork: Resource temporarily unavailable, next start in 4 s");
    // CONFDIR cannot be read now either, which is logged and tried again.
    going.write("bad", "comand=x\n");
    going.signal(Signal::SIGHUP);
    going.wait_log("unable to begin to read CONFDIR: Resource temporarily unavailable");
    allow_processes(&going, user, "all");
    going.wait_log("bad:1: unknown key \"comand\"");
    going.wait_starts("web", 2);
    going.up("web");
    going.rescan();
    going.terminate();
}

/// going needs no further process to end its services and itself.
fn a_failing_fork_keeps_nobody_from_ending_it() {
    let mut going = Going::new();
    start_and_take_processes_away(&mut going, user(1));
    going.wait_log("web: unable to fork");
    going.terminate();
    assert_eq!(going.starts("web").len(), 1);
}

/// Not even the first look at CONFDIR is possible.
fn without_any_process_going_waits_for_better_times() {
    let mut going = Going::new();
    going.open_to_everybody();
    going.hold("web");
    let user = user(2);
    going.start_with(|command| {
        run_by(command, user);
        let allow_one = || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
            Ok(setrlimit(Resource::RLIMIT_NPROC, 1, hard)?)
        };
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(allow_one) };
    });
    going.wait_log("unable to begin to read CONFDIR: Resource temporarily unavailable");
    allow_processes(&going, user, "all");
    going.up("web");
    going.terminate();
}
