//! A mount namespace for what is started in it: with a small disk, a /dev of its own, or another
//! file system.

use crate::harness::{Helper, PATIENCE, wait_for};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// The namespace, kept by a process that does nothing else.
pub struct Namespace(Helper);

impl Namespace {
    /// A small disk at `path`, which is a directory.
    pub fn with_disk(path: &Path) -> Namespace {
        Namespace::new(path, |path| {
            let size = Some(c"size=4m");
            mount(None::<&Path>, path, Some(c"tmpfs"), MsFlags::empty(), size)
        })
    }

    /// A /dev with nothing in it but /dev/null, and so without syslog.
    pub fn with_dev(path: &Path) -> Namespace {
        Namespace::new(path, |_| {
            mount(None::<&Path>, c"/dev", Some(c"tmpfs"), MsFlags::empty(), None::<&Path>)?;
            let mode = Mode::from_bits_truncate(0o666);
            mknod(c"/dev/null", SFlag::S_IFCHR, mode, makedev(1, 3))
        })
    }

    /// Whatever `make` makes of `path`.
    pub fn new<F>(path: &Path, make: F) -> Namespace
    where
        F: Fn(&CStr) -> nix::Result<()> + Send + Sync + 'static,
    {
        let mut keeper = Command::new("/proc/self/exe");
        keeper.args(["service", "pause"]).arg(path);
        let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
        let make_it = move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let nothing = None::<&Path>;
            mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            Ok(make(&path)?)
        };
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { keeper.pre_exec(make_it) };
        Namespace(Helper::spawn(&mut keeper))
    }

    pub fn namespace(&self) -> File {
        File::open(format!("/proc/{}/ns/mnt", self.0.pid())).expect("the keeper runs")
    }

    /// Changes how a disk is mounted there, as soon as no open file prevents it.
    pub fn remount(&self, path: &Path, flags: MsFlags) {
        thread::scope(|scope| {
            let remount = || {
                unshare(CloneFlags::CLONE_FS).expect("a thread of our own");
                setns(self.namespace(), CloneFlags::CLONE_NEWNS).expect("a mount namespace");
                let nothing = None::<&Path>;
                let mount = || mount(nothing, path, nothing, MsFlags::MS_REMOUNT | flags, nothing);
                wait_for("a remount", PATIENCE, || mount().is_ok(), String::new);
            };
            scope.spawn(remount).join().expect("it can be mounted so");
        });
    }

    pub fn enter(&self, command: &mut Command) {
        let namespace = self.namespace();
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(move || Ok(setns(&namespace, CloneFlags::CLONE_NEWNS)?)) };
    }

    /// Makes the socket of a syslog daemon there, which nobody reads yet.
    pub fn syslogd(&self) -> UnixDatagram {
        UnixDatagram::bind(self.view(Path::new("/dev/log"))).expect("a new socket")
    }

    /// The path from here to what is at `path` there.
    pub fn view(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.0.pid()));
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }
}
