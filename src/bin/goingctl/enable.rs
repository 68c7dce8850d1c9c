//! enable and disable: take the dot off the name of a service file, or put it there.
//!
//! Does not need going, but waits for the service to start or stop where going runs.

use crate::confdir::{self, disabled};
use crate::options::Options;
use crate::output::{EXIT_ABSENT, EXIT_FAILED, EXIT_OK, Failure, tell, warn};
use crate::rundir::Rundir;
use crate::select::is_meant;
use crate::steer::{Goal, Patience, steer};

/// What to do with the name of a file.
#[derive(Clone, Copy)]
pub enum Change {
    Enable,
    Disable,
}

/// Renames the files of all services that are meant. Returns the exit code.
pub fn enable(rundir: &Rundir, change: Change, options: &Options) -> Result<u8, Failure> {
    let status = rundir.look();
    let (names, mut code) = rename(change, options)?;
    let (what, goal) = match change {
        Change::Enable => ("enabled", Goal::Appear),
        Change::Disable => ("disabled", Goal::Disappear),
    };
    if status.is_err() || !options.is_waiting {
        let note = match status {
            Ok(_) => String::new(),
            Err(Failure { code: EXIT_ABSENT, .. }) => "; going is not running".to_owned(),
            Err(failure) => format!("; {}", failure.text),
        };
        for name in &names {
            if !tell(name, &format!("{what}{note}")) {
                code = EXIT_FAILED;
            }
        }
        return Ok(code);
    }
    let steered = steer(rundir, goal, &names, Patience::of(options, &names))?;
    Ok(if code == EXIT_OK { steered } else { code })
}

/// Renames the files. Returns the services whose file was renamed, and the exit code of this step
/// alone.
fn rename(change: Change, options: &Options) -> Result<(Vec<String>, u8), Failure> {
    let (mut names, mut code) = (Vec::new(), EXIT_OK);
    for name in chosen(change, options, &mut code)? {
        let hidden = disabled(&name);
        let renamed = match change {
            Change::Enable => confdir::rename(&options.confdir, &hidden, &name),
            Change::Disable => confdir::rename(&options.confdir, &name, &hidden),
        };
        match renamed {
            Ok(()) => names.push(name),
            Err(failure) => {
                warn(&failure.text);
                code = failure.code;
            }
        }
    }
    Ok((names, code))
}

/// The names of the services that are to change. Reports each word that matches no service, or only
/// services that are enabled or disabled already.
fn chosen(change: Change, options: &Options, code: &mut u8) -> Result<Vec<String>, Failure> {
    let mut chosen = Vec::new();
    let files = confdir::names(&options.confdir)?;
    let name = |file: &String| file.trim_start_matches('.').to_owned();
    let is_hidden = |file: &&String| file.starts_with('.');
    for word in &options.words {
        let meant = files.iter().filter(|file| is_meant(&name(file), word));
        let (hidden, shown): (Vec<_>, Vec<_>) = meant.partition(is_hidden);
        let (changing, staying, what) = match change {
            Change::Enable => (hidden, shown, "enabled"),
            Change::Disable => (shown, hidden, "disabled"),
        };
        match (changing.is_empty(), staying.is_empty()) {
            (true, true) => {
                warn(format!("no such service: {word}"));
                *code = EXIT_ABSENT;
            }
            (true, false) if tell(word, &format!("already {what}")) => {}
            (true, false) => *code = EXIT_FAILED,
            (false, _) => chosen.extend(changing.into_iter().map(name)),
        }
    }
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}
