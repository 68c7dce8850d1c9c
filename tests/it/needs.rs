//! What some scenarios need beyond going itself. A scenario that lacks it is reported as ignored,
//! with the reason on stderr; where everything has to be there (`CI=true`), it fails instead. No
//! scenario is ever skipped silently.

use crate::fuse;
use crate::machine::unpacked;
use libtest_mimic::Trial;
use nix::sched::{CloneFlags, unshare};
use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// One thing that a machine may lack.
#[derive(Clone, Copy)]
pub enum Need {
    /// To become another user, and to lift a limit.
    Root,
    /// A mount namespace with a /dev of its own.
    Mounts,
    /// The same, and FUSE.
    Fuse,
    /// The right to choose the pid of the next process.
    LastPid,
    /// busybox with httpd and syslogd: real services.
    Busybox,
    /// QEMU, and a kernel to boot in it.
    Machine,
    /// sysvinit, to be booted.
    Sysvinit,
    /// A container.
    Runc,
    /// A PID namespace.
    Unshare,
    /// Prometheus' own checker of metrics.
    Promtool,
    /// An independent check of JSON against its schema.
    JsonSchema,
    /// The shells that goingctl has completions for.
    Bash,
    Zsh,
    Fish,
}

impl Need {
    /// Why it is missing here, if it is.
    fn missing(self) -> Option<&'static str> {
        match self {
            Need::Root => (!nix::unistd::geteuid().is_root()).then_some("root"),
            Need::Mounts => (!can_mount()).then_some("a private mount namespace (root)"),
            Need::Fuse => (!can_mount() || fuse::device().is_none())
                .then_some("FUSE and a private mount namespace (root)"),
            Need::LastPid => (!can_choose_pid()).then_some("to write ns_last_pid (root)"),
            Need::Busybox => (!has_busybox())
                .then_some("busybox with httpd and syslogd (apt-get install busybox-static)"),
            Need::Sysvinit => (!unpacked("sysvinit/sbin/init").exists())
                .then_some("Debian's sysvinit, unpacked (scripts/setup test)"),
            Need::Runc => (!has_command("runc") || !nix::unistd::geteuid().is_root())
                .then_some("runc (apt-get install runc) and root"),
            Need::Unshare => (!has_command("unshare") || !nix::unistd::geteuid().is_root())
                .then_some("unshare (apt-get install util-linux) and root"),
            Need::Machine => (!has_machine())
                .then_some("qemu-system-x86_64, a kernel, and busybox (scripts/setup test)"),
            Need::Promtool => absent("promtool", "promtool (apt-get install prometheus)"),
            Need::JsonSchema => {
                absent("jsonschema", "jsonschema (apt-get install python3-jsonschema)")
            }
            Need::Bash => absent("bash", "bash"),
            Need::Zsh => absent("zsh", "zsh"),
            Need::Fish => absent("fish", "fish"),
        }
    }
}

/// Returns `what`, unless the program is in the PATH.
fn absent(program: &str, what: &'static str) -> Option<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&path).any(|directory| directory.join(program).exists());
    (!is_there).then_some(what)
}

/// The path of busybox, if it is installed.
pub fn busybox() -> Option<&'static str> {
    ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists())
}

fn has_busybox() -> bool {
    let Some(path) = busybox() else { return false };
    let Ok(output) = Command::new(path).arg("--list").output() else { return false };
    let list = String::from_utf8_lossy(&output.stdout);
    ["httpd", "syslogd"].iter().all(|applet| list.lines().any(|line| line == *applet))
}

fn has_machine() -> bool {
    has_command("qemu-system-x86_64") && unpacked("vmlinuz").exists() && has_busybox()
}

fn has_command(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(name).exists())
}

/// The file with the pid of the process that was started last in this PID namespace.
pub const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

fn can_choose_pid() -> bool {
    // The file's mode lets everybody write to it, but the kernel may not: only trying tells.
    fs::read(LAST_PID).and_then(|number| fs::write(LAST_PID, number)).is_ok()
}

fn can_mount() -> bool {
    let mut command = Command::new("/proc/self/exe");
    command.args(["service", "true"]).stdin(Stdio::null());
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(|| Ok(unshare(CloneFlags::CLONE_NEWNS)?)) };
    nix::unistd::geteuid().is_root() && command.status().is_ok_and(|status| status.success())
}

/// Makes a test of a scenario; `name` is the path of its function.
pub fn trial(name: &str, needs: &[Need], scenario: fn()) -> Trial {
    let name = name.trim_start_matches("it::").to_owned();
    let missing: Vec<_> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return Trial::test(name, move || {
            scenario();
            Ok(())
        });
    }
    let reason = format!("needs {}", missing.join(" and "));
    if env::var_os("CI").is_some_and(|value| value == "true") {
        return Trial::test(name, move || Err(reason.into()));
    }
    eprintln!("skipped: {name}: {reason}");
    Trial::test(name, || Ok(())).with_ignored_flag(true)
}

/// The `Trial` of a function: `scenario!(name)` or `scenario!(name, Root, Busybox)`.
macro_rules! scenario {
    ($name:ident $(, $need:ident)*) => {
        $crate::needs::trial(
            concat!(module_path!(), "::", stringify!($name)),
            &[$($crate::needs::Need::$need),*],
            $name,
        )
    };
}
pub(crate) use scenario;
