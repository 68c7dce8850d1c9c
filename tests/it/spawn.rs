//! What a service is started as: its words, its surroundings, and what happens if it cannot be
//! started.

use crate::harness::{Going, install_program, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::stat::{Mode, umask};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(a_service_starts_in_a_clean_world),
        scenario!(words_are_split_and_quoted_as_documented),
        scenario!(as_many_words_as_the_limit_allows),
        scenario!(cwd_is_where_it_starts),
        scenario!(exec_errors_are_told_apart),
        scenario!(a_program_that_hangs_stalls_nobody),
        scenario!(a_command_is_looked_for_as_by_execvp),
        scenario!(a_main_command_is_looked_for_as_by_execvp),
        scenario!(hundreds_at_once),
    ]
}

/// Own session and process group, stdin on /dev/null, no descriptor above 2, nothing blocked or
/// ignored, umask 022, in `/`, a fresh environment, however going itself was started.
fn a_service_starts_in_a_clean_world() {
    let mut going = Going::new();
    // Looked at from outside, in a program without a runtime: Rust's own, for one, ignores PIPE.
    going.write("plain", "cmd=sleep 1000\n");
    let disturb = || {
        umask(Mode::from_bits_truncate(0o077));
        SigSet::from_iter([Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGHUP]).thread_block()?;
        for ignored in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGINT, Signal::SIGCHLD] {
            // SAFETY: no handler.
            unsafe { signal(ignored, SigHandler::SigIgn)? };
        }
        Ok(())
    };
    going.start_with(|command| {
        command.current_dir("/tmp").env("HOME", "/strange").env("LANG", "xx").env_remove("PATH");
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(disturb) };
    });
    let pid = going.wait_child("sleep", |words| words == ["sleep", "1000"]);

    let stat = proc::stat(pid).expect("it runs");
    assert_eq!((stat.session, stat.group, stat.parent), (pid, pid, going.pid()));
    assert_eq!(proc::status(pid, "SigBlk"), "0000000000000000");
    assert_eq!(proc::status(pid, "SigIgn"), "0000000000000000");
    assert_eq!(proc::status(pid, "Umask"), "0022");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs"), Path::new("/"));
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(proc::environment(pid), [path]);
    let expected = vec![(0, "/dev/null".into()), (1, going.path("stdout")), (2, going.path("log"))];
    // Not at once, because the dynamic linker may have a library open.
    going.wait_for("three descriptors", || proc::descriptors(pid) == expected);
    going.terminate();
}

/// `'…'` literal, `"…"` with `\"` and `\\`, `\x` outside quotes; no shell, no expansion.
fn words_are_split_and_quoted_as_documented() {
    let mut going = Going::new();
    let value = r#"'a  b' "c \"d\" \\ e" f\ g "" '' h'i'"j"k $HOME * # \' 'l\'  tail"#;
    going.write("words", going.cmd("pause", "-", &[value]));
    going.start();
    let pid = going.wait_child("words", |words| words.len() > 5);
    let expected =
        ["a  b", r#"c "d" \ e"#, "f g", "", "", "hijk", "$HOME", "*", "#", "'", r"l\", "tail"];
    assert_eq!(proc::arguments(pid)[5..], expected);
    going.terminate();
}

/// 128 words are the limit. With one-letter words the original going wrote past the end of its
/// array.
fn as_many_words_as_the_limit_allows() {
    let mut going = Going::new();
    // The words before these: the program, `service pause DIR -`.
    let most = vec!["w"; 128 - 5];
    going.write("most", going.cmd("pause", "-", &most));
    going.write("more", going.cmd("pause", "-", &[&most[..], &["w"]].concat()));
    going.write("letters", format!("cmd={}\n", ["x"; 128].join(" ")));
    going.start();
    going.wait_child("most", |words| words.len() == 128);
    going.wait_log("letters: unable to execute x: No such file or directory");
    going.wait_log("more:1:");
    going.rescan();
    assert_eq!(going.log_count("more: started"), 0, "{}", going.report());
    going.terminate();
}

fn cwd_is_where_it_starts() {
    let mut going = Going::new();
    let there = going.path("records");
    going.write("here", format!("cwd={}\n{}", there.display(), going.cmd("hold", "here", &[])));
    going.start();
    // The path may be 4095 bytes long, and chdir(2) by the whole path needs room for all of it.
    let deep = there.join(["d"; 10].map(|name| name.repeat(250)).join("/"));
    fs::create_dir_all(&deep).expect("new directories");
    going.write("deep", format!("cwd={}\n{}", deep.display(), going.cmd("hold", "deep", &[])));
    for (name, path) in [("here", there), ("deep", deep)] {
        let pid = going.up(name);
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs"), path);
    }
    going.terminate();
}

/// 127 not found, 126 not executable, 111 set-up failed; each with the reason in the log, and each
/// tried again.
fn exec_errors_are_told_apart() {
    let mut going = Going::new();
    let plain = going.path("plain");
    fs::write(&plain, "no program\n").expect("a file");
    let formless = going.path("formless");
    fs::copy("/proc/self/exe", &formless).expect("room on the disk");
    fs::write(&formless, "no header\n").expect("a file");
    let (plain, formless) = (plain.display(), formless.display());
    let faults = [
        ("gone", "/nonexistent/gone".to_owned(), 127, "No such file or directory"),
        ("unknown", "no-such-program".to_owned(), 127, "No such file or directory"),
        ("plain", plain.to_string(), 126, "Permission denied"),
        ("directory", "/usr".to_owned(), 126, "Permission denied"),
        ("formless", formless.to_string(), 126, "Exec format error"),
    ];
    for (name, program, ..) in &faults {
        going.write(name, format!("cmd={program} word\n"));
    }
    going.write("lost", "cmd=/bin/true\ncwd=/nonexistent/lost\n");
    going.write("red", "cmd=/nonexistent/\x1b[31m\n");
    going.write("below", "cmd=/etc/passwd/below\n");
    going.start();
    for (name, program, code, reason) in faults {
        going.wait_log(&format!("{name}: unable to execute {program}: {reason}"));
        going.wait_log(&format!("{name}: exited {code} after "));
    }
    going.wait_log("/nonexistent/lost: No such file or directory");
    going.wait_log("lost: exited 111 after ");
    going.wait_log("below: exited 127 after ");
    going.wait_log(r"red: unable to execute /nonexistent/\x1b[31m: No such file or directory");
    assert!(!going.log().contains('\x1b'), "what a file says is shown, not done");
    going.wait_for("a second try", || going.log_count("gone: unable to execute") == 2);
    going.terminate();
}

/// As on a disk that does not answer, the process that executes the program waits: here for the
/// holder of a lease.
fn a_program_that_hangs_stalls_nobody() {
    let mut going = Going::new();
    let program = going.path("program");
    install_program(&std::env::current_exe().expect("/proc is mounted"), &program);
    let file = File::open(&program).expect("our own file");
    // SAFETY: no handler; SIGIO would kill us when the kernel wants the lease back.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.expect("a valid signal");
    // SAFETY: no memory is involved.
    let lease = |kind: i32| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    // A child that another scenario is forking right now may have the program open.
    going.wait_for("a lease", || lease(libc::F_WRLCK) == 0);
    going.write("hangs", format!("cmd='{}' service pause hangs\n", program.display()));
    going.write("short", going.cmd("exit", "short", &["1", "0"]));
    going.hold("web");
    going.start();
    let web = going.up("web");
    going.wait_status("hangs", "up");
    let hangs = going.status_of("hangs")[2].parse().expect("a pid");
    // Restarts, rescans and the status go on, and it can be stopped.
    going.wait_starts("short", 3);
    send(web, Signal::SIGKILL);
    going.wait_starts("web", 2);
    going.rescan();
    assert!(proc::is_running(hangs) && !proc::is_executed(hangs), "{}", going.report());
    going.hold_down("hangs");
    going.wait_log("hangs: stopped, killed by signal 15");
    going.let_up("hangs");
    going.wait_log("hangs: started, pid ");
    going.terminate();
    assert_eq!(going.log_count("does not stop"), 0, "{}", going.report());
}

/// Each directory of PATH is tried in turn. An obstacle in one of them does not hide the command in
/// another.
fn a_command_is_looked_for_as_by_execvp() {
    let mut going = Going::new();
    for name in ["closed", "open"] {
        fs::create_dir(going.path(name)).expect("a new directory");
    }
    fs::write(going.path("closed/tool"), "").expect("a file");
    let service = going.service().get_program().to_owned();
    symlink(service, going.path("open/tool")).expect("a new link");
    let (closed, open) = (going.path("closed"), going.path("open"));
    let (closed, open) = (closed.display(), open.display());
    let wrong = format!("/etc/passwd:{closed}:/nonexistent");
    going.write("web", "cmd=tool service pause web\nenv=PATH\n");
    going.write("here", format!("cmd=tool service pause here\nenv=PATH=/usr:\ncwd={open}\n"));
    going.write("closed", format!("cmd=tool\nenv=PATH={wrong}\n"));
    going.start_with(|command| {
        let long = "l".repeat(4096);
        command.env("PATH", format!("{wrong}:/{long}:{open}"));
    });
    for name in ["web", "here"] {
        going.wait_child(name, |words| words == ["tool", "service", "pause", name]);
    }
    going.wait_log("closed: unable to execute tool: Permission denied");
    going.wait_log("closed: exited 126 after ");
    going.terminate();
}

/// execvp(3) has a default PATH if none is set, and finds no command with an empty name.
fn a_main_command_is_looked_for_as_by_execvp() {
    let going = Going::new();
    for (word, code) in [("true", 0), ("", 127)] {
        let mut command = going.command();
        command.env_remove("PATH").args(["--", word]);
        let status = command.status().expect("going can be executed");
        assert_eq!(status.code(), Some(code), "{word:?}\n{}", going.report());
    }
}

/// All of them are up soon: none waits for another.
fn hundreds_at_once() {
    let mut going = Going::new();
    let names: Vec<_> = (0..200).map(|number| format!("s{number:03}")).collect();
    going.hold_all(&names);
    going.start();
    going.all_up(&names);
    assert_eq!(going.children().len(), names.len());
    going.terminate();
}
