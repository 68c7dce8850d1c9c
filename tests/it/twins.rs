//! A service never runs twice, not even when going itself is killed and respawned by init.

use crate::harness::{Going, Helper, refuse_pidfds, send};
use crate::needs::{LAST_PID, scenario};
use crate::proc;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(what_can_be_locked_is_closed_to_others),
        scenario!(services_end_with_a_killed_going),
        scenario!(a_service_of_another_user_ends_with_a_killed_going, Root),
        scenario!(a_killed_going_is_followed_by_one_of_each),
        scenario!(what_outlives_a_killed_going_is_killed_first),
        scenario!(what_outlives_a_killed_going_is_waited_for_with_an_old_kernel),
        scenario!(what_outlives_a_killed_going_is_found_by_any_name),
        scenario!(leftovers_are_ended_with_their_group),
        scenario!(what_outlives_a_killed_going_is_killed_though_not_started),
        scenario!(a_stopping_service_is_no_leftover),
        scenario!(a_start_that_waits_for_its_predecessor_can_be_stopped),
        scenario!(a_start_that_has_lost_its_going_leaves),
        scenario!(a_process_that_has_an_old_number_is_left_alone, LastPid),
        scenario!(a_pid_file_of_another_boot_or_namespace_is_ignored),
        scenario!(a_proc_of_another_namespace_is_not_believed, Unshare),
        scenario!(killed_a_hundred_times_it_never_runs_two),
    ]
}

/// A lock needs no more than an open file. If others could read one of these files they could lock
/// it, and so keep going or a service from starting.
fn what_can_be_locked_is_closed_to_others() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    going.up("web");
    for file in ["run/lock", "run/pid/web"] {
        let mode = fs::metadata(going.path(file)).expect("going makes it").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} {mode:o}");
    }
    going.terminate();
}

/// A service that is no longer supervised gets TERM from the kernel.
fn services_end_with_a_killed_going() {
    let mut going = Going::new();
    going.hold("obeys");
    going.write("lingers", going.cmd("hold", "lingers", &["100"]));
    going.start();
    let (obeys, lingers) = (going.up("obeys"), going.up("lingers"));
    going.signal(Signal::SIGKILL);
    going.wait_gone("the one that obeys", obeys);
    going.wait_gone("the one that lingers", lingers);
    assert_eq!(going.records("lingers.terms").len(), 1, "it has been told by TERM");
}

/// The kernel drops the request to send a signal at every change of user.
fn a_service_of_another_user_ends_with_a_killed_going() {
    let mut going = Going::new();
    going.open_to_everybody();
    going.write("web", going.cmd("hold", "web", &["100"]) + "user=12345\ngroup=12345\n");
    going.start();
    let web = going.up("web");
    going.signal(Signal::SIGKILL);
    going.wait_gone("the service", web);
    assert_eq!(going.records("web.terms").len(), 1, "it has been told by TERM");
}

fn a_killed_going_is_followed_by_one_of_each() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["500"]));
    going.write("short", going.cmd("exit", "short", &["1", "0"]));
    going.start_under_init();
    let (first, web) = (going.pid(), going.up("web"));
    going.signal(Signal::SIGKILL);
    let starts = going.wait_starts("web", 2);
    assert_ne!(going.pid(), first);
    assert!(!proc::is_running(web));
    // It had its 500 ms: it got TERM, and was waited for.
    assert_eq!(going.records("web.terms").len(), 1);
    assert_eq!(going.twins(), [""; 0]);
    assert!(starts[1].at_ms - starts[0].at_ms >= 490, "{starts:?}");
    going.rescan();
    assert_eq!(going.starts("web").len(), 2);
}

/// The new going waits for the documented timeout, and no longer. It does so a second time, too:
/// the process that it starts has itself waited for those 5 s, and is recognised all the same.
fn what_outlives_a_killed_going_is_killed_first() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["ignore"]));
    going.start_under_init();
    for count in 1..=2 {
        let old = going.wait_starts("web", count)[count - 1].pid;
        let start = Instant::now();
        going.signal(Signal::SIGKILL);
        going.wait_starts("web", count + 1);
        let took = start.elapsed();
        assert_eq!(going.twins(), [""; 0], "after kill {count}\n{}", going.report());
        assert!(!proc::is_running(old));
        let documented = Duration::from_secs(5);
        assert!(took >= documented && took < documented + Duration::from_secs(3), "{took:?}");
    }
}

fn what_outlives_a_killed_going_is_waited_for_with_an_old_kernel() {
    let mut going = Going::new();
    for (name, how) in [("lingers", "500"), ("ignores", "ignore")] {
        going.write(name, going.cmd("hold", name, &[how]));
    }
    going.start_with(refuse_pidfds);
    let old = going.all_up(&["lingers", "ignores"]);
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    going.start_with(refuse_pidfds);
    going.wait_starts("lingers", 2);
    // The other one still has its 5 s.
    assert!(old.iter().filter(|pid| proc::is_running(**pid)).count() == 1, "{}", going.report());
    going.wait_starts("ignores", 2);
    assert_eq!(going.twins(), [""; 0], "{}", going.report());
    going.terminate();
}

/// In /proc/PID/stat the fields follow the process's name, which is that of its program, whatever
/// it contains.
fn what_outlives_a_killed_going_is_found_by_any_name() {
    let mut going = Going::new();
    let service = going.service().get_program().to_owned();
    symlink(&service, going.path("a) b")).expect("a new link");
    let (service, link) = (service.display().to_string(), going.path("a) b").display().to_string());
    going.write("web", going.cmd("hold", "web", &["500"]).replace(&service, &link));
    going.start();
    going.up("web");
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    going.start();
    going.wait_starts("web", 2);
    assert_eq!(going.twins(), [""; 0], "{}", going.report());
    going.terminate();
}

/// The kernel has sent TERM to the main process only.
fn leftovers_are_ended_with_their_group() {
    let mut going = Going::new();
    let script = "sleep 1000 & trap \"sleep 1; exit\" TERM; while :; do sleep 0.1; done";
    going.write("web", format!("cmd=sh -c '{script}'\n"));
    going.start();
    let web = going.wait_child("web", |words| words.last().is_some_and(|word| word == script));
    let is_long = |pid: &i32| proc::arguments(*pid) == ["sleep", "1000"];
    let long = || proc::children(web).into_iter().find(is_long);
    going.wait_for("what it has begun with", || long().is_some());
    let long = long().expect("it stays");
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    going.start();
    going.wait_gone("what it has begun with", long);
    going.terminate();
}

/// These services are not started again, so no new process of theirs ends the old one.
fn what_outlives_a_killed_going_is_killed_though_not_started() {
    let mut going = Going::new();
    for name in ["removed", "held"] {
        going.write(name, going.cmd("hold", name, &["ignore"]));
    }
    going.hold("web");
    going.start();
    let old = going.all_up(&["removed", "held"]);
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    going.remove("removed");
    fs::write(going.path("run/down/held"), "").expect("a down file");
    going.start();
    for pid in old {
        going.wait_gone("what a killed going has left", pid);
    }
    let web = going.up("web");
    going.rescan();
    assert_eq!(going.up("web"), web, "it is left alone");
    going.terminate();
}

/// A service that is being stopped has its own signal and its own timeout, however often CONFDIR is
/// read meanwhile.
fn a_stopping_service_is_no_leftover() {
    let mut going = Going::new();
    let script = "trap \"\" USR1; exec sleep 1000";
    going.write("web", format!("cmd=sh -c '{script}'\nstop=USR1\ntimeout=0\n"));
    going.start();
    let web = going.wait_child("web", |words| words == ["sleep", "1000"]);
    going.remove("web");
    going.wait_status("web", "stopping");
    going.rescan();
    assert!(proc::is_running(web), "{}", going.report());
    assert_eq!(going.status_of("web")[1], "stopping");
    send(web, Signal::SIGKILL);
    going.terminate();
}

/// A service that still waits for the process of a killed going ends with TERM like any other.
fn a_start_that_waits_for_its_predecessor_can_be_stopped() {
    let mut going = Going::new();
    going.write("web", going.cmd("hold", "web", &["ignore"]));
    going.start();
    let old = going.up("web");
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    going.start();
    // Until it waits, its signals are blocked, as going's are.
    let waits = |&pid: &i32| proc::status(pid, "SigBlk").ends_with("0000000000000000");
    going.wait_for("a child that waits", || going.children().iter().any(waits));
    going.signal(Signal::SIGTERM);
    going.wait_log("web: stopped, killed by signal 15");
    going.wait_exit();
    assert!(proc::is_running(old), "it ignores TERM, and had 5 s");
    assert_eq!(going.log_count("does not stop"), 0, "{}", going.report());
    // No process waits for it any more, but it is ended all the same.
    going.wait_gone("what a killed going has left", old);
}

/// By then the file may name the service of another going.
fn a_start_that_has_lost_its_going_leaves() {
    let mut going = Going::new();
    fs::create_dir(going.path("run/pid")).expect("a new directory");
    let lock = File::create(going.path("run/pid/web")).expect("a new file");
    lock.lock().expect("nobody else has it");
    going.hold("web");
    going.start();
    // A child that waits can be stopped.
    let waits = |&pid: &i32| proc::status(pid, "SigBlk").ends_with("0000000000000000");
    let find = || going.children().into_iter().find(waits);
    going.wait_for("a child that waits", || find().is_some());
    let child = find().expect("it waits");
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    let stranger = Helper::spawn(going.service().arg("pause").arg(going.path("")));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the boot's");
    let namespace = fs::metadata("/proc/self/ns/pid").expect("our own").ino();
    let text = format!("{} 99999999999 {} {namespace}\n", stranger.pid(), boot.trim());
    fs::write(going.path("run/pid/web"), text).expect("our own file");
    drop(lock);
    going.wait_gone("the process that waited", child);
    assert!(proc::is_running(stranger.pid()), "{}", going.report());
    assert_eq!(going.starts("web"), []);
}

/// What going has recorded of a service is a pid, and pids are reused. Another process that has it
/// now must be left alone.
fn a_process_that_has_an_old_number_is_left_alone() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let number = going.up("web");
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    going.wait_for("the number free again", || proc::stat(number).is_none());
    let stranger = process_numbered(&going, number);
    going.start();
    going.wait_starts("web", 2);
    assert!(proc::is_running(stranger.pid()), "{}", going.report());
    going.terminate();
    assert!(proc::is_running(stranger.pid()), "{}", going.report());
}

/// As in a RUNDIR that is not emptied when the machine starts, or that several containers had one
/// after another: the same pids come back, and the same times.
fn a_pid_file_of_another_boot_or_namespace_is_ignored() {
    let mut going = Going::new();
    going.hold("web");
    let line = |going: &Going| {
        let text = fs::read_to_string(going.path("run/pid/web")).expect("a pid file");
        text.lines().next().unwrap_or_default().to_owned()
    };
    going.start();
    let web = going.up("web");
    let here = line(&going);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the boot's");
    let namespace = fs::metadata("/proc/self/ns/pid").expect("our own").ino();
    assert!(here.starts_with(&format!("{web} ")), "{here}");
    assert!(here.ends_with(&format!(" {} {namespace}", boot.trim())), "{here}");
    going.terminate();
    let other_boot = "00000000-0000-4000-8000-000000000000";
    for elsewhere in [format!("{other_boot} {namespace}"), format!("{} 1", boot.trim())] {
        let stranger = Helper::spawn(going.service().arg("pause").arg(going.path("")));
        let text = format!("{} 99999999999 {elsewhere}\n", stranger.pid());
        fs::write(going.path("run/pid/web"), &text).expect("a pid file");
        going.start();
        let web = going.up("web");
        assert!(proc::is_running(stranger.pid()), "{}", going.report());
        // The new line replaces the old one, and means the service.
        assert!(line(&going).starts_with(&format!("{web} ")), "{}", line(&going));
        going.terminate();
        assert!(proc::is_running(stranger.pid()), "{}", going.report());
    }
    // With our own boot and namespace such a line does mean the process.
    let stranger = Helper::spawn(going.service().arg("pause").arg(going.path("")));
    let text = format!("{} 99999999999 {} {namespace}\n", stranger.pid(), boot.trim());
    fs::write(going.path("run/pid/web"), text).expect("a pid file");
    going.start();
    going.wait_gone("what the file means", stranger.pid());
    going.terminate();
}

/// In that /proc, pids belong to other processes.
fn a_proc_of_another_namespace_is_not_believed() {
    let scene = Going::new();
    scene.write("db", "cmd=sleep 1000\n");
    let mut command = Command::new("unshare");
    let going = scene.command();
    command.args(["--pid", "--fork", "--kill-child"]).arg(going.get_program());
    command.stderr(File::create(scene.path("log")).expect("our own file"));
    let helper = Helper::spawn(command.args(going.get_args()));
    scene.wait_status("db", "up");
    let db = scene.status_of("db");
    let is_sleep = |pid: &i32| proc::arguments(*pid) == ["sleep", "1000"];
    let below = || proc::descendants(helper.pid()).into_iter().find(is_sleep);
    scene.wait_for("db", || below().is_some());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the boot's");
    let namespace = format!("/proc/{}/ns/pid", below().expect("it stays"));
    let namespace = fs::metadata(namespace).expect("it runs").ino();
    // The process with this pid in our namespace has had it for a long time.
    let text = format!("{} 99999999999 {} {namespace}\n", db[2], boot.trim());
    fs::write(scene.path("run/pid/web"), text).expect("a pid file");
    scene.hold("web");
    scene.wait_starts("web", 1);
    scene.wait_status("web", "up");
    assert_eq!(scene.status_of("db"), db, "{}", scene.report());
}

/// Starts a process with this pid, by telling the kernel which pid it gave last. Other scenarios
/// start processes at the same time, so it may take some attempts.
fn process_numbered(going: &Going, number: i32) -> Helper {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        fs::write(LAST_PID, (number - 1).to_string()).expect("it is needed");
        let helper = Helper::spawn(going.service().arg("pause").arg(going.path("")));
        if helper.pid() == number {
            return helper;
        }
    }
    panic!("the number {number} is not to be had");
}

/// 50 services, and going is killed at 100 moments: while it starts them, waits for those of the
/// going before, or just sleeps.
fn killed_a_hundred_times_it_never_runs_two() {
    let mut going = Going::new();
    let names: Vec<_> = (0..50).map(|number| format!("s{number:02}")).collect();
    for (number, name) in names.iter().enumerate() {
        // Most obey at once, some take their time.
        let words: &[&str] = match number % 10 {
            0 => &["300"],
            1 => &["100"],
            2 => &["0"],
            _ => &[],
        };
        going.write(name, going.cmd("hold", name, words));
    }
    going.start_under_init();
    let mut seed = u64::from(std::process::id());
    eprintln!("moments of killed_a_hundred_times_it_never_runs_two: seed {seed}");
    let wait_respawn = |kills: usize| {
        let is_respawned = || going.records("init.pids").len() == kills + 1;
        going.wait_for("init to start going again", is_respawned);
    };
    for kills in 0..100 {
        wait_respawn(kills);
        // The moment of the kill varies; this waits for nothing.
        sleep(Duration::from_millis(xorshift(&mut seed) % 600));
        send(going.pid(), Signal::SIGKILL);
        assert_eq!(going.twins(), [""; 0], "{}", going.report());
    }
    wait_respawn(100);
    // In the end each of them runs once, as a child of the last going.
    let is_complete = || {
        let mut running: Vec<_> = going.children().into_iter().map(service_name).collect();
        running.sort();
        running == names
    };
    going.wait_for("each of the services once", is_complete);
    assert_eq!(going.twins(), [""; 0], "{}", going.report());
    // Nor does anything run that an earlier going has started.
    let records = going.path("records").display().to_string();
    let is_ours = |pid: &i32| {
        let words = proc::arguments(*pid);
        words.get(2).is_some_and(|verb| verb == "hold") && words.get(3) == Some(&records)
    };
    let everywhere = proc::pids().into_iter().filter(is_ours).count();
    assert_eq!(everywhere, names.len(), "{}", going.report());
}

/// The NAME of a process `it service hold DIRECTORY NAME …`.
fn service_name(pid: i32) -> String {
    proc::arguments(pid).get(4).cloned().unwrap_or_default()
}

/// Pseudo-random numbers, the same for the same seed.
fn xorshift(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
