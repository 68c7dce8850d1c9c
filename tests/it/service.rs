//! The service under test: what this binary does when it is started as `it service VERB …`.
//!
//! A service records what happens to it by appending whole lines to files in a directory, which the
//! harness reads (`Going::starts` and its neighbours). It never talks to going.

use crate::harness::limit;
use crate::{inside, lines, proc};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pause};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit, id};
use std::thread::sleep;
use std::time::Duration;

/// How a service answers TERM.
enum Manner {
    /// By dying of it.
    Obey,
    Ignore,
    /// By exiting 0 after this many milliseconds.
    Linger(u64),
}

/// Carries out one verb. Returns only when the verb is over.
pub fn run(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["true"] => {}
        // The other words are only there to be seen in /proc.
        ["pause", ..] => forever(),
        ["hold", directory, name] => hold(directory, name, &Manner::Obey),
        ["hold", directory, name, "ignore", ..] => hold(directory, name, &Manner::Ignore),
        ["hold", directory, name, ms, ..] => hold(directory, name, &Manner::Linger(number(ms))),
        ["exit", directory, name, code, after_ms] => {
            record_start(directory, name);
            sleep(Duration::from_millis(number(after_ms)));
            exit(self::code(code));
        }
        ["number", directory, name, count, len, ..] => {
            lines::write_numbered(directory, name, number(count), number(len).try_into().unwrap());
        }
        ["tally", directory, name, ref more @ ..] => {
            lines::tally(directory, name, more.contains(&"stays"));
        }
        ["never-waits", directory, name] => {
            never_wait();
            hold(directory, name, &Manner::Obey);
        }
        ["family", directory, name] => family(directory, name),
        ["init", directory, ref command @ ..] => init(directory, command),
        ["container", directory, ref command @ ..] => container(directory, command),
        ["allow", pid, count] => allow(number(pid), count),
        ["storm", directory, name, count, ms] => {
            record_start(directory, name);
            inside::storm(directory, name, number(count), Duration::from_millis(number(ms)));
        }
        ["pipes", directory, name] => inside::pipes(directory, name),
        ["orphans", count] => inside::orphans(number(count)),
        ["bare", ref command @ ..] => inside::bare(command),
        ["old", ref command @ ..] => inside::old(command),
        ["die", how, number] => inside::die(how, code(number)),
        ["note", directory, name, number] => inside::note(directory, name, code(number)),
        ["tty", directory, name, manner] => inside::tty(directory, name, manner),
        ["world"] => inside::world(),
        ["deaf", socket] => {
            let _unread = UnixDatagram::bind(socket).expect("a socket nobody reads");
            forever();
        }
        _ => panic!("no such verb: {words:?}"),
    }
}

/// Runs until it is told to end. Holds a lock as long as it lives, so that a second process of the
/// same service is noticed and recorded.
fn hold(directory: &str, name: &str, manner: &Manner) {
    // This comes first: as soon as the start is recorded, a scenario may send TERM.
    match manner {
        Manner::Obey => {}
        Manner::Ignore => {
            // SAFETY: no handler.
            let before = unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) };
            before.expect("a valid signal");
        }
        Manner::Linger(_) => SigSet::from(Signal::SIGTERM).thread_block().expect("a valid signal"),
    }
    let lock = File::create(Path::new(directory).join(format!("{name}.lock"))).expect("a lock");
    if lock.try_lock().is_err() {
        record(directory, "twins", &format!("{name} {}", id()));
    }
    record_start(directory, name);
    if let Manner::Linger(ms) = manner {
        SigSet::from(Signal::SIGTERM).wait().expect("a valid signal");
        record(directory, &format!("{name}.terms"), &id().to_string());
        sleep(Duration::from_millis(*ms));
        return;
    }
    forever();
}

/// Sets O_NONBLOCK, as node does for its output, and svlogd for its input.
fn never_wait() {
    for fd in 0..3 {
        // SAFETY: no memory is involved.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
        // SAFETY: as above.
        unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) };
    }
}

/// Has a child in the same process group that ignores TERM.
fn family(directory: &str, name: &str) {
    let child = format!("{name}-child");
    let mut command = Command::new("/proc/self/exe");
    // Not waited for: this process does not live long enough.
    drop(command.args(["service", "hold", directory, &child, "ignore"]).spawn());
    hold(directory, name, &Manner::Obey);
}

/// What init does with an inittab entry `respawn`: starts the command again whenever it ends, and
/// reaps everything else that ends.
fn init(directory: &str, command: &[&str]) {
    prctl::set_child_subreaper(true).expect("Linux 3.4");
    loop {
        let mut daemon = Command::new(command[0]);
        daemon.args(&command[1..]);
        // SAFETY: one system call between fork and exec.
        unsafe { daemon.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?)) };
        let pid = daemon.spawn().expect("going can be executed").id();
        record(directory, "init.pids", &pid.to_string());
        let pid = Pid::from_raw(pid.try_into().expect("a pid"));
        loop {
            match waitpid(None, None) {
                Ok(WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, ..))
                    if ended == pid =>
                {
                    break;
                }
                Ok(_) => {}
                Err(error) => panic!("unable to wait: {error}"),
            }
        }
    }
}

/// Runs the command as PID 1 of a PID namespace with a /proc of its own, and ends as it does.
fn container(directory: &str, command: &[&str]) {
    let nothing = None::<&Path>;
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS).expect("root");
    mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).expect("root");
    let mut daemon = Command::new(command[0]);
    daemon.args(&command[1..]);
    let enter = || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        Ok(mount(None::<&Path>, c"/proc", Some(c"proc"), MsFlags::empty(), None::<&Path>)?)
    };
    // SAFETY: between fork and exec it calls the kernel only.
    unsafe { daemon.pre_exec(enter) };
    let mut daemon = daemon.spawn().expect("going can be executed");
    record(directory, "init.pids", &daemon.id().to_string());
    let status = daemon.wait().expect("our own child");
    exit(status.code().unwrap_or(255));
}

/// Sets how many processes another process of the same user may have: `count`, or as many as its
/// hard limit allows.
fn allow(pid: u64, count: &str) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).expect("a valid resource");
    let soft = if count == "all" { hard } else { number(count) };
    limit(pid.try_into().expect("a pid"), libc::RLIMIT_NPROC, soft, hard);
}

/// Appends one line to NAME.starts: pid and time.
fn record_start(directory: &str, name: &str) {
    record(directory, &format!("{name}.starts"), &format!("{} {}", id(), proc::uptime_ms()));
}

/// Appends a line in one write, because others append to the same file.
pub fn record(directory: &str, file: &str, line: &str) {
    let path = Path::new(directory).join(file);
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a record");
    file.write_all(format!("{line}\n").as_bytes()).expect("room on the disk");
}

fn forever() {
    loop {
        pause();
    }
}

fn code(word: &str) -> i32 {
    number(word).try_into().expect("a small number")
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("not a number: {word}"))
}
