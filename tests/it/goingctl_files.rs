//! `goingctl enable`, `disable`, `check`, `edit` and `logs`: the commands that deal with files.

use crate::goingctl::{
    ABSENT, FAILED, OK, OnTerminal, Ran, command, ctl, ctl_to, give_to_others, is_held, ownership,
    program, wait_state,
};
use crate::harness::{Going, refuse, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(disable_hides_a_file_and_enable_shows_it),
        scenario!(enable_and_disable_do_not_need_going),
        scenario!(enable_overwrites_nothing),
        scenario!(enable_works_on_every_file_system),
        scenario!(enable_tells_what_comes_of_it),
        scenario!(check_says_what_going_says),
        scenario!(edit_replaces_a_file_by_a_good_one),
        scenario!(edit_keeps_what_is_bad_out),
        scenario!(edit_asks_on_a_terminal),
        scenario!(edit_leaves_interrupts_to_the_editor),
        scenario!(edit_makes_a_new_file),
        scenario!(edit_notices_that_somebody_else_was_faster),
        scenario!(edit_brings_nothing_back_that_is_moved_away),
        scenario!(edit_follows_links_and_finds_the_disabled),
        scenario!(edit_wants_a_file),
        scenario!(edit_leaves_nothing_of_a_copy_that_fails),
        scenario!(edit_spares_what_another_has_left),
        scenario!(edit_keeps_the_owner_of_a_file, Root),
        scenario!(edit_executes_no_service_file),
        scenario!(logs_prints_the_end),
        scenario!(logs_follows),
        scenario!(logs_ends_amid_lines),
        scenario!(logs_ends_while_nobody_reads),
        scenario!(logs_needs_little_memory),
        scenario!(logs_looks_at_service_files_only),
        scenario!(logs_notices_a_full_disk),
        scenario!(logs_knows_where_goinglog_writes),
        scenario!(logs_says_where_else_to_look),
        scenario!(logs_takes_nothing_from_a_fifo),
        scenario!(logs_finds_the_disabled),
    ]
}

fn content(going: &Going, name: &str) -> String {
    fs::read_to_string(going.path("going.d").join(name)).expect("a service file")
}

fn exists(going: &Going, name: &str) -> bool {
    going.path("going.d").join(name).exists()
}

fn disable_hides_a_file_and_enable_shows_it() {
    let mut going = Going::new();
    going.hold_all(&["web@1", "web@2", "db"]);
    going.start();
    for name in ["web@1", "web@2", "db"] {
        wait_state(&going, name, "up");
    }
    let ran = ctl_to(&going, OK, &["disable", "web*"]);
    let mut lines: Vec<_> = ran.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["web@1: disabled", "web@2: disabled"]);
    assert!(exists(&going, ".web@1") && !exists(&going, "web@1"));
    assert_eq!(ctl(&going, &["status", "web@1"]).code, ABSENT);
    assert_eq!(ctl_to(&going, OK, &["disable", "web@1"]).out, "web@1: already disabled\n");
    let ran = ctl_to(&going, OK, &["enable", "web@1"]);
    let pid = going.wait_starts("web@1", 2)[1].pid;
    assert_eq!(ran.out, format!("web@1: up, pid {pid}\n"));
    assert!(exists(&going, "web@1") && !exists(&going, ".web@1"));
    assert_eq!(going.starts("db").len(), 1);
    assert_eq!(ctl_to(&going, OK, &["enable", "db"]).out, "db: already enabled\n");
    ctl_to(&going, ABSENT, &["enable", "nobody"]);
    going.terminate();
}

fn enable_and_disable_do_not_need_going() {
    let going = Going::new();
    going.hold("web");
    let note = "; going is not running\n";
    let disabled = ctl_to(&going, OK, &["disable", "web"]);
    assert_eq!(disabled.out, format!("web: disabled{note}"));
    assert!(exists(&going, ".web"));
    assert_eq!(ctl_to(&going, OK, &["enable", "web"]).out, format!("web: enabled{note}"));
    assert!(exists(&going, "web"));
}

fn enable_overwrites_nothing() {
    let going = Going::new();
    going.write("web", "cmd=new\n");
    going.write(".web", "cmd=old\n");
    for words in [["enable", "web"], ["disable", "web"]] {
        let ran = ctl_to(&going, FAILED, &words);
        assert!(ran.err.contains("File exists"), "{ran:?}");
    }
    assert_eq!(
        (content(&going, "web"), content(&going, ".web")),
        ("cmd=new\n".into(), "cmd=old\n".into())
    );
}

/// NFS, 9p and older ZFS cannot rename without overwriting.
fn enable_works_on_every_file_system() {
    let going = Going::new();
    going.write("web", "cmd=web\n");
    going.write("db", "cmd=new\n");
    going.write(".db", "cmd=old\n");
    let run = |words: &[&str]| {
        let mut command = command(&going);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let no_replace = 1;
        refuse(&mut command, libc::SYS_renameat2, 4, no_replace, libc::EINVAL);
        Ran::from(command.output().expect("goingctl can be executed"))
    };
    for (word, from, to) in [("disable", "web", ".web"), ("enable", ".web", "web")] {
        let ran = run(&[word, "web"]);
        assert_eq!(ran.code, OK, "{ran:?}");
        assert!(exists(&going, to) && !exists(&going, from), "{word}");
        assert_eq!(content(&going, to), "cmd=web\n");
        let ran = run(&[word, "db"]);
        assert!(ran.code == FAILED && ran.err.contains("File exists"), "{ran:?}");
    }
    assert_eq!(content(&going, "db") + &content(&going, ".db"), "cmd=new\ncmd=old\n");
}

fn enable_tells_what_comes_of_it() {
    let mut going = Going::new();
    going.hold_all(&["mark", ".held"]);
    going.write(".broken", "comand=x\n");
    going.start();
    wait_state(&going, "mark", "up");
    let ran = ctl_to(&going, FAILED, &["enable", "broken"]);
    assert_eq!(ran.out, "broken: rejected, \"goingctl check\" says why\n");
    fs::write(going.path("run/down/held"), "").expect("our own file");
    assert_eq!(ctl_to(&going, OK, &["enable", "held"]).out, "held: enabled, but held down\n");
    assert!(is_held(&going, "held"));
    // Without waiting there is no outcome to report.
    for (word, what) in [("disable", "disabled"), ("enable", "enabled")] {
        let ran = ctl_to(&going, OK, &[word, "broken", "--no-wait"]);
        assert_eq!(ran.out, format!("broken: {what}\n"));
    }
    going.terminate();
}

fn check_says_what_going_says() {
    let going = Going::new();
    going.hold("web");
    assert_eq!(ctl_to(&going, OK, &["check"]).out, "configuration OK\n");
    going.write("broken", "cmd=x\n\ncomand=x\n");
    going.write("bad.name", "cmd=x\n");
    let ran = ctl_to(&going, FAILED, &["check"]);
    assert!(ran.out.contains("broken:3: unknown key \"comand\"\n"), "{ran:?}");
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let daemon = String::from_utf8(going.output(&["-n"]).stdout).expect("plain text");
    assert_eq!(sorted(&ran.out), sorted(&daemon));
    let other = going.path("records").display().to_string();
    ctl_to(&going, OK, &["check", &other]);
    ctl_to(&going, FAILED, &["check", "/does/not/exist"]);
    // A single file of any name, as it is checked before it is put in its place.
    going.write("../web.new", "cmd=true\n");
    let draft = going.path("web.new").display().to_string();
    assert_eq!(ctl_to(&going, OK, &["check", &draft]).out, "configuration OK\n");
    going.write("../web.new", "cmd=true\ncomand=x\n");
    let ran = ctl_to(&going, FAILED, &["check", &draft]);
    assert_eq!(ran.out, "web.new:2: unknown key \"comand\"\n");
}

/// Runs `goingctl edit` with a shell script as the editor, in which `$1` is the file.
fn edit(going: &Going, name: &str, script: &str) -> Ran {
    let editor = going.path("editor");
    fs::write(&editor, script).expect("room on the disk");
    let mut command = command(going);
    command.env("EDITOR", format!("sh -e '{}'", editor.display()));
    command.args(["edit", name]).output().expect("goingctl can be executed").into()
}

/// The number of drafts in CONFDIR.
fn leftovers(going: &Going) -> usize {
    let entries = fs::read_dir(going.path("going.d")).expect("a directory").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".new")).count()
}

fn edit_replaces_a_file_by_a_good_one() {
    let mut going = Going::new();
    going.hold("web");
    let path = going.path("going.d/web");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
    going.start();
    wait_state(&going, "web", "up");
    let ran = edit(&going, "web", "echo 'timeout=7' >>\"$1\"");
    assert_eq!((ran.code, ran.out.as_str()), (OK, "web: saved\n"), "{ran:?}");
    assert!(content(&going, "web").ends_with("timeout=7\n"));
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    going.wait_starts("web", 2);
    let ran = edit(&going, "web", "true");
    assert_eq!((ran.code, ran.out.as_str()), (OK, "web: unchanged\n"), "{ran:?}");
    assert_eq!(leftovers(&going), 0);
    going.terminate();
}

/// The draft stays, because there may be work in it.
fn edit_keeps_what_is_bad_out() {
    let going = Going::new();
    going.hold("web");
    let before = content(&going, "web");
    let ran = edit(&going, "web", "echo 'comand=x' >>\"$1\"");
    assert_eq!(ran.code, FAILED);
    assert!(ran.err.contains("web:2: unknown key \"comand\""), "{ran:?}");
    assert!(ran.err.contains("nothing is changed"), "{ran:?}");
    let ran = edit(&going, "web", "echo work >\"$1\"; exit 3");
    assert!(ran.code == FAILED && ran.err.contains("exit status: 3"), "{ran:?}");
    assert_eq!(content(&going, "web"), before);
    assert_eq!(leftovers(&going), 2);
    // A draft with no work in it is removed.
    for script in ["exit 3", "rm \"$1\""] {
        let ran = edit(&going, "web", script);
        assert!(ran.code == FAILED && ran.err.ends_with("; nothing is changed\n"), "{ran:?}");
        assert_eq!((content(&going, "web"), leftovers(&going)), (before.clone(), 2));
    }
    assert_eq!(edit(&going, "new", "exit 3").code, FAILED);
    assert_eq!(leftovers(&going), 2);
    assert_eq!(edit(&going, "bad.name", "true").code, FAILED);
    assert_eq!(edit(&going, "../web", "true").code, FAILED);
}

/// The editor writes a bad file the first time, and a good one the second time.
fn edit_asks_on_a_terminal() {
    let going = Going::new();
    going.write("web", "cmd=x\n");
    let script =
        "[ -e \"$0.again\" ] && echo cmd=y >\"$1\" || echo comand=y >\"$1\"; : >\"$0.again\"";
    let editor = going.path("editor");
    fs::write(&editor, script).expect("room on the disk");
    let mut command = command(&going);
    command.env("VISUAL", format!("sh '{}'", editor.display())).args(["edit", "web"]);
    // SAFETY: no handler is installed.
    let ignore = || Ok(unsafe { signal(Signal::SIGQUIT, SigHandler::SigIgn) }.map(drop)?);
    // SAFETY: between fork and exec it calls the kernel only.
    unsafe { command.pre_exec(ignore) };
    let mut edit = OnTerminal::spawn(command, 200, 24);
    let shown = edit.wait_shown("Edit it again?");
    assert!(shown.contains("web:1: unknown key \"comand\"; see "), "{shown}");
    // QUIT was ignored from the start and still is; INT is no longer ignored.
    let pid = edit.process.id().try_into().expect("a pid");
    let ignored = u64::from_str_radix(&proc::status(pid, "SigIgn"), 16).expect("a set of signals");
    let (interrupt, quit) = (1 << 1, 1 << 2);
    assert_eq!(ignored & (interrupt | quit), quit);
    edit.terminal.write_all(b"\n").expect("a terminal");
    assert_eq!(edit.finish().0, OK);
    assert_eq!(content(&going, "web"), "cmd=y\n");
}

/// Ctrl-C reaches both goingctl and the editor, and means something to the editor.
fn edit_leaves_interrupts_to_the_editor() {
    let going = Going::new();
    going.write("web", "cmd=x\n");
    let ran = edit(
        &going,
        "web",
        "until grep -q '^SigIgn:.*6$' /proc/$PPID/status; do :; done; kill -INT $PPID; kill -QUIT $PPID; echo cmd=y >\"$1\"",
    );
    assert_eq!((ran.code, content(&going, "web").as_str()), (OK, "cmd=y\n"), "{ran:?}");
}

fn edit_makes_a_new_file() {
    let going = Going::new();
    let ran = edit(&going, "web", "echo 'cmd=x' >\"$1\"");
    assert_eq!((ran.code, content(&going, "web").as_str()), (OK, "cmd=x\n"), "{ran:?}");
    // The text that a new file begins with is not yet a service.
    assert_eq!(edit(&going, "other", "true").code, FAILED);
    assert!(!exists(&going, "other"));
}

fn edit_notices_that_somebody_else_was_faster() {
    let going = Going::new();
    going.write("web", "cmd=x\n");
    let path = going.path("going.d/web").display().to_string();
    let ran = edit(&going, "web", &format!("echo cmd=y >\"$1\"; echo cmd=z >'{path}'"));
    assert!(ran.code == FAILED && ran.err.contains("somebody else"), "{ran:?}");
    assert_eq!((content(&going, "web").as_str(), leftovers(&going)), ("cmd=z\n", 1));
    // A service that was created and disabled meanwhile does not get a second file.
    let path = going.path("going.d/.new").display().to_string();
    let ran = edit(&going, "new", &format!("echo cmd=y >\"$1\"; echo cmd=z >'{path}'"));
    assert!(ran.code == FAILED && ran.err.contains("somebody else"), "{ran:?}");
    assert!(!exists(&going, "new") && content(&going, ".new") == "cmd=z\n");
}

/// A file that is disabled while it is edited must not come back, however little time there is
/// between the last check and the save: the service would have two files.
fn edit_brings_nothing_back_that_is_moved_away() {
    let going = Going::new();
    going.write("web", "cmd=x\n");
    let (shown, hidden) = (going.path("going.d/web"), going.path("going.d/.web"));
    let (is_edited, is_over) = (going.path("editor.done"), AtomicBool::new(false));
    let move_about = || {
        while !is_over.load(Ordering::Relaxed) {
            if !is_edited.exists() {
                continue;
            }
            for (from, to) in [(&shown, &hidden), (&hidden, &shown)] {
                fs::rename(from, to).expect("our own file");
                assert!((0..100).all(|_| !from.exists()), "{} is back", from.display());
            }
        }
    };
    thread::scope(|scope| {
        let mover = scope.spawn(move_about);
        for number in 0..200 {
            edit(&going, "web", &format!("echo cmd=x{number} >\"$1\"; : >\"$0.done\""));
            // There is no such file if web was just being moved, so that there was nothing to edit.
            let _ = fs::remove_file(&is_edited);
        }
        is_over.store(true, Ordering::Relaxed);
        mover.join().expect("nothing is there twice");
    });
    assert_ne!(content(&going, "web"), "cmd=x\n");
}

fn edit_follows_links_and_finds_the_disabled() {
    let going = Going::new();
    let real = going.path("records/real");
    fs::write(&real, "cmd=x\n").expect("room on the disk");
    symlink(&real, going.path("going.d/web")).expect("room on the disk");
    going.write(".off", "cmd=x\n");
    assert_eq!(edit(&going, "web", "echo cmd=y >\"$1\"").code, OK);
    assert!(going.path("going.d/web").is_symlink());
    assert_eq!(fs::read_to_string(real).expect("a file"), "cmd=y\n");
    assert_eq!(edit(&going, "off", "echo cmd=y >\"$1\"").code, OK);
    assert!(content(&going, ".off") == "cmd=y\n" && !exists(&going, "off"));
    // A dangling link is kept, because its target may come back.
    symlink(going.path("records/none"), going.path("going.d/lost")).expect("room on the disk");
    assert_eq!(edit(&going, "lost", "echo cmd=y >\"$1\"").code, FAILED);
    assert!(going.path("going.d/lost").is_symlink());
}

fn edit_wants_a_file() {
    let going = Going::new();
    mkfifo(&going.path("going.d/web"), Mode::S_IRWXU).expect("room on the disk");
    let ran = edit(&going, "web", "echo cmd=y >\"$1\"");
    assert!(ran.code == FAILED && ran.err.contains("not a regular file"), "{ran:?}");
    assert_eq!(leftovers(&going), 0);
}

/// A limit on the size of files stands in for a full disk.
fn edit_leaves_nothing_of_a_copy_that_fails() {
    let going = Going::new();
    going.write("web", "cmd=x\n");
    for name in ["web", "new"] {
        let mut command = command(&going);
        command.env("EDITOR", "true").args(["edit", name]).stderr(Stdio::piped());
        let short = || Ok(setrlimit(Resource::RLIMIT_FSIZE, 1, 1)?);
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(short) };
        let ran = Ran::from(command.output().expect("goingctl can be executed"));
        assert!(ran.code == FAILED && ran.err.contains("unable to copy"), "{ran:?}");
        assert_eq!(leftovers(&going), 0, "{name}");
    }
}

/// A draft with our process number may belong to another goingctl: one on another machine, one in
/// another container, or one that had the number before.
fn edit_spares_what_another_has_left() {
    let going = Going::new();
    going.write("web", "cmd=x\n");
    let begin = "echo work >\"$0/.web.$$.new\"; exec \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", begin]).arg(going.path("going.d")).arg(program());
    shell.arg("-d").arg(going.path("going.d")).args(["edit", "web"]);
    shell.env("VISUAL", "").env("EDITOR", "sh -c 'echo cmd=y >\"$1\"' --");
    let ran = Ran::from(shell.output().expect("sh can be executed"));
    assert_eq!((ran.code, content(&going, "web").as_str()), (OK, "cmd=y\n"), "{ran:?}");
    let entries = fs::read_dir(going.path("going.d")).expect("a directory").flatten();
    let left: Vec<_> = entries.filter(|entry| entry.file_name() != "web").collect();
    assert_eq!(left.len(), 1);
    assert_eq!(fs::read_to_string(left[0].path()).expect("a file"), "work\n");
}

/// The mode of a file is not everything: this one has a list that lets one more user read it, and
/// so the group's bits are the most that such users may do.
fn edit_keeps_the_owner_of_a_file() {
    let going = Going::new();
    going.write("web", "cmd=x\n");
    let path = going.path("going.d/web");
    let acl = give_to_others(&path);
    assert_eq!(edit(&going, "web", "echo cmd=y >\"$1\"").code, OK);
    assert_eq!(content(&going, "web"), "cmd=y\n");
    assert_eq!(ownership(&path), (12_345, 12_346, 0o640, acl));
}

/// If EDITOR is blank and there is no vi, the service file must not be executed in the place of an
/// editor.
fn edit_executes_no_service_file() {
    let going = Going::new();
    going.write("web", "cmd=x\nexit 77\n");
    let path = going.path("going.d/web");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    let mut command = command(&going);
    command.env("PATH", "/nonexistent").env("EDITOR", " ").args(["edit", "web"]);
    let ran = Ran::from(command.output().expect("goingctl can be executed"));
    assert!(ran.code == FAILED && ran.err.contains("vi ended with exit status: 127"), "{ran:?}");
}

fn log(going: &Going, content: &str) {
    let file = OpenOptions::new().create(true).append(true).open(going.path("web.log"));
    file.expect("our own file").write_all(content.as_bytes()).expect("room on the disk");
}

fn with_log() -> Going {
    let going = Going::new();
    going.write("web", format!("cmd=x\nlog={}\n", going.path("web.log").display()));
    going
}

fn logs_prints_the_end() {
    let going = with_log();
    assert!(ctl_to(&going, FAILED, &["logs", "web"]).err.contains("web.log"));
    log(&going, "");
    assert_eq!(ctl_to(&going, OK, &["logs", "web"]).out, "");
    // More than is read at once.
    let lines: Vec<_> = (0..20_000).map(|number| format!("line {number}\n")).collect();
    let lines = lines.concat();
    log(&going, &lines);
    let all = ctl_to(&going, OK, &["logs", "web", "-n", "30000"]).out;
    assert!(all == lines, "{} bytes", all.len());
    assert_eq!(ctl_to(&going, OK, &["logs", "web"]).out.lines().count(), 100);
    assert_eq!(ctl_to(&going, OK, &["logs", "-n1", "web"]).out, "line 19999\n");
    assert_eq!(ctl_to(&going, OK, &["logs", "-n", "0", "web"]).out, "");
    log(&going, "half");
    assert_eq!(ctl_to(&going, OK, &["logs", "-n2", "web"]).out, "line 19999\nhalf");
}

/// A goingctl that follows a log with one line in it, and its output.
fn following(going: &Going) -> (Child, ChildStdout) {
    log(going, "one\n");
    let mut command = command(going);
    command.args(["logs", "-f", "web"]).stdout(Stdio::piped());
    let mut process = command.spawn().expect("goingctl can be executed");
    let stdout = process.stdout.take().expect("a pipe");
    (process, stdout)
}

/// It follows the log through a rotation and a truncation.
fn logs_follows() {
    let going = with_log();
    let (mut process, stdout) = following(&going);
    let mut lines = BufReader::new(stdout).lines();
    let mut next = || lines.next().expect("a line").expect("plain text");
    assert_eq!(next(), "one");
    log(&going, "two\n");
    assert_eq!(next(), "two");
    fs::rename(going.path("web.log"), going.path("web.log.1")).expect("our own file");
    log(&going, "three\n");
    assert_eq!(next(), "three");
    fs::write(going.path("web.log"), "4\n").expect("our own file");
    assert_eq!(next(), "4");
    send(process.id().try_into().expect("a pid"), Signal::SIGINT);
    assert!(process.wait().expect("our own child").success());
}

/// A signal ends it however fast the file grows, and however slowly its output is read.
fn logs_ends_amid_lines() {
    let going = with_log();
    let (mut process, mut stdout) = following(&going);
    let pid = process.id().try_into().expect("a pid");
    stdout.read_exact(&mut [0; 4]).expect("a line");
    // A hole makes a huge file without anything being written.
    let file = OpenOptions::new().write(true).open(going.path("web.log")).expect("our own file");
    file.set_len(1 << 40).expect("a hole");
    let reading = thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
    going.wait_for("much of it", || proc::ticks(pid) > 5);
    send(pid, Signal::SIGINT);
    going.wait_gone("goingctl", pid);
    assert!(process.wait().expect("our own child").success());
    let len = reading.join().expect("it does not panic").expect("a pipe");
    assert!(len > 1 << 20, "{len} bytes");
}

/// How far a goingctl has read in its log.
fn position(pid: i32) -> u64 {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let logs =
        files.filter(|file| fs::read_link(file.path()).is_ok_and(|path| path.ends_with("web.log")));
    let positions = logs.filter_map(|file| {
        let about = format!("/proc/{pid}/fdinfo/{}", file.file_name().display());
        let text = fs::read_to_string(about).ok()?;
        text.lines().find_map(|line| line.strip_prefix("pos:")?.trim().parse().ok())
    });
    positions.max().unwrap_or(0)
}

/// A signal ends it while the pipe that it prints to is full.
fn logs_ends_while_nobody_reads() {
    let going = with_log();
    let (mut process, mut stdout) = following(&going);
    let pid = process.id().try_into().expect("a pid");
    stdout.read_exact(&mut [0; 4]).expect("a line");
    log(&going, &"many lines\n".repeat(20_000));
    // It sleeps, still far from the end of the file.
    going.wait_for("a full pipe", || {
        proc::stat(pid).is_some_and(|stat| stat.state == 'S') && position(pid) > 65_000
    });
    assert!(position(pid) < 100_000);
    send(pid, Signal::SIGTERM);
    going.wait_gone("goingctl", pid);
    assert!(process.wait().expect("our own child").success());
    // The same while it prints what was there before.
    let mut command = command(&going);
    command.args(["logs", "-f", "-n", "20000", "web"]).stdout(Stdio::piped());
    let mut process = command.spawn().expect("goingctl can be executed");
    let pid = process.id().try_into().expect("a pid");
    going.wait_for("a full pipe", || {
        proc::stat(pid).is_some_and(|stat| stat.state == 'S') && position(pid) > 65_000
    });
    send(pid, Signal::SIGTERM);
    going.wait_gone("goingctl", pid);
    assert!(process.wait().expect("our own child").success());
}

/// It needs little memory however long the last lines are.
fn logs_needs_little_memory() {
    let going = with_log();
    log(&going, "");
    let file = OpenOptions::new().write(true).open(going.path("web.log")).expect("our own file");
    file.set_len(1 << 28).expect("a hole");
    let mut command = command(&going);
    command.args(["logs", "web"]).stdout(Stdio::piped());
    let mut process = command.spawn().expect("goingctl can be executed");
    let mut stdout = process.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 1]).expect("a hole");
    let memory_kb = proc::status_number(process.id().try_into().expect("a pid"), "VmHWM");
    assert!(memory_kb < 16 * 1024, "{memory_kb} KiB");
    let rest = io::copy(&mut stdout, &mut io::sink()).expect("a pipe");
    assert_eq!(rest + 1, 1 << 28);
    assert!(process.wait().expect("our own child").success());
}

/// Any other file would be taken for a faulty service file, and a line of it shown as the fault.
fn logs_looks_at_service_files_only() {
    let going = with_log();
    fs::write(going.path("secret"), "password\n").expect("room on the disk");
    for name in ["../secret", "./web", "", "web/"] {
        let ran = ctl_to(&going, ABSENT, &["logs", name]);
        assert_eq!(ran.err, format!("goingctl: no such service: {name}\n"));
    }
}

fn logs_notices_a_full_disk() {
    let going = with_log();
    log(&going, "one\n");
    let full = fs::File::options().write(true).open("/dev/full").expect("a device");
    let mut command = command(&going);
    command.args(["logs", "-fn0", "web"]).stdout(full).stderr(Stdio::null());
    let mut process = command.spawn().expect("goingctl can be executed");
    let pid = process.id().try_into().expect("a pid");
    going.wait_for("its end", || {
        log(&going, "two\n");
        proc::stat(pid).is_some_and(|stat| stat.state == 'Z')
    });
    assert_eq!(process.wait().expect("our own child").code(), Some(FAILED));
}

/// `logs` finds the file that a goinglog writes, wherever its command says that is: for the
/// services that log to it, and for itself.
fn logs_knows_where_goinglog_writes() {
    let going = Going::new();
    log(&going, "one\n");
    let (file, directory) = (going.path("web.log"), going.path(""));
    let (file, directory) = (file.display(), directory.display());
    let root = going.path("").parent().expect("it is below /tmp").to_owned();
    let below = going.path("").file_name().expect("a name").to_owned();
    let (root, below) = (root.display(), below.display());
    for (name, logger) in [
        ("plain", format!("cmd=goinglog {file}\n")),
        ("options", format!("cmd=/usr/bin/goinglog -s 1M -t '{file}' -n 5\nuser=nobody\n")),
        ("syslog", format!("cmd=goinglog -y -p daemon.info {file}\n")),
        ("relative", format!("cmd=goinglog web.log\ncwd={directory}\n")),
        ("root", format!("cmd=goinglog /{below}/web.log\nchroot={root}\n")),
    ] {
        going.write("logger", logger);
        going.write(name, "cmd=x\nlog=logger\n");
        for name in [name, "logger"] {
            assert_eq!(ctl_to(&going, OK, &["logs", name]).out, "one\n", "{name}");
        }
    }
    // For a logger whose own messages go to a file, these are shown instead; and a name for syslog
    // is not a file.
    for (logger, reason) in [
        ("cmd=goinglog /nonexistent/web\nlog=/nonexistent/own\n", "read /nonexistent/own"),
        ("cmd=goinglog -y web\n", "its output is that of going"),
    ] {
        going.write("logger", logger);
        let ran = ctl_to(&going, FAILED, &["logs", "logger"]);
        assert!(ran.err.contains(reason), "{ran:?}");
    }
    let ran = ctl_to(&going, FAILED, &["logs", "plain"]);
    assert!(ran.err.contains("its output goes to the service logger"), "{ran:?}");
}

fn logs_says_where_else_to_look() {
    let going = Going::new();
    going.write("web", "cmd=x\nlog=logger\n");
    going.write("quiet", "cmd=x\nlog=null\n");
    going.write("plain", "cmd=x\n");
    going.write("broken", "comand=x\n");
    for (name, reason) in [
        ("web", "its output goes to the service logger"),
        ("quiet", "discarded"),
        ("plain", "that of going"),
        ("broken", "broken:1: unknown key"),
    ] {
        let ran = ctl_to(&going, FAILED, &["logs", name]);
        assert!(ran.err.contains(reason), "{ran:?}");
    }
    let ran = ctl_to(&going, ABSENT, &["logs", "nobody"]);
    assert!(ran.err.contains("no such service: nobody"), "{ran:?}");
}

/// The lines in a FIFO are for its reader.
fn logs_takes_nothing_from_a_fifo() {
    let going = with_log();
    mkfifo(&going.path("web.log"), Mode::S_IRWXU).expect("room on the disk");
    going.write("device", "cmd=x\nlog=/dev/stdout\n");
    for name in ["web", "device"] {
        let mut command = command(&going);
        command.args(["logs", name]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = command.spawn().expect("goingctl can be executed").wait_with_output();
        let ran = Ran::from(output.expect("our own child"));
        assert!(ran.code == FAILED && ran.err.contains("not a regular file"), "{ran:?}");
    }
}

fn logs_finds_the_disabled() {
    let going = with_log();
    log(&going, "last words\n");
    ctl_to(&going, OK, &["disable", "web"]);
    assert_eq!(ctl_to(&going, OK, &["logs", "web"]).out, "last words\n");
}
