//! `Going`: one going in a directory of its own, the services it is given, and what can be seen of
//! it from outside.
//!
//! Nothing here sleeps for a fixed time to let something happen: a scenario waits for what it
//! expects to see, and fails with going's messages when that does not come. And nothing outlives
//! its scenario: dropping a `Going` kills every process that came out of it.

use crate::proc;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, getegid, geteuid, setgid, setgroups, setuid};
use std::env;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use temp_dir::TempDir;

/// Far longer than anything takes, even on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const GLANCE: Duration = Duration::from_millis(5);

/// The name of every directory begins with this, and goes on with the pid of this process.
pub const PREFIX: &str = "going-it-";

/// A start, as the service itself has recorded it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    pub pid: i32,
    pub at_ms: u64,
}

/// One going and its services: see the top of this file.
pub struct Going {
    directory: TempDir,
    program: PathBuf,
    service: PathBuf,
    /// going itself, or the init above it.
    process: Option<Child>,
    under_init: bool,
    rescans: AtomicU32,
}

impl Going {
    /// With an empty configuration; not started yet.
    pub fn new() -> Going {
        let directory = TempDir::with_prefix(PREFIX).expect("a temporary directory");
        for name in ["going.d", "run", "records"] {
            fs::create_dir(directory.child(name)).expect("an empty directory");
        }
        Going {
            directory,
            program: going(),
            service: env::current_exe().expect("/proc is mounted"),
            process: None,
            under_init: false,
            rescans: AtomicU32::new(0),
        }
    }

    /// Makes everything in the directory usable for other users. Both programs are copied there,
    /// because the place where they were built is often closed to others.
    pub fn open_to_everybody(&mut self) {
        for name in ["", "going.d", "run", "records"] {
            let mode = fs::Permissions::from_mode(0o777);
            fs::set_permissions(self.path(name), mode).expect("our own directory");
        }
        for name in ["log", "stdout"] {
            let mode = fs::Permissions::from_mode(0o666);
            fs::write(self.path(name), "").expect("our own file");
            fs::set_permissions(self.path(name), mode).expect("our own file");
        }
        for (name, program) in [("going", &mut self.program), ("service", &mut self.service)] {
            let copy = self.directory.child(name);
            install_program(program, &copy);
            *program = copy;
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    // What it is to run.

    /// Writes a service file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path("going.d").join(name), content).expect("a service file");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path("going.d").join(name)).expect("a service file");
    }

    /// The line `cmd=` of a service that is this test binary; `verb` as in `service::run`.
    pub fn cmd(&self, verb: &str, name: &str, words: &[&str]) -> String {
        let records = self.path("records");
        let (service, records) = (self.service.display(), records.display());
        format!("cmd='{service}' service {verb} '{records}' {name} {}\n", words.join(" "))
    }

    /// The same binary, to do something beside going.
    pub fn service(&self) -> Command {
        let mut command = Command::new(&self.service);
        command.arg("service");
        command
    }

    /// A service that only stays up, and records every start.
    pub fn hold(&self, name: &str) {
        self.write(name, self.cmd("hold", name, &[]));
    }

    /// The same, with its output going to the service `log`.
    pub fn hold_logging(&self, name: &str, log: &str) {
        self.write(name, self.cmd("hold", name, &[]) + &format!("log={log}\n"));
    }

    /// Services that only stay up.
    pub fn hold_all(&self, names: &[impl AsRef<str>]) {
        for name in names {
            self.hold(name.as_ref());
        }
    }

    /// Makes a file in RUNDIR/down, a directory that going makes when it reads it.
    pub fn hold_down(&self, name: &str) {
        self.wait_for("RUNDIR/down", || self.path("run/down").is_dir());
        fs::write(self.path("run/down").join(name), "").expect("a down file");
    }

    pub fn let_up(&self, name: &str) {
        fs::remove_file(self.path("run/down").join(name)).expect("a down file");
    }

    // going itself.

    pub fn command(&self) -> Command {
        self.command_on(&self.path("going.d"), &self.path("run"))
    }

    /// `going -d … -r …`. Its messages go to a file, which takes all of them at any speed.
    pub fn command_on(&self, confdir: &Path, rundir: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-d").arg(confdir).arg("-r").arg(rundir);
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        let append = |name: &str| {
            let file = OpenOptions::new().create(true).append(true).open(self.path(name));
            file.expect("our own file")
        };
        command.stdin(Stdio::null()).stdout(append("stdout")).stderr(append("log"));
        hide_dev_log(command);
        // If this process ends without dropping anything, going stops in an orderly way.
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?)) };
    }

    pub fn start(&mut self) {
        self.start_with(|_| {});
    }

    /// Starts going after `change` has been made to its command.
    pub fn start_with(&mut self, change: impl FnOnce(&mut Command)) {
        let mut command = self.command();
        change(&mut command);
        self.start_as(command);
    }

    #[track_caller]
    pub fn start_as(&mut self, mut command: Command) {
        self.process = Some(command.spawn().expect("going can be executed"));
        self.wait_ready();
    }

    /// Until its signals are blocked, each has its default action.
    #[track_caller]
    fn wait_ready(&self) {
        let blocks = |mask: u64, signal: Signal| mask & (1 << (signal as i32 - 1)) != 0;
        self.wait_for("going blocking its signals", || {
            let mask = u64::from_str_radix(&proc::status(self.pid(), "SigBlk"), 16).unwrap_or(0);
            [Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTERM].iter().all(|&s| blocks(mask, s))
        });
    }

    /// Under something that respawns it, as init would.
    pub fn start_under_init(&mut self) {
        let mut command = Command::new(env::current_exe().expect("/proc is mounted"));
        command.args(["service", "init"]).arg(self.path("records")).arg(&self.program);
        command.arg("-d").arg(self.path("going.d")).arg("-r").arg(self.path("run"));
        self.prepare(&mut command);
        self.process = Some(command.spawn().expect("this binary can be executed"));
        self.under_init = true;
        self.wait_for("init to start going", || !self.records("init.pids").is_empty());
        self.wait_ready();
    }

    /// As PID 1 of a PID namespace, below a process that waits for it and ends as it does.
    #[track_caller]
    pub fn start_as_pid_1(&mut self, change: impl FnOnce(&mut Command)) {
        self.start_as_pid_1_with(&[], change);
    }

    #[track_caller]
    pub fn start_as_pid_1_with(&mut self, words: &[&str], change: impl FnOnce(&mut Command)) {
        let mut command = Command::new(env::current_exe().expect("/proc is mounted"));
        command.args(["service", "container"]).arg(self.path("records")).arg(&self.program);
        command.arg("-d").arg(self.path("going.d")).arg("-r").arg(self.path("run")).args(words);
        self.prepare(&mut command);
        change(&mut command);
        self.process = Some(command.spawn().expect("this binary can be executed"));
        self.under_init = true;
        self.wait_for("going to start", || !self.records("init.pids").is_empty());
        self.wait_ready();
    }

    /// The output of a run of going that ends by itself.
    #[track_caller]
    pub fn output(&self, words: &[&str]) -> Output {
        let mut command = self.command();
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("going can be executed");
        let start = Instant::now();
        while process.try_wait().expect("our own child").is_none() {
            if start.elapsed() > PATIENCE {
                let _ = process.kill();
                panic!(
                    "{words:?}: still there after {PATIENCE:?}: {:?}",
                    process.wait_with_output()
                );
            }
            sleep(GLANCE);
        }
        process.wait_with_output().expect("our own child")
    }

    /// The pid of going; under init, of the latest one.
    pub fn pid(&self) -> i32 {
        if self.under_init {
            return number(self.records("init.pids").last().expect("a started going"));
        }
        let process = self.process.as_ref().expect("a started going");
        process.id().try_into().expect("a pid")
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Sends HUP, and waits until going has read everything that was written before, and has done
    /// all that follows from it at once.
    ///
    /// One more service, the mark, shows that: it is changed twice. A rescan that was already under
    /// way may see the first mark, and yet have missed what was written before it. The rescan that
    /// sees the second mark began after that one had ended. And a changed service is restarted only
    /// in a later turn of going's loop than everything else that the rescan brought about.
    #[track_caller]
    pub fn rescan(&self) {
        self.mark();
        self.mark();
    }

    #[track_caller]
    fn mark(&self) {
        let count = self.rescans.fetch_add(1, Ordering::Relaxed) + 1;
        self.write("mark", self.cmd("hold", "mark", &["0", &count.to_string()]));
        let before = self.starts("mark").len();
        self.signal(Signal::SIGHUP);
        self.wait_for("the rescan", || self.starts("mark").len() > before);
    }

    /// Waits until going waits without a deadline: nothing is due, and no change is on its way.
    #[track_caller]
    pub fn wait_quiet(&self) {
        self.wait_for("going waiting for nothing in particular", || {
            proc::waits_for_ever(self.pid()) && self.children().into_iter().all(proc::is_executed)
        });
    }

    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("a started going");
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = process.try_wait().expect("our own child") {
                return status;
            }
            sleep(GLANCE);
        }
        // Put back, so that dropping ends it.
        self.process = Some(process);
        panic!("going does not exit within {PATIENCE:?}\n{}", self.report());
    }

    /// Sends TERM. Everything has to stop, and going has to exit 0.
    #[track_caller]
    pub fn terminate(&mut self) {
        let mut services = self.children();
        // A reader is not a service: it dies with going, but a moment later.
        services.retain(|&pid| proc::is_executed(pid));
        self.signal(Signal::SIGTERM);
        let status = self.wait_exit();
        assert!(status.success(), "going ended with {status}\n{}", self.report());
        let left: Vec<_> = services.into_iter().filter(|&pid| proc::is_running(pid)).collect();
        assert!(left.is_empty(), "still running: {left:?}\n{}", self.report());
    }

    // What can be seen.

    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        wait_for(what, PATIENCE, condition, || self.report());
    }

    /// All messages of going since the first start.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }

    /// The number of lines that contain `text`, in which `…` stands for anything.
    pub fn log_count(&self, text: &str) -> usize {
        let behind = |line, part| str::split_once(line, part).map(|(_, rest)| rest);
        let log = self.log();
        log.lines().filter(|line| text.split('…').try_fold(*line, behind).is_some()).count()
    }

    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        self.wait_for(&format!("{text:?} in the log"), || self.log_count(text) > 0);
    }

    /// What is shown with a failure.
    pub fn report(&self) -> String {
        format!("--- what going said:\n{}--- end", self.log())
    }

    /// The complete lines that services wrote into one of their files.
    pub fn records(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path("records").join(file)).unwrap_or_default();
        text.split_inclusive('\n')
            .filter_map(|line| Some(line.strip_suffix('\n')?.into()))
            .collect()
    }

    pub fn starts(&self, name: &str) -> Vec<Start> {
        let lines = self.records(&format!("{name}.starts"));
        let start = |line: &String| {
            let (pid, at_ms) = line.split_once(' ').expect("two numbers");
            Start { pid: number(pid), at_ms: number(at_ms) }
        };
        lines.iter().map(start).collect()
    }

    #[track_caller]
    pub fn wait_starts(&self, name: &str, count: usize) -> Vec<Start> {
        self.wait_for(&format!("start {count} of {name}"), || self.starts(name).len() >= count);
        self.starts(name)
    }

    /// Waits until the service runs, and returns its pid.
    #[track_caller]
    pub fn up(&self, name: &str) -> i32 {
        let last = || self.starts(name).last().map(|start| start.pid);
        self.wait_for(&format!("{name} running"), || last().is_some_and(proc::is_running));
        last().expect("it has been started")
    }

    /// `up` for each.
    #[track_caller]
    pub fn all_up(&self, names: &[impl AsRef<str>]) -> Vec<i32> {
        names.iter().map(|name| self.up(name.as_ref())).collect()
    }

    #[track_caller]
    pub fn wait_gone(&self, what: &str, pid: i32) {
        self.wait_for(&format!("the end of {what}, pid {pid}"), || !proc::is_running(pid));
    }

    /// RUNDIR/status without its first line: the fields of each service.
    pub fn status(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.path("run/status")).unwrap_or_default();
        text.lines().skip(1).map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    /// The fields of one service, none if it is not there.
    pub fn status_of(&self, name: &str) -> Vec<String> {
        self.status().into_iter().find(|fields| fields[0] == name).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_status(&self, name: &str, state: &str) {
        let is_so = || self.status_of(name).get(1).is_some_and(|field| field == state);
        self.wait_for(&format!("{name} {state} in the status"), is_so);
    }

    /// Services that found another process of their name running.
    pub fn twins(&self) -> Vec<String> {
        self.records("twins")
    }

    /// The children of going, zombies included.
    pub fn children(&self) -> Vec<i32> {
        proc::children(self.pid())
    }

    /// Waits for a child whose arguments `is_it` accepts, and returns its pid.
    #[track_caller]
    pub fn wait_child(&self, what: &str, is_it: impl Fn(&[String]) -> bool) -> i32 {
        let find = || self.children().into_iter().find(|&pid| is_it(&proc::arguments(pid)));
        self.wait_for(&format!("child {what}"), || find().is_some());
        find().unwrap_or_else(|| panic!("{what} did not stay\n{}", self.report()))
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // While it is stopped it starts nothing more, and it still adopts what its children
            // leave behind.
            let root = process.id().try_into().expect("a pid");
            send(root, Signal::SIGSTOP);
            loop {
                let mut rest = proc::descendants(root);
                rest.retain(|&pid| proc::is_running(pid));
                if rest.is_empty() {
                    break;
                }
                for pid in rest {
                    send(pid, Signal::SIGKILL);
                }
                sleep(GLANCE);
            }
            // Both fail only for a process that is already gone.
            let _ = process.kill();
            let _ = process.wait();
        }
        // An earlier going that was itself killed may have left processes too. The slash keeps out
        // those of a directory whose name only begins like ours.
        for (pid, _) in processes_with(&format!("{}/", self.directory.path().display())) {
            send(pid, Signal::SIGKILL);
        }
    }
}

/// A process that a scenario needs beside going; killed when dropped.
pub struct Helper(Child);

impl Helper {
    pub fn spawn(command: &mut Command) -> Helper {
        Helper(command.spawn().expect("a helper can be executed"))
    }

    pub fn pid(&self) -> i32 {
        self.0.id().try_into().expect("a pid")
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Both fail only for a process that is already gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What VmPeak has to stay below, in kB: a release build keeps the documented promise, a debug
/// build needs more.
pub fn peak_kb() -> u64 {
    if env::var_os("GOING").is_some() { 320 } else { 1024 }
}

/// The binary under test.
pub fn going() -> PathBuf {
    env::var_os("GOING").map_or_else(|| env!("CARGO_BIN_EXE_going").into(), PathBuf::from)
}

/// Puts a copy of a program where anybody can execute it. A separate process does that: if this
/// process had the copy open for writing, a child that another scenario forks at that moment would
/// have it open too, and until that child has executed something, the kernel would refuse to
/// execute the copy (ETXTBSY).
pub fn install_program(from: &Path, to: &Path) {
    let mut install = Command::new("install");
    let status = install.args(["-m", "755"]).arg(from).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "{}", to.display());
}

/// Waits until `condition` holds; a failure shows the report.
#[track_caller]
pub fn wait_for(
    what: &str,
    patience: Duration,
    condition: impl Fn() -> bool,
    report: impl Fn() -> String,
) {
    let start = Instant::now();
    while start.elapsed() < patience {
        if condition() {
            return;
        }
        sleep(GLANCE);
    }
    panic!("no sign of {what} within {patience:?}\n{}", report());
}

/// Sends a signal. A process that is already gone counts as signalled.
pub fn send(pid: i32, signal: Signal) {
    assert!(pid > 1, "never a group, never init: {pid}");
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Gives a running process another limit.
pub fn limit(pid: i32, resource: libc::c_int, soft: u64, hard: u64) {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call, and the old one is not asked for.
    let result = unsafe { libc::prlimit(pid, resource, &raw const limit, ptr::null_mut()) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Makes the kernel answer `errno` to the system call `number` whenever its argument at `index` is
/// `value`, see seccomp(2).
pub fn refuse(command: &mut Command, number: libc::c_long, index: u32, value: i32, errno: i32) {
    let one = |code: u32, otherwise, value| libc::sock_filter {
        code: code.try_into().expect("16 bits"),
        jt: 0,
        jf: otherwise,
        k: value,
    };
    let load = |offset| one(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, offset);
    // Skips `others` instructions if it is another value.
    let is = |value, others| one(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, others, value);
    let answer = |answer| one(libc::BPF_RET | libc::BPF_K, 0, answer);
    let filter = [
        load(0),
        is(number.try_into().expect("a small number"), 3),
        load(16 + 8 * index),
        is(value.unsigned_abs(), 1),
        answer(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let change = move || {
        let program = libc::sock_fprog { len: 6, filter: filter.as_ptr().cast_mut() };
        prctl::set_no_new_privs()?;
        // SAFETY: the kernel copies the program, which lives through the call.
        let set = unsafe {
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it calls the kernel only.
    unsafe { command.pre_exec(change) };
}

/// Makes the kernel like one before Linux 5.3, which has no pidfd_open(2).
pub fn refuse_pidfds(command: &mut Command) {
    refuse(command, libc::SYS_pidfd_open, 1, 0, libc::ENOSYS);
}

/// Makes the command run as another user. The user is changed after everything else that was
/// prepared before.
pub fn run_by(command: &mut Command, user: u32) {
    // `CommandExt::uid` would change the user first, before all that only root may do.
    let change = move || {
        setgroups(&[])?;
        setgid(Gid::from_raw(user))?;
        Ok(setuid(Uid::from_raw(user))?)
    };
    // SAFETY: between fork and exec it calls the kernel only.
    unsafe { command.pre_exec(change) };
}

/// Processes of any scenario of this run that are still there.
pub fn left_behind() -> Vec<(i32, Vec<String>)> {
    processes_with(&format!("/{PREFIX}{:x}-", std::process::id()))
}

fn processes_with(text: &str) -> Vec<(i32, Vec<String>)> {
    let all = proc::pids().into_iter().map(|pid| (pid, proc::arguments(pid)));
    all.filter(|(_, words)| words.iter().any(|word| word.contains(text))).collect()
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// On a machine with a running syslogd, going's messages would go there. Then going gets a mount
/// namespace in which /dev/log is /dev/null, and its messages come to stderr.
fn hide_dev_log(command: &mut Command) {
    // Often a symlink, and a mount needs what it points to.
    let Ok(log) = fs::canonicalize("/dev/log") else { return };
    let log = CString::new(log.into_os_string().into_encoded_bytes()).expect("no NUL in a path");
    // Root needs no user namespace. Anybody else gets one in which their user and group stay as
    // they are.
    let (uid, gid) = (geteuid(), getegid());
    let maps = (!uid.is_root()).then(|| {
        [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("{uid} {uid} 1")),
            ("/proc/self/gid_map", format!("{gid} {gid} 1")),
        ]
    });
    let hide = move || {
        let mut flags = CloneFlags::CLONE_NEWNS;
        flags.set(CloneFlags::CLONE_NEWUSER, maps.is_some());
        unshare(flags)?;
        for (path, text) in maps.iter().flatten() {
            fs::write(path, text)?;
        }
        let nowhere = None::<&Path>;
        mount(nowhere, c"/", nowhere, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nowhere)?;
        mount(Some(c"/dev/null"), log.as_c_str(), nowhere, MsFlags::MS_BIND, nowhere)?;
        Ok(())
    };
    // SAFETY: between fork and exec it calls the kernel only, on what was made before.
    unsafe { command.pre_exec(hide) };
}
