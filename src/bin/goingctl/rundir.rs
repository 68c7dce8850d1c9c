//! RUNDIR: the status, the files that hold services down, and the watch for changes.

use crate::output::{self, EXIT_ABSENT, Failure, reason, unable};
use crate::proc;
use crate::regular;
use crate::select::MAIN;
use crate::status::Status;
use going::linux::{clock, watch};
use going::model::config::service_name;
use going::model::status::VERSION;
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{WatchFlags, add_watch};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

/// RUNDIR.
pub struct Rundir(pub PathBuf);

/// The identity of the file that holds a service down.
#[derive(Clone, Copy, PartialEq)]
pub struct Mark {
    inode: u64,
    /// When it was created, where that is known, because inode numbers are reused.
    born: Option<(i64, u32)>,
    /// When it was created or touched.
    since: (i64, i64),
    is_for_restart: bool,
}

impl Mark {
    fn of(path: &Path, stat: &Metadata) -> Self {
        let path = path.as_os_str().as_bytes();
        let known = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).ok();
        let known = known.filter(|known| known.stx_mask & StatxFlags::BTIME.bits() != 0);
        Self {
            inode: stat.ino(),
            born: known.map(|known| (known.stx_btime.tv_sec, known.stx_btime.tv_nsec)),
            since: (stat.mtime(), stat.mtime_nsec()),
            is_for_restart: stat.is_file() && stat.mode() & OWNER_EXECUTES != 0,
        }
    }

    /// Whether this file, found in the place of `before`, is there because somebody wants the
    /// service held down. The file of a restart is not, unless it is `before` itself and was
    /// touched.
    pub fn is_to_stay(&self, before: Option<Self>) -> bool {
        let is_same = |before: Self| (before.inode, before.born) == (self.inode, self.born);
        let is_touched = before.is_some_and(is_same);
        is_touched || !self.is_for_restart
    }
}

/// A bit in the mode of the file that a restart makes. It is set from the moment the file exists,
/// so that another restart recognises it. Nobody executes the file.
const OWNER_EXECUTES: u32 = 0o100;
/// The mode of the other files that we make there, before the umask.
const PLAIN: u32 = 0o666;

/// Whether going runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Supervisor {
    Running,
    /// Stopped by a signal: it does nothing until it gets CONT.
    Stopped,
    Gone,
}

impl Rundir {
    /// Reads the status as it is now. A status file may be left over from a going that has ended:
    /// that is an error.
    pub fn read(&self) -> Result<Status, Failure> {
        let path = self.0.join("status");
        let absent = |what: &str, why: &str| {
            let text = format!("going is not running{what}: {}: {why}", path.display());
            Failure::new(EXIT_ABSENT, text)
        };
        let bytes = regular::read(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                absent(", or cannot write there", &reason(&error))
            }
            ErrorKind::InvalidInput => absent("", &reason(&error)),
            _ => unable(format!("read {}", path.display()))(error),
        })?;
        let status = Status::decode(&String::from_utf8_lossy(&bytes));
        let mut status = status.ok_or_else(|| absent("", "not a status of going"))?;
        if supervisor(&status) == Supervisor::Gone {
            return Err(absent("", "left over from one that has ended"));
        }
        let held: Vec<_> = fs::read_dir(self.0.join("down")).into_iter().flatten().collect();
        let held: Vec<_> = held.into_iter().flatten().map(|entry| entry.file_name()).collect();
        for service in &mut status.services {
            service.held = service.name != MAIN && held.iter().any(|name| *name == *service.name);
        }
        Ok(status)
    }

    /// The same, and warns of what is odd about it.
    pub fn look(&self) -> Result<Status, Failure> {
        let status = self.read()?;
        if status.version != VERSION.to_string() {
            output::warn(format!(
                "the status has format {}, this program knows {VERSION}: it may be misread",
                status.version
            ));
        }
        if let (Supervisor::Stopped, Some(pid)) = (supervisor(&status), status.pid) {
            output::warn(format!("going is stopped: it does nothing until \"kill -CONT {pid}\""));
        }
        Ok(status)
    }

    /// The path of the file that holds a service down. Names come from the status, so they are
    /// checked: none may lead out of the directory.
    fn down(&self, name: &str) -> io::Result<PathBuf> {
        let is_name = service_name(name.as_bytes()).is_some();
        let refused = || io::Error::new(ErrorKind::InvalidInput, "not the name of a service");
        is_name.then(|| self.0.join("down").join(name)).ok_or_else(refused)
    }

    /// Holds a service down by a file of this `mode`. Returns the file, unless there was one
    /// before.
    fn hold(&self, name: &str, mode: u32) -> io::Result<Option<Mark>> {
        let (path, mut options) = (self.down(name)?, OpenOptions::new());
        match options.write(true).create_new(true).mode(mode).open(&path) {
            Ok(file) => file.metadata().map(|stat| Some(Mark::of(&path, &stat))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Holds a service down for a restart. Returns the file, unless there was one before.
    pub fn hold_for_restart(&self, name: &str) -> io::Result<Option<Mark>> {
        self.hold(name, PLAIN | OWNER_EXECUTES)
    }

    /// Holds a service down by a new file, even if there is one already: a restart in progress sees
    /// that the file is another one, and does not let the service go.
    pub fn hold_anew(&self, name: &str) -> io::Result<()> {
        if self.hold(name, PLAIN)?.is_some() {
            return Ok(());
        }
        // This is not the name of a service, so it holds nothing down.
        let draft = self.0.join("down").join(format!(".{name}.{}", process::id()));
        let made = OpenOptions::new().write(true).create_new(true).open(&draft);
        let replaced = made.and_then(|_| fs::rename(&draft, self.down(name)?));
        if replaced.is_err() {
            let _none = fs::remove_file(&draft);
        }
        // If the old file cannot be replaced, it still holds the service down, unless it is that of
        // a restart.
        match self.mark(name) {
            Some(mark) if !mark.is_for_restart => Ok(()),
            _ => replaced,
        }
    }

    /// The file that holds a service down, if there is one.
    pub fn mark(&self, name: &str) -> Option<Mark> {
        let path = self.down(name).ok()?;
        path.symlink_metadata().ok().map(|stat| Mark::of(&path, &stat))
    }

    /// Lets a service be up again.
    pub fn release(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.down(name)?) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A descriptor that can be read as soon as there is a new status. None if RUNDIR cannot be
    /// watched.
    pub fn watch(&self) -> Option<OwnedFd> {
        watch(&self.0, WatchFlags::MOVED_TO)
    }
}

/// Watches a directory with inotify(7).
pub fn watch(directory: &Path, flags: WatchFlags) -> Option<OwnedFd> {
    let watch = watch::open().ok()?;
    add_watch(&watch, directory.as_os_str().as_bytes(), flags | WatchFlags::ONLYDIR).ok()?;
    Some(watch)
}

/// Whether the going that wrote the status still runs. Its PID may belong to another process by
/// now, but such a process began later than that going.
pub fn supervisor(status: &Status) -> Supervisor {
    let Some(pid) = status.pid else { return Supervisor::Gone };
    let Some(stat) = proc::stat(pid) else {
        // If /proc hides the process, kill(2) can still tell whether it exists.
        let asked = Pid::from_raw(pid).map(test_kill_process);
        let is_hidden = matches!(asked, Some(Ok(()) | Err(Errno::PERM)));
        return if is_hidden { Supervisor::Running } else { Supervisor::Gone };
    };
    let since_ms = status.since_ms.unwrap_or(u64::MAX);
    match stat.state {
        'Z' | 'X' => Supervisor::Gone,
        _ if stat.began_ms > since_ms || status.since_ms > Some(clock::now_ms()) => {
            Supervisor::Gone
        }
        'T' => Supervisor::Stopped,
        _ => Supervisor::Running,
    }
}
