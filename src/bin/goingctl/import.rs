//! import: turns a Procfile into service files.
//!
//! All of them are made and checked before the first is written. The process type `web` becomes the
//! service `web`, or `web@1`, `web@2`… if there is more than one.

use crate::confdir::{self, MODE_CLOSED, MODE_OPEN};
use crate::options::Options;
use crate::output::{EXIT_FAILED, EXIT_OK, Failure, fault, tell, unable, visible, warn};
use crate::procfile::{self, Formation, Process};
use crate::regular;
use going::model::config::service_name;
use going::model::entry::SERVICES_MAX;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};

/// The port of the first process of the first type, as in foreman.
const PORT: u16 = 5000;
/// The distance from the port of one type to that of the next.
const PORT_STEP: usize = 100;

/// What Heroku runs once, before the others.
const RELEASE: &str = "release";

/// What all the service files have in common.
struct App {
    source: PathBuf,
    cwd: String,
    user: Option<String>,
    variables: Vec<(String, String)>,
    port: u16,
}

/// A service file to be written.
struct File {
    name: String,
    text: String,
}

pub fn import(options: &Options) -> Result<u8, Failure> {
    let source = Path::new(options.words.first().map_or("", String::as_str));
    let source = absolute(source).map_err(unable("find the Procfile"))?;
    let text = fs::read_to_string(&source);
    let text = text.map_err(unable(format!("read {}", source.display())))?;
    let (processes, faults) = procfile::processes(&text);
    warn_of(&source, &faults, "passed over");
    let app = app(options, source)?;
    let formation = Formation::parse(options.formation.as_deref());
    let formation = formation.ok_or_else(|| fault("a formation is like web=2,worker=1"))?;
    if let Some(name) = formation.unknown(&processes).first() {
        return Err(fault(format!("no process type {name} in {}", app.source.display())));
    }
    let files = files(&app, &processes, &formation)?;
    let directory = options.output.as_deref().unwrap_or(&options.confdir);
    if !options.is_forced {
        let mut paths = files.iter().map(|file| directory.join(&file.name));
        // A dangling link exists, too.
        if let Some(path) = paths.find(|path| path.symlink_metadata().is_ok()) {
            return Err(fault(format!("{} exists; --force overwrites it", path.display())));
        }
    }
    let mode = if app.variables.is_empty() { MODE_OPEN } else { MODE_CLOSED };
    let mut is_told = true;
    for file in &files {
        confdir::write(&directory.join(&file.name), file.text.as_bytes(), mode, options.is_forced)?;
        is_told &= tell(&file.name, "written");
    }
    if formation.count(RELEASE) > 0 && processes.iter().any(|process| process.name == RELEASE) {
        warn(format!(
            "{RELEASE} is run again and again, not once: with -m all=1,{RELEASE}=0 it is left out"
        ));
    }
    warn_of_others(directory, &processes, &files)?;
    Ok(if is_told { EXIT_OK } else { EXIT_FAILED })
}

/// Warns of lines that foreman treats in the same way, but silently.
fn warn_of(path: &Path, lines: &[usize], what: &str) {
    for line in lines {
        warn(format!("{}:{line}: {what}", path.display()));
    }
}

/// Reads what is not in the Procfile. By default that includes a .env beside it.
fn app(options: &Options, source: PathBuf) -> Result<App, Failure> {
    let home = source.parent().unwrap_or(Path::new("/"));
    let beside = home.join(".env");
    let paths: Vec<PathBuf> = match &options.environment {
        Some(paths) => paths.split(',').map(PathBuf::from).collect(),
        // If it exists but cannot be read, that is an error.
        None if beside.symlink_metadata().is_ok() => vec![beside],
        None => Vec::new(),
    };
    let mut variables: Vec<(String, String)> = Vec::new();
    for path in &paths {
        let text = match options.environment {
            Some(_) => fs::read_to_string(path),
            // The user has not named this file. It might be a FIFO, or a link to /dev/zero.
            None => regular::open(path).and_then(io::read_to_string),
        };
        let text = text.map_err(unable(format!("read {}", path.display())))?;
        let (found, faults) = procfile::variables(&text);
        warn_of(path, &faults, "passed over");
        warn_of(path, &procfile::open_quotes(&text), "the quote is not closed, so it is kept");
        for (name, value) in found {
            variables.retain(|(other, _)| *other != name);
            variables.push((name, value));
        }
    }
    let given = variables.iter().find(|(name, _)| name == "PORT").map(|(_, port)| port.clone());
    let given = given.or_else(|| env::var("PORT").ok());
    let port = match (options.port, given) {
        (Some(port), _) => port,
        (None, Some(given)) => given.parse().map_err(|_| fault(format!("not a port: {given}")))?,
        (None, None) => PORT,
    };
    variables.retain(|(name, _)| name != "PORT");
    let cwd = options.cwd.clone().unwrap_or_else(|| home.to_owned());
    let cwd = absolute(&cwd).map_err(unable("find the working directory"))?;
    let cwd = cwd.into_os_string().into_string();
    let cwd = cwd.map_err(|cwd| fault(format!("not UTF-8: {}", cwd.display())))?;
    Ok(App { source, cwd, user: options.user.clone(), variables, port })
}

/// The service files, each checked as going would check it.
fn files(app: &App, processes: &[Process], formation: &Formation) -> Result<Vec<File>, Failure> {
    let mut files: Vec<File> = Vec::new();
    for (process, type_index) in processes.iter().zip(0_usize..) {
        let count = formation.count(&process.name);
        for index in 0..count {
            let name = match count {
                1 => process.name.clone(),
                _ => format!("{}@{}", process.name, index.saturating_add(1)),
            };
            if service_name(name.as_bytes()).is_none() {
                return Err(fault(format!("{name}: too long for the name of a service")));
            }
            if files.iter().any(|file| file.name == name) {
                return Err(fault(format!("{}: given twice", process.name)));
            }
            let offset = type_index.saturating_mul(PORT_STEP).saturating_add(index);
            let port = u16::try_from(offset).ok().and_then(|offset| app.port.checked_add(offset));
            let port = port.ok_or_else(|| fault(format!("{name}: no port is left for it")))?;
            let text = text(app, process, port)?;
            confdir::normalise(&name, text.as_bytes())?;
            files.push(File { name, text });
            if files.len() > SERVICES_MAX {
                return Err(fault(format!("more than {SERVICES_MAX} services")));
            }
        }
    }
    if files.is_empty() {
        return Err(fault(format!("nothing to import in {}", app.source.display())));
    }
    Ok(files)
}

fn text(app: &App, process: &Process, port: u16) -> Result<String, Failure> {
    let source = visible(&app.source.display().to_string());
    let mut text = format!("# {} of {source}, by goingctl import\n", process.name);
    text += &line("cmd", &procfile::cmd(&process.command))?;
    text += &line("cwd", &app.cwd)?;
    if let Some(user) = &app.user {
        text += &line("user", user)?;
    }
    for (name, value) in &app.variables {
        text += &line("env", &format!("{name}={value}"))?;
    }
    text += &line("env", &format!("PORT={port}"))?;
    Ok(text)
}

/// A line of a service file, if going would read exactly this value from it.
fn line(key: &str, value: &str) -> Result<String, Failure> {
    if value.contains('\n') || value.trim_ascii() != value {
        // Do not show the rest of the value: it may be a password.
        let begin = value.split(['=', '\n']).next().unwrap_or_default();
        let text = format!("{key}={begin}… cannot be written in a service file: ");
        return Err(fault(text + "it has a line feed, or a blank at one of its ends"));
    }
    Ok(format!("{key}={value}\n"))
}

/// Warns of services that an import with another formation has left behind: they go on running.
fn warn_of_others(directory: &Path, processes: &[Process], files: &[File]) -> Result<(), Failure> {
    for name in confdir::names(directory)? {
        let (base, _) = name.split_once('@').unwrap_or((&name, ""));
        let is_ours = files.iter().any(|file| file.name == name);
        if !is_ours && processes.iter().any(|process| process.name == base) {
            warn(format!("{name} is of another formation: remove it if it is not wanted"));
        }
    }
    Ok(())
}
