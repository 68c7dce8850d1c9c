//! What the main command of a container gets from its caller: the terminal, if there is one, and
//! the world that it would have without going in between.

use crate::bundle::{By, Container};
use crate::harness::{Going, Helper, going, run_by};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::unistd::setsid;
use std::cell::RefCell;
use std::env;
use std::fs::{self, File};
use std::io::{Error, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(a_terminal_in_a_container, Runc),
        scenario!(a_terminal_in_a_namespace, Unshare),
        scenario!(the_terminal_is_given_back),
        scenario!(the_terminal_of_a_killed_going_is_taken),
        scenario!(in_the_background_of_a_shell_the_terminal_stays_with_that),
        scenario!(in_another_users_background_the_terminal_is_not_taken, Root),
        scenario!(a_terminal_of_another_user_has_the_messages, Root),
        scenario!(what_is_typed_is_not_for_services),
        scenario!(the_demo_shows_what_it_says),
        scenario!(the_world_of_the_caller, Unshare),
    ]
}

/// The other end of a terminal, where the user sits.
struct Terminal {
    master: File,
    seen: RefCell<String>,
}

impl Terminal {
    /// Has the command run on a new terminal, as the leader of its session.
    fn of(command: &mut Command) -> Terminal {
        let pair = openpty(None, None).expect("a terminal");
        let slave = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
        command.stdin(slave()).stdout(slave()).stderr(slave());
        let lead = || {
            setsid()?;
            // SAFETY: standard input is the terminal; no memory is involved.
            let result = unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
            if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
        };
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(lead) };
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a valid flag");
        Terminal { master: pair.master.into(), seen: RefCell::new(String::new()) }
    }

    /// Whether `text` has been printed.
    fn shows(&self, text: &str) -> bool {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = (&self.master).read(&mut bytes) {
            self.seen.borrow_mut().push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        self.seen.borrow().contains(text)
    }

    fn press(&self, key: u8) {
        (&self.master).write_all(&[key]).expect("somebody has it open");
    }

    fn enter(&self, line: &str) {
        line.bytes().chain([b'\n']).for_each(|key| self.press(key));
    }

    fn resize(&self) {
        let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the size outlives the call.
        let result =
            unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(result, 0, "{}", Error::last_os_error());
    }
}

const CTRL_C: u8 = 3;
const CTRL_Z: u8 = 26;
const CTRL_BACKSLASH: u8 = 28;

fn a_terminal_in_a_container() {
    a_terminal(By::Runc);
}

fn a_terminal_in_a_namespace() {
    a_terminal(By::Unshare);
}

/// The main command has its own process group in the foreground, so that keys reach only it.
#[track_caller]
fn a_terminal(by: By) {
    let (mut container, terminal) = on_terminal(by, "note");
    let has = |count: usize, number: i32| {
        let signals = container.records("main.signals");
        signals.iter().filter(|signal| **signal == number.to_string()).count() == count
    };
    assert_eq!(container.records("main.tty"), ["true true"], "foreground, leader of its group");
    terminal.press(CTRL_C);
    container.wait_for("INT of ^C", || has(1, libc::SIGINT));
    terminal.resize();
    container.wait_for("WINCH", || has(1, libc::SIGWINCH));
    terminal.press(CTRL_C);
    container.wait_for("INT of another ^C", || has(2, libc::SIGINT));
    terminal.press(CTRL_BACKSLASH);
    assert_eq!(container.wait_exit().code(), Some(7), "{}", terminal.seen.borrow());
    let signals = container.records("main.signals");
    let others = signals.iter().filter(|number| !["2", "28"].contains(&number.as_str()));
    assert_eq!(others.collect::<Vec<_>>(), ["3"], "{}", terminal.seen.borrow());

    // With default actions it is stopped by ^Z, goes on with CONT, and dies of ^C.
    let (mut container, terminal) = on_terminal(by, "obey");
    let main = main_command(&container);
    let state = || proc::stat(main).map(|stat| stat.state);
    terminal.press(CTRL_Z);
    container.wait_for("the main command stopped", || state() == Some('T'));
    container.signal(libc::SIGCONT);
    container.wait_for("the main command going on", || state() == Some('S'));
    terminal.press(CTRL_C);
    assert_eq!(container.wait_exit().code(), Some(130), "{}", terminal.seen.borrow());
}

#[track_caller]
fn on_terminal(by: By, manner: &str) -> (Container, Terminal) {
    let mut container = Container::new(by);
    container.has_terminal = true;
    let mut command = container.command(&container.words("tty", "main", &[manner]));
    let terminal = Terminal::of(&mut command);
    container.start_as(command);
    container.wait_for("the main command on its terminal", || terminal.shows("ready"));
    (container, terminal)
}

#[track_caller]
fn main_command(container: &Container) -> i32 {
    let all = proc::children(container.pid());
    let is_main = |&pid: &i32| proc::arguments(pid).get(2).is_some_and(|verb| verb == "tty");
    all.into_iter().find(is_main).expect("it runs")
}

/// A shell script on a terminal, in which `going` is a command, preceded by what is in `$by`.
fn script_on_terminal(scene: &Going, script: &str) -> (Helper, Terminal) {
    let (confdir, rundir) = (scene.path("going.d"), scene.path("run"));
    let going = scene.command().get_program().display().to_string();
    let going = format!("'{going}' -d '{}' -r '{}'", confdir.display(), rundir.display());
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("going() {{ $by {going} \"$@\"; }}\n{script}"));
    let terminal = Terminal::of(&mut command);
    (Helper::spawn(&mut command), terminal)
}

/// When going ends, the caller has to be able to read from the terminal. When only a service ends,
/// the main command keeps the terminal.
fn the_terminal_is_given_back() {
    let scene = Going::new();
    scene.write("task", "cmd=true\nrestart=never\n");
    let status = scene.path("run/status");
    let wait = format!("until grep -q ^task.done {}; do sleep 0.05; done", status.display());
    let main = format!("{wait}; echo ready; read line; echo \"main got $line\"");
    let script = format!("going -- sh -c '{main}'; echo over; read line; echo \"got $line\"");
    let (_shell, terminal) = script_on_terminal(&scene, &script);
    scene.wait_for("the end of the task", || terminal.shows("ready"));
    terminal.enter("hi");
    scene.wait_for("what was entered", || terminal.shows("main got hi"));
    scene.wait_for("the end of going", || terminal.shows("over"));
    terminal.enter("hello");
    scene.wait_for("what was entered", || terminal.shows("got hello"));
}

/// The terminal's foreground group has ended, so the second going is not in the background of
/// anything.
fn the_terminal_of_a_killed_going_is_taken() {
    let scene = Going::new();
    let main = "echo ready; read line; echo \"got $line\"";
    let group = scene.path("group").display().to_string();
    let killed = format!("echo $$ >\"{group}\"; kill -KILL $PPID; read line");
    // It may take a while until what it has left is reaped.
    let wait = format!("while kill -0 -$(cat \"{group}\"); do sleep 0.05; done");
    let script = format!("going -- sh -c '{killed}'; {wait}; going -- sh -c '{main}'");
    let (_shell, terminal) = script_on_terminal(&scene, &script);
    scene.wait_for("the second main command", || terminal.shows("ready"));
    terminal.enter("hello");
    scene.wait_for("what was entered", || terminal.shows("got hello"));
}

fn in_the_background_of_a_shell_the_terminal_stays_with_that() {
    the_terminal_stays_with_the_shell(&Going::new(), "");
}

/// going may not signal the shell's process group, because it belongs to another user.
fn in_another_users_background_the_terminal_is_not_taken() {
    let mut scene = Going::new();
    scene.open_to_everybody();
    the_terminal_stays_with_the_shell(&scene, "setpriv --reuid=12345 --clear-groups");
}

#[track_caller]
fn the_terminal_stays_with_the_shell(scene: &Going, by: &str) {
    let script = "going -- sleep 1000 & read line; echo \"got $line\"; kill %1; wait";
    let (_shell, terminal) = script_on_terminal(scene, &format!("by='{by}'; set -m; {script}"));
    scene.wait_status("(main)", "up");
    let pid = || scene.status_of("(main)").get(2).and_then(|pid| pid.parse::<i32>().ok());
    let is_sleep = |pid| proc::arguments(pid).first().is_some_and(|word| word == "sleep");
    scene.wait_for("the main command", || pid().is_some_and(is_sleep));
    terminal.enter("hello");
    scene.wait_for("what was entered", || terminal.shows("got hello"));
    scene.wait_for("the end of going", || !pid().is_some_and(proc::is_running));
}

/// As with su(1).
fn a_terminal_of_another_user_has_the_messages() {
    let mut scene = Going::new();
    scene.open_to_everybody();
    scene.write("bad", "comand=x\n");
    let mut command = scene.command();
    let terminal = Terminal::of(&mut command);
    run_by(&mut command, 12_345);
    let _going = Helper::spawn(&mut command);
    scene.wait_for("a message", || terminal.shows("bad:1: unknown key"));
}

/// A terminal is usually open for reading on all three descriptors. What is typed there, to a login
/// on the console for example, must not reach a service that has it as standard output.
fn what_is_typed_is_not_for_services() {
    let scene = Going::new();
    let session = "read -r pid name state parent group session rest </proc/$$/stat";
    let leads = format!("{session}; [ $session = $$ ] && echo leads its session");
    let script = format!("{leads}; echo is up; read line <&1 || read line <&2; echo read:$line");
    scene.write("web", format!("cmd=sh -c '{script}'\n"));
    let mut command = scene.command();
    let terminal = Terminal::of(&mut command);
    let _going = Helper::spawn(&mut command);
    scene.wait_for("the service", || terminal.shows("is up"));
    assert!(terminal.shows("leads its session"), "{}", terminal.seen.borrow());
    terminal.enter("secret");
    scene.wait_for("its end", || terminal.shows("read:"));
    assert!(!terminal.shows("read:secret"), "{}", terminal.seen.borrow());
}

/// What `make demo` starts, until ^C is pressed.
fn the_demo_shows_what_it_says() {
    let scene = Going::new();
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo"));
    command.arg(going()).env("TMPDIR", scene.path(""));
    let terminal = Terminal::of(&mut command);
    let demo = Helper::spawn(&mut command);
    scene.wait_for("its first words", || terminal.shows("Ctrl-C stops them"));
    let seen = terminal.seen.borrow().clone();
    let (_, place) = seen.split_once("copied to ").expect("where that is");
    let place = Path::new(place.split(';').next().expect("a path")).parent().expect("a directory");
    let status = || fs::read_to_string(place.join("run/status")).unwrap_or_default();
    let has_started = |times: &str| {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        status().lines().map(words).any(|it| it[..2] == ["clock", "up"] && it[4] == times)
    };
    scene.wait_for("the clock", || has_started("1"));
    scene.wait_for("its end", || terminal.shows("demo: killing clock, pid "));
    scene.wait_for("the clock", || has_started("2"));
    scene.wait_for("a down file", || terminal.shows("demo: touch run/down/clock holds it down"));
    scene.wait_for("the status", || terminal.shows("\nclock down - "));
    scene.wait_for("the last words", || terminal.shows("demo: rm run/down/clock lets it start"));
    scene.wait_for("the clock", || has_started("3"));
    terminal.press(CTRL_C);
    let end = "demo: going has stopped every service and ended";
    scene.wait_for("an orderly end", || terminal.shows(end));
    scene.wait_gone("the demo", demo.pid());
    assert!(!place.exists(), "{}", place.display());
}

/// Environment, directory, umask, open descriptors, blocked signals and standard input are the same
/// with going as without it.
fn the_world_of_the_caller() {
    let service = env::current_exe().expect("/proc is mounted").display().to_string();
    let main = [service.as_str(), "service", "world"];
    let going = going().display().to_string();
    // With a RUNDIR, and with one that cannot be made.
    let scene = Going::new();
    let rundir = scene.path("run").display().to_string();
    let nowhere = "/nowhere/at-all";
    let without = output_of(&main);
    for expected in ["NAME=value", "umask 027", "directory /usr", "5", "input hello"] {
        assert!(without.contains(expected), "{without}");
    }
    for rundir in [nowhere, &rundir] {
        let between = [going.as_str(), "-d", nowhere, "-r", rundir, "--"];
        assert_eq!(output_of(&[&between[..], &main[..]].concat()), without);
    }
}

fn output_of(words: &[&str]) -> String {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).args(words);
    command.env_clear().env("NAME", "value").env("PATH", "/nowhere:/bin").current_dir("/usr");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let prepare = || {
        // SAFETY: no memory is involved.
        unsafe { libc::umask(0o027) };
        // Other scenarios of this process open descriptors at the same time, not all of them
        // close-on-exec. Only our own should be compared.
        let (first, last, cloexec) = (3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, cloexec) };
        // SAFETY: as above.
        let number = unsafe { libc::dup2(1, 5) };
        if number == 5 { Ok(()) } else { Err(Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it calls the kernel only.
    unsafe { command.pre_exec(prepare) };
    let mut process = command.spawn().expect("unshare can be executed");
    let mut input = process.stdin.take().expect("a pipe");
    input.write_all(b"hello").expect("somebody reads");
    drop(input);
    let output = process.wait_with_output().expect("our own child");
    assert!(output.status.success(), "{words:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
