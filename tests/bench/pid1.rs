//! What is measured of a PID 1. Each peer is one, in its own PID namespace, and runs one command.

use crate::measures::Measure;
use crate::peers::{self, Peer};
use crate::processes::{self, Usage};
use crate::results::Results;
use crate::session::{Session, check_interrupt, now_ns, open_fifo};
use crate::{Choice, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use temp_dir::TempDir;

const ORPHANS: &str = "10000";
/// Shutdowns in one round, of which the median is taken.
const TERMS: usize = 3;

const WAIT_MAX: Duration = Duration::from_secs(20);
/// Between two checks whether all are gone.
const GLANCE: Duration = Duration::from_micros(100);

pub fn round(choice: &Choice, results: &mut Results) -> Result<()> {
    let inits = || choice.peers.iter().filter(|peer| peer.as_init.is_some());
    for peer in inits().filter(|_| choice.has(Measure::Orphans)) {
        eprintln!("bench: orphans, {}", peer.name);
        orphans(peer, "once", "10,000 orphans that have ended", results)?;
        orphans(peer, "singly", "10,000 orphans that end one by one", results)?;
    }
    // The floor handles no signal.
    for peer in inits().filter(|peer| choice.has(Measure::Term) && peer.name != "floor") {
        eprintln!("bench: TERM, {}", peer.name);
        for _ in 0..TERMS {
            term(peer, results)?;
        }
    }
    Ok(())
}

/// Starts `peer` as PID 1 with the service's program as its command, which is given `words` and the
/// FIFO.
fn start(peer: &Peer, words: &[&str]) -> Result<Option<Session>> {
    check_interrupt()?;
    let Some(as_init) = peer.as_init else { return Ok(None) };
    let dir = TempDir::with_prefix("going-bench-").map_err(|error| error.to_string())?;
    let path = dir.child("fifo");
    let fifo = open_fifo(&path)?;
    let (service, path) = (peers::service()?.display().to_string(), path.display().to_string());
    let mut cmd = vec![service.as_str()];
    cmd.extend(words);
    cmd.push(&path);
    let mut command = vec!["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    if !geteuid().is_root() {
        command.extend(["--user", "--map-root-user"]);
    }
    let mut command: Vec<String> = command.into_iter().map(Into::into).collect();
    command.extend(as_init(dir.path(), &cmd)?);
    Session::execute(dir, fifo, &command, Stdio::null()).map(Some)
}

/// How long it takes to reap them all, and what that costs PID 1.
fn orphans(peer: &Peer, how: &str, name: &str, results: &mut Results) -> Result<()> {
    let Some(mut session) = start(peer, &["--orphans", how, ORPHANS])? else { return Ok(()) };
    // The command is up, and waits for a moment.
    let Some(_up) = session.next(WAIT_MAX)? else {
        eprintln!("bench: {}: no command:\n  {}", peer.name, session.last_words());
        return Ok(());
    };
    let Some(&init) = processes::tree(session.root()).get(1) else { return Ok(()) };
    let before = Usage::of(&[init]);
    let (begun, reaped) = (session.next(WAIT_MAX)?, session.next(WAIT_MAX)?);
    let after = Usage::of(&[init]);
    let time = begun.zip(reaped).map(|(begun, reaped)| reaped.at_ns - begun.at_ns);
    let time_ms = time.map_or(f64::INFINITY, |time_ns| time_ns as f64 / 1e6);
    let left = processes::tree(init).len().saturating_sub(2);
    results.add(name, "all reaped", "ms", peer.name, time_ms);
    results.add(name, "CPU", "ms", peer.name, (after.cpu_ns - before.cpu_ns) as f64 / 1e6);
    results.add(name, "zombies left", "", peer.name, left as f64);
    Ok(())
}

/// From TERM to PID 1 until the namespace is empty.
fn term(peer: &Peer, results: &mut Results) -> Result<()> {
    let Some(mut session) = start(peer, &[])? else { return Ok(()) };
    let Some(_up) = session.next(WAIT_MAX)? else { return Ok(()) };
    // Time for what PID 1 does after it has started its command.
    sleep(Duration::from_millis(200));
    let Some(&init) = processes::tree(session.root()).get(1) else { return Ok(()) };
    let start_ns = now_ns();
    let due_ns = start_ns + WAIT_MAX.as_nanos() as u64;
    let _there = kill(Pid::from_raw(init), Signal::SIGTERM);
    let is_there = || {
        let status = waitpid(Pid::from_raw(session.root()), Some(WaitPidFlag::WNOHANG));
        matches!(status, Ok(WaitStatus::StillAlive))
    };
    let mut time_ms = f64::INFINITY;
    while now_ns() < due_ns {
        check_interrupt()?;
        if !is_there() {
            time_ms = (now_ns() - start_ns) as f64 / 1e6;
            break;
        }
        sleep(GLANCE);
    }
    results.add("TERM to PID 1, one command", "all gone", "ms", peer.name, time_ms);
    Ok(())
}
