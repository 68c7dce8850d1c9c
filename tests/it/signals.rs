//! Signals that mean nothing to going, and many signals at once.

use crate::harness::Going;
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::libc;
use nix::sys::signal::Signal;

pub fn tests() -> Vec<Trial> {
    vec![scenario!(stray_signals_do_no_harm), scenario!(many_at_once_are_no_more_than_one)]
}

/// USR1, PIPE, QUIT and all others that have no meaning, real-time ones included, are ignored.
fn stray_signals_do_no_harm() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let web = going.up("web");
    let meant = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL, Signal::SIGSTOP];
    for number in 1..=libc::SIGRTMAX() {
        if meant.iter().any(|&signal| signal as i32 == number) {
            continue;
        }
        // SAFETY: no memory is involved, and the number is of our own child.
        let result = unsafe { libc::kill(going.pid(), number) };
        assert_eq!(result, 0);
        // One by one: if all were sent at once, we could not tell which one did harm.
        going.wait_for(&format!("signal {number} taken"), || {
            let pending = ["SigPnd", "ShdPnd"].map(|field| proc::status(going.pid(), field));
            pending.iter().all(|mask| mask.bytes().all(|digit| digit == b'0'))
        });
        assert!(proc::is_running(going.pid()), "signal {number} ended it\n{}", going.report());
    }
    going.rescan();
    assert_eq!((going.up("web"), going.starts("web").len()), (web, 1), "{}", going.report());
    going.terminate();
}

/// A storm of HUP while services come and go: nothing is lost, and nothing runs twice.
fn many_at_once_are_no_more_than_one() {
    let mut going = Going::new();
    for name in ["a", "b", "c"] {
        going.hold(name);
    }
    going.start();
    let pids = ["a", "b", "c"].map(|name| going.up(name));
    for turn in 0..200 {
        if turn % 20 == 0 {
            going.write("d", going.cmd("hold", "d", &["0", &turn.to_string()]));
        }
        going.signal(Signal::SIGHUP);
        going.signal(Signal::SIGCHLD);
    }
    going.rescan();
    assert_eq!(["a", "b", "c"].map(|name| going.up(name)), pids);
    let last = going.up("d");
    assert_eq!(proc::arguments(last).last().map(String::as_str), Some("180"));
    assert_eq!(going.twins(), [""; 0]);
    going.terminate();
}
