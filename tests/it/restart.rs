//! What happens when a service ends by itself: it is respawned at once, or after 1, 2, 4, 8, 16,
//! 30, 30… s.
//!
//! The later delays and all boundaries are tested in the model; here the clock is real.

use crate::harness::{Going, Start, send};
use crate::needs::scenario;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::thread::sleep;
use std::time::Duration;

/// How much a busy machine may add to a delay: less than the shortest delay in the row.
const SLACK_MS: u64 = 900;
/// /proc/uptime counts in steps of 10 ms.
const STEP_MS: u64 = 10;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(quick_ends_are_backed_off_from),
        scenario!(an_end_after_five_seconds_is_respawned_at_once),
        scenario!(exit_0_is_an_end_like_any_other),
        scenario!(a_kill_is_reported_with_its_signal),
        scenario!(neighbours_put_off_no_restart),
        scenario!(an_edit_starts_the_row_over),
        scenario!(a_down_file_that_goes_starts_the_row_over),
        scenario!(a_rescan_without_an_edit_does_not),
    ]
}

fn gaps_ms(starts: &[Start]) -> Vec<u64> {
    starts.windows(2).map(|pair| pair[1].at_ms - pair[0].at_ms).collect()
}

/// Checks the delays between the starts of a service that ends at once.
#[track_caller]
fn assert_row(starts: &[Start], row_s: &[u64]) {
    let gaps = gaps_ms(starts);
    assert_eq!(gaps.len(), row_s.len());
    for (gap, expected_s) in gaps.iter().zip(row_s) {
        let least = expected_s * 1000 - STEP_MS;
        assert!((least..least + SLACK_MS).contains(gap), "{gaps:?} ms, not {row_s:?} s");
    }
}

fn quick_ends_are_backed_off_from() {
    let mut going = Going::new();
    going.write("short", going.cmd("exit", "short", &["7", "0"]));
    going.start();
    let starts = going.wait_starts("short", 4);
    assert_row(&starts, &[1, 2, 4]);
    for delay_s in [1, 2, 4] {
        let text = format!("short: exited 7 after … s, next start in {delay_s} s");
        assert_eq!(going.log_count(&text), 1, "{text:?}\n{}", going.report());
    }
    going.terminate();
}

fn an_end_after_five_seconds_is_respawned_at_once() {
    let mut going = Going::new();
    going.write("long", going.cmd("exit", "long", &["1", "5100"]));
    // A delay from an earlier end is not reported again.
    let twice = format!("[ -e {0} ] && exec sleep 5.1; >{0}", going.path("once").display());
    going.write("late", format!("cmd=sh -c '{twice}'\n"));
    going.start();
    let starts = going.wait_starts("long", 3);
    for gap in gaps_ms(&starts) {
        assert!((5100 - STEP_MS..5100 + SLACK_MS).contains(&gap), "{gap} ms");
    }
    going.wait_log("long: exited 1 after 5.1 s, next start in 0 s");
    going.wait_log("late: exited 0 after 0.0 s, next start in 1 s");
    going.wait_log("late: exited 0 after 5.1 s, next start in 0 s");
    going.terminate();
}

/// `restart=always` is the default: a service is done only if its file says so.
fn exit_0_is_an_end_like_any_other() {
    let mut going = Going::new();
    going.write("fine", going.cmd("exit", "fine", &["0", "0"]));
    going.start();
    assert_row(&going.wait_starts("fine", 2), &[1]);
    going.wait_log("fine: exited 0 after … s, next start in 1 s");
    going.terminate();
}

fn a_kill_is_reported_with_its_signal() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    send(going.up("web"), Signal::SIGKILL);
    going.wait_log("web: killed by signal 9 after ");
    let second = going.wait_starts("web", 2)[1].pid;
    // Not SEGV, for which Rust has a handler of its own.
    send(second, Signal::SIGALRM);
    going.wait_log("web: killed by signal 14 after ");
    going.terminate();
}

/// Deadlines are absolute. The original going began to wait anew with every signal, so that a
/// neighbour that ended every few seconds could delay all others for ever.
fn neighbours_put_off_no_restart() {
    let mut going = Going::new();
    going.write("short", going.cmd("exit", "short", &["1", "0"]));
    let neighbours: Vec<_> = (0..12).map(|number| format!("n{number}")).collect();
    going.hold_all(&neighbours);
    going.start();
    going.all_up(&neighbours);
    // Something happens every 100 ms, far more often than the 1, 2 and 4 s that "short" waits:
    // an end, and in between signals that mean nothing.
    let mut victims = neighbours.iter().cycle();
    while going.starts("short").len() < 4 {
        let name = victims.next().expect("a cycle");
        let last = going.starts(name).last().copied();
        // One that has ended is not killed again: its pid may belong to another process.
        if let Some(start) = last.filter(|start| going.children().contains(&start.pid)) {
            send(start.pid, Signal::SIGKILL);
        }
        going.signal(Signal::SIGUSR1);
        // The pace of the disturbance; this waits for nothing.
        sleep(Duration::from_millis(100));
    }
    assert_row(&going.starts("short"), &[1, 2, 4]);
    going.terminate();
}

/// A service that has been mended need not wait, and its next failure counts as the first.
fn an_edit_starts_the_row_over() {
    let mut going = Going::new();
    going.write("short", going.cmd("exit", "short", &["1", "0"]));
    going.start();
    going.wait_starts("short", 3);
    going.wait_log("next start in 4 s");
    going.write("short", going.cmd("exit", "short", &["2", "0"]));
    going.signal(Signal::SIGHUP);
    let starts = going.wait_starts("short", 5);
    let at_once = starts[3].at_ms - starts[2].at_ms;
    assert!(at_once < 3000, "it waited for {at_once} ms");
    assert_row(&starts[3..], &[1]);
    going.wait_log("short: exited 2 after … s, next start in 1 s");
    going.terminate();
}

/// A service that is no longer held down need not wait either.
fn a_down_file_that_goes_starts_the_row_over() {
    let mut going = Going::new();
    going.write("short", going.cmd("exit", "short", &["1", "0"]));
    going.start();
    going.wait_starts("short", 4);
    going.wait_log("next start in 8 s");
    going.hold_down("short");
    going.wait_status("short", "down");
    going.let_up("short");
    let starts = going.wait_starts("short", 6);
    let at_once = starts[4].at_ms - starts[3].at_ms;
    assert!(at_once < 5000, "it waited for {at_once} ms");
    assert_row(&starts[4..], &[1]);
    going.terminate();
}

/// HUP is about files: a service in backoff goes on waiting for as long as it had to.
fn a_rescan_without_an_edit_does_not() {
    let mut going = Going::new();
    going.write("short", going.cmd("exit", "short", &["1", "0"]));
    going.start();
    going.wait_starts("short", 2);
    going.rescan();
    going.wait_starts("short", 3);
    going.rescan();
    assert_row(&going.wait_starts("short", 4), &[1, 2, 4]);
    going.terminate();
}
