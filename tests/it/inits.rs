//! going under the two inits that have an inittab, as PID 1 of a machine: sysvinit and busybox.
//!
//! The line is that of etc/inittab. It is added while init runs, and made effective as the README
//! says.

use crate::initramfs::Initramfs;
use crate::machine::{Machine, RC, initramfs, unpacked};
use crate::needs::scenario;
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    vec![scenario!(under_sysvinit, Machine, Sysvinit), scenario!(under_busybox_init, Machine)]
}

/// Services that record each start, and any twin.
const SERVICES: [&str; 3] = ["obeys", "lingers", "ignores"];

/// A machine under an init, with everything but the line in its inittab. CONFDIR is still missing.
fn before_going(inittab: &str, line: &str) -> Initramfs {
    let mut files = initramfs();
    files.program("etc/rc", RC.as_bytes());
    files.file("etc/inittab", inittab);
    files.file("etc/inittab.going", &format!("{}\n", documented(line)));
    let words = ["", "300", "ignore"];
    for (name, words) in SERVICES.iter().zip(words) {
        let service = format!("cmd=it service hold /records {name} {words}\n");
        files.file(&format!("etc/going.later/{name}"), &service);
    }
    files.directory("records");
    files
}

/// Finds a line in etc/inittab, where it is commented out.
fn documented(line: &str) -> &'static str {
    let all = include_str!("../../etc/inittab").lines();
    let mut found = all.filter_map(|each| each.strip_prefix('#')).filter(|each| *each == line);
    found.next().unwrap_or_else(|| panic!("etc/inittab has no line {line}"))
}

fn under_sysvinit() {
    let inittab = "id:2:initdefault:\nsi::sysinit:/etc/rc\nre:2345:respawn:/bin/remote\n";
    let mut files = before_going(inittab, "go:2345:respawn:/usr/sbin/going");
    files.tree(&unpacked("sysvinit"));
    let mut machine = Machine::boot(files, "rdinit=/sbin/init");
    machine.wait_remote();
    assert!(machine.console().contains("INIT: Entering runlevel: 2"), "{}", machine.report());
    it_is_respawned(&mut machine, "telinit q");

    // An inittab that is read again for another reason changes nothing.
    let pids = (machine.pid_of("going"), machine.run("cat /records/*.starts"));
    machine.run("echo 'on:2345:once:/bin/touch /tmp/once' >>/etc/inittab; telinit q");
    machine.wait_run("test -e /tmp/once");
    assert_eq!((machine.pid_of("going"), machine.run("cat /records/*.starts")), pids);

    // When its line is removed, going ends in an orderly way. init gives going less time than going
    // gives a service, so no service may be left that ignores TERM.
    machine.run("rm /etc/going.d/ignores; killall -HUP going");
    machine.wait_run("test $(pidof it | wc -w) = 3");
    machine.run("sed -i '/^go:/d' /etc/inittab; telinit q");
    machine.wait_run("! pidof going && ! pidof it");
    let last = machine.run("tail -n 1 /records/lingers.starts | cut -d ' ' -f 1");
    assert_eq!(machine.run("tail -n 1 /records/lingers.terms"), last);
    assert!(!machine.console().contains("respawning too fast"), "{}", machine.report());
}

fn under_busybox_init() {
    let inittab = "::sysinit:/etc/rc\n::respawn:/bin/remote\n";
    let mut files = before_going(inittab, "::respawn:/usr/sbin/going");
    files.symlink("sbin/init", "/bin/busybox");
    let mut machine = Machine::boot(files, "rdinit=/sbin/init");
    machine.wait_remote();
    it_is_respawned(&mut machine, "kill -HUP 1");
}

/// Tests what the README says about the line in inittab.
#[track_caller]
fn it_is_respawned(machine: &mut Machine, reread: &str) {
    assert_eq!(machine.run("cat /proc/1/comm"), "init");
    assert_eq!(machine.try_run("pidof going").0, "");
    machine.run(&format!("cat /etc/inittab.going >>/etc/inittab; {reread}"));

    // Without a CONFDIR going stays up, and it finds one when there is one.
    machine.wait_console("unable to read CONFDIR /etc/going.d: No such file or directory");
    let first = machine.pid_of("going");
    assert_eq!(machine.run(&format!("grep PPid: /proc/{first}/status")), "PPid:\t1");
    machine.run("mv /etc/going.later /etc/going.d");
    wait_all(machine, 1);
    assert_eq!(machine.pid_of("going"), first);

    // HUP starts a new service.
    machine.run("echo 'cmd=it service hold /records later' >/etc/going.d/later");
    machine.run("killall -HUP going");
    machine.wait_run("test -s /records/later.starts");
    assert_eq!(machine.pid_of("going"), first);

    // When going is killed it comes back, and so does each service, once.
    machine.run(&format!("kill -KILL {first}"));
    wait_all(machine, 2);
    assert_ne!(machine.pid_of("going"), first);
    machine.wait_run(&format!("test $(pidof it | wc -w) = {}", SERVICES.len() + 1));
    assert_eq!(machine.run("cat /records/twins 2>/dev/null || true"), "");
    for name in SERVICES {
        let count = machine.run(&format!("wc -l </records/{name}.starts"));
        assert_eq!(count, "2", "{name}\n{}", machine.report());
    }
}

/// Waits until each of the services has been started `count` times.
#[track_caller]
fn wait_all(machine: &mut Machine, count: usize) {
    for name in SERVICES {
        machine.wait_run(&format!("test $(wc -l </records/{name}.starts) = {count}"));
    }
}
