//! A session: one supervisor with its services, from its start to the end of its last process.
//!
//! Everything is in a temporary directory, and no process outlives its session, an error or Ctrl-C:
//! orphans become children of this process, which kills all its descendants.

use crate::Result;
use crate::peers::{self, Peer, Site, make_dir};
use crate::processes;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::stat::Mode;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, getpid, mkfifo};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;
use temp_dir::TempDir;

const GLANCE: Duration = Duration::from_millis(2);
/// Bytes that the FIFO holds: more records than there are services.
const FIFO_SIZE: i32 = 1 << 20;
/// Where in its directory the supervisor is set up.
const SITE: &str = "site";
/// Between two checks for ended children.
const REAP_MS: u16 = 100;

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_: i32) {
    IS_INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Fails if the benchmark was interrupted.
pub fn check_interrupt() -> Result<()> {
    if IS_INTERRUPTED.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
}

/// Makes orphans children of this process, and lets Ctrl-C end it in order.
pub fn prepare() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(interrupt), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores one atomic number.
        unsafe { sigaction(signal, &action) }.map_err(|errno| format!("{signal}: {errno}"))?;
    }
    prctl::set_child_subreaper(true).map_err(|errno| format!("subreaper: {errno}"))
}

/// Reaps what has ended, except `root`, whose pid must not be reused.
fn reap(root: i32) {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while let Some(pid) = waitid(Id::All, flags).ok().and_then(|end| end.pid()) {
        if pid.as_raw() == root || waitpid(pid, None).is_err() {
            return;
        }
    }
}

pub fn now_ns() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    time.map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// A service's report of its start.
#[derive(Clone, Copy)]
pub struct Record {
    pub id: usize,
    pub pid: i32,
    pub at_ns: u64,
}

/// Makes and opens the FIFO in which services report.
pub fn open_fifo(path: &Path) -> Result<File> {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| format!("FIFO: {errno}"))?;
    let mut options = OpenOptions::new();
    let fifo = options.read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    let fifo = fifo.map_err(|error| format!("FIFO: {error}"))?;
    let _larger = fcntl(fifo.as_fd(), FcntlArg::F_SETPIPE_SZ(FIFO_SIZE));
    Ok(fifo)
}

pub struct Session {
    dir: TempDir,
    fifo: File,
    service: PathBuf,
    root: i32,
    heard: VecDeque<Record>,
    /// When it was started: the time just before it was executed.
    pub start_ns: u64,
}

impl Session {
    /// Starts `peer` with services, with a logger for each if `is_logged`; none if it has no
    /// loggers.
    pub fn start(peer: &Peer, services: usize, is_logged: bool) -> Result<Option<Session>> {
        Self::start_with(peer, services, is_logged, "fifo")
    }

    /// Starts `peer` with services that exit at once.
    pub fn start_crashing(peer: &Peer, services: usize) -> Result<Option<Session>> {
        Self::start_with(peer, services, false, "crash")
    }

    fn start_with(
        peer: &Peer,
        services: usize,
        is_logged: bool,
        fifo: &str,
    ) -> Result<Option<Session>> {
        check_interrupt()?;
        let dir = TempDir::with_prefix("going-bench-").map_err(|error| error.to_string())?;
        let path = dir.child(fifo);
        // Before anything is started that would report.
        let fifo = open_fifo(&path)?;
        let site_dir = make_dir(dir.child(SITE))?;
        let site = Site { dir: &site_dir, services, fifo: &path, is_logged };
        let Some(set_up) = peer.set_up else { return Ok(None) };
        let Some(words) = set_up(&site)? else { return Ok(None) };
        Self::execute(dir, fifo, &words, Stdio::null()).map(Some)
    }

    /// Starts the program of `words`.
    pub fn execute(dir: TempDir, fifo: File, words: &[String], input: Stdio) -> Result<Session> {
        let log = File::create(dir.child("log")).map_err(|error| format!("log: {error}"))?;
        let errors = log.try_clone().map_err(|error| format!("log: {error}"))?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(input).stdout(log).stderr(errors);
        command.current_dir(dir.path()).process_group(0);
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        let (service, start_ns) = (peers::service()?, now_ns());
        let child = command.spawn().map_err(|error| format!("{}: {error}", words[0]))?;
        let root = child.id().cast_signed();
        Ok(Session { dir, fifo, service, root, heard: VecDeque::new(), start_ns })
    }

    /// The next start that is reported; none after `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Record>> {
        let due_ns = now_ns() + timeout.as_nanos() as u64;
        loop {
            check_interrupt()?;
            if let Some(record) = self.heard.pop_front() {
                return Ok(Some(record));
            }
            let left_ns = due_ns.saturating_sub(now_ns());
            if left_ns == 0 {
                return Ok(None);
            }
            // Daemons become children of this process, and monit takes a zombie for a running
            // service.
            reap(self.root);
            let left_ms = u16::try_from(left_ns.div_ceil(1_000_000)).unwrap_or(u16::MAX);
            let left_ms = left_ms.min(REAP_MS);
            let mut fds = [PollFd::new(self.fifo.as_fd(), PollFlags::POLLIN)];
            // An interrupt is seen above.
            let _ready = poll(&mut fds, PollTimeout::from(left_ms));
            let mut bytes = [0; 4096];
            let len = self.fifo.read(&mut bytes).unwrap_or(0);
            self.heard.extend(bytes[..len].chunks_exact(16).map(|record| {
                let part = |at: usize| [record[at], record[at + 1], record[at + 2], record[at + 3]];
                let (low, high) = (u32::from_ne_bytes(part(8)), u32::from_ne_bytes(part(12)));
                Record {
                    id: u32::from_ne_bytes(part(0)) as usize,
                    pid: i32::from_ne_bytes(part(4)),
                    at_ns: u64::from(low) | u64::from(high) << 32,
                }
            }));
        }
    }

    /// Waits until each of `pids` has been started anew, and stores the new pids. Returns when the
    /// last of them was started; none if that takes longer than `timeout`.
    pub fn wait_all(&mut self, pids: &mut [i32], timeout: Duration) -> Result<Option<u64>> {
        let (mut is_new, mut last_ns) = (vec![false; pids.len()], 0);
        let due_ns = now_ns() + timeout.as_nanos() as u64;
        while is_new.contains(&false) {
            let left = Duration::from_nanos(due_ns.saturating_sub(now_ns()));
            let Some(Record { id, pid, at_ns }) = self.next(left)? else { return Ok(None) };
            if id < pids.len() && pids[id] != pid {
                (pids[id], is_new[id]) = (pid, true);
                last_ns = last_ns.max(at_ns);
            }
        }
        Ok(Some(last_ns))
    }

    /// The supervising processes.
    pub fn supervisors(&self) -> Vec<i32> {
        processes::supervisors(self.root, &self.service)
    }

    /// How many of the services `pids` have no logger: none of the supervising processes holds both
    /// the pipe that is the service's output and a file in the directory of its log.
    pub fn count_unlogged(&self, pids: &[i32]) -> usize {
        let dir = self.path().join(SITE);
        // The path as the kernel shows it.
        let dir = dir.canonicalize().unwrap_or(dir);
        let supervisors = self.supervisors().into_iter();
        let held: Vec<_> = supervisors.map(processes::descriptors).collect();
        let is_logged = |(id, pid): (usize, &i32)| {
            let (log, outputs) = (peers::log_dir(&dir, id), processes::descriptors(*pid));
            let pipe = outputs.iter().find(|(fd, _)| *fd == 1).map(|(_, pipe)| pipe);
            held.iter().any(|held| {
                held.iter().any(|(_, file)| Some(file) == pipe)
                    && held.iter().any(|(_, file)| file.starts_with(&log))
            })
        };
        pids.iter().enumerate().filter(|&service| !is_logged(service)).count()
    }

    /// The process that was started.
    pub fn root(&self) -> i32 {
        self.root
    }

    /// The directory of the session.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The last lines that it has printed, for a message.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(self.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<_> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n  ")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let own = getpid().as_raw();
        // While it is stopped it starts nothing more.
        let _gone = kill(Pid::from_raw(self.root), Signal::SIGSTOP);
        for turn in 0.. {
            while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|end| end.pid().is_some()) {}
            let rest = processes::tree(own);
            if rest.len() <= 1 {
                break;
            }
            if turn == 1000 {
                let words: Vec<_> = rest[1..].iter().map(|&pid| processes::words(pid)).collect();
                eprintln!("bench: still there: {}", words.join(", "));
                break;
            }
            for &pid in &rest[1..] {
                let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            sleep(GLANCE);
        }
    }
}
