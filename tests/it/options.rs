//! The command line: what going says and how it exits when it does not supervise.

use crate::harness::Going;
use crate::needs::scenario;
use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Output, Stdio};

/// `EX_USAGE` of sysexits.h.
const USAGE: Option<i32> = Some(64);

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(version),
        scenario!(help),
        scenario!(usage_errors_exit_64),
        scenario!(check_accepts_a_good_configuration),
        scenario!(check_names_the_first_fault_of_each_file),
        scenario!(check_with_a_main_command_needs_no_confdir),
        scenario!(check_leaves_a_running_going_alone),
        scenario!(a_second_going_on_the_same_rundir_refuses),
        scenario!(a_failed_start_says_why),
    ]
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("plain text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("plain text")
}

fn version() {
    let output = Going::new().output(&["-V"]);
    assert_eq!(stdout(&output), format!("going {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(output.status.code(), Some(0));
}

fn help() {
    let output = Going::new().output(&["-h"]);
    let text = stdout(&output);
    assert!(text.to_lowercase().starts_with("usage: going "), "{text}");
    for flag in ["-d", "-r", "-n", "-V", "-h"] {
        assert!(text.contains(flag), "no {flag} in {text}");
    }
    assert_eq!(output.status.code(), Some(0));
}

/// There is a message on stderr, and nothing is started before the whole line is understood.
fn usage_errors_exit_64() {
    let going = Going::new();
    going.hold("web");
    let wrong: [&[&str]; 7] =
        [&["-x"], &["--verbose"], &["word"], &["-d"], &["-r"], &["-n", "word"], &["--"]];
    for words in wrong {
        let output = going.output(words);
        assert_eq!(output.status.code(), USAGE, "{words:?}");
        assert_eq!(stdout(&output), "", "{words:?}");
        assert_ne!(stderr(&output), "", "{words:?}");
    }
    assert_eq!(going.starts("web"), []);
}

fn check_accepts_a_good_configuration() {
    let going = Going::new();
    going.hold("web");
    going.write("quoted", "# fine\n\n cmd = /bin/echo 'a b' \"c\" d\\ e \ncwd=/tmp\n");
    // Files that are not meant as services are no faults either.
    going.write(".web.swp", "\0");
    going.write("web~", "cmd");
    let output = going.output(&["-n"]);
    assert_eq!(stdout(&output), "configuration OK\n");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(going.starts("web"), []);
}

/// The daemon's own parser is used, and each bad file gets one line `NAME:LINE: reason`.
fn check_names_the_first_fault_of_each_file() {
    let going = Going::new();
    let long = format!("cmd=/bin/true {}\n", "l".repeat(5000));
    let words = format!("cmd={}\n", "w ".repeat(129));
    let faults: [(&str, &str, u32, &str); 13] = [
        ("unknown", "cmd=/bin/true\n\n# three\ncomand=/bin/true\n", 4, "unknown key \"comand\""),
        ("both", "no=1\nneither=2\n", 1, "unknown key \"no\""),
        ("twice", "cmd=/bin/true\ncmd=/bin/true\n", 2, "cmd"),
        ("no-value", "cmd=\n", 1, ""),
        ("no-equals", "cmd=/bin/true\ncwd\n", 2, ""),
        ("no-cmd", "cwd=/\n", 0, "cmd"),
        ("relative", "cmd=/bin/true\ncwd=tmp\n", 2, "absolute"),
        ("open-single", "cmd=/bin/echo 'a\n", 1, ""),
        ("open-double", "cmd=/bin/echo \"a\n", 1, ""),
        ("nul", "cmd=/bin/true a\0b\n", 1, ""),
        ("backslash", "cmd=/bin/echo a\\\n", 1, ""),
        ("long", &long, 0, ""),
        ("words", &words, 1, "128"),
    ];
    going.hold("fine");
    for (name, content, ..) in faults {
        going.write(name, content);
    }
    let output = going.output(&["-n"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for (name, _, line, reason) in faults {
        let about: Vec<_> = text.lines().filter(|l| l.starts_with(&format!("{name}:"))).collect();
        assert_eq!(about.len(), 1, "{name} in\n{text}");
        // A fault of the whole file has no line number.
        let place = if line > 0 { format!("{name}:{line}: ") } else { format!("{name}:") };
        assert!(about[0].starts_with(&place), "{place} in\n{text}");
        assert!(about[0].contains(reason), "{reason} in\n{text}");
        assert!(about[0].len() > place.len(), "no reason in\n{text}");
    }
    assert_eq!(text.lines().count(), faults.len(), "{text}");
}

/// A main command needs no service files, and so no CONFDIR.
fn check_with_a_main_command_needs_no_confdir() {
    let going = Going::new();
    fs::remove_dir(going.path("going.d")).expect("an empty directory");
    assert_eq!(going.output(&["-n"]).status.code(), Some(1));
    let output = going.output(&["-n", "--", "true"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "configuration OK\n"));
}

/// A check only reads; it neither starts nor locks anything.
fn check_leaves_a_running_going_alone() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let web = going.up("web");
    let output = going.output(&["-n"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "configuration OK\n"));
    going.rescan();
    assert_eq!((going.up("web"), going.starts("web").len()), (web, 1));
    going.terminate();
}

/// Without a descriptor for the log, the message goes to stderr.
fn a_failed_start_says_why() {
    let going = Going::new();
    let mut command = going.command();
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: only getrlimit(2) and setrlimit(2) are called.
    unsafe {
        command.pre_exec(|| {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            Ok(setrlimit(Resource::RLIMIT_NOFILE, 3, hard)?)
        });
    }
    let output = command.output().expect("going can be executed");
    assert_eq!(output.status.code(), Some(111));
    assert!(stderr(&output).starts_with("going: unable to start: "), "{output:?}");
}

/// Two of them would start everything twice.
fn a_second_going_on_the_same_rundir_refuses() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    let web = going.up("web");
    let second = going.output(&[]);
    assert!(!second.status.success(), "{second:?}");
    assert_ne!(stderr(&second), "", "it says why");
    going.rescan();
    assert_eq!((going.up("web"), going.starts("web").len()), (web, 1));
    assert_eq!(going.twins(), [""; 0]);
    going.terminate();
}
