//! Edits take effect by themselves: no HUP is needed for them, except where inotify cannot notice a
//! change.

use crate::harness::{Going, refuse, run_by, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(every_way_to_edit_a_file_is_noticed),
        scenario!(what_comes_without_being_written_is_noticed, Root),
        scenario!(two_step_writes_start_no_first_half),
        scenario!(constant_changes_delay_no_other_change),
        scenario!(more_changes_than_the_kernel_keeps_are_noticed),
        scenario!(what_cannot_be_watched_is_read_again_and_again),
        scenario!(a_bad_edit_and_a_crash_lead_to_the_good_version),
        scenario!(a_directory_is_replaced),
        scenario!(a_directory_is_deleted_and_made_anew),
        scenario!(a_directory_that_is_deleted_while_it_is_held_is_no_order),
        scenario!(a_directory_behind_a_link_is_found_on_hup),
        scenario!(a_mount_on_top_is_found_on_hup, Mounts),
        scenario!(a_swapped_data_link_is_noticed),
        scenario!(room_that_an_edit_makes_is_used),
        scenario!(down_files_outlive_everything),
        scenario!(any_file_of_that_name_holds_down),
        scenario!(a_down_file_of_no_service_waits),
        scenario!(a_group_may_be_let_steer, Root),
    ]
}

/// The version that runs, which is the last word of its command line.
fn version(going: &Going, name: &str) -> Option<String> {
    let mut words = going.children().into_iter().filter(|&pid| proc::is_running(pid));
    words.find_map(|pid| {
        let words = proc::arguments(pid);
        (words.get(4).map(String::as_str) == Some(name)).then(|| words.last().cloned())?
    })
}

#[track_caller]
fn wait_version(going: &Going, name: &str, expected: &str) {
    going.wait_for(&format!("version {expected} of {name}"), || {
        version(going, name).as_deref() == Some(expected)
    });
}

fn content(going: &Going, name: &str, version: &str) -> String {
    going.cmd("hold", name, &["0", version])
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.expect("a file").write_all(text.as_bytes()).expect("room on the disk");
}

/// One after the other, each of them takes effect, and changes nothing else.
fn every_way_to_edit_a_file_is_noticed() {
    let mut going = Going::new();
    let (confdir, outside) = (going.path("going.d"), going.path("outside"));
    let file = confdir.join("web");
    going.hold("same");
    going.start();
    let same = going.up("same");
    let text = |version: &str| content(&going, "web", version);
    fs::write(&file, text("created")).expect("a file");
    wait_version(&going, "web", "created");
    fs::write(&file, text("written")).expect("a file");
    wait_version(&going, "web", "written");
    fs::write(&outside, text("moved")).expect("a file");
    fs::rename(&outside, &file).expect("the same disk");
    wait_version(&going, "web", "moved");
    let sed = std::process::Command::new("sed")
        .args(["-i", "s/moved/edited/"])
        .arg(&file)
        .status()
        .expect("sed");
    assert!(sed.success());
    wait_version(&going, "web", "edited");
    fs::rename(&file, &outside).expect("the same disk");
    going.wait_for("the end of web", || version(&going, "web").is_none());
    fs::hard_link(&outside, &file).expect("the same disk");
    wait_version(&going, "web", "edited");
    fs::remove_file(&file).expect("our own file");
    going.wait_for("the end of web", || version(&going, "web").is_none());
    symlink(&outside, &file).expect("a symlink");
    wait_version(&going, "web", "edited");
    // An editor that keeps its file open is noticed when it closes the file.
    let mut open = fs::File::create(confdir.join("late")).expect("a file");
    open.write_all(content(&going, "late", "closed").as_bytes()).expect("room on the disk");
    drop(open);
    wait_version(&going, "late", "closed");
    assert_eq!((going.up("same"), going.starts("same").len()), (same, 1));
    assert_eq!(going.twins(), [""; 0]);
    going.terminate();
}

/// A file that becomes readable, and a link.
fn what_comes_without_being_written_is_noticed() {
    let mut going = Going::new();
    going.open_to_everybody();
    going.hold("closed");
    let closed = going.path("going.d/closed");
    let set_mode = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode));
    set_mode(0o600).expect("our own file");
    going.start_with(|command| run_by(command, 12_345));
    going.wait_log("closed: unable to read: Permission denied");
    set_mode(0o644).expect("our own file");
    going.up("closed");
    let file = going.path("elsewhere");
    fs::write(&file, going.cmd("hold", "linked", &[])).expect("our own file");
    symlink(file, going.path("going.d/linked")).expect("a link");
    going.up("linked");
    going.terminate();
}

/// A service that writes to CONFDIR all the time, but not to a service file, delays no other
/// change.
fn constant_changes_delay_no_other_change() {
    let mut going = Going::new();
    let script = format!("while :; do >{}; sleep 0.05; done", going.path("going.d/.x").display());
    going.write("restless", format!("cmd=sh -c '{script}'\n"));
    going.start();
    going.wait_for("restless writing", || going.path("going.d/.x").exists());
    going.hold("web");
    going.up("web");
    going.terminate();
}

/// When the queue of inotify is full, further events are dropped. An edit among them is found all
/// the same.
fn more_changes_than_the_kernel_keeps_are_noticed() {
    let mut going = Going::new();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("inotify");
    let limit: usize = limit.trim().parse().expect("a number");
    going.write("web", content(&going, "web", "old"));
    going.start();
    wait_version(&going, "web", "old");
    going.rescan();
    going.wait_quiet();
    going.signal(Signal::SIGSTOP);
    // In turn, because inotify merges an event with an identical one before it.
    for file in [".a", ".b"].into_iter().cycle().take(limit + 100) {
        going.write(file, "");
    }
    going.write("web", content(&going, "web", "new"));
    going.remove("mark");
    going.signal(Signal::SIGCONT);
    wait_version(&going, "web", "new");
    going.wait_for("the end of the mark", || version(&going, "mark").is_none());
    going.hold("late");
    going.up("late");
    going.terminate();
}

/// As if others had used up all the watches that a user may have: changes are found, but no longer
/// at once.
fn what_cannot_be_watched_is_read_again_and_again() {
    let mut going = Going::new();
    going.hold_all(&["web", "held"]);
    let watched = libc::IN_CREATE | libc::IN_CLOSE_WRITE | libc::IN_MOVE | libc::IN_DELETE;
    let watched = watched | libc::IN_ATTRIB | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF;
    let watched = (watched | libc::IN_ONLYDIR).cast_signed();
    going.start_with(|command| {
        refuse(command, libc::SYS_inotify_add_watch, 2, watched, libc::ENOSPC);
    });
    let web = going.up("web");
    going.up("held");
    going.wait_log("unable to watch CONFDIR …going.d: No space left on device");
    going.hold("late");
    going.hold_down("held");
    let start = Instant::now();
    going.up("late");
    going.wait_status("held", "down");
    assert!(start.elapsed() < Duration::from_secs(8), "too late: {:?}", start.elapsed());
    going.remove("web");
    going.wait_gone("web", web);
    assert_eq!(going.log_count("unable to watch"), 1, "{}", going.report());
    going.terminate();
}

/// `echo cmd=… >f; echo env=… >>f` must not start the first half. A service that says `first` was
/// started without the second half.
fn two_step_writes_start_no_first_half() {
    let mut going = Going::new();
    let told = going.path("records/told");
    going.start();
    let script = format!("echo $NAME ${{HALF-first}} >>{}; exec sleep 1000", told.display());
    let mut expected = Vec::new();
    for round in 0..12_u64 {
        let names: Vec<_> = (0..8).map(|number| format!("r{round}n{number}")).collect();
        scope(|scope| {
            for (name, number) in names.iter().zip(1..) {
                let (file, script) = (going.path("going.d").join(name), &script);
                scope.spawn(move || {
                    let start = Instant::now();
                    append(&file, &format!("cmd=sh -c '{script}'\nenv=NAME={name}\n"));
                    // The pace at which somebody types the two commands.
                    sleep(Duration::from_millis(round * number));
                    append(&file, "env=HALF=second\n");
                    // Where the machine is too slow in between, the first half may be started: that
                    // does not count.
                    if start.elapsed() > Duration::from_millis(150) {
                        fs::remove_file(&file).expect("our own file");
                    }
                });
            }
        });
        let is_kept = |name: &String| going.path("going.d").join(name).exists();
        for name in names.into_iter().filter(is_kept) {
            going.wait_for(&format!("{name} told of"), || {
                going.records("told").iter().any(|line| line.starts_with(&format!("{name} ")))
            });
            expected.push(format!("{name} second"));
        }
    }
    let mut lines = going.records("told");
    lines.retain(|line| expected.contains(line) || line.ends_with("first"));
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected, "{}", going.report());
    assert!(expected.len() > 40, "too slow a machine for this scenario");
    going.terminate();
}

/// The good version is respawned whatever is wrong with the file when the service crashes.
fn a_bad_edit_and_a_crash_lead_to_the_good_version() {
    let mut going = Going::new();
    let file = going.path("going.d").join("web");
    going.write("web", content(&going, "web", "good"));
    going.start();
    going.up("web");
    let bad: [&[u8]; 4] = [b"comand=x\n", b"", b"cmd=x\0\n", b"cmd='x\n"];
    for (count, content) in bad.into_iter().enumerate() {
        fs::write(&file, content).expect("a file");
        let pid = going.up("web");
        if count % 2 == 0 {
            going.rescan();
        }
        send(pid, Signal::SIGKILL);
        going.wait_starts("web", count + 2);
        assert_eq!(version(&going, "web").as_deref(), Some("good"));
    }
    going.rescan();
    fs::remove_file(&file).expect("our own file");
    symlink("/nonexistent/web", &file).expect("a symlink");
    going.rescan();
    send(going.up("web"), Signal::SIGKILL);
    // By now its delay is 16 s, but an edit starts it at once.
    going.wait_gone("web", going.starts("web").last().expect("it was started").pid);
    fs::remove_file(&file).expect("our own file");
    going.write("web", content(&going, "web", "better"));
    wait_version(&going, "web", "better");
    assert_eq!(going.twins(), [""; 0]);
    going.terminate();
}

/// CONFDIR is replaced by renaming, as a package tool may do it. What is the same in both
/// directories stays up.
fn a_directory_is_replaced() {
    let mut going = Going::new();
    going.hold("same");
    for name in ["gone", "web"] {
        going.write(name, content(&going, name, "old"));
    }
    going.start();
    let same = going.up("same");
    let gone = going.up("gone");
    going.up("web");
    going.rescan();
    let (confdir, new) = (going.path("going.d"), going.path("new.d"));
    fs::create_dir(&new).expect("a directory");
    for name in ["same", "mark"] {
        fs::copy(confdir.join(name), new.join(name)).expect("room on the disk");
    }
    fs::write(new.join("web"), content(&going, "web", "new")).expect("a file");
    fs::rename(&confdir, going.path("old.d")).expect("our own directory");
    fs::rename(&new, &confdir).expect("our own directory");
    wait_version(&going, "web", "new");
    going.wait_gone("the service that is not in the new directory", gone);
    // The new directory is watched now.
    fs::write(confdir.join("web"), content(&going, "web", "newer")).expect("a file");
    wait_version(&going, "web", "newer");
    assert_eq!((going.up("same"), going.starts("same").len()), (same, 1));
    assert_eq!(going.twins(), [""; 0]);
    going.terminate();
}

/// A missing CONFDIR is not an empty one, and it is found when it is there again.
fn a_directory_is_deleted_and_made_anew() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let web = going.up("web");
    let confdir = going.path("going.d");
    fs::rename(&confdir, going.path("old.d")).expect("our own directory");
    fs::remove_dir_all(going.path("old.d")).expect("our own directory");
    going.wait_log("going.d: No such file or directory");
    assert!(proc::is_running(web));
    fs::create_dir(&confdir).expect("a directory");
    // Now there is an empty directory, and that stops the services.
    going.wait_gone("web", web);
    going.hold("web");
    going.wait_starts("web", 2);
    going.hold("late");
    going.up("late");
    assert_eq!(going.twins(), [""; 0]);
    going.terminate();
}

/// As in a container into which CONFDIR is mounted, while somebody replaces it on the host: the
/// directory is still there, but it has no files, and nobody can make one. A working directory that
/// is deleted behaves the same.
fn a_directory_that_is_deleted_while_it_is_held_is_no_order() {
    let mut going = Going::new();
    going.hold_all(&["web", "other"]);
    let confdir = going.path("going.d");
    let mut command = going.command_on(Path::new("."), &going.path("run"));
    command.current_dir(&confdir);
    going.start_as(command);
    let up = going.all_up(&["web", "other"]);
    fs::remove_dir_all(&confdir).expect("our own directory");
    going.wait_log("unable to read CONFDIR .: No such file or directory");
    // The service is still respawned, as its file said.
    send(up[0], Signal::SIGKILL);
    going.wait_starts("web", 2);
    assert_eq!(going.up("other"), up[1]);
    assert_eq!(going.log_count("stopped"), 0, "{}", going.report());
    going.terminate();
}

/// inotify does not report that a link to the directory is swapped: this takes a HUP.
fn a_directory_behind_a_link_is_found_on_hup() {
    let mut going = Going::new();
    let (link, one, two) = (going.path("link"), going.path("going.d"), going.path("two.d"));
    fs::create_dir(&two).expect("a directory");
    going.write("web", content(&going, "web", "one"));
    fs::write(two.join("web"), content(&going, "web", "two")).expect("a file");
    symlink(&one, &link).expect("a symlink");
    let command = going.command_on(&link, &going.path("run"));
    going.start_as(command);
    wait_version(&going, "web", "one");
    symlink(&two, going.path("link.new")).expect("a symlink");
    fs::rename(going.path("link.new"), &link).expect("our own link");
    going.signal(Signal::SIGHUP);
    wait_version(&going, "web", "two");
    // From then on the new directory is watched.
    fs::write(two.join("web"), content(&going, "web", "three")).expect("a file");
    wait_version(&going, "web", "three");
    going.terminate();
}

/// inotify does not report a mount on top of CONFDIR either.
fn a_mount_on_top_is_found_on_hup() {
    let mut going = Going::new();
    let (confdir, other) = (going.path("going.d"), going.path("other.d"));
    fs::create_dir(&other).expect("a directory");
    going.write("web", content(&going, "web", "below"));
    going.hold("gone");
    fs::write(other.join("web"), content(&going, "web", "above")).expect("a file");
    let nothing = None::<&Path>;
    going.start_with(|command| {
        let alone = move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            Ok(mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?)
        };
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(alone) };
    });
    wait_version(&going, "web", "below");
    let gone = going.up("gone");
    let namespace = File::open(format!("/proc/{}/ns/mnt", going.pid())).expect("it runs");
    scope(|scope| {
        let cover = || {
            unshare(CloneFlags::CLONE_FS).expect("a thread of our own");
            setns(namespace, CloneFlags::CLONE_NEWNS).expect("a mount namespace");
            mount(Some(&other), &confdir, nothing, MsFlags::MS_BIND, nothing).expect("a mount");
        };
        scope.spawn(cover).join().expect("it can be mounted");
    });
    going.signal(Signal::SIGHUP);
    wait_version(&going, "web", "above");
    going.wait_gone("the service that is not in that directory", gone);
    // From then on the mounted directory is watched.
    fs::write(other.join("late"), content(&going, "late", "above")).expect("a file");
    wait_version(&going, "late", "above");
    going.terminate();
}

/// A ConfigMap: the files are links to `..data/NAME`, and `..data` is a link that is swapped.
fn a_swapped_data_link_is_noticed() {
    let mut going = Going::new();
    let confdir = going.path("going.d");
    let publish = |going: &Going, number: u32, version: &str| {
        let (data, new) = (format!("..v{number}"), confdir.join("..data_tmp"));
        fs::create_dir(confdir.join(&data)).expect("a directory");
        let files =
            [("web", content(going, "web", version)), ("same", content(going, "same", "x"))];
        for (name, text) in files {
            fs::write(confdir.join(&data).join(name), text).expect("a file");
        }
        symlink(&data, &new).expect("a symlink");
        fs::rename(&new, confdir.join("..data")).expect("our own link");
        if let Some(old) = number.checked_sub(1) {
            fs::remove_dir_all(confdir.join(format!("..v{old}"))).expect("our own directory");
        }
    };
    publish(&going, 0, "v0");
    for name in ["web", "same"] {
        symlink(Path::new("..data").join(name), confdir.join(name)).expect("a symlink");
    }
    going.start();
    wait_version(&going, "web", "v0");
    let same = going.up("same");
    for number in 1..6 {
        publish(&going, number, &format!("v{number}"));
        wait_version(&going, "web", &format!("v{number}"));
    }
    assert_eq!((going.up("same"), going.starts("same").len()), (same, 1));
    assert_eq!(going.log_count("data"), 0, "{}", going.report());
    going.terminate();
}

fn long(going: &Going, name: &str, version: &str, len: usize) -> String {
    content(going, name, version) + "env=A=" + &"x".repeat(len)
}

/// The limit is 48 KiB in all. One file grows by as much as another one shrinks in the same rescan,
/// whichever of them comes first.
fn room_that_an_edit_makes_is_used() {
    let mut going = Going::new();
    for number in 0..11 {
        let name = format!("filler{number}");
        going.write(&name, long(&going, &name, "0", 3800));
    }
    let (mut big, mut small) = ("b", "a");
    going.write(small, long(&going, small, "0", 10));
    going.start();
    wait_version(&going, "a", "0");
    // This one is added later, so that it comes after the other one in going's table, whatever
    // their order in the directory.
    going.write(big, long(&going, big, "0", 3800));
    wait_version(&going, "b", "0");
    for turn in 1..5 {
        (big, small) = (small, big);
        let turn = turn.to_string();
        let (large, little) = (long(&going, big, &turn, 3800), long(&going, small, &turn, 10));
        going.write(small, little);
        going.write(big, large);
        wait_version(&going, small, &turn);
        wait_version(&going, big, &turn);
    }
    assert_eq!(going.twins(), [""; 0]);
    going.terminate();
}

/// A down file outlives rescans, edits, HUP, and the death of going itself.
fn down_files_outlive_everything() {
    let mut going = Going::new();
    going.hold("other");
    going.write("web", content(&going, "web", "old"));
    going.start_under_init();
    let (other, web) = (going.up("other"), going.up("web"));
    going.hold_down("web");
    going.wait_gone("web", web);
    going.wait_status("web", "down");
    going.rescan();
    going.write("web", content(&going, "web", "new"));
    going.rescan();
    going.remove("web");
    going.rescan();
    going.write("web", content(&going, "web", "newer"));
    going.rescan();
    assert_eq!(going.starts("web").len(), 1, "{}", going.report());
    let first = going.pid();
    going.signal(Signal::SIGKILL);
    going.wait_for("another going", || going.records("init.pids").len() == 2);
    assert_ne!(going.pid(), first);
    going.wait_starts("other", 2);
    going.rescan();
    assert_eq!(going.starts("web").len(), 1, "{}", going.report());
    assert!(!proc::is_running(other));
    going.let_up("web");
    wait_version(&going, "web", "newer");
    assert_eq!(going.starts("web").len(), 2);
    assert_eq!(going.twins(), [""; 0]);
}

/// Only its existence counts: what kind of file it is does not matter.
fn any_file_of_that_name_holds_down() {
    let mut going = Going::new();
    let names = ["file", "directory", "dangling"];
    going.hold_all(&names);
    going.hold("web");
    let down = going.path("run/down");
    fs::create_dir_all(&down).expect("a directory");
    fs::write(down.join("file"), "whatever\n").expect("a file");
    fs::create_dir(down.join("directory")).expect("a directory");
    symlink("/nonexistent", down.join("dangling")).expect("a symlink");
    going.start();
    going.up("web");
    going.rescan();
    assert!(names.iter().all(|name| going.starts(name).is_empty()), "{}", going.report());
    for name in names {
        going.wait_status(name, "down");
    }
    // When the whole directory is gone, nothing is held down any more.
    fs::remove_dir_all(&down).expect("our own directory");
    going.all_up(&names);
    // The directory is made again, and works.
    going.hold_down("web");
    going.wait_status("web", "down");
    // What is in its place and is no directory holds nothing down either.
    fs::remove_dir_all(&down).expect("our own directory");
    fs::write(&down, "").expect("no directory");
    going.wait_starts("web", 2);
    going.terminate();
}

/// As shown in going(8). Other users still cannot change the directory.
fn a_group_may_be_let_steer() {
    let (group, other) = (12_345, 12_346);
    let mut going = Going::new();
    going.open_to_everybody();
    going.hold("web");
    going.start();
    going.up("web");
    let down = going.path("run/down");
    going.wait_for("RUNDIR/down", || down.is_dir());
    chown(&down, None, Some(group)).expect("our own directory");
    fs::set_permissions(&down, fs::Permissions::from_mode(0o775)).expect("our own directory");
    let is_done_by = |user: u32, program: &str| {
        let mut command = Command::new(program);
        command.arg(down.join("web")).stderr(Stdio::null());
        run_by(&mut command, user);
        command.status().expect("it can be executed").success()
    };
    assert!(!is_done_by(other, "touch"));
    assert!(is_done_by(group, "touch"));
    going.wait_status("web", "down");
    assert!(!is_done_by(other, "rm"));
    assert!(is_done_by(group, "rm"));
    going.wait_starts("web", 2);
    going.terminate();
}

/// A down file may be there before its service. A name that no service can have means nothing.
fn a_down_file_of_no_service_waits() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let web = going.up("web");
    for name in ["later", "not.a.name", ".hidden"] {
        going.hold_down(name);
    }
    going.hold("later");
    going.rescan();
    assert_eq!(going.starts("later"), [], "{}", going.report());
    going.wait_status("later", "down");
    for name in ["later", "not.a.name", ".hidden"] {
        assert_eq!(going.log_count(name), 0, "{}", going.report());
    }
    going.let_up("later");
    going.up("later");
    assert_eq!((going.up("web"), going.starts("web").len()), (web, 1));
    going.terminate();
}
