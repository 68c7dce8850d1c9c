//! Messages through /dev/log to a real syslogd. Both programs run in a mount namespace with its own
//! /dev, so that the machine's own syslog neither hears of them nor matters.

use crate::harness::{Going, Helper, send};
use crate::namespace::Namespace;
use crate::needs::{busybox, scenario};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::fs::{self};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(syslogd_gets_the_messages, Mounts, Busybox),
        scenario!(syslogd_started_later_gets_what_comes_then, Mounts, Busybox),
        scenario!(syslogd_as_a_service_of_going, Mounts, Busybox),
        scenario!(syslogd_hears_from_inside_a_chroot, Mounts, Busybox),
        scenario!(a_syslogd_that_does_not_read_stalls_nothing, Mounts),
    ]
}

/// A mount namespace with an empty /dev, and so without syslog.
struct Dev(Namespace);

impl Dev {
    fn new(going: &Going) -> Dev {
        Dev(Namespace::with_dev(&going.path("")))
    }

    /// Whether a process listens on /dev/log there. The file exists a little earlier than that.
    fn has_log(&self) -> bool {
        let path = self.0.view(Path::new("/dev/log"));
        UnixDatagram::unbound().is_ok_and(|socket| socket.connect(path).is_ok())
    }

    fn start(&self, going: &mut Going) {
        going.start_with(|command| self.0.enter(command));
    }

    /// Starts syslogd; returns when it listens.
    fn syslogd(&self, going: &Going) -> Helper {
        let mut command = Command::new(busybox().expect("it is needed"));
        command.args(["syslogd", "-n", "-O"]).arg(going.path("messages")).stdin(Stdio::null());
        self.0.enter(&mut command);
        let syslogd = Helper::spawn(&mut command);
        going.wait_for("/dev/log", || self.has_log());
        syslogd
    }
}

fn wait_message(going: &Going, text: &str) {
    let path = going.path("messages");
    let read = || String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
    let is_there = || read().lines().any(|line| line.contains(text));
    going.wait_for(&format!("{text:?} in syslogd's file"), is_there);
}

/// The facility is daemon. What was asked for is info, what was not is a warning, and stderr is
/// quiet.
fn syslogd_gets_the_messages() {
    let mut going = Going::new();
    let dev = Dev::new(&going);
    let _syslogd = dev.syslogd(&going);
    going.hold("web");
    dev.start(&mut going);
    let (pid, web) = (going.pid(), going.up("web"));
    wait_message(&going, &format!("daemon.info going[{pid}]: web: started, pid {web}"));
    send(web, Signal::SIGKILL);
    wait_message(&going, &format!("daemon.warn going[{pid}]: web: killed by signal 9 after "));
    going.write("bad", "comand=x\n");
    going.rescan();
    wait_message(&going, &format!("daemon.warn going[{pid}]: bad:1: unknown key \"comand\""));
    going.write("task", "cmd=false\nrestart=never\n");
    going.rescan();
    wait_message(&going, &format!("daemon.warn going[{pid}]: task: exited 1 after "));
    assert_eq!(going.log_count("web: "), 0, "{}", going.report());
    going.wait_starts("web", 2);
    going.terminate();
    wait_message(&going, &format!("daemon.info going[{pid}]: web: stopped, killed by signal 15"));
}

/// Before that, messages go to stderr.
fn syslogd_started_later_gets_what_comes_then() {
    let mut going = Going::new();
    let dev = Dev::new(&going);
    going.hold("web");
    dev.start(&mut going);
    let web = going.up("web");
    going.wait_log(&format!("web: started, pid {web}"));
    let first = dev.syslogd(&going);
    send(web, Signal::SIGKILL);
    wait_message(&going, "web: killed by signal 9 after ");
    assert_eq!(going.log_count("web: killed by signal 9"), 0, "{}", going.report());
    // The same once syslogd has gone again. It may leave its socket behind.
    drop(first);
    let second = going.wait_starts("web", 2)[1].pid;
    send(second, Signal::SIGALRM);
    going.wait_log("web: killed by signal 14 after ");
    going.terminate();
}

/// It receives messages as soon as it listens, and again after it was killed and respawned.
fn syslogd_as_a_service_of_going() {
    let mut going = Going::new();
    let dev = Dev::new(&going);
    let (busybox, messages) = (busybox().expect("it is needed"), going.path("messages"));
    going.write("syslog", format!("cmd={busybox} syslogd -n -O '{}'\n", messages.display()));
    going.hold("web");
    dev.start(&mut going);
    going.up("web");
    going.wait_for("/dev/log", || dev.has_log());
    send(going.up("web"), Signal::SIGKILL);
    wait_message(&going, "web: killed by signal 9 after ");
    let is_syslogd = |words: &[String]| words.get(1).is_some_and(|word| word == "syslogd");
    let first = going.wait_child("syslogd", is_syslogd);
    send(first, Signal::SIGKILL);
    // No syslogd is there to receive that.
    going.wait_log("syslog: killed by signal 9 after ");
    going.wait_gone("the first syslogd", first);
    going.wait_child("syslogd", is_syslogd);
    // A new syslogd has its socket some time after it was started, and a message goes to what is
    // there at that moment. So we try several times.
    let is_heard = |signal: Signal| {
        let text = format!("web: killed by signal {} after ", signal as i32);
        fs::read_to_string(&messages).is_ok_and(|all| all.contains(&text))
    };
    let signals = [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM];
    let heard = signals.into_iter().any(|signal| {
        let starts = going.starts("web").len();
        send(going.up("web"), signal);
        going.wait_starts("web", starts + 1);
        is_heard(signal)
    });
    assert!(heard, "nothing reaches the second syslogd\n{}", going.report());
    going.terminate();
}

/// There is no /dev/log inside.
fn syslogd_hears_from_inside_a_chroot() {
    let mut going = Going::new();
    let dev = Dev::new(&going);
    let _syslogd = dev.syslogd(&going);
    fs::create_dir(going.path("jail")).expect("a directory");
    let jail = going.path("jail").display().to_string();
    going.write("cmd", format!("cmd=/nonexistent\nchroot={jail}\n"));
    going.write("cwd", format!("cmd=/nonexistent\ncwd=/nowhere\nchroot={jail}\n"));
    dev.start(&mut going);
    let pid = going.pid();
    for text in ["cmd: unable to execute /nonexistent", "cwd: unable to change to /nowhere"] {
        wait_message(
            &going,
            &format!("daemon.err going[{pid}]: {text}: No such file or directory"),
        );
    }
    assert_eq!(going.log_count("unable"), 0, "{}", going.report());
    going.terminate();
}

/// The queue of a syslogd that does not read fills up. Nothing waits for it; what does not fit goes
/// to stderr.
fn a_syslogd_that_does_not_read_stalls_nothing() {
    let mut going = Going::new();
    let dev = Dev::new(&going);
    let mut deaf = Command::new("/proc/self/exe");
    deaf.args(["service", "deaf", "/dev/log"]).stdin(Stdio::null());
    dev.0.enter(&mut deaf);
    let _deaf = Helper::spawn(&mut deaf);
    going.wait_for("/dev/log", || dev.has_log());
    let limit = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").expect("/proc is mounted");
    let more: usize = limit.trim().parse::<usize>().expect("a number") + 20;
    // A machine may be set up for longer queues than going has services here.
    let names: Vec<_> = (0..more.min(200)).map(|number| format!("s{number}")).collect();
    going.hold_all(&names);
    dev.start(&mut going);
    going.all_up(&names);
    if more <= names.len() {
        going.wait_log(": started, pid ");
        assert!(going.log_count(": started, pid ") < names.len(), "the queue was never used");
    }
    going.rescan();
    going.terminate();
}
