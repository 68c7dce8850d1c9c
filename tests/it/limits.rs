//! The edges: a full table, a full pool, a thousand ends, no processes to be had, and nothing to do.

use crate::harness::{Going, run_by, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::thread::sleep;
use std::time::Duration;

/// Services, as documented under LIMITS.
const SERVICES: usize = 256;
/// The promise of the first line of the README.
const PEAK_KB: u64 = 1024;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(a_full_table_and_a_thousand_crashes),
        scenario!(one_too_many_waits_for_room),
        scenario!(a_full_pool_refuses_one_file_only),
        scenario!(nothing_to_do_is_no_wake_up),
        scenario!(a_failing_fork_leaves_going_responsive, Root),
        scenario!(a_failing_fork_keeps_nobody_from_ending_it, Root),
    ]
}

/// 256 services, killed four times over: each comes back, and going is what it was before: in
/// memory, in descriptors, without a zombie.
fn a_full_table_and_a_thousand_crashes() {
    let mut going = Going::new();
    for number in 0..SERVICES {
        going.write(&format!("s{number:03}"), going.cmd("pause", "-", &[]));
    }
    going.start();
    let pid = going.pid();
    let is_full = || going.children().len() == SERVICES;
    going.wait_for("256 services", is_full);
    let descriptors = proc::descriptors(pid);
    assert!(proc::status_number(pid, "VmPeak") <= PEAK_KB, "{}", proc::status(pid, "VmPeak"));

    let mut seen: HashSet<i32> = going.children().into_iter().collect();
    for _round in 0..3 {
        for child in going.children() {
            send(child, Signal::SIGKILL);
        }
        // After 1, 2 and 4 s.
        let is_new = |child: &i32| !seen.contains(child) && proc::is_running(*child);
        let all_new = || going.children().iter().filter(|child| is_new(child)).count() == SERVICES;
        going.wait_for("256 new ones", all_new);
        seen.extend(going.children());
    }
    assert_eq!(seen.len(), 4 * SERVICES);
    // These wait for 8 s: long enough to see all of them reaped.
    for child in going.children() {
        send(child, Signal::SIGKILL);
    }
    going.wait_for("all of them reaped", || going.children().is_empty());

    assert_eq!(proc::descriptors(pid), descriptors);
    assert!(proc::status_number(pid, "VmPeak") <= PEAK_KB, "{}", proc::status(pid, "VmPeak"));
    assert_eq!(proc::status_number(pid, "Threads"), 1);
    assert_eq!(going.log_count(": killed by signal 9 after "), 4 * SERVICES);
    going.terminate();
}

/// The 257th is refused with a message, harms nobody, and starts by itself when another goes.
fn one_too_many_waits_for_room() {
    let mut going = Going::new();
    for number in 0..SERVICES {
        going.write(&format!("s{number:03}"), going.cmd("pause", "-", &[]));
    }
    going.start();
    going.wait_for("256 services", || going.children().len() == SERVICES);
    let before: HashSet<i32> = going.children().into_iter().collect();
    going.hold("late");
    going.signal(Signal::SIGHUP);
    going.wait_log("late: no room: 256 services are the limit");
    assert_eq!(going.children().into_iter().collect::<HashSet<_>>(), before);
    going.remove("s100");
    going.signal(Signal::SIGHUP);
    going.up("late");
    going.wait_log("s100: stopped, ");
    let kept = going.children().into_iter().filter(|pid| before.contains(pid)).count();
    assert_eq!(kept, SERVICES - 1);
    going.terminate();
}

/// 48 KiB of configuration in all.
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
    going.wait_log(": no room: ");
    let refused = names.iter().filter(|name| going.log_count(&format!("{name}: no room")) > 0);
    let refused: Vec<_> = refused.cloned().collect();
    let (first, rest) = refused.split_first().expect("one at least");
    let fitting: Vec<_> = names.iter().filter(|name| !refused.contains(name)).collect();
    // Of some 3.8 KiB each, 12 fit into 48 KiB beside the small one.
    assert!((10..=13).contains(&fitting.len()), "{fitting:?}\n{}", going.report());
    going.all_up(&fitting);
    assert_eq!(going.starts("small").len(), 1);
    // Room for one: the others stay out.
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
    // It may still be busy with what follows the last start.
    let is_asleep = || proc::stat(going.pid()).is_some_and(|stat| stat.state == 'S');
    going.wait_for("going asleep", is_asleep);
    let before = switches();
    // This wait is the measurement. Longer than the 5 s after which CONFDIR may be tried again.
    sleep(Duration::from_secs(6));
    assert_eq!(switches(), before);
    going.terminate();
}

/// Started by a user who may have one process, which is going; returns the user.
fn start_without_processes(going: &mut Going, nth_user: u32) -> u32 {
    going.open_to_everybody();
    // A user of no other scenario, and of no other run of the tests.
    let user = 20_000 + 2 * (std::process::id() % 20_000) + nth_user;
    going.start_with(|command| {
        run_by(command, user);
        let allow_one = || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
            Ok(setrlimit(Resource::RLIMIT_NPROC, 1, hard)?)
        };
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(allow_one) };
    });
    user
}

/// A failed fork is a failure of that service, retried like any other; going serves all the rest.
fn a_failing_fork_leaves_going_responsive() {
    let mut going = Going::new();
    going.hold("web");
    let user = start_without_processes(&mut going, 0);
    going.wait_log("web: unable to fork: Resource temporarily unavailable, next start in 1 s");
    going.wait_log("web: unable to fork: Resource temporarily unavailable, next start in 2 s");
    going.write("bad", "comand=x\n");
    going.signal(Signal::SIGHUP);
    going.wait_log("bad:1: unknown key \"comand\"");
    // Only the user himself may do that, unless root has every capability.
    let mut lift = going.service();
    lift.args(["lift", &going.pid().to_string()]);
    run_by(&mut lift, user);
    assert!(lift.status().expect("it can be executed").success());
    going.up("web");
    going.rescan();
    going.terminate();
}

fn a_failing_fork_keeps_nobody_from_ending_it() {
    let mut going = Going::new();
    going.hold("web");
    start_without_processes(&mut going, 1);
    going.wait_log("web: unable to fork");
    going.terminate();
    assert_eq!(going.starts("web"), []);
}
