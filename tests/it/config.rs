//! CONFDIR while going runs: what is a service, what a bad file does, what a rescan changes.

use crate::harness::{Going, run_by, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(leftovers_of_editors_and_packages_are_no_services),
        scenario!(every_character_and_length_of_the_name_rule_is_accepted),
        scenario!(what_is_not_a_regular_file_is_no_service_and_blocks_nobody),
        scenario!(a_symlink_to_a_file_is_a_service),
        scenario!(unknown_keys_are_reported_once_per_content),
        scenario!(a_bad_file_harms_nobody),
        scenario!(a_bad_edit_leaves_the_good_version_up),
        scenario!(an_empty_or_dangling_file_leaves_the_good_version_up),
        scenario!(what_cannot_be_read_takes_no_service_down, Root),
        scenario!(comments_do_not_count_towards_the_limit),
        scenario!(nothing_is_cut_in_silence),
        scenario!(hup_finds_what_inotify_does_not_report),
        scenario!(an_edit_restarts_only_what_changed),
        scenario!(comments_and_blank_lines_are_no_change),
        scenario!(a_missing_confdir_is_opened_on_hup),
        scenario!(a_missing_confdir_is_tried_again_by_itself),
        scenario!(a_main_command_alone_misses_no_confdir),
        scenario!(a_confdir_that_is_a_file_is_waited_for),
        scenario!(what_changes_all_the_time_is_read_once),
        scenario!(a_vanished_confdir_takes_no_service_down),
    ]
}

/// `.swp`, `~`, `.dpkg-old` and the like are not services. Dotfiles and names ending in `~` are
/// passed over in silence, any other bad name is warned about once.
fn leftovers_of_editors_and_packages_are_no_services() {
    let mut going = Going::new();
    let silent = [".web.swp", ".hidden", "web~"];
    let warned = ["web.dpkg-old", "web.swp", "#web#", "web,v", "w\u{e9}b", "new\nline"];
    // One character over the limit.
    let long = "l".repeat(33);
    going.hold("web");
    for name in silent.into_iter().chain(warned).chain([long.as_str()]) {
        going.write(name, going.cmd("hold", "leftover", &[]));
    }
    going.start();
    going.up("web");
    going.rescan();
    going.rescan();
    assert_eq!(going.starts("leftover"), []);
    for name in silent {
        assert_eq!(going.log_count(name), 0, "{name}\n{}", going.report());
    }
    // A message may escape the bytes of a bad name, but they never make a line of their own.
    assert!(going.log().lines().all(|line| line.starts_with("going[")), "{}", going.report());
    for name in warned.into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_graphic())) {
        assert_eq!(going.log_count(name), 1, "{name}\n{}", going.report());
    }
    assert_eq!(going.log_count(&long[..32]), 1, "{}", going.report());
    going.terminate();
}

/// `[A-Za-z0-9_@-]{1,32}`.
fn every_character_and_length_of_the_name_rule_is_accepted() {
    let mut going = Going::new();
    let names = ["a", "Z9", "_", "getty@tty1", "with-dash", &"n".repeat(32)];
    going.hold_all(&names);
    going.start();
    for name in names {
        going.up(name);
    }
    going.terminate();
}

/// Files are opened non-blocking and must be regular.
fn what_is_not_a_regular_file_is_no_service_and_blocks_nobody() {
    let mut going = Going::new();
    let confdir = going.path("going.d");
    mkfifo(&confdir.join("fifo"), Mode::from_bits_truncate(0o644)).expect("a fifo");
    fs::create_dir(confdir.join("directory")).expect("a directory");
    symlink("/dev/null", confdir.join("device")).expect("a symlink");
    going.hold("web");
    going.start();
    going.up("web");
    going.rescan();
    // By then the reader has gone too.
    going.wait_quiet();
    let mut commands: Vec<_> = going.children().into_iter().map(proc::arguments).collect();
    // `it service hold DIRECTORY NAME …`.
    commands.retain(|words| !words.get(4).is_some_and(|name| name == "web" || name == "mark"));
    assert!(commands.is_empty(), "{commands:?}");
    going.terminate();
}

/// A service file is a regular file, or a symlink to one.
fn a_symlink_to_a_file_is_a_service() {
    let mut going = Going::new();
    fs::write(going.path("elsewhere"), going.cmd("hold", "web", &[])).expect("a file");
    symlink(going.path("elsewhere"), going.path("going.d").join("web")).expect("a symlink");
    going.start();
    going.up("web");
    going.terminate();
}

/// A misspelt key is always reported, but only once.
fn unknown_keys_are_reported_once_per_content() {
    let mut going = Going::new();
    let good = going.cmd("hold", "web", &[]);
    going.write("web", format!("{good}comand=/bin/true\n"));
    going.start();
    going.wait_log("web:2: unknown key \"comand\"");
    going.rescan();
    going.rescan();
    assert_eq!(going.log_count("web:2: unknown key"), 1, "{}", going.report());
    assert_eq!(going.starts("web"), []);
    // The report is repeated for other content; the fault has moved down a line.
    going.write("web", format!("# try\n{good}comand=/bin/true\nuser\n"));
    going.rescan();
    assert_eq!(going.log_count("web:3: unknown key"), 1, "{}", going.report());
    going.write("web", good);
    going.rescan();
    going.up("web");
    going.terminate();
}

/// A rejected file makes one line in the log, and affects no other service.
fn a_bad_file_harms_nobody() {
    let mut going = Going::new();
    going.hold("first");
    going.hold("zlast");
    let bad: [(&str, &[u8]); 7] = [
        ("empty-cmd", b"cmd=\n"),
        ("no-cmd", b"cwd=/\n"),
        ("nul", b"cmd=/bin/true \0\n"),
        ("twice", b"cmd=/bin/true\ncmd=/bin/false\n"),
        ("words", b"this is no key and value\n"),
        ("escape", b"\x1b[31m=red\n"),
        ("bytes", b"\xff\xfe=\x80\n"),
    ];
    for (name, content) in bad {
        going.write(name, content);
    }
    going.start();
    for (name, _) in bad {
        going.wait_log(&format!("{name}:"));
    }
    assert!(!going.log().contains('\x1b'), "what a file says is shown, not done");
    let (first, last) = (going.up("first"), going.up("zlast"));
    going.rescan();
    assert_eq!((going.up("first"), going.up("zlast")), (first, last));
    going.terminate();
}

/// A bad configuration never takes a running service down: the last good version of the file stays
/// in use, for respawns too.
fn a_bad_edit_leaves_the_good_version_up() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let first = going.up("web");
    going.write("web", "cmd='no end\n");
    going.rescan();
    going.wait_log("web:1:");
    assert_eq!(going.up("web"), first);
    send(first, Signal::SIGKILL);
    let starts = going.wait_starts("web", 2);
    going.write("web", going.cmd("hold", "web", &["0"]));
    going.rescan();
    going.wait_gone("the old version", starts[1].pid);
    going.wait_starts("web", 3);
    assert_eq!(going.twins(), [""; 0]);
    going.terminate();
}

/// What an editor or a full disk leaves behind for a moment does not stop a service.
fn an_empty_or_dangling_file_leaves_the_good_version_up() {
    let mut going = Going::new();
    for name in ["cut", "dangling", "directory"] {
        going.hold(name);
    }
    going.start();
    let before = ["cut", "dangling", "directory"].map(|name| going.up(name));
    going.write("cut", "");
    going.remove("dangling");
    symlink("/nonexistent/service", going.path("going.d").join("dangling")).expect("a symlink");
    going.remove("directory");
    fs::create_dir(going.path("going.d").join("directory")).expect("a directory");
    going.rescan();
    going.rescan();
    assert_eq!(["cut", "dangling", "directory"].map(|name| going.up(name)), before);
    going.terminate();
}

/// A file that may not be read does not stop its service, nor does a CONFDIR that may not be read.
fn what_cannot_be_read_takes_no_service_down() {
    let mut going = Going::new();
    going.open_to_everybody();
    going.hold("web");
    // By an ordinary user, because root may read everything.
    going.start_with(|command| run_by(command, 12_345));
    let pid = going.up("web");
    let shut = |path: &str| {
        let (open, shut) = (going.path(path), fs::Permissions::from_mode(0o0));
        let mode = fs::metadata(&open).expect("our own file").permissions();
        fs::set_permissions(&open, shut).expect("our own file");
        mode
    };
    let file = shut("going.d/web");
    going.rescan();
    // going does not retry by itself: inotify will report a change of the mode.
    going.wait_quiet();
    // With this mode the names in CONFDIR can be listed, but nothing shows whether there are files
    // of these names.
    let listed = shut("going.d");
    let (confdir, mode) = (going.path("going.d"), fs::Permissions::from_mode(0o444));
    fs::set_permissions(&confdir, mode).expect("our own directory");
    going.signal(Signal::SIGHUP);
    going.wait_log("mark: unable to read: Permission denied");
    going.wait_quiet();
    assert_eq!(going.log_count("stopped"), going.starts("mark").len() - 1, "{}", going.report());
    fs::set_permissions(&confdir, listed).expect("our own directory");
    let directory = shut("going.d");
    going.signal(Signal::SIGHUP);
    going.wait_log("going.d: Permission denied");
    assert!(proc::is_running(pid));
    fs::set_permissions(going.path("going.d"), directory).expect("our own file");
    fs::set_permissions(going.path("going.d/web"), file).expect("our own file");
    going.rescan();
    assert_eq!((going.up("web"), going.starts("web").len()), (pid, 1), "{}", going.report());
    going.terminate();
}

/// The limit is 4096 bytes of settings in each file, comments excluded.
fn comments_do_not_count_towards_the_limit() {
    let mut going = Going::new();
    let comments = "# a long story about this service\n".repeat(300);
    going.write("told", format!("{comments}\n\n{}", going.cmd("hold", "told", &[])));
    let value = "v".repeat(4096);
    going.write("over", format!("cmd=/bin/true {value}\n"));
    // The limit of a whole file is 16 KiB, comments included.
    let mut whole = going.cmd("hold", "whole", &[]) + "#";
    whole += &"c".repeat(16_384 - whole.len());
    going.write("cut", format!("{whole}\nuser=nobody\n"));
    going.write("whole", whole);
    // The reader stops amid the line `cmd`, which is no fault of that line.
    going.write("long", format!("{}\ncmd=/bin/true\n", "#".repeat(18_430)));
    going.start();
    going.up("told");
    going.up("whole");
    going.wait_log("over:");
    going.wait_log("cut:3: file longer than \"16384 bytes\"");
    going.wait_log("long:1: file longer than \"16384 bytes\"");
    assert_eq!(going.log_count("over: started"), 0, "{}", going.report());
    going.terminate();
}

/// The original going read lines into a buffer, and lost what did not fit.
fn nothing_is_cut_in_silence() {
    let mut going = Going::new();
    let word = "w".repeat(3000);
    going.write("long", going.cmd("pause", "long", &[&word]));
    going.start();
    going.wait_child("long", |words| words.last() == Some(&word));
    going.terminate();
}

/// inotify does not see an edit behind a symlink: only HUP finds it.
fn hup_finds_what_inotify_does_not_report() {
    let mut going = Going::new();
    let elsewhere = going.path("elsewhere");
    fs::write(&elsewhere, going.cmd("hold", "web", &["0", "old"])).expect("a file");
    symlink(&elsewhere, going.path("going.d").join("web")).expect("a symlink");
    going.start();
    let old = going.up("web");
    // What the start set off is over, so that nothing but HUP causes the next rescan.
    going.rescan();
    going.wait_quiet();
    fs::write(&elsewhere, going.cmd("hold", "web", &["0", "new"])).expect("a file");
    going.signal(Signal::SIGHUP);
    let new = going.wait_starts("web", 2)[1].pid;
    assert!(!proc::is_running(old));
    going.wait_log(&format!("web: started, pid {new}"));
    assert_eq!(proc::arguments(new).last().map(String::as_str), Some("new"));
    going.terminate();
}

/// When a file changes, only its service is restarted, with what the file says when the old process
/// is reaped.
fn an_edit_restarts_only_what_changed() {
    let mut going = Going::new();
    going.hold("same");
    going.write("web", going.cmd("hold", "web", &["700", "old"]));
    going.start();
    let (same, old) = (going.up("same"), going.up("web"));
    going.write("web", going.cmd("hold", "web", &["0", "middle"]));
    going.signal(Signal::SIGHUP);
    // It lingers after TERM, which leaves time for one more edit.
    going.wait_for("TERM for web", || !going.records("web.terms").is_empty());
    going.write("web", going.cmd("hold", "web", &["0", "new"]));
    going.signal(Signal::SIGHUP);
    let starts = going.wait_starts("web", 2);
    assert!(!proc::is_running(old), "the old one still runs");
    let new = starts[1].pid;
    assert_eq!(proc::arguments(new).last().map(String::as_str), Some("new"));
    going.rescan();
    assert_eq!((going.up("same"), going.up("web")), (same, new), "{}", going.report());
    assert_eq!(going.twins(), [""; 0]);
    // The restart was asked for, so the end is logged, but not as a warning.
    going.wait_log("web: stopped, exited 0");
    going.terminate();
}

fn comments_and_blank_lines_are_no_change() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let pid = going.up("web");
    let content = going.cmd("hold", "web", &[]);
    going.write("web", format!("# why this is here\n\n  \n  {content}\n# end\n"));
    going.rescan();
    assert_eq!((going.up("web"), going.starts("web").len()), (pid, 1));
    going.terminate();
}

/// HUP does no harm while CONFDIR is missing, and finds it when it is there.
fn a_missing_confdir_is_opened_on_hup() {
    let mut going = Going::new();
    going.hold("web");
    fs::rename(going.path("going.d"), going.path("away")).expect("our own directory");
    going.start();
    going.wait_log("going.d: No such file or directory");
    going.signal(Signal::SIGHUP);
    going.signal(Signal::SIGHUP);
    assert_eq!(going.log_count("CONFDIR"), 1, "{}", going.report());
    fs::rename(going.path("away"), going.path("going.d")).expect("our own directory");
    let start = Instant::now();
    going.signal(Signal::SIGHUP);
    going.up("web");
    assert!(start.elapsed() < Duration::from_secs(3), "not at once: {:?}", start.elapsed());
    going.terminate();
}

/// going must not exit for lack of CONFDIR, which may be mounted later: sysvinit disables an entry
/// that keeps dying.
fn a_missing_confdir_is_tried_again_by_itself() {
    let mut going = Going::new();
    going.hold("web");
    fs::rename(going.path("going.d"), going.path("away")).expect("our own directory");
    going.start();
    going.wait_log("going.d: No such file or directory");
    fs::rename(going.path("away"), going.path("going.d")).expect("our own directory");
    let start = Instant::now();
    going.up("web");
    assert!(start.elapsed() < Duration::from_secs(8), "too late: {:?}", start.elapsed());
    going.terminate();
}

/// A container that runs a single program has no services beside it, so a missing CONFDIR is no
/// fault.
fn a_main_command_alone_misses_no_confdir() {
    let mut going = Going::new();
    fs::remove_dir(going.path("going.d")).expect("an empty directory");
    going.start_with(|command| {
        command.args(["--", "sleep", "1000"]);
    });
    going.wait_for("RUNDIR/down, which is read after it", || going.path("run/down").is_dir());
    going.wait_status("(main)", "up");
    assert_eq!(going.log_count("CONFDIR"), 0, "{}", going.report());
    going.signal(Signal::SIGTERM);
    assert_eq!(going.wait_exit().code(), Some(143), "{}", going.report());
}

/// Later, a file that has just changed is left until it has settled. The first read takes it as it
/// is, because there is no earlier version to go on with.
fn what_changes_all_the_time_is_read_once() {
    let mut going = Going::new();
    going.hold("web");
    let file = going.path("going.d/web");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // This waits for nothing: the constant change is the point.
            while !is_over.load(Ordering::Relaxed) {
                let mode = fs::Permissions::from_mode(0o644);
                fs::set_permissions(&file, mode).expect("our own file");
                sleep(Duration::from_millis(10));
            }
        });
        going.start();
        let start = Instant::now();
        while going.starts("web").is_empty() && start.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(start.elapsed() < Duration::from_secs(10), "{}", going.report());
    });
    going.terminate();
}

/// If CONFDIR is a FIFO, going does not wait for a writer to open it.
fn a_confdir_that_is_a_file_is_waited_for() {
    let file = |path: &Path| fs::write(path, "").expect("a file");
    let fifo = |path: &Path| mkfifo(path, Mode::from_bits_truncate(0o644)).expect("a fifo");
    for make in [file as fn(&Path), fifo] {
        let mut going = Going::new();
        let confdir = going.path("going.d");
        fs::remove_dir(&confdir).expect("an empty directory");
        make(&confdir);
        going.start();
        going.wait_log("going.d: Not a directory");
        fs::remove_file(&confdir).expect("our own file");
        fs::create_dir(&confdir).expect("a directory");
        going.hold("web");
        going.signal(Signal::SIGHUP);
        going.up("web");
        going.terminate();
    }
}

/// A service is removed if its file is missing (ENOENT) from a directory that could be read. A lost
/// mount is not that.
fn a_vanished_confdir_takes_no_service_down() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let pid = going.up("web");
    fs::rename(going.path("going.d"), going.path("away")).expect("our own directory");
    going.signal(Signal::SIGHUP);
    going.wait_log("going.d: No such file or directory");
    fs::rename(going.path("away"), going.path("going.d")).expect("our own directory");
    going.rescan();
    assert_eq!((going.up("web"), going.starts("web").len()), (pid, 1), "{}", going.report());
    going.terminate();
}
