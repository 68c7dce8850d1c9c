//! goingctl(1): shows what the services of going(8) are doing, and tells them what to do.
//!
//! It talks to going only by files in RUNDIR and CONFDIR, looks at processes in /proc, and signals
//! none that it has not checked. `steer` starts and stops, `send` signals. `rows` is what there is
//! to show, and `table`, `json`, `prometheus` and `watch` show it. `confdir`, `enable`, `edit`,
//! `import` and `export` deal with service files.
//!
//! going never needs it, and is never asked for anything that touch(1), rm(1) and cat(1) could not
//! ask for.

mod amounts;
mod confdir;
mod edit;
mod enable;
mod export;
mod import;
mod interrupt;
mod json;
mod logs;
mod options;
mod output;
mod proc;
mod procfile;
mod prometheus;
mod regular;
mod rows;
mod rundir;
mod select;
mod send;
mod status;
mod steer;
mod table;
mod terminal;
mod watch;

use enable::Change;
use going::linux::raw;
use linux_raw_sys::general::SIGXFSZ;
use options::{Command, Format, Options};
use output::{EXIT_ABSENT, EXIT_FAILED, EXIT_NOT_UP, EXIT_OK, Failure, print, warn};
use rundir::{Rundir, Supervisor, supervisor};
use select::{MAIN, select};
use status::{Service, Status};
use std::path::Path;
use std::process::ExitCode;
use steer::{Goal, Patience};

const USAGE: &str = include_str!("usage");
const VERSION: &str = concat!("goingctl ", env!("CARGO_PKG_VERSION"), "\n");

fn main() -> ExitCode {
    // A file over the size limit must be an error. The signal would kill us before we say so, and
    // leave drafts behind.
    raw::set_ignored(SIGXFSZ, true);
    let code = Options::read().and_then(|options| run(&options)).unwrap_or_else(|failure| {
        warn(&failure.text);
        failure.code
    });
    ExitCode::from(code)
}

/// Does what the command line says. Returns the exit code.
fn run(options: &Options) -> Result<u8, Failure> {
    let rundir = Rundir(options.rundir.clone());
    let confdir = options.confdir.as_path();
    let word = options.words.first().map(String::as_str);
    let words = options.words.as_slice();
    match options.command {
        Command::Help => print(USAGE).map(|()| EXIT_OK),
        Command::Version => print(VERSION).map(|()| EXIT_OK),
        Command::Status if options.format == Format::Watch => watch::show(&rundir, options),
        Command::Status => status(&rundir, options),
        Command::Start => steer(&rundir, Goal::Start, options),
        Command::Stop => steer(&rundir, Goal::Stop, options),
        Command::Restart => steer(&rundir, Goal::Restart, options),
        Command::Signal => send(&rundir, word.unwrap_or(""), words.get(1..).unwrap_or_default()),
        Command::Reload => send(&rundir, "HUP", words),
        Command::Enable => enable::enable(&rundir, Change::Enable, options),
        Command::Disable => enable::enable(&rundir, Change::Disable, options),
        Command::Check => {
            let is_good = confdir::check(word.map_or(confdir, Path::new))?;
            Ok(if is_good { EXIT_OK } else { EXIT_FAILED })
        }
        Command::Edit => edit::edit(confdir, word.unwrap_or("")),
        Command::Logs => logs::show(options),
        Command::Import => import::import(options),
        Command::Export => export::export(options),
    }
}

/// Shows the status; the exit code tells whether all is as it should be.
fn status(rundir: &Rundir, options: &Options) -> Result<u8, Failure> {
    let status = rundir.look();
    let is_gone = status.as_ref().is_err_and(|failure| failure.code == EXIT_ABSENT);
    if is_gone && options.format == Format::Prometheus {
        print(prometheus::going_is(false))?;
    }
    let status = status?;
    let (services, is_complete) = select(&status.services, &options.words);
    if !is_complete && !options.is_named && options.format == Format::Table {
        warn("no command given, so this is the status; see \"goingctl --help\"");
    }
    let rows = rows::rows(status.pid, &services, &options.confdir);
    match options.format {
        Format::Json => print(json::text(&status, &rows))?,
        Format::Prometheus => print(prometheus::text_of(&status, &rows))?,
        Format::Table | Format::Watch => {
            print(table::lines(&rows).join("\n") + "\n")?;
        }
    }
    if !is_complete {
        return Ok(EXIT_ABSENT);
    }
    let is_stopped = supervisor(&status) == Supervisor::Stopped;
    let is_fine = !is_stopped && services.iter().all(|service| service.is_fine());
    Ok(if is_fine { EXIT_OK } else { EXIT_NOT_UP })
}

/// Starts, stops or restarts.
fn steer(rundir: &Rundir, goal: Goal, options: &Options) -> Result<u8, Failure> {
    let mut status = rundir.look()?;
    // A file that has just been put there may be unknown to going yet. It is waited for.
    for word in options.words.iter().filter(|_| goal != Goal::Stop) {
        if status.service(word).is_none() && confdir::has(&options.confdir, word) {
            status.services.extend(Service::decode(word));
        }
    }
    let (names, is_complete) = chosen(status, &options.words);
    let code = steer::steer(rundir, goal, &names, Patience::of(options, &names))?;
    let is_current = goal == Goal::Stop || are_current(&names, &options.confdir);
    let code = if code == EXIT_OK && !is_current { EXIT_FAILED } else { code };
    Ok(if is_complete { code } else { EXIT_ABSENT })
}

/// Whether what runs can be what the service files say. If a file is rejected, its last good
/// version runs, which is not what a user who has just edited it wants.
fn are_current(names: &[String], confdir: &Path) -> bool {
    let mut are_good = true;
    for name in names.iter().filter(|name| confdir::has(confdir, name)) {
        // If we may not read the file, we cannot tell.
        let Ok(raw) = regular::read(&confdir.join(name)) else { continue };
        if let Err(failure) = confdir::normalise(name, &raw) {
            warn(format!("{}; that is not what runs", failure.text));
            are_good = false;
        }
    }
    are_good
}

/// Sends a signal.
fn send(rundir: &Rundir, signal: &str, words: &[String]) -> Result<u8, Failure> {
    let signal = send::signal(signal)?;
    let (names, is_complete) = chosen(rundir.look()?, words);
    let code = send::send(rundir, signal, &names);
    Ok(if is_complete { code } else { EXIT_ABSENT })
}

/// The names of the services that are meant; the main command only if it is named. Also whether
/// every word means a service.
fn chosen(status: Status, words: &[String]) -> (Vec<String>, bool) {
    let is_named = |name: &str| name != MAIN || words.iter().any(|word| word == name);
    let services = status.services.into_iter().filter(|service| is_named(&service.name));
    let services: Vec<_> = services.collect();
    let (services, is_complete) = select(&services, words);
    (services.iter().map(|service| service.name.clone()).collect(), is_complete)
}
