//! `Container`: one going as PID 1 of a PID namespace, made by runc or by unshare(1), and what can
//! be seen of it from outside.
//!
//! Under runc the root is read-only and holds going and this binary, nothing else. unshare(1)
//! changes the PIDs only: signals behave the same, without the rest of a container.

use crate::harness::{GLANCE, PREFIX, going, install_program, wait_for};
use crate::initramfs::loadable;
use crate::proc;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use temp_dir::TempDir;

/// Longer than elsewhere, because one scenario has thousands of processes.
const PATIENCE: Duration = Duration::from_mins(1);

/// What makes the namespace.
#[derive(Clone, Copy, PartialEq)]
pub enum By {
    Runc,
    Unshare,
}

/// See the top of this file. Killed when dropped.
pub struct Container {
    by: By,
    directory: TempDir,
    process: Option<Child>,
    /// Whether there are services.
    has_services: bool,
    /// Whether runc makes a terminal for it.
    pub has_terminal: bool,
}

impl Container {
    pub fn new(by: By) -> Container {
        let directory = TempDir::with_prefix(PREFIX).expect("a temporary directory");
        for name in ["going.d", "records", "rootfs", "run"] {
            fs::create_dir(directory.child(name)).expect("an empty directory");
        }
        let service = env::current_exe().expect("/proc is mounted");
        for (name, program) in [("going", going()), ("it", service)] {
            let content = loadable(&fs::read(program).expect("a readable program"));
            let path = directory.child(name);
            fs::write(&path, content).expect("room on the disk");
            install_program(&path, &directory.child("rootfs").join(name));
        }
        Container { by, directory, process: None, has_services: false, has_terminal: false }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where a file of this directory is in the container: at `inner` under runc, and at its own
    /// path otherwise.
    fn inside(&self, outer: &str, inner: &str) -> String {
        match self.by {
            By::Runc => inner.to_owned(),
            By::Unshare => self.path(outer).display().to_string(),
        }
    }

    /// Writes a service file.
    pub fn write(&mut self, name: &str, content: &str) {
        self.has_services = true;
        fs::write(self.path("going.d").join(name), content).expect("a service file");
    }

    /// The words that run this binary as a service; `verb` as in `service::run`.
    pub fn words(&self, verb: &str, name: &str, words: &[&str]) -> Vec<String> {
        let records = self.inside("records", "/records");
        let mut all = vec![self.it(), "service".to_owned(), verb.to_owned(), records];
        all.push(name.to_owned());
        all.extend(words.iter().map(|&word| word.to_owned()));
        all
    }

    /// Where this binary is in the container.
    pub fn it(&self) -> String {
        self.inside("rootfs/it", "/it")
    }

    /// The line `cmd=` of a service that is this binary.
    pub fn cmd(&self, verb: &str, name: &str, words: &[&str]) -> String {
        format!("cmd={}\n", self.words(verb, name, words).join(" "))
    }

    /// The command that runs going in the container, with `main` as the main command unless it is
    /// empty.
    pub fn command(&self, main: &[String]) -> Command {
        let mut words = vec![self.inside("rootfs/going", "/going")];
        if self.by == By::Unshare {
            let (confdir, rundir) = (self.path("going.d"), self.path("run"));
            for (option, path) in [("-d", confdir), ("-r", rundir)] {
                words.extend([option.to_owned(), path.display().to_string()]);
            }
        }
        if !main.is_empty() {
            words.push("--".to_owned());
            words.extend_from_slice(main);
        }
        let mut command = match self.by {
            By::Runc => {
                self.configure(&words);
                self.runc(&["run", "--bundle"])
            }
            By::Unshare => Command::new("unshare"),
        };
        match self.by {
            By::Runc => command.arg(self.directory.path()).arg(self.id()),
            By::Unshare => {
                command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).args(words)
            }
        };
        let file = |name: &str| File::create(self.path(name)).expect("our own file");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("log"));
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        command
    }

    /// Makes config.json: what is run, the mounts and the terminal are ours, everything else is
    /// runc's default.
    fn configure(&self, words: &[String]) {
        let path = self.path("config.json");
        // runc refuses to overwrite an existing file.
        let _none = fs::remove_file(&path);
        let status = self.runc(&["spec", "--bundle"]).arg(self.directory.path()).status();
        assert!(status.expect("runc can be executed").success());
        let mut text = fs::read_to_string(&path).expect("runc has written it");
        let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
        let mount = |to: &str, from: &str, options: &str| {
            let from = self.path(from);
            format!(
                "{{\"destination\":{to:?},\"type\":\"bind\",\"source\":\"{}\",\
                 \"options\":[\"bind\",{options:?}]}},",
                from.display()
            )
        };
        let mut mounts = mount("/records", "records", "rw");
        if self.has_services {
            mounts += &mount("/etc/going.d", "going.d", "ro");
        }
        for (before, after) in [
            ("\"sh\"", quoted.join(",")),
            ("\"terminal\": true", format!("\"terminal\": {}", self.has_terminal)),
            ("\"mounts\": [", format!("\"mounts\": [{mounts}")),
        ] {
            assert_eq!(text.matches(before).count(), 1, "{before} in {text}");
            text = text.replace(before, &after);
        }
        assert!(text.contains("\"readonly\": true"), "{text}");
        fs::write(path, text).expect("our own file");
    }

    pub fn runc(&self, words: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.path("state")).args(words);
        // runc forwards every signal that it gets, even those that the Go runtime sends to itself
        // to preempt its goroutines.
        command.env("GODEBUG", "asyncpreemptoff=1");
        command
    }

    /// The name that runc knows it by.
    pub fn id(&self) -> String {
        self.directory.path().file_name().expect("a name").to_string_lossy().into_owned()
    }

    // Running it.

    #[track_caller]
    pub fn start(&mut self, main: &[String]) {
        let command = self.command(main);
        self.start_as(command);
    }

    #[track_caller]
    pub fn start_as(&mut self, mut command: Command) {
        self.process = Some(command.spawn().expect("it can be executed"));
        self.wait_for("going blocking its signals", || {
            let mask = self.find_going().map(|pid| proc::status(pid, "SigBlk"));
            mask.is_some_and(|mask| u64::from_str_radix(&mask, 16).unwrap_or(0) & 0x4003 == 0x4003)
        });
    }

    /// The pid of going in our own PID namespace.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.find_going().unwrap_or_else(|| panic!("no going\n{}", self.report()))
    }

    fn find_going(&self) -> Option<i32> {
        let id = self.process.as_ref()?.id();
        let all = proc::descendants(id.try_into().expect("a pid"));
        let path = self.inside("rootfs/going", "/going");
        all.into_iter().find(|&pid| proc::arguments(pid).first() == Some(&path))
    }

    /// By number, because not every signal has a name.
    #[track_caller]
    pub fn signal(&self, number: i32) {
        let pid = self.pid();
        assert!(pid > 1, "never a group, never init: {pid}");
        // SAFETY: no memory is involved, and the pid is that of our own descendant.
        let result = unsafe { libc::kill(pid, number) };
        assert_eq!(result, 0, "signal {number}");
    }

    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it has been started");
        let start = Instant::now();
        loop {
            if let Some(status) = process.try_wait().expect("our own child") {
                return status;
            }
            if start.elapsed() > PATIENCE {
                // Put back, so that dropping ends it.
                self.process = Some(process);
                panic!("going does not exit within {PATIENCE:?}\n{}", self.report());
            }
            sleep(GLANCE);
        }
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        wait_for(what, PATIENCE, condition, || self.report());
    }

    // What can be seen.

    pub fn log(&self) -> String {
        text(&self.path("log"))
    }

    pub fn report(&self) -> String {
        let stdout = text(&self.path("stdout"));
        format!("--- log:\n{}\n--- stdout:\n{stdout}--- end", self.log())
    }

    /// The complete lines that services wrote into one of their files.
    pub fn records(&self, file: &str) -> Vec<String> {
        let text = text(&self.path("records").join(file));
        text.split_inclusive('\n')
            .filter_map(|line| Some(line.strip_suffix('\n')?.into()))
            .collect()
    }

    #[track_caller]
    pub fn wait_start(&self, name: &str) {
        let file = format!("{name}.starts");
        self.wait_for(&format!("the start of {name}"), || !self.records(&file).is_empty());
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

impl Drop for Container {
    fn drop(&mut self) {
        // Each of these fails only for what is already gone. Killing PID 1 kills everything in the
        // namespace.
        if let Some(pid) = self.find_going() {
            crate::harness::send(pid, Signal::SIGKILL);
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if self.by == By::Runc {
            let mut command = self.runc(&["delete", "--force"]);
            let _ = command.arg(self.id()).stderr(Stdio::null()).status();
        }
    }
}
