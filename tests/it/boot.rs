//! going as PID 1 of a machine: Debian's kernel in QEMU, busybox, and nothing else.
//!
//! A boot keeps a whole processor busy for seconds, so each scenario checks many things in one
//! boot.

use crate::harness::{going, peak_kb};
use crate::initramfs::Initramfs;
use crate::machine::{Machine, RC, initramfs};
use crate::needs::{busybox, scenario};
use libtest_mimic::Trial;
use std::fs;
use std::path::Path;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(services_come_up_and_come_back, Machine),
        scenario!(words_of_the_kernel_stop_nothing, Machine),
        scenario!(no_directory_is_needed, Machine),
        scenario!(the_disk_of_the_program_goes, Machine),
        scenario!(the_documented_rc_script_becomes_going, Machine),
        scenario!(the_documented_rc_script_needs_no_console, Machine),
        scenario!(busybox_poweroff, Machine),
        scenario!(busybox_reboot, Machine),
        scenario!(busybox_halt, Machine),
        scenario!(ctrl_alt_del, Machine),
        scenario!(a_power_failure, Machine),
        scenario!(rtmin_and_three, Machine),
    ]
}

/// Reports on the console what happens to it. On TERM it takes its time to end, and leaves a file
/// on the disk.
const WEB: &str = "#!/bin/sh
trap 'echo web: TERM >/dev/console; sleep 0.3
    echo written by web at its end >/disk/web; echo web: over >/dev/console; exit' TERM
echo web: started >/dev/console
while :; do sleep 1000 & wait; done
";

/// A process that belongs to no service.
const STRAY: &str = "#!/bin/sh
trap 'echo written by stray at its end >/disk/stray; echo stray: TERM >/dev/console; exit' TERM
echo stray: started >/dev/console
while :; do sleep 1000 & wait; done
";

/// Ignores TERM, so that it has to be killed.
const DEAF: &str = "#!/bin/sh
trap '' TERM
echo deaf: started >/dev/console
while :; do sleep 1000; done
";

/// An rc script that execs going, through the program `FIRST` if the kernel's command line names
/// one, and two services.
fn going_as_pid_1() -> Initramfs {
    let mut files = initramfs();
    files.program("init", format!("{RC}exec $FIRST /usr/sbin/going \"$@\"\n").as_bytes());
    files.program("bin/old", b"#!/bin/sh\nexec it service old \"$@\"\n");
    for (name, script) in [("web", WEB), ("stray", STRAY), ("deaf", DEAF)] {
        files.program(&format!("bin/{name}"), script.as_bytes());
    }
    files.file("etc/going.d/web", "cmd=/bin/web\n");
    files.file("etc/going.d/remote", "cmd=/bin/remote\n");
    files.directory("disk");
    files
}

#[track_caller]
fn boot(words: &str) -> Machine {
    let mut machine = Machine::boot(going_as_pid_1(), words);
    machine.wait_remote();
    machine.wait_console("web: started\n");
    assert_eq!(machine.run("cat /proc/1/comm"), "going");
    machine
}

fn services_come_up_and_come_back() {
    let mut machine = boot("");
    let first = machine.pid_of("web");
    machine.run(&format!("kill -KILL {first}"));
    machine.wait_for("web started again", |machine| {
        machine.console().matches("web: started\n").count() == 2
    });
    assert_ne!(machine.pid_of("web"), first);
    machine.wait_console("web: killed by signal 9 after ");

    machine.run("it service orphans 100");

    // HUP finds what inotify does not report. Apart from HUP and the signals that end the machine,
    // no signal does anything.
    machine.run("ln -s /etc/late /etc/going.d/late");
    machine.wait_console("late: unable to read: No such file or directory");
    machine.run("echo 'cmd=/bin/sleep 1000' >/etc/late; kill -HUP 1");
    machine.wait_console("late: started, pid ");
    let second = machine.pid_of("web");
    let others = "case $it in 1|2|10|12|15|30|37) ;; *) kill -$it 1 ;; esac";
    machine.run(&format!("for it in $(seq 64); do {others}; done"));
    assert_eq!(machine.pid_of("web"), second);
    assert!(!machine.console().contains("shutting down"), "{}", machine.report());

    // The clock is set back, so that the file's change time is in the future. The file counts as
    // settled all the same, and is read.
    let ahead = r#"cmd=sh -c "echo ahead: up >/dev/console; exec sleep 1000"\n"#;
    machine.run(&format!("printf '{ahead}' >/etc/going.d/ahead; date -s '2001-01-01 00:00'"));
    machine.wait_console("ahead: up\n");

    let peak = machine.run("grep VmPeak: /proc/1/status");
    let kb = peak.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    assert!(kb.is_some_and(|kb| kb < peak_kb()), "{peak}");
}

/// The kernel passes on what it does not know on its command line: words to going as arguments,
/// settings in the environment, which the services of PID 1 inherit.
fn words_of_the_kernel_stop_nothing() {
    let words = "single splash -b -z --long -n -h -V -dx -- auto -x -d";
    let mut machine = boot(&format!("GREETING=hello {words}"));
    let arguments = machine.run("tr '\\0' ' ' </proc/1/cmdline");
    assert_eq!(arguments, format!("/usr/sbin/going {}", words.replace("-- ", "")));
    let web = machine.pid_of("web");
    let environment = machine.run(&format!("tr '\\0' '\\n' </proc/{web}/environ"));
    assert!(environment.lines().any(|line| line == "GREETING=hello"), "{environment}");

    for word in ["single", "-z", "-h", "-dx", "auto", "-d"] {
        machine.wait_console(&format!("going[1]: passed over: {word}\n"));
    }

    // A service with restart=exit ends everything here too.
    machine.run("printf 'cmd=/bin/true\\nrestart=exit\\n' >/etc/going.d/last");
    assert_eq!(machine.wait_end(), "guest-shutdown", "{}", machine.report());
    assert!(machine.console().contains("web: TERM"), "{}", machine.report());
}

/// There is no /dev, /proc, /run or /etc, and no descriptor is open. The service's standard output
/// and error lead nowhere, but they are open.
fn no_directory_is_needed() {
    let mut files = Initramfs::default();
    files.program("it", &program(&std::env::current_exe().expect("/proc is mounted")));
    files.program("going", &program(&going()));
    files.program("busybox", &program(Path::new(busybox().expect("it is needed"))));
    let script = "/busybox mknod /line c 4 64; : 3>&1 4>&2; echo bare: up >/line; \
                  /busybox kill -USR2 1; exec /busybox sleep 1000";
    files.file("going.d/bare", &format!("cmd=/busybox sh -c '{script}'\n"));
    let words = "rdinit=/it -- service bare /going -d /going.d";
    let mut machine = Machine::boot(files, words);
    machine.wait_console("bare: up");
    assert_eq!(machine.wait_end(), "guest-shutdown", "{}", machine.report());
}

/// The disk is removed, so that the program cannot be read again, after the kernel has reclaimed
/// all the memory that it could.
fn the_disk_of_the_program_goes() {
    let mut files = initramfs();
    let mount = "mke2fs -F /dev/nvme0n1 >/dev/null; mount -t ext4 /dev/nvme0n1 /disk";
    let copy = "cp /usr/sbin/going /disk; sync";
    files.program("init", format!("{RC}{mount}; {copy}\nexec /disk/going\n").as_bytes());
    files.directory("disk");
    files.directory("groups");
    files.file("etc/going.d/remote", "cmd=/bin/remote\n");
    let mut machine = Machine::boot(files, "");
    machine.wait_remote();
    machine.run("mount -t cgroup2 groups /groups");
    // The kernel first reclaims pages that were not used for two rounds. The write to
    // memory.reclaim fails, because there is less than 1 GiB to reclaim.
    let reclaim = "echo 1 >/proc/1/clear_refs; echo 1G >/groups/memory.reclaim";
    machine.run(&format!("for it in 1 2 3; do {reclaim}; done 2>/dev/null; true"));
    machine.run("echo 1 >/sys/block/nvme0n1/device/device/remove");
    machine.press_ctrl_alt_del();
    assert_eq!(machine.wait_end(), "guest-reset", "{}", machine.report());
}

/// etc/rc as it is distributed, with the links that it asks for and a word on the kernel's command
/// line.
fn the_documented_rc_script_becomes_going() {
    let mut files = initramfs();
    files.program("etc/rc", include_bytes!("../../etc/rc"));
    for name in ["sh", "mount", "mkdir", "grep"] {
        files.symlink(&format!("bin/{name}"), "/bin/busybox");
    }
    files.file("etc/going.d/remote", "cmd=remote\n");
    let mut machine = Machine::boot(files, "rdinit=/etc/rc splash");
    machine.wait_remote();
    assert_eq!(machine.run("busybox tr '\\0' ' ' </proc/1/cmdline"), "/usr/sbin/going");
    let mounts = machine.run("busybox cat /proc/mounts");
    for mount in ["proc /proc proc", "sysfs /sys sysfs", "devtmpfs /dev devtmpfs"] {
        assert!(mounts.contains(mount), "{mount} in {mounts}");
    }
    for mount in ["devpts /dev/pts devpts", "tmpfs /run tmpfs"] {
        assert!(mounts.contains(mount), "{mount} in {mounts}");
    }
    machine.run("busybox grep '^remote up ' /run/going/status");
    machine.wait_console("remote: started, pid ");
    machine.run_last("busybox poweroff");
    assert_eq!(machine.wait_end(), "guest-shutdown", "{}", machine.report());
}

/// A machine may have no driver for any console. What cannot be opened must not end PID 1.
fn the_documented_rc_script_needs_no_console() {
    let mut files = initramfs();
    files.program("etc/rc", include_bytes!("../../etc/rc"));
    let console = "/bin/busybox rm /dev/console\n/bin/busybox mknod /dev/console c 250 250\n";
    files.program("init", format!("{RC}{console}exec /etc/rc\n").as_bytes());
    files.file("etc/going.d/remote", "cmd=remote\n");
    let mut machine = Machine::boot(files, "");
    machine.wait_remote();
    machine.run("grep '^remote up ' /run/going/status");
    machine.run_last("poweroff");
    assert_eq!(machine.wait_end(), "guest-shutdown", "{}", machine.report());
}

fn program(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a readable program")
}

/// Boots with a disk, and with processes that belong to no service.
#[track_caller]
fn boot_with_disk(words: &str) -> Machine {
    let mut machine = boot(words);
    machine.run("mke2fs -F /dev/nvme0n1 >/dev/null && mount -t ext4 /dev/nvme0n1 /disk");
    machine.run("setsid /bin/stray </dev/null >/dev/null 2>&1 &");
    machine.wait_console("stray: started");
    // A stopped process has to be woken before it can act on TERM.
    machine.run("killall -STOP stray");
    machine
}

/// The services were stopped first, everything else only when they had ended, and what both wrote
/// at their end has reached the disk. The disk stays mounted, and nothing but sync(2) writes to it
/// that soon.
#[track_caller]
fn assert_stopped_in_order(machine: &Machine) {
    assert_order(machine, ["web: TERM", "web: over", "stray: TERM"]);
    let disk = machine.disk();
    for text in ["written by web at its end", "written by stray at its end"] {
        let is_written = disk.windows(text.len()).any(|bytes| bytes == text.as_bytes());
        assert!(is_written, "not on the disk: {text:?}\n{}", machine.report());
    }
}

/// Each text is on the console exactly once, in this order.
#[track_caller]
fn assert_order<const COUNT: usize>(machine: &Machine, texts: [&str; COUNT]) {
    let console = machine.console();
    let places = texts.map(|text| {
        let found: Vec<_> = console.match_indices(text).map(|(place, _)| place).collect();
        assert_eq!(found.len(), 1, "{text:?}\n{}", machine.report());
        found[0]
    });
    assert!(places.is_sorted(), "{texts:?}\n{}", machine.report());
}

fn busybox_poweroff() {
    // The kernel reports every process that ends on the console.
    let words = "loglevel=5 tp_printk trace_event=sched:sched_process_exit";
    let mut machine = boot_with_disk(words);
    machine.run("setsid /bin/deaf </dev/null >/dev/null 2>&1 &");
    machine.wait_console("deaf: started");
    machine.run_last("poweroff");
    assert_eq!(machine.wait_end(), "guest-shutdown");
    assert_stopped_in_order(&machine);
    let ends = ["comm=web pid=", "comm=stray pid=", "comm=deaf pid=", "reboot: Power down"];
    assert_order(&machine, ends);
}

fn busybox_reboot() {
    let mut machine = boot_with_disk("");
    machine.run_last("reboot");
    assert_eq!(machine.wait_end(), "guest-reset");
    assert_stopped_in_order(&machine);
}

/// A halted machine keeps its power on.
fn busybox_halt() {
    let mut machine = boot_with_disk("");
    machine.run_last("halt");
    machine.wait_console("reboot: System halted");
    assert!(machine.is_on(), "{}", machine.report());
    assert_stopped_in_order(&machine);
}

/// Left to itself, the kernel would reboot at once.
fn ctrl_alt_del() {
    let mut machine = boot_with_disk("");
    machine.press_ctrl_alt_del();
    assert_eq!(machine.wait_end(), "guest-reset");
    assert_stopped_in_order(&machine);
}

fn a_power_failure() {
    let mut machine = boot_with_disk("");
    machine.run_last("kill -PWR 1");
    assert_eq!(machine.wait_end(), "guest-shutdown");
    assert_stopped_in_order(&machine);
}

/// SIGRTMIN+3, which hypervisors and container managers send, on a kernel without pidfd_open(2).
fn rtmin_and_three() {
    let mut machine = boot_with_disk("FIRST=old");
    machine.run_last("kill -37 1");
    assert_eq!(machine.wait_end(), "guest-shutdown");
    assert_stopped_in_order(&machine);
}
