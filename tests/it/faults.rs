//! System faults: no descriptors, no disk space, no permission, no program.

use crate::harness::{Going, limit};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(without_descriptors_it_goes_on, Root),
        scenario!(with_far_too_few_descriptors_it_waits_for_better_times, Root),
        scenario!(a_full_disk_below_the_log_harms_nobody, Mounts),
        scenario!(messages_that_nobody_takes_are_lost),
        scenario!(scripts_and_their_interpreters),
        scenario!(a_program_that_is_being_written),
    ]
}

fn limit_descriptors(pid: i32, count: u64) {
    limit(pid, libc::RLIMIT_NOFILE, count, 1024);
}

/// EMFILE in going itself: services that need a pipe wait, the others run, and nothing else goes
/// wrong.
fn without_descriptors_it_goes_on() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let web = going.up("web");
    going.rescan();
    going.wait_quiet();
    // Room for a reader and its files, but not for five pipes.
    let open = u64::try_from(proc::descriptors(going.pid()).len()).expect("a number");
    limit_descriptors(going.pid(), open + 6);
    let writers: Vec<_> = (0..5).map(|number| format!("w{number}")).collect();
    for name in &writers {
        going.write(name, going.cmd("hold", name, &[]) + "log=r" + &name[1..]);
        going.hold(&name.replace('w', "r"));
    }
    going.wait_log(": unable to fork: No file descriptors available, next start in 1 s");
    going.wait_log(": unable to fork: No file descriptors available, next start in 2 s");
    assert_eq!((going.up("web"), going.starts("web").len()), (web, 1));
    limit_descriptors(going.pid(), 1024);
    going.all_up(&writers);
    going.rescan();
    going.terminate();
}

/// With so few descriptors not even CONFDIR can be read, which is logged and tried again.
fn with_far_too_few_descriptors_it_waits_for_better_times() {
    let mut going = Going::new();
    going.hold("web");
    let limit = || Ok(setrlimit(Resource::RLIMIT_NOFILE, 9, 1024)?);
    going.start_with(|command| {
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(limit) };
    });
    going.wait_log("unable to begin to read CONFDIR: No file descriptors available");
    going.wait_log("unable to write status in RUNDIR");
    limit_descriptors(going.pid(), 1024);
    going.up("web");
    going.wait_status("web", "up");
    // With no descriptors at all poll(2) fails, but going does not spin: this wait is the
    // measurement.
    limit_descriptors(going.pid(), 0);
    going.signal(Signal::SIGHUP);
    let before = proc::ticks(going.pid());
    sleep(Duration::from_secs(1));
    let spent = proc::ticks(going.pid()) - before;
    assert!(spent < 20, "{spent} ticks of 10 ms in a second of waiting");
    limit_descriptors(going.pid(), 1024);
    going.terminate();
}

/// ENOSPC is the problem of the service that writes the log, and does not concern going.
fn a_full_disk_below_the_log_harms_nobody() {
    let mut going = Going::new();
    let disk = going.path("disk");
    fs::create_dir(&disk).expect("a directory");
    let path = CString::new(disk.to_str().expect("plain")).expect("no NUL");
    let log = format!("log={}/log\n", disk.display());
    let script = "head -c 200000 /dev/zero; echo end $? >/dev/stderr; exec sleep 1000";
    going.write("web", format!("cmd=sh -c '{script}'\n{log}"));
    going.write("full", "cmd=sleep 1001\nlog=/dev/full\n");
    going.hold("other");
    going.start_with(|command| {
        let small = move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let nothing = None::<&Path>;
            mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            let size = Some(c"size=64k");
            mount(nothing, path.as_c_str(), Some(c"tmpfs"), MsFlags::empty(), size)?;
            Ok(())
        };
        // SAFETY: between fork and exec it calls the kernel only, on what was made before.
        unsafe { command.pre_exec(small) };
    });
    let web = going.wait_child("web", |words| words == ["sleep", "1000"]);
    going.wait_child("full", |words| words == ["sleep", "1001"]);
    let log = format!("/proc/{web}/root{}/log", disk.display());
    assert!(fs::metadata(log).expect("it is there").len() <= 65_536);
    going.up("other");
    assert_eq!(going.log_count("exited"), 0, "{}", going.report());
    going.terminate();
}

/// ENOSPC for going's own messages, which are lost.
fn messages_that_nobody_takes_are_lost() {
    let mut going = Going::new();
    going.hold("web");
    going.write("short", going.cmd("exit", "short", &["1", "0"]));
    going.write("bad", "x");
    going.start_with(|command| {
        let full = File::options().write(true).open("/dev/full").expect("a device");
        command.stderr(full);
    });
    going.wait_starts("short", 3);
    going.up("web");
    going.rescan();
    going.terminate();
}

/// going starts no shell that would run a file without `#!` as a script.
fn scripts_and_their_interpreters() {
    let mut going = Going::new();
    let table = [
        ("good", "#!/bin/sh\nexec sleep 1000\n", None),
        ("none", "exec sleep 1000\n", Some((126, "Exec format error"))),
        ("empty", "", Some((126, "Exec format error"))),
        ("gone", "#!/nonexistent/sh\n", Some((127, "No such file or directory"))),
        ("plain", "#!/etc/passwd\n", Some((126, "Permission denied"))),
        ("directory", "#!/usr\n", Some((126, "Permission denied"))),
    ];
    for (name, content, _) in table {
        let path = going.path(name);
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
        going.write(name, format!("cmd='{}'\n", path.display()));
    }
    going.start();
    for (name, _, fault) in table {
        let Some((code, why)) = fault else { continue };
        let path = going.path(name);
        going.wait_log(&format!("{name}: unable to execute {}: {why}", path.display()));
        going.wait_log(&format!("{name}: exited {code} after "));
    }
    going.wait_child("good", |words| words == ["sleep", "1000"]);
    going.terminate();
}

/// ETXTBSY: the program can be executed as soon as its writer has closed it.
fn a_program_that_is_being_written() {
    let mut going = Going::new();
    let path = going.path("program");
    fs::copy("/proc/self/exe", &path).expect("room on the disk");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    let writer = OpenOptions::new().append(true).open(&path).expect("our own file");
    going.write("web", format!("cmd='{}' service pause web\n", path.display()));
    going.start();
    going.wait_log(&format!("web: unable to execute {}: Text file busy", path.display()));
    going.wait_log("web: exited 126 after ");
    drop(writer);
    going.wait_child("web", |words| words.len() == 4 && words[3] == "web");
    going.terminate();
}
