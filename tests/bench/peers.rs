//! The supervisors: how each is given its services, and how it is started. All are stopped alike.
//!
//! Each gets the least that it needs: the program itself is the `run` file, with no shell in
//! between.

use crate::Result;
use std::env;
use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A supervisor.
pub struct Peer {
    pub name: &'static str,
    /// The command without which it is left out; `busybox APPLET` asks for an applet.
    needs: &'static str,
    /// How it is given services, if it supervises services.
    pub set_up: Option<SetUp>,
    /// How it is given one command, if it can be a PID 1.
    pub as_init: Option<AsInit>,
    /// Whether it starts one service after the other and takes seconds for each. If so, many
    /// already run when it is started, and few are killed.
    pub is_slow: bool,
}

/// Writes the services and returns the command to execute; none if loggers are asked for and it has
/// none.
pub type SetUp = fn(&Site) -> Result<Option<Vec<String>>>;
/// Returns the command to execute, given a directory and the words of the main command.
pub type AsInit = fn(&Path, &[&str]) -> Result<Vec<String>>;

/// Where a supervisor is set up, and for what.
pub struct Site<'a> {
    pub dir: &'a Path,
    pub services: usize,
    /// Where the services report their starts.
    pub fifo: &'a Path,
    /// Whether each has a logger.
    pub is_logged: bool,
}

/// Where, in the directory of the site, the logger of a service keeps its lines.
pub fn log_dir(dir: &Path, id: usize) -> PathBuf {
    dir.join(format!("log{id}"))
}

/// Services that even a slow supervisor starts in a tolerable time.
pub const FEW: usize = 1;

pub const PEERS: &[Peer] = &[
    Peer { as_init: Some(going_init), ..Peer::supervisor("going", "", going) },
    Peer { as_init: Some(floor_init), ..Peer::supervisor("floor", "", floor) },
    Peer::supervisor("runit", "runsvdir", runit),
    Peer::supervisor("s6", "s6-svscan", s6),
    Peer::supervisor("daemontools", "svscan", daemontools),
    Peer::supervisor("busybox", "busybox runsvdir", busybox),
    Peer::supervisor("supervisor", "supervisord", supervisor),
    Peer { is_slow: true, ..Peer::supervisor("monit", "monit", monit) },
    Peer::init("tini", "tini", tini),
    Peer::init("dumb-init", "dumb-init", dumb_init),
    Peer::init("busybox-init", "busybox init", busybox_init),
];

impl Peer {
    const fn supervisor(name: &'static str, needs: &'static str, set_up: SetUp) -> Peer {
        Peer { name, needs, set_up: Some(set_up), as_init: None, is_slow: false }
    }

    const fn init(name: &'static str, needs: &'static str, as_init: AsInit) -> Peer {
        Peer { name, needs, set_up: None, as_init: Some(as_init), is_slow: false }
    }

    /// What it needs and this machine lacks.
    pub fn missing(&self) -> Option<String> {
        (!has(self.needs)).then(|| self.needs.into())
    }
}

/// Whether this machine has a command, or an applet: `busybox APPLET`.
pub fn has(needs: &str) -> bool {
    let mut words = needs.split(' ');
    match (words.next().unwrap_or_default(), words.next()) {
        ("", _) => true,
        (command, None) => find(command).is_some(),
        (command, Some(applet)) => {
            let list = Command::new(command).arg("--list").output();
            let list = list.map(|output| output.stdout).unwrap_or_default();
            String::from_utf8_lossy(&list).lines().any(|line| line == applet)
        }
    }
}

/// Where PATH has a command.
fn find(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(command)).find(|path| path.is_file())
}

/// The program that the environment variable `name` gives, which the Makefile sets.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = env::var_os(name).ok_or(format!("no {name} in the environment; try make bench"))?;
    fs::canonicalize(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// going's logger, which is built with it.
pub fn logger() -> Result<PathBuf> {
    Ok(program("GOING")?.with_file_name("goinglog"))
}

/// The program of the services.
pub fn service() -> Result<PathBuf> {
    program("SERVICE")
}

pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

pub fn make_dir(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).map_err(|error| format!("{}: {error}", path.display()))
}

fn link(target: &Path, path: &Path) -> Result<()> {
    symlink(target, path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The words of a command.
fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.into()).collect()
}

fn going(site: &Site) -> Result<Option<Vec<String>>> {
    let (program, service) = (program("GOING")?, service()?);
    let (service, fifo) = (service.display(), site.fifo.display());
    let (confdir, rundir) = (make_dir(site.dir.join("going.d"))?, site.dir.join("run"));
    for id in 0..site.services {
        let mut text = format!("cmd={service} {fifo} {id}\n");
        if site.is_logged {
            let (logger, log) = (logger()?, make_dir(log_dir(site.dir, id))?);
            let (logger, log) = (logger.display(), log.display());
            write(&confdir.join(format!("log{id}")), &format!("cmd={logger} {log}/current\n"))?;
            let _fits = writeln!(text, "log=log{id}");
        }
        write(&confdir.join(format!("s{id}")), &text)?;
    }
    let [program, confdir, rundir] =
        [program, confdir, rundir].map(|path| path.display().to_string());
    Ok(Some(words(&[&program, "-d", &confdir, "-r", &rundir])))
}

/// Not a supervisor: the least that each of them has to do.
fn floor(site: &Site) -> Result<Option<Vec<String>>> {
    let (service, fifo) = (service()?.display().to_string(), site.fifo.display().to_string());
    let count = site.services.to_string();
    Ok(if site.is_logged { None } else { Some(words(&[&service, "--loop", &count, &fifo])) })
}

/// A directory with a `run` file for each service, as daemontools and all its successors have it.
fn service_dirs(site: &Site, logger: &str) -> Result<String> {
    let (service, dir) = (service()?, make_dir(site.dir.join("service"))?);
    for id in 0..site.services {
        let dir = make_dir(dir.join(format!("s{id}")))?;
        link(&service, &dir.join("run"))?;
        link(site.fifo, &dir.join(site.fifo.file_name().unwrap_or_default()))?;
        write(&dir.join("id"), &id.to_string())?;
        if site.is_logged {
            let log = make_dir(log_dir(site.dir, id))?;
            let run = make_dir(dir.join("log"))?.join("run");
            write(&run, &format!("#!/bin/sh\nexec {logger} {}\n", log.display()))?;
            set_mode(&run, 0o755)?;
        }
    }
    // runit waits for a second until the time of the directory is in the past.
    let old = SystemTime::now() - Duration::from_mins(1);
    let is_old = File::open(&dir).and_then(|dir| dir.set_modified(old));
    is_old.map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(dir.display().to_string())
}

fn runit(site: &Site) -> Result<Option<Vec<String>>> {
    Ok(Some(words(&["runsvdir", &service_dirs(site, "svlogd")?])))
}

fn s6(site: &Site) -> Result<Option<Vec<String>>> {
    Ok(Some(words(&["s6-svscan", &service_dirs(site, "s6-log")?])))
}

fn daemontools(site: &Site) -> Result<Option<Vec<String>>> {
    Ok(Some(words(&["svscan", &service_dirs(site, "multilog")?])))
}

fn busybox(site: &Site) -> Result<Option<Vec<String>>> {
    Ok(Some(words(&["busybox", "runsvdir", &service_dirs(site, "busybox svlogd")?])))
}

/// supervisord writes the logs itself.
fn supervisor(site: &Site) -> Result<Option<Vec<String>>> {
    let (service, dir) = (service()?, site.dir.display());
    let (service, fifo) = (service.display(), site.fifo.display());
    let mut text = format!(
        "[supervisord]\nnodaemon=true\nuser=root\nlogfile={dir}/supervisord.log\n\
         pidfile={dir}/supervisord.pid\nchildlogdir={dir}\n"
    );
    for id in 0..site.services {
        let log = if site.is_logged {
            make_dir(log_dir(site.dir, id))?.join("current")
        } else {
            PathBuf::from("NONE")
        };
        let log = log.display();
        let _fits = write!(
            text,
            "[program:s{id}]\ncommand={service} {fifo} {id}\nautorestart=true\n\
             stdout_logfile={log}\nredirect_stderr=true\n"
        );
    }
    let path = site.dir.join("supervisord.conf");
    write(&path, &text)?;
    Ok(Some(words(&["supervisord", "-c", &path.display().to_string()])))
}

/// monit looks once a second, its shortest interval, and takes only daemons. It has no loggers.
fn monit(site: &Site) -> Result<Option<Vec<String>>> {
    if site.is_logged {
        return Ok(None);
    }
    let (service, dir) = (service()?, site.dir.display());
    let (service, fifo) = (service.display(), site.fifo.display());
    let mut text = format!(
        "set daemon 1\nset log {dir}/monit.log\nset pidfile {dir}/monit.pid\n\
         set idfile {dir}/monit.id\nset statefile {dir}/monit.state\n"
    );
    for id in 0..site.services {
        let _fits = write!(
            text,
            "check process s{id} with pidfile {dir}/s{id}.pid\n\
             start program = \"{service} {fifo} {id} {dir}/s{id}.pid\"\n"
        );
        if site.services > FEW {
            let pidfile = site.dir.join(format!("s{id}.pid"));
            let id = id.to_string();
            let words = [site.fifo.as_os_str(), id.as_ref(), pidfile.as_os_str()];
            let started = Command::new(self::service()?).args(words).status();
            started.map_err(|error| format!("service: {error}"))?;
        }
    }
    let path = site.dir.join("monitrc");
    write(&path, &text)?;
    set_mode(&path, 0o600)?;
    Ok(Some(words(&["monit", "-I", "-c", &path.display().to_string()])))
}

fn strings(first: &[&str], rest: &[&str]) -> Vec<String> {
    first.iter().chain(rest).map(|&word| word.into()).collect()
}

fn going_init(dir: &Path, cmd: &[&str]) -> Result<Vec<String>> {
    let confdir = make_dir(dir.join("going.d"))?;
    let paths =
        [program("GOING")?, confdir, dir.join("run")].map(|path| path.display().to_string());
    let [program, confdir, rundir] = &paths;
    Ok(strings(&[program, "-d", confdir, "-r", rundir, "--"], cmd))
}

fn floor_init(_: &Path, cmd: &[&str]) -> Result<Vec<String>> {
    Ok(strings(&[&service()?.display().to_string(), "--init"], cmd))
}

#[allow(clippy::unnecessary_wraps, reason = "others write files")]
fn tini(_: &Path, cmd: &[&str]) -> Result<Vec<String>> {
    Ok(strings(&["tini", "--"], cmd))
}

#[allow(clippy::unnecessary_wraps, reason = "others write files")]
fn dumb_init(_: &Path, cmd: &[&str]) -> Result<Vec<String>> {
    Ok(strings(&["dumb-init", "--"], cmd))
}

/// Its inittab has a fixed path, so it gets its own /etc, in the mount namespace that it already
/// has.
fn busybox_init(dir: &Path, cmd: &[&str]) -> Result<Vec<String>> {
    let inittab = dir.join("inittab");
    write(&inittab, &format!("::once:{}\n", cmd.join(" ")))?;
    let inittab = inittab.display();
    let script =
        format!("mount -t tmpfs none /etc && cp {inittab} /etc/inittab && exec busybox init");
    Ok(strings(&["sh", "-c", &script], &[]))
}
