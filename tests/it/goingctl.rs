//! goingctl(1): how scenarios run it, and what it says about its command line.

use crate::harness::{Going, send};
use crate::needs::scenario;
use libtest_mimic::Trial;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::Signal;
use nix::unistd::{getpid, pause, pipe2, write};
use std::env;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(help_and_version),
        scenario!(usage_errors_exit_64),
        scenario!(a_mistyped_command_is_explained),
        scenario!(completions_know_every_command),
        scenario!(bash_takes_its_completion, Bash),
        scenario!(bash_completes_instances, Bash),
        scenario!(completion_executes_nothing, Bash),
        scenario!(zsh_takes_its_completion, Zsh),
        scenario!(fish_takes_its_completion, Fish),
    ]
}

/// Far longer than anything takes.
const PATIENCE_MS: u16 = 20_000;

pub const OK: i32 = 0;
pub const FAILED: i32 = 1;
pub const NOT_UP: i32 = 3;
pub const ABSENT: i32 = 4;
pub const USAGE: i32 = 64;

/// The program under test, which is in the same directory as going.
pub fn program() -> PathBuf {
    match env::var_os("GOING") {
        Some(going) => Path::new(&going).with_file_name("goingctl"),
        None => env!("CARGO_BIN_EXE_goingctl").into(),
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).expect("plain text");
        let code = output.status.code().expect("it exits by itself");
        Ran { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

/// goingctl on this `going`, with no variables in its environment that would change what it does.
pub fn command(going: &Going) -> Command {
    let mut command = Command::new(program());
    command.arg("-d").arg(going.path("going.d")).arg("-r").arg(going.path("run"));
    for name in ["NO_COLOR", "VISUAL", "EDITOR", "PORT"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").stdin(Stdio::null());
    command
}

/// Unless `words` say otherwise, a command that waits may do so for 60 s: the machine may be busy
/// with other things.
pub fn ctl(going: &Going, words: &[&str]) -> Ran {
    let mut command = command(going);
    command.args(words);
    let waits = ["start", "stop", "restart", "enable", "disable"];
    let is_said = words.iter().any(|word| ["--timeout", "--no-wait"].contains(word));
    if words.first().is_some_and(|word| waits.contains(word)) && !is_said {
        command.args(["--timeout", "60"]);
    }
    command.output().expect("goingctl can be executed").into()
}

/// The same; asserts that it exits with `code`.
#[track_caller]
pub fn ctl_to(going: &Going, code: i32, words: &[&str]) -> Ran {
    let ran = ctl(going, words);
    assert_eq!(ran.code, code, "{words:?}: {ran:?}\n{}", going.report());
    ran
}

/// The same with standard output on a full disk; asserts that it fails.
#[track_caller]
pub fn ctl_full(going: &Going, words: &[&str]) -> Ran {
    let full = File::options().write(true).open("/dev/full").expect("a device");
    let output = command(going).args(words).stdout(full).output();
    let ran = Ran::from(output.expect("goingctl can be executed"));
    assert_eq!(ran.code, FAILED, "{words:?}: {ran:?}");
    ran
}

/// The line of the status for this service.
pub fn status_line(going: &Going, name: &str) -> Option<String> {
    let status = fs::read_to_string(going.path("run/status")).unwrap_or_default();
    status.lines().find(|line| line.split(' ').next() == Some(name)).map(str::to_owned)
}

#[track_caller]
pub fn wait_state(going: &Going, name: &str, state: &str) {
    let is_so =
        || status_line(going, name).is_some_and(|line| line.split(' ').nth(1) == Some(state));
    going.wait_for(&format!("{name} being {state}"), is_so);
}

/// Whether the service is held down.
pub fn is_held(going: &Going, name: &str) -> bool {
    going.path("run/down").join(name).exists()
}

/// The extended attribute that holds the access control list of a file, see acl(5).
const ACL: &CStr = c"system.posix_acl_access";

/// Gives a file to another user and group, and lets one more user read it, but not the group.
/// Returns its access control list.
pub fn give_to_others(path: &Path) -> Vec<u8> {
    let nobody = u32::MAX;
    let (owner, user, group, mask, other) = (1, 2, 4, 16, 32);
    let entries = [
        (owner, 6, nobody),
        (user, 4, 1),
        (group, 0, nobody),
        (mask, 4, nobody),
        (other, 0, nobody),
    ];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, may, who) in entries {
        let (tag, may, who) = (u16::to_le_bytes(tag), u16::to_le_bytes(may), u32::to_le_bytes(who));
        acl.extend(tag.into_iter().chain(may).chain(who));
    }
    chown(path, Some(12_345), Some(12_346)).expect("root");
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
    // SAFETY: two C strings, and as many bytes as `acl` has.
    let set =
        unsafe { libc::setxattr(path.as_ptr(), ACL.as_ptr(), acl.as_ptr().cast(), acl.len(), 0) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
    acl
}

/// The user, the group, the mode and the access control list of a file.
pub fn ownership(path: &Path) -> (u32, u32, u32, Vec<u8>) {
    let stat = fs::metadata(path).expect("a file");
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
    let mut acl = vec![0; 4096];
    // SAFETY: two C strings, and room for as many bytes as the call is told.
    let len =
        unsafe { libc::getxattr(path.as_ptr(), ACL.as_ptr(), acl.as_mut_ptr().cast(), acl.len()) };
    acl.truncate(len.try_into().unwrap_or(0));
    (stat.uid(), stat.gid(), stat.mode() & 0o7777, acl)
}

/// A child of this process that is forked but has not executed anything, as every child of going is
/// for a moment. Killed when dropped.
pub struct Forked {
    pub pid: i32,
    spawn: Option<JoinHandle<io::Result<Child>>>,
}

impl Forked {
    pub fn new(going: &Going) -> Forked {
        let (told, tell) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let tell_and_stay = move || {
            write(&tell, &getpid().as_raw().to_ne_bytes())?;
            loop {
                pause();
            }
        };
        let mut command = going.service();
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(tell_and_stay) };
        // It returns only when the child has executed something, or has ended.
        let spawn = thread::spawn(move || command.spawn());
        let mut pid = [0; 4];
        File::from(told).read_exact(&mut pid).expect("a pid");
        Forked { pid: i32::from_ne_bytes(pid), spawn: Some(spawn) }
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        send(self.pid, Signal::SIGKILL);
        let spawned = self.spawn.take().map(JoinHandle::join);
        // If the spawn failed, an earlier panic says why.
        if let Some(Ok(Ok(mut child))) = spawned {
            let _ = child.wait();
        }
    }
}

/// goingctl on a pseudo-terminal of its own.
pub struct OnTerminal {
    pub process: Child,
    pub terminal: File,
}

impl OnTerminal {
    pub fn spawn(mut command: Command, columns: u16, lines: u16) -> OnTerminal {
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("a pseudo-terminal");
        let slave = || -> OwnedFd { slave.try_clone().expect("a descriptor") };
        command.stdin(slave()).stdout(slave()).stderr(slave());
        let process = command.spawn().expect("goingctl can be executed");
        OnTerminal { process, terminal: master.into() }
    }

    /// What it shows from now on, until `is_enough` of it, or until it ends.
    #[track_caller]
    pub fn read_until(&mut self, what: &str, is_enough: impl Fn(&str) -> bool) -> String {
        let mut shown = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            let so_far = String::from_utf8_lossy(&shown).into_owned();
            if is_enough(&so_far) {
                return so_far;
            }
            let mut fds = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PATIENCE_MS).expect("a terminal");
            assert!(ready > 0, "no sign of {what} in {so_far:?}");
            // EIO: no process has the other end open any more.
            match self.terminal.read(&mut bytes) {
                Ok(len) => shown.extend_from_slice(&bytes[..len]),
                Err(_) => return so_far,
            }
        }
    }

    #[track_caller]
    pub fn wait_shown(&mut self, text: &str) -> String {
        let shown = self.read_until(text, |shown| shown.contains(text));
        assert!(shown.contains(text), "it has ended, and no {text:?}: {shown:?}");
        shown
    }

    /// Its exit code, and everything that it shows until it ends.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String) {
        let shown = self.read_until("the end", |_| false);
        let code = self.process.wait().expect("our own child").code().expect("it exits by itself");
        (code, shown)
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Both fail only for a process that is already gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn help_and_version() {
    let going = Going::new();
    let help = ctl_to(&going, OK, &["--help"]).out;
    assert!(help.starts_with("usage: goingctl "), "{help}");
    assert!(help.contains("Examples:"), "{help}");
    for command in commands() {
        assert!(help.contains(command), "no {command} in {help}");
    }
    for words in [&["stop", "-h"][..], &["help"], &["help", "stop"]] {
        assert_eq!(ctl_to(&going, OK, words).out, help, "{words:?}");
    }
    let version = format!("goingctl {}\n", env!("CARGO_PKG_VERSION"));
    for word in ["-V", "version"] {
        assert_eq!(ctl_to(&going, OK, &[word]).out, version);
    }
}

fn commands() -> [&'static str; 13] {
    [
        "status", "start", "stop", "restart", "signal", "reload", "enable", "disable", "check",
        "edit", "logs", "import", "export",
    ]
}

fn usage_errors_exit_64() {
    let going = Going::new();
    let wrong: [&[&str]; 16] = [
        &["--verbose"],
        &["-x"],
        &["-d"],
        &["start"],
        &["signal", "HUP"],
        &["signal", "NONE", "web"],
        &["signal", "99", "web"],
        &["edit", "one", "two"],
        &["start", "--json", "web"],
        &["--json", "stop", "web"],
        &["-w", "check"],
        &["status", "--timeout", "3"],
        &["stop", "--timeout", "soon", "web"],
        &["logs", "-n", "many", "web"],
        &["import"],
        &["status", "--watch"],
    ];
    for words in wrong {
        let ran = ctl_to(&going, USAGE, words);
        assert_eq!(ran.out, "", "{words:?}");
        assert!(ran.err.starts_with("goingctl: "), "{words:?}: {}", ran.err);
    }
}

fn a_mistyped_command_is_explained() {
    let mut going = Going::new();
    going.hold("web");
    going.start();
    going.up("web");
    wait_state(&going, "web", "up");
    // Both words are taken for names: the status of web is shown, and nothing is started or
    // stopped.
    for words in [["strat", "web"], ["web", "stop"]] {
        let ran = ctl_to(&going, ABSENT, &words);
        assert!(ran.out.contains("\nweb ") && ran.err.contains("no such service: st"), "{ran:?}");
        assert!(ran.err.contains("no command given, so this is the status"), "{ran:?}");
    }
    assert!(!ctl_to(&going, ABSENT, &["status", "wbe"]).err.contains("command"));
    for (words, said) in [
        (
            &["--timeout", "3", "stop", "web"][..],
            "'--timeout', or one that must follow its command",
        ),
        (&["stop", "-x", "web"], "invalid option '-x'; "),
        (&["stop", "--timeout", "30s", "web"], "not a number for --timeout: 30s; "),
        (&["logs", "-n", "-5", "web"], "not a number for -n: -5; "),
        (&["import", "-p", "http", "Procfile"], "not a number for -p: http; "),
    ] {
        let ran = ctl_to(&going, USAGE, words);
        assert!(ran.err.contains(said), "{words:?}: {ran:?}");
    }
    assert_eq!(going.starts("web").len(), 1);
    going.terminate();
}

fn completion(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/completions").join(name)
}

fn completions_know_every_command() {
    for (name, before, behind) in [
        // What bash offers is seen when it takes its completion.
        ("goingctl.bash", "", ""),
        ("_goingctl", "'", ":"),
        ("goingctl.fish", "__goingctl_needs_command -a ", " -d "),
    ] {
        let text = fs::read_to_string(completion(name)).expect("a completion");
        // Where the commands are listed: each of them occurs again where its words are.
        for command in commands() {
            let offer = format!("{before}{command}{behind}");
            assert!(text.contains(&offer), "no {command} in {name}");
        }
        for option in ["json", "prometheus", "watch", "timeout", "no-wait", "follow", "force"] {
            assert!(text.contains(option), "no --{option} in {name}");
        }
    }
}

/// Completes options, commands, and services, which come from the status in the RUNDIR that the
/// command line names.
fn bash_takes_its_completion() {
    let mut going = Going::new();
    going.hold_all(&["web", "worker", "db"]);
    going.start();
    wait_state(&going, "web", "up");
    let complete = |line: &str| {
        let script = format!(
            "source '{}'; COMP_WORDS=({line} ''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             [ -z \"$1\" ] || {{ COMP_WORDS[COMP_CWORD]=$1; }}; _goingctl; echo ${{COMPREPLY[*]}}",
            completion("goingctl.bash").display(),
        );
        move |begun: &str| {
            let mut bash = Command::new("bash");
            let output = bash.args(["--norc", "-c", &script, "bash", begun]).output();
            let ran = Ran::from(output.expect("bash can be executed"));
            assert_eq!(ran.err, "");
            let mut words: Vec<_> = ran.out.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        }
    };
    let run = going.path("run");
    let offered = complete("goingctl")("");
    for command in commands() {
        assert!(offered.iter().any(|word| word == command), "no {command} in {offered:?}");
    }
    assert_eq!(complete("goingctl")("re"), ["reload", "restart"]);
    assert_eq!(complete(&format!("goingctl -r '{}' stop", run.display()))("w"), ["web", "worker"]);
    assert_eq!(complete("goingctl status")("--p"), ["--prometheus"]);
    going.terminate();
}

/// bash breaks words at `@`, as for host names: `web@1` becomes three words, of which a completion
/// replaces the last two.
fn bash_completes_instances() {
    let going = Going::new();
    fs::write(going.path("run/status"), "going 1 1 1\nweb@1 up\nweb@2 up\nweb up\n")
        .expect("our own file");
    for (words, begun, offered) in [
        ("web '@'", "web@", "@1 @2"),
        ("web '@' 1", "web@1", "@1"),
        ("we", "we", "web web@1 web@2"),
    ] {
        let script = format!(
            "source '{}'; COMP_WORDS=(goingctl -r '{}' stop {words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_WORDBREAKS=' @'; \
             COMP_LINE='goingctl stop {begun}'; COMP_POINT=${{#COMP_LINE}}; \
             _goingctl; printf '%s\n' ${{COMPREPLY[*]}} | sort",
            completion("goingctl.bash").display(),
            going.path("run").display(),
        );
        let output = Command::new("bash").args(["--norc", "-c", &script]).output();
        let ran = Ran::from(output.expect("bash can be executed"));
        assert!(ran.err.is_empty(), "{begun}: {ran:?}");
        assert_eq!(ran.out.split_whitespace().collect::<Vec<_>>().join(" "), offered, "{begun}");
    }
}

/// compgen expands the words that it is given, and a file may have any name, even that of a command
/// substitution.
fn completion_executes_nothing() {
    let going = Going::new();
    for name in ["web", "$(echo evil)", "`echo evil`"] {
        going.write(name, "cmd=x\n");
    }
    fs::write(going.path("run/status"), "going 1 1 1\nweb up\n$(echo;echo;evil) up\n")
        .expect("our own file");
    let (confdir, rundir) = (going.path("going.d"), going.path("run"));
    for command in ["edit", "logs", "disable", "status", "stop"] {
        let script = format!(
            "source '{}'; COMP_WORDS=(goingctl -d '{}' -r '{}' {command} ''); COMP_CWORD=6; \
             _goingctl; echo ${{COMPREPLY[*]}}",
            completion("goingctl.bash").display(),
            confdir.display(),
            rundir.display(),
        );
        let output = Command::new("bash").args(["--norc", "-c", &script]).output();
        let ran = Ran::from(output.expect("bash can be executed"));
        assert!(ran.err.is_empty() && !ran.out.contains("evil"), "{command}: {ran:?}");
        assert!(ran.out.split_whitespace().any(|word| word == "web"), "{command}: {ran:?}");
    }
}

/// Service files, one of them disabled, and a status, for a shell to complete.
fn something_to_complete() -> Going {
    let going = Going::new();
    for name in ["web", ".off", "no.service"] {
        going.write(name, "cmd=x\n");
    }
    fs::write(going.path("run/status"), "going 1 1 1\nup@1 up\n").expect("our own file");
    going
}

/// zsh's completion system needs a terminal, so this looks at what `_goingctl` passes to it
/// instead.
fn zsh_takes_its_completion() {
    let status = Command::new("zsh").arg("-n").arg(completion("_goingctl")).status();
    assert!(status.expect("zsh can be executed").success());
    let going = something_to_complete();
    let script = "_arguments() { }; compadd() { print -- ${(P)2} }; setopt extended_glob; \
                  confdir=$1; rundir=$2; source $3; \
                  _goingctl_files; _goingctl_disabled; _goingctl_services";
    let mut zsh = Command::new("zsh");
    zsh.args(["-fc", script, "zsh"]).arg(going.path("going.d")).arg(going.path("run"));
    let output = zsh.arg(completion("_goingctl")).output().expect("zsh can be executed");
    let ran = Ran::from(output);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("web\noff\nup@1\n", ""));
}

fn fish_takes_its_completion() {
    let status = Command::new("fish").arg("-n").arg(completion("goingctl.fish")).status();
    assert!(status.expect("fish can be executed").success());
    let going = something_to_complete();
    let (confdir, rundir) = (going.path("going.d"), going.path("run"));
    let complete = |line: &str| {
        let (file, confdir) = (completion("goingctl.fish"), confdir.display());
        let begin = format!("goingctl -d {confdir} -r {} {line}", rundir.display());
        let script = format!("source '{}'; complete -C '{begin}'", file.display());
        let output = Command::new("fish").args(["-N", "-c", &script]).output();
        Ran::from(output.expect("fish can be executed")).out
    };
    assert_eq!(complete("edit "), "web\n");
    assert_eq!(complete("enable "), "off\n");
    assert_eq!(complete("stop "), "up@1\n");
    assert!(complete("signal U").starts_with("USR1\n"));
}
