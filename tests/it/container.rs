//! going as PID 1 of a container: what an ENTRYPOINT has to do, with services and with a main
//! command, under runc and in a plain PID namespace.

use crate::bundle::{By, Container};
use crate::harness::peak_kb;
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::libc;
use std::os::unix::process::ExitStatusExt;
use std::thread;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(ten_thousand_orphans_and_an_orderly_end, Runc),
        scenario!(what_stops_a_container, Runc),
        scenario!(what_stops_a_namespace, Unshare),
        scenario!(other_signals_do_no_harm_to_a_container, Runc),
        scenario!(other_signals_do_no_harm_to_a_namespace, Unshare),
        scenario!(exit_codes_come_through_a_container, Runc),
        scenario!(exit_codes_come_through_a_namespace, Unshare),
        scenario!(deaths_by_signals_come_through_a_container, Runc),
        scenario!(deaths_by_signals_come_through_a_namespace, Unshare),
        scenario!(signals_reach_the_main_command_in_a_container, Runc),
        scenario!(signals_reach_the_main_command_in_a_namespace, Unshare),
        scenario!(services_beside_the_main_command_end_after_it, Runc),
    ]
}

/// Signals by number.
const PWR: i32 = libc::SIGPWR;
const RTMIN_AND_THREE: i32 = 37;
const LAST: i32 = 64;

/// No process can catch these.
const UNCATCHABLE: [i32; 2] = [libc::SIGKILL, libc::SIGSTOP];

/// The signals that by default do not kill a process.
const HARMLESS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// The signals that going keeps for itself: that of its children, and the terminal's stop signals.
const KEPT: [i32; 4] = [libc::SIGCHLD, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

// With services.

fn ten_thousand_orphans_and_an_orderly_end() {
    let mut container = Container::new(By::Runc);
    let hold = container.cmd("hold", "web", &["200"]);
    container.write("web", &hold);
    let orphans = format!("restart=never\ncmd={} service orphans 10000\n", container.it());
    container.write("orphans", &orphans);
    container.start(&[]);
    container.wait_start("web");
    container.wait_for("the end of the orphans", || container.log().contains("orphans: exited"));
    assert!(container.log().contains("orphans: exited 0 "), "{}", container.report());

    let pid = container.pid();
    let children = proc::children(pid);
    assert_eq!(children.len(), 1, "web is the only one left: {children:?}");
    let environment = proc::environment(children[0]);
    assert!(environment.contains(&"TERM=xterm".to_owned()), "runc gives it: {environment:?}");
    let kb = proc::status_number(pid, "VmPeak");
    assert!(kb < peak_kb(), "VmPeak {kb} kB");
    // There is no /run, and the root is read-only, so that going cannot make one.
    assert!(
        container.log().contains("unable to write status in RUNDIR /run/going"),
        "{}",
        container.report()
    );

    let status = container.runc(&["kill"]).arg(container.id()).arg("TERM").status();
    assert!(status.expect("runc can be executed").success());
    assert_eq!(container.wait_exit().code(), Some(0), "{}", container.report());
    assert_eq!(container.records("web.terms").len(), 1, "{}", container.report());
    assert!(container.log().contains("web: stopped, exited 0"), "{}", container.report());
}

fn what_stops_a_container() {
    what_stops(By::Runc);
}

fn what_stops_a_namespace() {
    what_stops(By::Unshare);
}

/// TERM and INT stop it as everywhere, PWR because lxc-stop sends it, and 37 because podman sends
/// it to an init.
#[track_caller]
fn what_stops(by: By) {
    for number in [libc::SIGTERM, libc::SIGINT, PWR, RTMIN_AND_THREE] {
        let mut container = Container::new(by);
        let web = container.cmd("hold", "web", &["100"]);
        container.write("web", &web);
        container.start(&[]);
        container.wait_start("web");
        container.signal(number);
        let status = container.wait_exit();
        assert_eq!(status.code(), Some(0), "signal {number}\n{}", container.report());
        assert_eq!(container.records("web.terms").len(), 1, "{}", container.report());
    }
    // The second signal ends this, not the service's timeout.
    let mut container = Container::new(by);
    let deaf = container.cmd("hold", "deaf", &["ignore"]);
    container.write("deaf", &format!("{deaf}timeout=600\n"));
    container.start(&[]);
    container.wait_start("deaf");
    container.signal(libc::SIGTERM);
    container.wait_for("the shutdown", || container.log().contains("shutting down"));
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait_exit().code(), Some(0), "{}", container.report());
}

fn other_signals_do_no_harm_to_a_container() {
    other_signals_do_no_harm(By::Runc);
}

fn other_signals_do_no_harm_to_a_namespace() {
    other_signals_do_no_harm(By::Unshare);
}

/// No other signal touches a service, above all not USR1 and USR2, by which busybox halts a
/// machine.
#[track_caller]
fn other_signals_do_no_harm(by: By) {
    let mut container = Container::new(by);
    let web = container.cmd("hold", "web", &[]);
    container.write("web", &web);
    container.start(&[]);
    container.wait_start("web");
    let pid = container.pid();
    let meant = [libc::SIGTERM, libc::SIGINT, PWR, RTMIN_AND_THREE];
    for number in (1..=LAST).filter(|number| !meant.contains(number)) {
        if !UNCATCHABLE.contains(&number) {
            container.signal(number);
            wait_taken(&container, pid, number);
        }
    }
    assert_eq!(container.records("web.starts").len(), 1, "{}", container.report());
    assert!(proc::children(pid).into_iter().any(proc::is_running), "{}", container.report());
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait_exit().code(), Some(0), "{}", container.report());
}

/// Waits until the signal is no longer pending; going must have survived it.
#[track_caller]
fn wait_taken(container: &Container, pid: i32, number: i32) {
    container.wait_for(&format!("signal {number} taken"), || {
        let pending = ["SigPnd", "ShdPnd"].map(|field| proc::status(pid, field));
        pending.iter().all(|mask| !mask.is_empty() && mask.bytes().all(|digit| digit == b'0'))
    });
    assert!(proc::is_running(pid), "signal {number} ended it\n{}", container.report());
}

// With a main command.

fn exit_codes_come_through_a_container() {
    exit_codes_come_through(By::Runc);
}

fn exit_codes_come_through_a_namespace() {
    exit_codes_come_through(By::Unshare);
}

fn exit_codes_come_through(by: By) {
    let cases = (0..=255).map(|code| (vec!["exit".to_owned(), code.to_string()], code));
    assert_codes(by, &cases.collect::<Vec<_>>());
    let container = Container::new(by);
    let absent = (vec!["/nowhere".to_owned()], 127);
    let directory = (vec!["/proc".to_owned()], 126);
    for (words, expected) in [absent, directory] {
        let status = container.command(&words).status().expect("it can be executed");
        assert_eq!(status.code(), Some(expected), "{words:?}\n{}", container.report());
    }
}

fn deaths_by_signals_come_through_a_container() {
    deaths_by_signals_come_through(By::Runc);
}

fn deaths_by_signals_come_through_a_namespace() {
    deaths_by_signals_come_through(By::Unshare);
}

fn deaths_by_signals_come_through(by: By) {
    let deadly = (1..=LAST).filter(|number| !HARMLESS.contains(number));
    let cases = deadly.map(|number| (vec!["signal".to_owned(), number.to_string()], 128 + number));
    assert_codes(by, &cases.collect::<Vec<_>>());
}

/// Runs each case in a container of its own, a few at a time.
fn assert_codes(by: By, cases: &[(Vec<String>, i32)]) {
    assert!(cases.len() > 50);
    let parts = cases.chunks(cases.len().div_ceil(3)).map(<[_]>::to_vec);
    let threads = parts.map(|part| thread::spawn(move || wrong_codes(by, &part)));
    let threads: Vec<_> = threads.collect();
    let wrong = threads.into_iter().flat_map(|thread| thread.join().expect("it does not panic"));
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn wrong_codes(by: By, cases: &[(Vec<String>, i32)]) -> Vec<String> {
    let container = Container::new(by);
    let mut wrong = Vec::new();
    for (words, expected) in cases {
        let mut command = vec![container.it(), "service".into(), "die".into()];
        command.extend_from_slice(words);
        let status = container.command(&command).status().expect("it can be executed");
        // unshare kills itself by the signal that killed its child. As going exits instead, no
        // signal may show.
        if (status.code(), status.signal()) != (Some(*expected), None) {
            wrong.push(format!("{words:?}: {status}, not {expected}\n{}", container.report()));
        }
    }
    wrong
}

fn signals_reach_the_main_command_in_a_container() {
    signals_reach_the_main_command(By::Runc);
}

fn signals_reach_the_main_command_in_a_namespace() {
    signals_reach_the_main_command(By::Unshare);
}

/// Every signal that can be caught is passed on, HUP and INT included, except those that going
/// keeps for itself. Each process of the group gets it once. TERM is the last but two, to show that
/// what comes after it is passed on too.
#[track_caller]
fn signals_reach_the_main_command(by: By) {
    let mut container = Container::new(by);
    let main = container.words("note", "main", &["3"]);
    container.start(&main);
    container.wait_for("both processes", || {
        ["main.ready", "child.ready"].iter().all(|file| !container.records(file).is_empty())
    });
    let main = proc::children(container.pid())[0];
    let stat = proc::stat(main).expect("it runs");
    assert_eq!((stat.session, stat.group), (main, main), "without a terminal like any service");
    for number in KEPT {
        container.signal(number);
        wait_taken(&container, container.pid(), number);
    }
    let last = [libc::SIGTERM, libc::SIGUSR1, LAST];
    let is_passed = |number: &i32| !(UNCATCHABLE.contains(number) || KEPT.contains(number));
    let others = (1..LAST).filter(is_passed).filter(|number| !last.contains(number));
    let mut expected = Vec::new();
    for number in others.chain([libc::SIGTERM, libc::SIGUSR1]) {
        container.signal(number);
        expected.push(number.to_string());
        if number == libc::SIGTERM {
            // going may send CONT as well, so that a stopped process can end.
            wait_terminated(&container);
            continue;
        }
        for file in ["main.signals", "child.signals"] {
            wait_noted(&container, file, &expected);
        }
    }
    container.signal(LAST);
    assert_eq!(container.wait_exit().code(), Some(3), "{}", container.report());
}

#[track_caller]
fn wait_terminated(container: &Container) {
    let term = libc::SIGTERM.to_string();
    container.wait_for("TERM in both", || {
        let files = ["main.signals", "child.signals"];
        files.iter().all(|file| container.records(file).contains(&term))
    });
}

/// Waits until the file has these signals and no others, apart from a CONT that follows TERM.
#[track_caller]
fn wait_noted(container: &Container, file: &str, expected: &[String]) {
    let term = libc::SIGTERM.to_string();
    let noted = || {
        let mut noted = container.records(file);
        if let Some(place) = noted.iter().position(|number| *number == term) {
            let mut index = 0;
            noted.retain(|number| {
                index += 1;
                index <= place || *number != libc::SIGCONT.to_string()
            });
        }
        noted
    };
    container.wait_for(&format!("{expected:?} in {file}"), || noted().len() >= expected.len());
    assert_eq!(noted(), expected, "{file}\n{}", container.report());
}

/// TERM goes to the main command at once, and to the services when the main command has ended.
/// going exits with the main command's code.
fn services_beside_the_main_command_end_after_it() {
    let mut container = Container::new(By::Runc);
    let web = container.cmd("hold", "web", &["50"]);
    container.write("web", &web);
    let main = container.words("note", "main", &["9"]);
    container.start(&main);
    container.wait_start("web");
    container.wait_for("the main command", || !container.records("main.ready").is_empty());
    container.signal(libc::SIGTERM);
    wait_terminated(&container);
    // The main command does not end on TERM, so everything stays up.
    container.signal(libc::SIGUSR1);
    wait_noted(&container, "main.signals", &["15".to_owned(), "10".to_owned()]);
    assert_eq!(container.records("web.terms"), [""; 0], "{}", container.report());
    container.signal(LAST);
    assert_eq!(container.wait_exit().code(), Some(9), "{}", container.report());
    assert_eq!(container.records("web.terms").len(), 1, "{}", container.report());
    assert!(container.log().contains("web: stopped, exited 0"), "{}", container.report());
}
