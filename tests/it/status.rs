//! RUNDIR: what the status says, while it changes and when nothing happens, and what going does
//! when something is wrong with RUNDIR.

use crate::harness::{Going, Start, run_by, send};
use crate::needs::scenario;
use crate::walk::Random;
use libtest_mimic::Trial;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{ScopedJoinHandle, scope};
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(every_state_is_in_the_status),
        scenario!(ten_thousand_readings_while_it_changes),
        scenario!(the_status_is_whole_at_its_longest),
        scenario!(the_status_is_written_once_for_all_that_has_come),
        scenario!(a_read_only_rundir_is_a_warning, Mounts),
        scenario!(the_status_is_true_again_when_there_is_room_for_it, Mounts),
        scenario!(a_full_rundir_is_a_warning, Mounts),
        scenario!(a_rundir_of_another_user_is_a_warning, Root),
        scenario!(a_deleted_rundir_is_made_anew),
        scenario!(a_rundir_replaced_by_a_link_is_followed),
        scenario!(a_rundir_in_the_place_of_another_is_looked_into),
        scenario!(planted_links_in_rundir_lead_nowhere),
    ]
}

/// The lines of the status, by name. Panics if it is not a whole, valid one.
fn read_status(going: &Going) -> Option<BTreeMap<String, Vec<String>>> {
    let text = fs::read_to_string(going.path("run/status")).ok()?;
    assert!(text.ends_with('\n'), "a half line: {text:?}");
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().expect("a first line").split(' ').collect();
    assert_eq!(header[..3], ["going", "1", &going.pid().to_string()], "{text}");
    assert!(header[3].parse::<u64>().is_ok() && header.len() == 4, "{text}");
    let mut services = BTreeMap::new();
    for line in lines {
        let fields: Vec<_> = line.split(' ').map(str::to_owned).collect();
        assert_fields(&fields);
        assert!(services.insert(fields[0].clone(), fields).is_none(), "twice: {line}");
    }
    Some(services)
}

/// Checks each field, and that they agree with each other.
fn assert_fields(fields: &[String]) {
    let [_, state, pid, since, starts, end, next] = fields else { panic!("{fields:?}") };
    let number = |text: &str| text.parse::<u64>().is_ok();
    let has_pid = match state.as_str() {
        "up" | "stopping" => true,
        "down" | "backoff" | "done" | "rejected" => false,
        _ => panic!("{fields:?}"),
    };
    assert!(if has_pid { number(pid) } else { pid == "-" }, "{fields:?}");
    assert!(number(since) && number(starts), "{fields:?}");
    let numbered = end.strip_prefix("exit:").or(end.strip_prefix("signal:"));
    assert!(end == "-" || numbered.is_some_and(number), "{fields:?}");
    assert_eq!(state == "backoff", next != "-", "{fields:?}");
    assert!(next == "-" || number(next), "{fields:?}");
}

fn every_state_is_in_the_status() {
    let mut going = Going::new();
    going.hold_all(&["up", "held"]);
    going.write("stopping", going.cmd("hold", "stopping", &["ignore"]) + "timeout=0\n");
    going.write("backoff", "cmd=/nonexistent\n");
    going.write("done", going.cmd("exit", "done", &["3", "0"]) + "restart=never\n");
    going.write("rejected", "comand=x\n");
    going.start();
    let stopping = going.up("stopping");
    going.up("held");
    going.hold_down("stopping");
    going.hold_down("held");
    let up = going.up("up").to_string();
    going.wait_status("held", "down");
    going.wait_status("stopping", "stopping");
    going.wait_status("backoff", "backoff");
    going.wait_status("done", "done");
    let status = read_status(&going).expect("a status");
    let names: Vec<_> = status.keys().map(String::as_str).collect();
    assert_eq!(names, ["backoff", "done", "held", "rejected", "stopping", "up"]);
    assert_eq!(status["up"][1..3], ["up", &up]);
    assert_eq!(status["up"][4..], ["1", "-", "-"]);
    assert_eq!(status["held"][4..], ["1", "signal:15", "-"]);
    assert_eq!(status["stopping"][2], stopping.to_string());
    assert_eq!(status["backoff"][5], "exit:127");
    assert_eq!(status["done"][4..], ["1", "exit:3", "-"]);
    assert_eq!(status["rejected"][1..3], ["rejected", "-"]);
    assert_eq!(status["rejected"][4..], ["0", "-", "-"]);
    // The time of the change, by a clock that everybody can read.
    let since: u64 = status["up"][3].parse().expect("a number");
    let start = going.starts("up")[0].at_ms;
    assert!(since <= start + 10 && since + 20_000 > start, "{since} {start}");
    going.remove("rejected");
    going.wait_for("no more of it", || going.status_of("rejected").is_empty());
    going.terminate();
}

/// The status is never torn or cut short, the number of starts never falls, and in the end it is
/// true.
fn ten_thousand_readings_while_it_changes() {
    let mut going = Going::new();
    let names: Vec<_> = (0..20).map(|number| format!("s{number}")).collect();
    going.hold_all(&names);
    going.start();
    going.all_up(&names);
    going.wait_for("a status", || read_status(&going).is_some());
    let is_over = AtomicBool::new(false);
    scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| read_often(&going, 5_000))).collect();
        let (going, names, is_over) = (&going, &names, &is_over);
        let disturb = scope.spawn(move || disturb(going, names, is_over));
        let readings: Vec<_> = readers.into_iter().map(ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        disturb.join().expect("a disturbance");
        assert!(readings.iter().all(Result::is_ok), "torn, or wrong");
    });
    let agrees = || {
        let status = read_status(&going).unwrap_or_default();
        let ups = status.values().filter(|fields| fields[1] == "up");
        let mut pids: Vec<i32> = ups.map(|fields| fields[2].parse().expect("a pid")).collect();
        let mut running = going.children();
        pids.sort_unstable();
        running.sort_unstable();
        pids.len() == names.len() && pids == running
    };
    going.wait_for("what /proc says in the status", agrees);
    for (name, fields) in read_status(&going).expect("a status") {
        let is_last = |start: &Start| start.pid.to_string() == fields[2];
        let has_told = || going.starts(&name).last().is_some_and(is_last);
        going.wait_for("the word of the process that the status names", has_told);
        let starts = going.starts(&name);
        // A process that was killed before it could record its start has been started all the same.
        assert!(fields[4].parse::<usize>().expect("a number") >= starts.len());
    }
    going.terminate();
}

/// Reads it that often, and on until it has changed often enough.
fn read_often(going: &Going, count: u32) {
    let mut starts: BTreeMap<String, u64> = BTreeMap::new();
    let (mut last, mut changes, mut readings) = (BTreeMap::new(), 0, 0);
    let begin = Instant::now();
    while readings < count || changes < 50 {
        let status = read_status(going).expect("it is always there");
        for (name, fields) in &status {
            let count = fields[4].parse().expect("a number");
            let before = starts.insert(name.clone(), count).unwrap_or(0);
            assert!(before <= count, "{fields:?}");
        }
        changes += usize::from(status != last);
        last = status;
        readings += 1;
        assert!(begin.elapsed() < Duration::from_mins(1), "it hardly changes: {changes}");
    }
}

/// Keeps holding down a service and letting it up again. At the end none is held down.
fn disturb(going: &Going, names: &[String], is_over: &AtomicBool) {
    let mut random = Random::seeded();
    while !is_over.load(Ordering::Relaxed) {
        let name = &names[random.index(names.len())];
        going.hold_down(name);
        going.signal(Signal::SIGHUP);
        going.wait_status(name, "down");
        going.let_up(name);
        going.signal(Signal::SIGHUP);
        going.wait_status(name, "up");
    }
}

/// 256 lines, with the longest names there are.
fn the_status_is_whole_at_its_longest() {
    let mut going = Going::new();
    let names: Vec<_> = (0..256).map(|number| format!("{number:a>32}")).collect();
    for name in &names {
        going.write(name, "cmd=sleep 1000\n");
    }
    // As left by a going that was killed while it wrote a longer one.
    fs::write(going.path("run/status.new"), "x\n".repeat(50_000)).expect("our own file");
    going.start();
    let is_up = |fields: &Vec<String>| fields[1] == "up";
    going.wait_for("all of them up", || {
        read_status(&going)
            .is_some_and(|status| status.values().filter(|f| is_up(f)).count() == 256)
    });
    let status = read_status(&going).expect("a status");
    assert!(names.iter().all(|name| status.contains_key(name)));
    going.terminate();
}

/// It is written after all the work of a turn, not after each part of it.
fn the_status_is_written_once_for_all_that_has_come() {
    let mut going = Going::new();
    let names: Vec<_> = (0..100).map(|number| format!("s{number}")).collect();
    going.hold_all(&names);
    going.start();
    let pids = going.all_up(&names);
    going.rescan();
    going.wait_quiet();
    let writes = || {
        let text = fs::read_to_string(format!("/proc/{}/io", going.pid())).expect("it runs");
        let count = text.lines().find_map(|line| line.strip_prefix("syscw: "));
        count.and_then(|count| count.parse::<usize>().ok()).expect("a number")
    };
    let before = writes();
    going.signal(Signal::SIGSTOP);
    for &pid in &pids {
        send(pid, Signal::SIGKILL);
    }
    for pid in pids {
        going.wait_gone("a service", pid);
    }
    going.signal(Signal::SIGCONT);
    let ends = || going.log_count(": killed by signal 9 after ");
    going.wait_for("all of them reaped", || ends() == names.len());
    let is_told = |fields: &Vec<String>| fields[5] == "signal:9";
    going.wait_for("all ends in the status", || {
        going.status().iter().filter(|fields| is_told(fields)).count() == names.len()
    });
    // A message takes at most four writes, to both of its destinations, and a status more than a
    // dozen.
    let spent = writes() - before;
    assert!(spent < 8 * names.len(), "{spent} writes");
    going.terminate();
}

/// Mounts a tmpfs on RUNDIR, for this command only.
fn mount_on_rundir(going: &Going, command: &mut Command, flags: MsFlags, data: &str) {
    let path = CString::new(going.path("run").to_str().expect("plain")).expect("no NUL");
    let data = CString::new(data).expect("no NUL");
    let cover = move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let nothing = None::<&Path>;
        mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
        mount(nothing, path.as_c_str(), Some(c"tmpfs"), flags, Some(data.as_c_str()))?;
        Ok(())
    };
    // SAFETY: between fork and exec it calls the kernel only, on what was made before.
    unsafe { command.pre_exec(cover) };
}

/// Everything but the status and the down files works as ever, and there is one message.
#[track_caller]
fn assert_works_without_rundir(going: &mut Going, why: &str) {
    let web = going.up("web");
    going.wait_log(&format!("RUNDIR {}: {why}", going.path("run").display()));
    going.write("late", going.cmd("hold", "late", &[]));
    going.up("late");
    send(web, Signal::SIGKILL);
    going.wait_starts("web", 2);
    going.rescan();
    going.rescan();
    assert_eq!(going.log_count("unable to write status in RUNDIR"), 1, "{}", going.report());
    going.terminate();
}

fn a_read_only_rundir_is_a_warning() {
    let mut going = Going::new();
    going.hold("web");
    let mut command = going.command();
    mount_on_rundir(&going, &mut command, MsFlags::MS_RDONLY, "size=4k");
    going.start_as(command);
    assert_works_without_rundir(&mut going, "Read-only file system");
}

/// There is room for files, but not for a byte in them.
fn a_full_rundir_is_a_warning() {
    let mut going = Going::new();
    going.hold("web");
    let mut command = going.command();
    mount_on_rundir(&going, &mut command, MsFlags::empty(), "size=4k,nr_inodes=100");
    let path = CString::new(going.path("run/ballast").to_str().expect("plain")).expect("no NUL");
    let fill = move || {
        let ballast = fs::File::create(Path::new(path.to_str().expect("plain")))?;
        // Until it is full.
        while nix::unistd::write(&ballast, &[0; 512]).is_ok() {}
        Ok(())
    };
    // SAFETY: between fork and exec it calls the kernel only, on what was made before.
    unsafe { command.pre_exec(fill) };
    going.start_as(command);
    assert_works_without_rundir(&mut going, "No space left on device");
}

fn the_status_is_true_again_when_there_is_room_for_it() {
    let mut going = Going::new();
    going.hold_all(&["web", "held"]);
    let mut command = going.command();
    mount_on_rundir(&going, &mut command, MsFlags::empty(), "size=16k,nr_inodes=100");
    going.start_as(command);
    let web = going.up("web");
    going.up("held");
    let run = format!("/proc/{}/root{}", going.pid(), going.path("run").display());
    let says = |line: &str| {
        let status = fs::read_to_string(format!("{run}/status")).unwrap_or_default();
        status.contains(line)
    };
    going.wait_for("web in the status", || says(&format!("\nweb up {web} ")));
    going.wait_quiet();
    let ballast = format!("{run}/ballast");
    let mut file = fs::File::create(&ballast).expect("a file");
    while file.write_all(&[0; 512]).is_ok() {}
    drop(file);
    send(web, Signal::SIGKILL);
    going.wait_starts("web", 2);
    fs::write(format!("{run}/down/held"), "").expect("a file without a byte");
    going.wait_log("held: stopped, killed by signal 15");
    going.wait_log("unable to write status in RUNDIR");
    fs::remove_file(&ballast).expect("our own file");
    going.wait_for("held down in the status", || says("\nheld down - "));
    assert!(says(&format!("\nweb up {} ", going.up("web"))), "{}", going.report());
    going.terminate();
}

fn a_rundir_of_another_user_is_a_warning() {
    let mut going = Going::new();
    going.open_to_everybody();
    going.hold("web");
    let shut = fs::Permissions::from_mode(0o755);
    fs::set_permissions(going.path("run"), shut).expect("our own directory");
    going.start_with(|command| run_by(command, 12_345));
    assert_works_without_rundir(&mut going, "Permission denied");
}

/// With two services: one is up, with the pid that is returned, and the other is held down.
fn with_one_held() -> (Going, i32) {
    let mut going = Going::new();
    going.hold_all(&["web", "held"]);
    going.start();
    let web = going.up("web");
    going.up("held");
    going.hold_down("held");
    going.wait_status("held", "down");
    going.wait_quiet();
    (going, web)
}

fn a_deleted_rundir_is_made_anew() {
    let (mut going, web) = with_one_held();
    fs::remove_dir_all(going.path("run")).expect("our own directory");
    // Nothing is held down any more.
    going.wait_starts("held", 2);
    going.wait_status("held", "up");
    going.hold_down("held");
    going.wait_status("held", "down");
    assert_eq!((going.up("web"), going.starts("web").len()), (web, 1));
    assert_eq!(going.twins(), [""; 0]);
    going.terminate();
}

/// As when a file system is mounted on /run after going has started. What happens next is in the
/// new status, so the down files that count have to be those beside it.
fn a_rundir_in_the_place_of_another_is_looked_into() {
    let (mut going, web) = with_one_held();
    // inotify does not report this.
    fs::rename(going.path("run"), going.path("old")).expect("our own directory");
    send(web, Signal::SIGKILL);
    going.wait_starts("web", 2);
    // Nothing is held down any more.
    going.wait_status("held", "up");
    going.hold_down("web");
    going.wait_status("web", "down");
    assert_eq!(going.twins(), [""; 0]);
    going.terminate();
}

fn a_rundir_replaced_by_a_link_is_followed() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let web = going.up("web");
    going.wait_status("web", "up");
    let (run, other) = (going.path("run"), going.path("other"));
    fs::create_dir(&other).expect("a directory");
    fs::rename(&run, going.path("old")).expect("our own directory");
    symlink(&other, &run).expect("a symlink");
    // inotify does not report this.
    going.rescan();
    assert_eq!((going.up("web"), going.starts("web").len()), (web, 1));
    going.wait_status("mark", "up");
    assert!(other.join("status").is_file());
    going.hold_down("web");
    going.wait_status("web", "down");
    going.let_up("web");
    going.wait_starts("web", 2);
    going.terminate();
}

/// A user who may write there must not make going write elsewhere, or wait.
fn planted_links_in_rundir_lead_nowhere() {
    let mut going = Going::new();
    going.hold("web");
    let victim = going.path("victim");
    fs::write(&victim, "precious\n").expect("a file");
    let run = going.path("run");
    symlink(&victim, run.join("status.new")).expect("a symlink");
    fs::create_dir(run.join("pid")).expect("a directory");
    symlink(&victim, run.join("pid/web")).expect("a symlink");
    going.start();
    going.up("web");
    going.wait_log("unable to write status in RUNDIR");
    going.wait_log("web: unable to write pid/web in RUNDIR");
    fs::remove_file(run.join("status.new")).expect("our own link");
    let path = CString::new(run.join("status.new").to_str().expect("plain")).expect("no NUL");
    nix::unistd::mkfifo(path.as_c_str(), nix::sys::stat::Mode::from_bits_truncate(0o666))
        .expect("a fifo");
    going.rescan();
    fs::remove_file(run.join("status.new")).expect("our own fifo");
    going.rescan();
    going.wait_status("web", "up");
    assert_eq!(fs::read_to_string(&victim).expect("a file"), "precious\n");
    going.terminate();
}
