//! `goingctl status`: what is shown, in which form, and what the exit code says.

use crate::goingctl::{
    ABSENT, FAILED, Forked, NOT_UP, OK, OnTerminal, Ran, USAGE, command, ctl, ctl_full, ctl_to,
    status_line, wait_state,
};
use crate::harness::{Going, install_program, run_by, send};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use miniserde::json::{self, Number, Object, Value};
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{mkfifo, pipe};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(the_table_shows_every_state),
        scenario!(the_exit_code_says_whether_all_is_well),
        scenario!(names_and_patterns_choose),
        scenario!(the_group_counts_with_its_service),
        scenario!(a_process_counts_from_the_fork_on),
        scenario!(a_process_that_is_no_child_of_going_does_not_count),
        scenario!(without_going_it_says_so),
        scenario!(a_status_left_over_is_not_believed),
        scenario!(a_going_that_stands_still_is_noticed),
        scenario!(another_version_is_read_as_far_as_can_be),
        scenario!(garbage_is_no_status),
        scenario!(what_is_no_file_is_not_waited_for),
        scenario!(json_keeps_to_its_schema, JsonSchema),
        scenario!(json_says_what_the_table_says),
        scenario!(prometheus_takes_it, Promtool),
        scenario!(prometheus_sees_no_restart_that_never_was),
        scenario!(prometheus_hears_that_going_is_gone),
        scenario!(prometheus_labels_are_quoted),
        scenario!(a_full_table_is_shown),
        scenario!(a_hundred_services_cost_little),
        scenario!(colour_is_for_terminals),
        scenario!(a_narrow_terminal_cuts),
        scenario!(wide_characters_take_two_columns),
        scenario!(control_characters_stay_in),
        scenario!(a_status_does_nothing_to_a_terminal),
        scenario!(nobody_reading_is_no_failure),
        scenario!(a_full_disk_is_a_failure),
        scenario!(everybody_may_look, Root),
        scenario!(what_may_not_be_read_is_not_taken_for_a_going_that_is_gone, Root),
        scenario!(watch_needs_a_terminal_that_can_be_redrawn),
        scenario!(watch_redraws_until_q),
        scenario!(watch_scrolls),
        scenario!(watch_tells_of_what_there_is_not),
    ]
}

/// One service in each state that lasts.
fn every_state(going: &mut Going) {
    going.hold_all(&["web", "held"]);
    going.write("broken", "comand=x\n");
    going.write("absent", "cmd=/does/not/exist\n");
    going.write("once", "cmd=true\nrestart=never\n");
    going.start();
    wait_state(going, "held", "up");
    going.up("held");
    ctl_to(going, OK, &["stop", "held"]);
    wait_state(going, "absent", "backoff");
    wait_state(going, "once", "done");
    going.up("web");
}

/// The result of `run` while `absent` was in backoff. It is tried again if `absent` was started
/// meanwhile.
fn in_backoff<T>(going: &Going, run: impl Fn() -> T) -> T {
    loop {
        wait_state(going, "absent", "backoff");
        let before = status_line(going, "absent");
        let result = run();
        if status_line(going, "absent") == before {
            return result;
        }
    }
}

/// The cells of a line of the table.
fn cells<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let is_it = |line: &&str| line.split(' ').next() == Some(name);
    let line = table.lines().find(is_it).unwrap_or_else(|| panic!("no {name} in\n{table}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

fn the_table_shows_every_state() {
    let mut going = Going::new();
    every_state(&mut going);
    let table = in_backoff(&going, || ctl_to(&going, NOT_UP, &[])).out;
    let above = "NAME STATE PID FOR RESTARTS CPU MEMORY TASKS LAST END COMMAND";
    let first = table.lines().next().expect("a line");
    assert_eq!(first.split_whitespace().collect::<Vec<_>>().join(" "), above);
    let web = cells(&table, "web");
    let pid = going.up("web").to_string();
    assert_eq!((web[1], web[2], web[4], web[8]), ("up", pid.as_str(), "0", "-"), "{table}");
    assert!(web[9].ends_with(" web"), "{table}");
    assert_eq!(cells(&table, "held")[1..3], ["down, held", "-"], "{table}");
    assert!(table.contains("signal 15: TERM"), "{table}");
    assert_eq!(cells(&table, "broken")[1], "rejected", "{table}");
    let absent = cells(&table, "absent");
    assert_eq!(absent[1], "backoff", "{table}");
    assert!(table.contains("exit 127: not found; next start in "), "{table}");
    assert_eq!(cells(&table, "once")[1..3], ["done", "-"], "{table}");
    let names: Vec<_> = table.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["absent", "broken", "held", "once", "web"]);
    going.terminate();
}

/// A service that is held down is not wanted, and one that is done has done its work, so neither
/// affects the exit code.
fn the_exit_code_says_whether_all_is_well() {
    let mut going = Going::new();
    every_state(&mut going);
    ctl_to(&going, NOT_UP, &["status"]);
    ctl_to(&going, OK, &["status", "web", "held", "once"]);
    let ran = in_backoff(&going, || ctl(&going, &["web", "absent"]));
    assert_eq!(ran.code, NOT_UP, "{ran:?}");
    ctl_to(&going, NOT_UP, &["broken"]);
    ctl_to(&going, ABSENT, &["web", "nobody"]);
    going.terminate();
}

fn names_and_patterns_choose() {
    let mut going = Going::new();
    let names = ["web@1", "web@2", "worker", "db"];
    going.hold_all(&names);
    going.start();
    for name in names {
        wait_state(&going, name, "up");
    }
    let shown = |words: &[&str]| -> Vec<String> {
        let table = ctl(&going, words).out;
        table.lines().skip(1).filter_map(|line| Some(line.split(' ').next()?.into())).collect()
    };
    assert_eq!(shown(&["w*"]), ["web@1", "web@2", "worker"]);
    assert_eq!(shown(&["web@?", "web@1"]), ["web@1", "web@2"]);
    assert_eq!(shown(&["{db,worker}"]), ["db", "worker"]);
    assert_eq!(shown(&["all"]).len(), 4);
    let none = ctl_to(&going, ABSENT, &["x*", "db"]);
    assert!(none.out.contains("db"), "what there is is shown: {none:?}");
    assert!(none.err.contains("no such service: x*"), "{none:?}");
    going.terminate();
}

fn the_group_counts_with_its_service() {
    let mut going = Going::new();
    going.write("web", going.cmd("family", "web", &[]));
    going.start();
    going.up("web");
    going.up("web-child");
    let table = ctl_to(&going, OK, &[]).out;
    let web = cells(&table, "web");
    assert_eq!(web[7], "2", "{table}");
    assert!(web[5].ends_with('s') && web[6] != "-", "{table}");
    going.terminate();
}

/// Until setsid(2) a child is in going's process group, and until execve(2) it has going's command
/// line.
fn a_process_counts_from_the_fork_on() {
    let going = Going::new();
    going.write("web", "cmd=/bin/web\n");
    let forked = Forked::new(&going);
    fake(&going, &format!("{}\nweb up {} 5 1 - -\n", our_header("1"), forked.pid));
    let document = object(&ctl_to(&going, OK, &["--json"]).out);
    let web = services(&document)[0];
    assert_eq!(number(&web["tasks"]), 1);
    assert!(number(&web["memory_kb"]) > 0);
    assert_eq!(text(&web["command"]), "/bin/web");
}

/// The pid in a status may belong to another process by now.
fn a_process_that_is_no_child_of_going_does_not_count() {
    let going = Going::new();
    going.write("web", "cmd=/bin/web\n");
    fake(&going, &format!("{}\nweb up 1 5 1 - -\n", our_header("1")));
    let document = object(&ctl_to(&going, OK, &["--json"]).out);
    let web = services(&document)[0];
    assert!(matches!(web["tasks"], Value::Null), "{web:?}");
    assert_eq!(text(&web["command"]), "/bin/web");
}

fn without_going_it_says_so() {
    let going = Going::new();
    for words in [&["status"][..], &["stop", "web"], &["signal", "HUP", "web"]] {
        let ran = ctl_to(&going, ABSENT, words);
        assert_eq!(ran.out, "");
        assert!(ran.err.contains("going is not running, or cannot write there"), "{ran:?}");
        assert!(ran.err.contains("No such file or directory"), "{ran:?}");
    }
    fs::remove_dir_all(going.path("run")).expect("our own directory");
    fs::write(going.path("run"), "").expect("room on the disk");
    assert!(ctl_to(&going, ABSENT, &[]).err.contains("Not a directory"));
}

/// A going that was killed leaves its status behind, and its pid may belong to another process by
/// now.
fn a_status_left_over_is_not_believed() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    wait_state(&going, "web", "up");
    going.signal(Signal::SIGKILL);
    going.wait_exit();
    assert!(status_line(&going, "web").is_some());
    let ran = ctl_to(&going, ABSENT, &[]);
    assert!(ran.err.contains("left over"), "{ran:?}");
    // The status says that this process has run since the machine booted, but it began later.
    fake(&going, &format!("going 1 {} 1\nweb up 1 1 1 - -\n", std::process::id()));
    ctl_to(&going, ABSENT, &[]);
}

/// Writes a status that does not come from going.
fn fake(going: &Going, status: &str) {
    fs::write(going.path("run/status"), status).expect("our own file");
}

/// The first line of a status that this process could have written.
fn our_header(version: &str) -> String {
    format!("going {version} {} {}", std::process::id(), proc::uptime_ms())
}

fn a_going_that_stands_still_is_noticed() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    wait_state(&going, "web", "up");
    going.signal(Signal::SIGSTOP);
    let pid = going.pid();
    going.wait_for("going standing still", || proc::stat(pid).is_some_and(|s| s.state == 'T'));
    let ran = ctl_to(&going, NOT_UP, &[]);
    assert!(ran.err.contains("going is stopped"), "{ran:?}");
    assert_eq!(cells(&ran.out, "web")[1], "up");
    going.signal(Signal::SIGCONT);
    going.wait_for("going running", || ctl(&going, &[]).code == OK);
    going.terminate();
}

/// Fields that are missing, that make no sense, and that are new.
fn another_version_is_read_as_far_as_can_be() {
    let going = Going::new();
    let lines = "short\nnew up 1 5 2 exit:3 - ready mem=5\nodd frozen x y z later:1 !\n\n";
    fake(&going, &format!("{} what else\n{lines}", our_header("7")));
    let ran = ctl_to(&going, NOT_UP, &[]);
    assert!(ran.err.contains("format 7"), "{ran:?}");
    assert_eq!(cells(&ran.out, "short")[1..], ["-"; 9]);
    assert_eq!(cells(&ran.out, "odd")[1..5], ["frozen", "-", "-", "-"]);
    assert_eq!(cells(&ran.out, "odd")[8], "later:1");
    assert_eq!(cells(&ran.out, "new")[8], "exit 3");
    let document = object(&ctl(&going, &["--json"]).out);
    let services = services(&document);
    assert_eq!(text(&document["format"]), "7");
    let Value::Array(extra) = &services[0]["extra"] else { panic!("no array") };
    assert_eq!(extra.iter().map(text).collect::<Vec<_>>(), ["ready", "mem=5"]);
    assert!(matches!(services[2]["starts"], Value::Null));
    // It is still good enough for what needs only the state.
    ctl_to(&going, OK, &["new"]);
}

fn garbage_is_no_status() {
    let going = Going::new();
    let nothings: [&[u8]; 5] =
        [b"", b"\n", b"going\n", b"\xff\xfe\x00", b"going 1 -1 -1\nweb up\n"];
    for nothing in nothings {
        fs::write(going.path("run/status"), nothing).expect("our own file");
        let ran = ctl_to(&going, ABSENT, &[]);
        assert!(ran.err.contains("going is not running"), "{ran:?}");
    }
}

/// Reading a FIFO or /dev/zero would never end.
fn what_is_no_file_is_not_waited_for() {
    let going = Going::new();
    let status = going.path("run/status");
    mkfifo(&status, Mode::S_IRWXU).expect("room on the disk");
    let ran = ctl_to(&going, ABSENT, &[]);
    assert!(ran.err.contains("not a regular file"), "{ran:?}");
    fs::remove_file(&status).expect("our own file");
    symlink("/dev/zero", &status).expect("room on the disk");
    ctl_to(&going, ABSENT, &[]);
    fs::remove_file(&status).expect("our own file");
    mkfifo(&going.path("going.d/fifo"), Mode::S_IRWXU).expect("room on the disk");
    symlink("/dev/zero", going.path("going.d/zero")).expect("room on the disk");
    fake(&going, &format!("{}\nfifo rejected - 5 0 - -\nzero rejected\n", our_header("1")));
    let ran = ctl_to(&going, NOT_UP, &[]);
    assert_eq!(cells(&ran.out, "fifo")[9], "-", "{ran:?}");
    assert_eq!(cells(&ran.out, "zero")[9], "-", "{ran:?}");
    // Far more than going ever writes, and no end of line.
    let long = "x".repeat(4_000_000);
    fake(&going, &format!("{}\nweb up - 5 1 - -\nlong {long}", our_header("1")));
    ctl_to(&going, OK, &["web"]);
}

fn object(text: &str) -> Object {
    json::from_str(text).unwrap_or_else(|_| panic!("not an object: {text}"))
}

fn services(document: &Object) -> Vec<&Object> {
    let Value::Array(services) = &document["services"] else { panic!("no array") };
    let objects = services.iter().map(|service| match service {
        Value::Object(object) => object,
        _ => panic!("no object: {service:?}"),
    });
    objects.collect()
}

fn text(value: &Value) -> &str {
    let Value::String(text) = value else { panic!("no string: {value:?}") };
    text
}

fn number(value: &Value) -> u64 {
    let Value::Number(Number::U64(number)) = value else { panic!("no number: {value:?}") };
    *number
}

/// The schema holds for the status of this daemon and for that of a later version.
fn json_keeps_to_its_schema() {
    let mut going = Going::new();
    every_state(&mut going);
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/status.schema.json");
    let path = going.path("document.json");
    let check = |document: &str| {
        fs::write(&path, document).expect("room on the disk");
        let output = Command::new("jsonschema").arg("-i").arg(&path).arg(&schema).output();
        Ran::from(output.expect("jsonschema can be executed"))
    };
    let document = ctl_to(&going, NOT_UP, &["--json"]).out;
    assert_eq!(check(&document).code, OK, "{document}");
    assert_ne!(check(&document.replace("\"wanted\":true", "\"wanted\":1")).code, OK);
    assert_ne!(check("{}").code, OK);
    going.terminate();
    fake(&going, &format!("{}\nodd\nnew up 1 5 2 exit:3 - x\n", our_header("9")));
    let document = ctl(&going, &["--json"]).out;
    assert_eq!(check(&document).code, OK, "{document}");
}

fn json_says_what_the_table_says() {
    let mut going = Going::new();
    every_state(&mut going);
    let document = object(&ctl_to(&going, NOT_UP, &["--json"]).out);
    assert_eq!(number(&document["pid"]), u64::try_from(going.pid()).expect("a pid"));
    let services = services(&document);
    let names: Vec<_> = services.iter().map(|service| text(&service["name"])).collect();
    assert_eq!(names, ["absent", "broken", "held", "once", "web"]);
    let [absent, broken, held, once, web] = services[..] else { panic!("five") };
    assert_eq!(number(&absent["exit_code"]), 127);
    assert_eq!(text(&absent["command"]), "/does/not/exist");
    assert_eq!(text(&broken["state"]), "rejected");
    assert!(matches!(held["wanted"], Value::Bool(false)));
    assert_eq!(number(&held["signal"]), 15);
    assert_eq!(number(&once["exit_code"]), 0);
    assert_eq!(number(&web["starts"]), 1);
    assert_eq!(number(&web["tasks"]), 1);
    assert!(number(&web["memory_kb"]) > 0 && number(&web["for_ms"]) < 1_000_000);
    going.terminate();
}

fn prometheus_takes_it() {
    let mut going = Going::new();
    every_state(&mut going);
    let exposition = ctl_to(&going, NOT_UP, &["--prometheus"]).out;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut process = promtool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let process = process.as_mut().expect("promtool can be executed");
    let mut stdin = process.stdin.take().expect("a pipe");
    stdin.write_all(exposition.as_bytes()).expect("promtool reads");
    drop(stdin);
    let status = process.wait().expect("our own child");
    let mut said = String::new();
    process.stderr.take().expect("a pipe").read_to_string(&mut said).expect("plain text");
    assert!(status.success() && said.is_empty(), "{said}\n{exposition}");
    for line in [
        "going_up 1",
        "going_service_up{service=\"web\"} 1",
        "going_service_wanted{service=\"held\"} 0",
        "going_service_state{service=\"once\",state=\"done\"} 1",
        "going_service_state{service=\"once\",state=\"up\"} 0",
        "going_service_starts_total{service=\"web\"} 1",
        "going_service_last_exit_code{service=\"absent\"} 127",
        "going_service_tasks{service=\"web\"} 1",
    ] {
        assert!(exposition.lines().any(|other| other == line), "no {line} in\n{exposition}");
    }
    going.terminate();
}

/// However often goingctl is run, and at whatever fraction of a millisecond, the times do not
/// change.
fn prometheus_sees_no_restart_that_never_was() {
    let going = Going::new();
    fake(&going, &format!("{}\nweb down - 5 0 - -\n", our_header("1")));
    let times = || {
        let text = ctl(&going, &["--prometheus"]).out;
        let is_time = |line: &&str| !line.starts_with('#') && line.contains("_seconds");
        text.lines().filter(is_time).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = times();
    assert_eq!(first.len(), 2);
    for _ in 0..100 {
        assert_eq!(times(), first);
    }
}

fn prometheus_hears_that_going_is_gone() {
    let ran = ctl_to(&Going::new(), ABSENT, &["--prometheus"]);
    assert!(ran.out.ends_with("\ngoing_up 0\n"), "{ran:?}");
}

/// Backslash, quote and line feed are written with a backslash, and nothing else is.
fn prometheus_labels_are_quoted() {
    let going = Going::new();
    fake(&going, &format!("{}\na\"b\\c\td up - 5 1 - -\n", our_header("1")));
    let exposition = ctl_to(&going, OK, &["--prometheus"]).out;
    let line = "going_service_up{service=\"a\\\"b\\\\c\td\"} 1";
    assert!(exposition.lines().any(|other| other == line), "{exposition}");
}

fn a_full_table_is_shown() {
    let mut going = Going::new();
    let names: Vec<_> = (0..256).map(|number| format!("service-{number:03}")).collect();
    for name in &names {
        going.write(name, "cmd=sleep 100000\n");
    }
    going.start();
    let is_shown = |ran: Ran| ran.code == OK && ran.out.lines().count() > 256;
    going.wait_for("all of them up", || is_shown(ctl(&going, &[])));
    let table = ctl_to(&going, OK, &[]).out;
    let shown: Vec<_> = table.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(shown, names);
    assert_eq!(services(&object(&ctl_to(&going, OK, &["--json"]).out)).len(), 256);
    going.terminate();
}

/// The promised upper bound on user and system time for the status of 100 services.
const CPU_MS_MAX: i64 = 20;

fn a_hundred_services_cost_little() {
    let mut going = Going::new();
    for number in 0..100 {
        going.write(&format!("s{number}"), "cmd=sleep 100000\n");
    }
    going.start();
    let is_shown = |ran: Ran| ran.code == OK && ran.out.lines().count() > 100;
    going.wait_for("all of them up", || is_shown(ctl(&going, &[])));
    for words in [&[][..], &["--json"], &["--prometheus"]] {
        // On a busy machine the same work takes longer now and then, so the least of several
        // counts.
        let least = (0..5).map(|_| cpu_ms(command(&going).args(words))).min();
        assert!(least < Some(CPU_MS_MAX), "{words:?}: {least:?} ms");
    }
    going.terminate();
}

/// The processor time of the command until it ends.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
fn cpu_ms(command: &mut Command) -> i64 {
    let process = command.stdout(Stdio::null()).spawn().expect("goingctl can be executed");
    let pid = process.id().try_into().expect("a pid");
    // SAFETY: plain numbers, all of them allowed to be zero.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is there to be written to.
    let ended = unsafe { libc::wait4(pid, std::ptr::null_mut(), 0, &raw mut usage) };
    assert_eq!(ended, pid);
    let times = [usage.ru_utime, usage.ru_stime];
    times.iter().map(|time| time.tv_sec * 1000 + time.tv_usec / 1000).sum()
}

fn colour_is_for_terminals() {
    let mut going = Going::new();
    every_state(&mut going);
    assert!(!ctl_to(&going, NOT_UP, &[]).out.contains('\x1b'));
    let show = |name: &str, value: Option<&str>| {
        let mut command = command(&going);
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
        OnTerminal::spawn(command, 200, 24).finish().1
    };
    let coloured = show("NO_COLOR", None);
    assert!(coloured.contains("\x1b[32mup"), "{coloured:?}");
    assert!(coloured.contains("\x1b[31mrejected"), "{coloured:?}");
    for (name, value) in [("NO_COLOR", Some("1")), ("TERM", Some("dumb")), ("TERM", None)] {
        let plain = show(name, value);
        assert!(plain.contains("rejected") && !plain.contains('\x1b'), "{plain:?}");
    }
    // An empty NO_COLOR counts as not set, see no-color.org.
    assert!(show("NO_COLOR", Some("")).contains('\x1b'));
    going.terminate();
}

fn a_narrow_terminal_cuts() {
    let mut going = Going::new();
    every_state(&mut going);
    for columns in [1, 10, 20, 40, 60, 80, 100, 120] {
        let (code, shown) = in_backoff(&going, || {
            let mut command = command(&going);
            command.env("NO_COLOR", "1");
            OnTerminal::spawn(command, columns, 24).finish()
        });
        assert_eq!(code, NOT_UP);
        for line in shown.lines() {
            assert!(line.chars().count() <= columns.into(), "{columns}:\n{shown}");
        }
        // Name and state are the last to go.
        let has_both = shown.contains("web") && shown.contains("backoff");
        assert!(columns < 20 || has_both, "{columns}:\n{shown}");
        assert!(columns < 80 || shown.contains("LAST END"), "{columns}:\n{shown}");
        // The pid says more than the command, so it stays for longer.
        assert!(columns < 80 || shown.contains("PID"), "{columns}:\n{shown}");
    }
    going.terminate();
}

fn wide_characters_take_two_columns() {
    let going = Going::new();
    going.write("web", format!("cmd=x {}\n", "日本".repeat(40)));
    fake(&going, &format!("{}\nweb down - 5 0 - -\n", our_header("1")));
    for columns in [60, 61, 79] {
        let mut command = command(&going);
        command.env("NO_COLOR", "1");
        let (_, shown) = OnTerminal::spawn(command, columns, 24).finish();
        assert!(shown.contains("日"), "{shown}");
        let width = |line: &str| line.chars().map(|c| if c > '\u{2fff}' { 2 } else { 1 }).sum();
        let widest: u16 = shown.lines().map(width).max().expect("a line");
        assert!([columns, columns - 1].contains(&widest), "{columns}: {widest}\n{shown}");
    }
}

/// Anybody can choose the words of a process, so they must not reach the terminal as they are.
fn control_characters_stay_in() {
    let mut going = Going::new();
    let cmd = going.cmd("pause", "", &["'\x1b[31mred\x07\u{9b}'"]);
    going.write("web", cmd);
    going.start();
    wait_state(&going, "web", "up");
    going.wait_for("its words", || ctl(&going, &[]).out.contains("red"));
    let table = ctl_to(&going, OK, &[]).out;
    assert!(!table.chars().any(|char| char.is_control() && char != '\n'), "{table:?}");
    let document = ctl(&going, &["--json"]).out;
    assert!(!document.chars().any(|char| char.is_control() && char != '\n'), "{document:?}");
    assert!(document.contains("\\u009b"), "{document:?}");
    going.terminate();
}

/// Neither control characters nor those that change the direction of text get through.
fn a_status_does_nothing_to_a_terminal() {
    let going = Going::new();
    let evil = "\x1b[2J\x07\u{202e}\u{9b}\u{2028}";
    going.write("web", format!("cmd={evil}\n"));
    let service = format!("web{evil} {evil} - 5 1 {evil} - {evil}");
    fake(&going, &format!("{}\n{service}\nweb down - 5 0 - -\n", our_header(evil)));
    for words in [&["status"][..], &["stop", "all", "--no-wait"], &["signal", "HUP", "all"]] {
        let ran = ctl(&going, words);
        assert!(!ran.out.is_empty(), "{words:?}: {ran:?}");
        let shown = ran.out + &ran.err;
        let is_evil = |char: char| !char.is_ascii_graphic() && !" \n".contains(char);
        assert!(!shown.contains(is_evil), "{words:?}: {shown:?}");
    }
}

/// `goingctl | head -0`: the exit code is the same as with a reader.
fn nobody_reading_is_no_failure() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    wait_state(&going, "web", "up");
    let stop = ["stop", "web", "--timeout", "60"];
    for words in [&["status"][..], &["--json"], &["--prometheus"], &["--help"], &["check"], &stop] {
        let (unread, written) = pipe().expect("a pipe");
        drop(unread);
        let mut command = command(&going);
        let output = command.args(words).stdout(written).stderr(Stdio::piped()).output();
        let ran = Ran::from(output.expect("goingctl can be executed"));
        assert_eq!((ran.code, ran.err.as_str()), (OK, ""), "{words:?}");
    }
    wait_state(&going, "web", "down");
    going.terminate();
}

/// For every command that prints something.
fn a_full_disk_is_a_failure() {
    let mut going = Going::new();
    going.hold("web");
    going.write("db", format!("cmd=sleep 1\nlog={}\n", going.path("db.log").display()));
    fs::write(going.path("db.log"), "a line\n").expect("our own file");
    fs::write(going.path("Procfile"), "app: sleep 1\n").expect("our own file");
    let procfile = going.path("Procfile").display().to_string();
    going.start();
    wait_state(&going, "web", "up");
    for words in [
        &["status"][..],
        &["--json"],
        &["--prometheus"],
        &["--help"],
        &["--version"],
        &["check"],
        &["logs", "db"],
        &["export", "web"],
        &["reload", "web"],
        &["start", "web", "--timeout", "60"],
        &["enable", "web", "db"],
        &["disable", "web", "db", "--no-wait"],
        &["import", &procfile],
    ] {
        let ran = ctl_full(&going, words);
        let (what, why) = ran.err.rsplit_once(": ").expect("a reason");
        assert!(what.starts_with("goingctl: unable to "), "{words:?}: {ran:?}");
        assert_eq!((what.lines().count(), why), (1, "No space left on device\n"), "{words:?}");
    }
    for name in [".web", ".db", "app"] {
        assert!(going.path("going.d").join(name).exists(), "{name}");
    }
    going.terminate();
}

/// An unprivileged user cannot read the Pss of other users' processes, so the RSS has to do.
fn everybody_may_look() {
    let mut going = Going::new();
    going.open_to_everybody();
    let program = going.path("goingctl");
    install_program(&crate::goingctl::program(), &program);
    going.write("web", "cmd=sleep 100000\n");
    going.start();
    wait_state(&going, "web", "up");
    let mut command = Command::new(program);
    command.arg("-d").arg(going.path("going.d")).arg("-r").arg(going.path("run")).arg("--json");
    run_by(&mut command, 12_345);
    let ran = Ran::from(command.output().expect("goingctl can be executed"));
    assert_eq!(ran.code, OK, "{ran:?}");
    let document = object(&ran.out);
    let web = services(&document)[0];
    assert_eq!(text(&web["memory_kind"]), "rss");
    assert!(number(&web["memory_kb"]) > 0);
    going.terminate();
}

fn what_may_not_be_read_is_not_taken_for_a_going_that_is_gone() {
    let mut going = Going::new();
    going.open_to_everybody();
    let program = going.path("goingctl");
    install_program(&crate::goingctl::program(), &program);
    let confdir = going.path("going.d");
    fs::set_permissions(&confdir, Permissions::from_mode(0o777)).expect("our own directory");
    going.hold(".web");
    going.start();
    going.wait_for("the status", || going.path("run/status").exists());
    let rundir = going.path("run");
    fs::set_permissions(&rundir, Permissions::from_mode(0o700)).expect("our own directory");
    let run = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("-d").arg(&confdir).arg("-r").arg(&rundir).args(words);
        run_by(&mut command, 12_345);
        Ran::from(command.output().expect("goingctl can be executed"))
    };
    for words in [&[][..], &["--prometheus"], &["start", "web"]] {
        let ran = run(words);
        assert_eq!((ran.code, ran.out.as_str()), (FAILED, ""), "{words:?}: {ran:?}");
        assert!(ran.err.ends_with("/status: Permission denied\n"), "{ran:?}");
    }
    let ran = run(&["enable", "web"]);
    assert_eq!(ran.code, OK, "{ran:?}");
    assert!(ran.out.starts_with("web: enabled; unable to read "), "{ran:?}");
    going.terminate();
}

fn watch_needs_a_terminal_that_can_be_redrawn() {
    let going = Going::new();
    let mut command = command(&going);
    command.arg("--watch").env("TERM", "dumb");
    let (code, shown) = OnTerminal::spawn(command, 100, 10).finish();
    assert_eq!(code, USAGE, "{shown:?}");
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

fn watch_redraws_until_q() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    wait_state(&going, "web", "up");
    let mut command = command(&going);
    command.arg("--watch");
    let mut watch = OnTerminal::spawn(command, 100, 10);
    watch.wait_shown("1 up");
    ctl_to(&going, OK, &["stop", "web"]);
    watch.wait_shown("down, held");
    going.terminate();
    watch.wait_shown("going is not running");
    watch.terminal.write_all(b"q").expect("a terminal");
    // It restores the screen that was there before.
    watch.wait_shown("\x1b[?1049l");
    assert!(watch.process.wait().expect("our own child").success());
    let after = tcgetattr(&watch.terminal).expect("a terminal");
    assert!(after.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO), "{after:?}");
}

fn watch_scrolls() {
    let going = Going::new();
    let lines: Vec<_> = (0..30).map(|number| format!("s{number:02} down - 5 0 - -\n")).collect();
    fake(&going, &format!("{}\n{}", our_header("1"), lines.concat()));
    let mut command = command(&going);
    command.arg("-w");
    let mut watch = OnTerminal::spawn(command, 80, 12);
    let page = watch.wait_shown("s09");
    assert!(page.contains("s00") && page.contains("30 down"), "{page}");
    watch.terminal.write_all(b"\x1b[B\x1b[B").expect("a terminal");
    watch.wait_shown("s11");
    watch.terminal.write_all(b"\x1bOA").expect("a terminal");
    watch.wait_shown("s01");
    let pid = watch.process.id().try_into().expect("a pid");
    // Ctrl-C ends it in an orderly way, too.
    send(pid, Signal::SIGINT);
    watch.wait_shown("\x1b[?1049l");
    assert!(watch.process.wait().expect("our own child").success());
}

/// It shows no more lines than there are on the terminal: with one more, the first would be gone.
fn watch_tells_of_what_there_is_not() {
    let going = Going::new();
    fake(&going, &format!("{}\nweb down - 5 0 - -\ndb down - 5 0 - -\n", our_header("1")));
    for (lines, words, shown) in [
        (10, &["-w", "web", "wbe"][..], ": 1 down, no such service: wbe"),
        (10, &["-w", "wbe"], ": none, no such service: wbe"),
        (2, &["-w"], "NAME"),
    ] {
        let mut command = command(&going);
        command.args(words);
        let mut watch = OnTerminal::spawn(command, 100, lines);
        let page = watch.read_until("a page", |page| page.contains("\x1b[J"));
        let (page, _next) = page.split_once("\x1b[J").expect("a page");
        assert!(page.contains(shown), "{page:?}");
        assert!(page.matches('\n').count() < lines.into(), "{page:?}");
    }
}
