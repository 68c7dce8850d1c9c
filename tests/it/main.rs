//! All tests of going except the doctests: those of the model and of the sources, and above all the
//! scenarios, which run the real binary.
//!
//! One crate, with its own `main` for two reasons. A scenario whose tool is missing must be
//! reported as skipped, with the reason, and must fail where every tool should be there (`needs`).
//! And the same binary serves as the service under test (`service`): started as `it service …`, it
//! records what happens to it, so that the tests need no other program for that.
//!
//! `cargo test -- NAME` runs the tests whose names contain NAME. `GOING=/path/to/going cargo test`
//! tests another binary.

#![allow(
    // A test has to stop at the first thing that it does not expect.
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    // `pre_exec`, and calls that only libc offers: many scenarios need unusual surroundings.
    unsafe_code,
    // These have no callers outside the crate.
    missing_docs
)]

mod boot;
mod bundle;
mod config;
mod container;
mod faults;
mod fuse;
mod goingctl;
mod goingctl_files;
mod goingctl_procfile;
mod goingctl_status;
mod goingctl_steer;
mod goinglog;
mod goinglog_faults;
mod goinglog_files;
mod goinglog_input;
mod goinglog_syslog;
mod harness;
mod httpd;
mod initramfs;
mod inits;
mod inside;
mod keys;
mod limits;
mod lines;
mod live;
mod log_lines;
mod logs;
mod machine;
mod model;
mod namespace;
mod needs;
mod options;
mod proc;
mod regressions;
mod restart;
mod service;
mod signals;
mod sources;
mod spawn;
mod status;
mod stop;
mod storm;
mod surroundings;
mod syslog;
mod terminal;
mod twins;
mod walk;
mod world;

use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::{SigHandler, Signal, signal};
use std::process::ExitCode;

/// Scenarios spend most of their time waiting, and seldom for the processor.
const THREADS: usize = 8;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some("service") {
        service::run(&words.collect::<Vec<_>>());
        return ExitCode::SUCCESS;
    }
    for caught in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        // In the background of a shell, or under nohup(1), some of these signals are ignored. The
        // programs that we start would inherit that, and scenarios end some of them by these
        // signals.
        // SAFETY: no handler.
        unsafe { signal(caught, SigHandler::SigDfl) }.expect("a valid signal");
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    // libtest-mimic prints a panic's message after the run, but not its location.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            eprintln!("failed at {place}");
        }
    }));
    if std::env::var_os("CI").is_some() {
        // Scenarios identify processes by pid, and use up more pids than the kernel's initial
        // maximum of 32768. Distributions raise it to this value, too.
        let _refused = std::fs::write("/proc/sys/kernel/pid_max", "4194304");
    }
    let conclusion = libtest_mimic::run(&arguments, tests());
    let left = harness::left_behind();
    for (pid, words) in &left {
        eprintln!("left behind: {pid} {}", words.join(" "));
    }
    if left.is_empty() { conclusion.exit_code() } else { ExitCode::FAILURE }
}

fn tests() -> Vec<Trial> {
    let mut tests = elsewhere();
    // The longest ones first.
    let mut machines = inits::tests();
    machines.extend(boot::tests());
    // Only one machine runs at a time, and a test that waits for its turn occupies a thread that
    // others could use. So these tests are spread out.
    let distance = tests.len() / machines.len();
    for (index, machine) in machines.into_iter().enumerate() {
        tests.insert(index * (distance + 1), machine);
    }
    tests
}

/// The tests that boot no machine.
fn elsewhere() -> Vec<Trial> {
    [
        model::tests(),
        walk::tests(),
        log_lines::tests(),
        sources::tests(),
        options::tests(),
        config::tests(),
        spawn::tests(),
        surroundings::tests(),
        stop::tests(),
        regressions::tests(),
        restart::tests(),
        goingctl_steer::tests(),
        signals::tests(),
        limits::tests(),
        twins::tests(),
        httpd::tests(),
        syslog::tests(),
        container::tests(),
        terminal::tests(),
        logs::tests(),
        world::tests(),
        keys::tests(),
        faults::tests(),
        fuse::tests(),
        live::tests(),
        storm::tests(),
        status::tests(),
        goinglog::tests(),
        goinglog_files::tests(),
        goinglog_faults::tests(),
        goinglog_input::tests(),
        goinglog_syslog::tests(),
        goingctl::tests(),
        goingctl_status::tests(),
        goingctl_files::tests(),
        goingctl_procfile::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
