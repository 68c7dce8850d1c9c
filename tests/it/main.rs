//! Every test of going that does not stand beside its code as an example: the model on its own,
//! the sources, and above all scenarios against the real binary.
//!
//! One crate, with a `main` of its own for two reasons. A scenario whose tool is missing has to be
//! seen as skipped, with the reason, and has to fail where everything should be there (`needs`).
//! And the same file serves as the service under test (`service`): started as `it service …` it
//! records what happens to it, so that the tests need no other program for that.
//!
//! `cargo test -- NAME` runs what contains NAME, `GOING=/path/to/going cargo test` another binary.

#![allow(
    // A test that meets what it does not expect has to stop at once; that is what it is for.
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    // `pre_exec`, and what only libc offers: the point of many scenarios is an odd world.
    unsafe_code,
    // Nobody calls these from outside.
    missing_docs
)]

mod boot;
mod bundle;
mod config;
mod container;
mod faults;
mod goingctl;
mod goingctl_files;
mod goingctl_procfile;
mod goingctl_status;
mod goingctl_steer;
mod goinglog;
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

/// Scenarios wait for most of their time, and seldom for the processor.
const THREADS: usize = 8;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some("service") {
        service::run(&words.collect::<Vec<_>>());
        return ExitCode::SUCCESS;
    }
    for caught in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        // Who runs the tests in the background of a shell, or by nohup(1), has them ignored, and so
        // would whoever is to end by them here.
        // SAFETY: no handler.
        unsafe { signal(caught, SigHandler::SigDfl) }.expect("a valid signal");
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    // libtest-mimic prints the message of a panic after the run; the place it leaves out.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            eprintln!("failed at {place}");
        }
    }));
    if std::env::var_os("CI").is_some() {
        // Scenarios know processes by their numbers, and use up more than the 32768 that a kernel
        // begins with; distributions raise that to this, too.
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
    // The longest first.
    let mut machines = inits::tests();
    machines.extend(boot::tests());
    // One is booted at a time: those that wait for their turn take the place of others. So they are
    // spread.
    let distance = tests.len() / machines.len();
    for (index, machine) in machines.into_iter().enumerate() {
        tests.insert(index * (distance + 1), machine);
    }
    tests
}

/// What takes no machine of its own.
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
        live::tests(),
        storm::tests(),
        status::tests(),
        goinglog::tests(),
        goingctl::tests(),
        goingctl_status::tests(),
        goingctl_files::tests(),
        goingctl_procfile::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
