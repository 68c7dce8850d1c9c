//! `Machine`: a virtual machine with Debian's kernel and an initramfs, in QEMU.
//!
//! The output of the kernel and of the services goes to the first serial line, and from there to a
//! file. The second serial line leads to a shell in the machine (`Machine::run`), so that a
//! scenario states on this side what it does and what it expects. QEMU's monitor says how a machine
//! ends.
//!
//! The processor is always emulated: only trying shows whether /dev/kvm is usable, and a scenario
//! should run the same everywhere. The emulated one has its own source of random numbers, without
//! which the kernel would wait for them.

use crate::initramfs::Initramfs;
use crate::needs;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};
use temp_dir::TempDir;

/// A boot takes about four seconds on an idle host.
const PATIENCE: Duration = Duration::from_mins(1);
const GLANCE: Duration = Duration::from_millis(20);

/// Each machine takes a whole processor, which other scenarios need too.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The shell at the other end of the second serial line. It answers `NUMBER COMMAND` with
/// `<NUMBER`, the command's output, and `>NUMBER STATUS` on a line by itself.
const REMOTE: &str = "#!/bin/busybox sh
exec <>/dev/ttyS1 >&0 2>&1
busybox stty raw -echo
echo ready
while read -r number command; do
    echo \"<$number\"
    eval \"$command\"
    printf '\\n>%s %s\\n' \"$number\" $?
done
";

/// What has to be done for a PID 1 that mounts nothing: mount the file systems, and install busybox
/// under all its names. The arguments and the environment that the kernel gives to its first
/// program stay as they are.
pub const RC: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t tmpfs tmpfs /run
/bin/busybox --install -s /bin
";

/// An initramfs with going, busybox, the remote shell, and this binary as `/bin/it`.
pub fn initramfs() -> Initramfs {
    let mut files = Initramfs::default();
    let busybox = needs::busybox().expect("it is needed");
    let service = env::current_exe().expect("/proc is mounted");
    for (path, program) in [
        ("bin/busybox", Path::new(busybox)),
        ("bin/it", &service),
        ("usr/sbin/going", &crate::harness::going()),
    ] {
        files.program(path, &fs::read(program).expect("a readable program"));
    }
    files.program("bin/remote", REMOTE.as_bytes());
    files
}

/// See the top of this file. Switched off when dropped.
pub struct Machine {
    directory: TempDir,
    qemu: Child,
    monitor: Lines,
    remote: Lines,
    commands: u32,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// `words` are appended to the kernel's command line.
    #[track_caller]
    pub fn boot(files: Initramfs, words: &str) -> Machine {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = TempDir::with_prefix(crate::harness::PREFIX).expect("a directory");
        let path = |name: &str| directory.child(name);
        fs::write(path("initramfs"), files.finish()).expect("room on the disk");
        let disk = File::create(path("disk")).and_then(|disk| disk.set_len(16 << 20));
        disk.expect("room on the disk");
        let socket = |name: &str| format!("path={},server=on,wait=off", path(name).display());
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-accel", "tcg", "-cpu", "max", "-m", "256", "-kernel"])
            .arg(kernel())
            .arg("-initrd")
            .arg(path("initramfs"))
            .args(["-append", &format!("console=ttyS0 quiet no_timer_check {words}")])
            .args(["-serial", &format!("file:{}", path("console").display())])
            .args(["-chardev", &format!("socket,id=remote,{}", socket("remote"))])
            .args(["-serial", "chardev:remote"])
            .args(["-chardev", &format!("socket,id=monitor,{}", socket("monitor"))])
            .args(["-mon", "monitor,mode=control"])
            .args([
                "-drive",
                &format!("file={},if=none,id=disk,format=raw", path("disk").display()),
            ])
            .args(["-device", "nvme,drive=disk,serial=1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(path("qemu.log")).expect("our own file"));
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        let mut qemu = command.spawn().expect("QEMU can be executed");
        let remote = connect(&mut qemu, &path("remote"), &path("qemu.log"));
        let monitor = connect(&mut qemu, &path("monitor"), &path("qemu.log"));
        let mut machine = Machine { directory, qemu, monitor, remote, commands: 0, _turn: turn };
        machine.ask_monitor("{\"execute\":\"qmp_capabilities\"}");
        machine
    }

    /// What the kernel, going and the services have printed, without carriage returns.
    pub fn console(&self) -> String {
        let bytes = fs::read(self.directory.child("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    pub fn disk(&self) -> Vec<u8> {
        fs::read(self.directory.child("disk")).expect("our own file")
    }

    #[track_caller]
    pub fn wait_console(&mut self, text: &str) {
        self.wait_for(&format!("{text:?} on the console"), |machine| {
            machine.console().contains(text)
        });
    }

    #[track_caller]
    pub fn wait_for(&mut self, what: &str, mut condition: impl FnMut(&mut Machine) -> bool) {
        let start = Instant::now();
        loop {
            let is_last = self.is_over(start);
            if condition(self) {
                return;
            }
            assert!(!is_last, "no sign of {what}\n{}", self.report());
            sleep(GLANCE);
        }
    }

    /// Whether to stop waiting. Ask before looking for the last time, so that no late output is
    /// missed.
    fn is_over(&mut self, start: Instant) -> bool {
        let has_ended = self.qemu.try_wait().expect("our own child").is_some();
        has_ended || start.elapsed() > PATIENCE || self.console().contains("Kernel panic")
    }

    pub fn report(&self) -> String {
        let log = fs::read_to_string(self.directory.child("qemu.log")).unwrap_or_default();
        format!("--- console:\n{}\n--- QEMU:\n{log}--- end", self.console())
    }

    // The shell in the machine.

    #[track_caller]
    pub fn wait_remote(&mut self) {
        while self.line("the remote shell") != "ready" {}
    }

    /// Returns what the command prints. The command has to succeed.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> String {
        let (output, status) = self.try_run(command);
        assert_eq!(status, "0", "{command}: {output}\n{}", self.report());
        output
    }

    /// Returns what the command prints, and its status.
    #[track_caller]
    pub fn try_run(&mut self, command: &str) -> (String, String) {
        let number = self.run_last(command);
        let what = format!("an answer to {command:?}");
        while self.line(&what) != format!("<{number}") {}
        let mut output = String::new();
        loop {
            let line = self.line(&what);
            if let Some(status) = line.strip_prefix(&format!(">{number} ")) {
                return (output.trim_end().to_owned(), status.to_owned());
            }
            output.push_str(&line);
            output.push('\n');
        }
    }

    /// Sends a command without waiting for the answer: the shell may not live to give it.
    pub fn run_last(&mut self, command: &str) -> u32 {
        self.commands += 1;
        let line = format!("{} {command}\n", self.commands);
        self.remote.send(&line);
        self.commands
    }

    /// Waits until the command succeeds; returns what it prints.
    #[track_caller]
    pub fn wait_run(&mut self, command: &str) -> String {
        let mut answer = String::new();
        self.wait_for(&format!("the success of {command:?}"), |machine| {
            let (output, status) = machine.try_run(command);
            answer = output;
            status == "0"
        });
        answer
    }

    /// The pid of the only process of that name.
    #[track_caller]
    pub fn pid_of(&mut self, name: &str) -> u32 {
        let (pid, _) = self.try_run(&format!("pidof {name}"));
        pid.parse().unwrap_or_else(|_| panic!("not one {name}: {pid:?}\n{}", self.report()))
    }

    #[track_caller]
    fn line(&mut self, what: &str) -> String {
        let start = Instant::now();
        loop {
            let is_last = self.is_over(start);
            if let Some(line) = self.remote.next() {
                return line;
            }
            assert!(!is_last, "no sign of {what}\n{}", self.report());
        }
    }

    // The monitor.

    /// QEMU's word for why the machine is off, or would restart but for `-no-reboot`.
    #[track_caller]
    pub fn wait_end(&mut self) -> String {
        let event = self.wait_monitor("\"event\": \"SHUTDOWN\"");
        let (_, reason) = event.split_once("\"reason\": \"").expect("a reason");
        reason.split('"').next().unwrap_or_default().to_owned()
    }

    /// Whether the machine is still running, as QEMU answers.
    #[track_caller]
    pub fn is_on(&mut self) -> bool {
        let answer = self.ask_monitor("{\"execute\":\"query-status\"}");
        answer.contains("\"status\": \"running\"")
    }

    #[track_caller]
    pub fn press_ctrl_alt_del(&mut self) {
        let keys = ["ctrl", "alt", "delete"]
            .map(|key| format!("{{\"type\":\"qcode\",\"data\":\"{key}\"}}"));
        self.ask_monitor(&format!(
            "{{\"execute\":\"send-key\",\"arguments\":{{\"keys\":[{}]}}}}",
            keys.join(",")
        ));
    }

    #[track_caller]
    fn ask_monitor(&mut self, question: &str) -> String {
        self.monitor.send(question);
        self.wait_monitor("{\"return\":")
    }

    /// Waits for a line that contains `text`, and skips all others.
    #[track_caller]
    fn wait_monitor(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let is_last = self.is_over(start);
            match self.monitor.next() {
                Some(line) if line.contains(text) => return line,
                Some(_) => {}
                None => assert!(!is_last, "no {text} from QEMU\n{}", self.report()),
            }
        }
    }
}

/// A stream of lines, in both directions.
struct Lines {
    stream: BufReader<UnixStream>,
    /// The beginning of a line whose end has not arrived yet.
    part: Vec<u8>,
}

impl Lines {
    /// The next whole line, without its newline, if it arrives before the stream's read timeout.
    fn next(&mut self) -> Option<String> {
        // What was read before an error stays in `part`.
        let _late = self.stream.read_until(b'\n', &mut self.part);
        let line = self.part.strip_suffix(b"\n")?;
        let text = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
        self.part.clear();
        Some(text)
    }

    fn send(&mut self, text: &str) {
        // If the other end is gone, we notice when its answer does not come.
        let _gone = self.stream.get_mut().write_all(text.as_bytes());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if the process is gone.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A file that `scripts/setup test` has unpacked.
pub fn unpacked(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/boot").join(path)
}

fn kernel() -> PathBuf {
    unpacked("vmlinuz")
}

#[track_caller]
fn connect(qemu: &mut Child, path: &Path, log: &Path) -> Lines {
    let start = Instant::now();
    loop {
        if let Ok(stream) = UnixStream::connect(path) {
            stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a valid time");
            return Lines { stream: BufReader::new(stream), part: Vec::new() };
        }
        let has_ended = qemu.try_wait().expect("our own child").is_some();
        if has_ended || start.elapsed() > PATIENCE {
            // Both fail only if the process is gone.
            let _ = qemu.kill();
            let _ = qemu.wait();
            panic!("QEMU: {}", fs::read_to_string(log).unwrap_or_default());
        }
        sleep(GLANCE);
    }
}
