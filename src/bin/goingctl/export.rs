//! export: turns service files back into a Procfile, and their variables into a .env.
//!
//! What a Procfile cannot express is reported on standard error.

use crate::confdir::{self, MODE_CLOSED, MODE_OPEN};
use crate::options::Options;
use crate::output::{EXIT_ABSENT, EXIT_OK, Failure, fault, print, unable, warn};
use crate::procfile;
use crate::select::{is_chosen, is_meant};
use going::model::config::{Text, service_name, value, values};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Keys that a Procfile has no place for. `cwd` is not among them: it is the directory of the
/// Procfile, so it only has to be the same for all services.
const LOST: [&[u8]; 7] = [b"chroot", b"group", b"log", b"restart", b"stop", b"timeout", b"user"];

/// A process type, made of one service or of several with the same command.
struct Process {
    name: String,
    command: String,
    count: usize,
    /// The lowest port of its services. foreman assigns ports in the order of the lines.
    port: Option<u16>,
}

pub fn export(options: &Options) -> Result<u8, Failure> {
    let (mut processes, mut variables, mut home) = (Vec::new(), Vec::new(), None);
    for name in chosen(options)? {
        let text = confdir::text(&options.confdir, &name)?;
        add_process(&mut processes, &name, &text)?;
        add_variables(&mut variables, &name, &text, options.environment.is_some())?;
        let cwd = value(&text, b"cwd").unwrap_or(b"/").to_vec();
        let is_elsewhere = *home.get_or_insert_with(|| cwd.clone()) != cwd;
        warn_of_lost(&name, &text, is_elsewhere, options.environment.is_none());
    }
    processes.sort_by(|one, other| {
        let key = |process: &Process| (process.port.is_none(), process.port);
        key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
    });
    let text = text(&processes);
    let environment = options.environment.as_deref().map(Path::new);
    if !options.is_forced {
        environment.into_iter().chain(options.output.as_deref()).try_for_each(refuse_existing)?;
    }
    if let Some(path) = environment {
        let lines: Vec<_> = variables
            .iter()
            .map(|(name, value)| format!("{name}={}\n", procfile::quoted(value)))
            .collect();
        save(path, &lines.concat(), MODE_CLOSED, options.is_forced)?;
    }
    match &options.output {
        Some(path) => save(path, &text, MODE_OPEN, options.is_forced)?,
        None => print(text)?,
    }
    Ok(EXIT_OK)
}

/// The names of the services that are meant, without disabled ones.
fn chosen(options: &Options) -> Result<Vec<String>, Failure> {
    let (words, mut names) = (&options.words, confdir::names(&options.confdir)?);
    names.retain(|name| service_name(name.as_bytes()).is_some());
    if let Some(word) = words.iter().find(|word| !names.iter().any(|name| is_meant(name, word))) {
        return Err(Failure::new(EXIT_ABSENT, format!("no such service: {word}")));
    }
    names.retain(|name| is_chosen(name, words));
    Ok(names)
}

/// Adds a service: NAME, or NAME@NUMBER as one more process of the type NAME.
fn add_process(processes: &mut Vec<Process>, service: &str, text: &Text) -> Result<(), Failure> {
    let (name, instance) = match service.split_once('@') {
        Some((name, number)) if !name.is_empty() && number.parse::<u16>().is_ok() => {
            (name.to_owned(), Some(number))
        }
        _ => (service.replace('@', "-"), None),
    };
    let cmd = str::from_utf8(value(text, b"cmd").unwrap_or_default());
    let command = cmd
        .ok()
        .and_then(procfile::command)
        .ok_or_else(|| fault(format!("{service}: its cmd cannot be expressed in a Procfile")))?;
    let ports = values(text, b"env").filter_map(|line| line.strip_prefix(b"PORT="));
    let port = ports.last().and_then(|port| str::from_utf8(port).ok()?.parse().ok());
    match processes.iter_mut().find(|process: &&mut Process| process.name == name) {
        Some(process) if instance.is_some() && process.command == command => {
            process.count = process.count.saturating_add(1);
            process.port = [process.port, port].into_iter().flatten().min();
            Ok(())
        }
        Some(_) => Err(fault(format!("{service}: {name} is in the Procfile already"))),
        None => {
            processes.push(Process { name, command, count: 1, port });
            Ok(())
        }
    }
}

/// Adds the variables of a service. A .env has only one value of each for all services. In a
/// service file a later line wins.
fn add_variables(
    variables: &mut Vec<(String, String)>,
    service: &str,
    text: &Text,
    is_wanted: bool,
) -> Result<(), Failure> {
    let mut own: Vec<(&str, &str)> = Vec::new();
    for line in values(text, b"env").filter(|line| !line.starts_with(b"PORT=")) {
        let Ok(line) = str::from_utf8(line) else {
            if is_wanted {
                return Err(fault(format!("{service}: a variable that .env cannot express")));
            }
            continue;
        };
        match line.split_once('=') {
            Some((name, value)) if procfile::is_variable(name) => {
                own.retain(|(other, _)| *other != name);
                own.push((name, value));
            }
            // Do not show the value: it may be a password.
            pair => {
                let name = pair.map_or(line, |(name, _)| name);
                warn(format!("{service}: env={name} is not in the .env"));
            }
        }
    }
    for (name, value) in own {
        match variables.iter().find(|(other, _)| *other == name) {
            Some((_, other)) if other != value && is_wanted => {
                return Err(fault(format!("{service}: {name} has another value elsewhere")));
            }
            Some(_) => {}
            None => variables.push((name.to_owned(), value.to_owned())),
        }
    }
    Ok(())
}

fn warn_of_lost(service: &str, text: &Text, is_elsewhere: bool, is_env_lost: bool) {
    let lost = LOST.into_iter().filter(|key| value(text, key).is_some());
    let lost = is_elsewhere.then_some(&b"cwd"[..]).into_iter().chain(lost);
    // A line without a value has been reported already, and foreman assigns ports itself.
    let is_variable = |line: &[u8]| line.contains(&b'=') && !line.starts_with(b"PORT=");
    let has_variables = is_env_lost && values(text, b"env").any(is_variable);
    let lost = lost.chain(has_variables.then_some(&b"env"[..]));
    let lost: Vec<_> = lost.map(|key| key.escape_ascii().to_string()).collect();
    if !lost.is_empty() {
        warn(format!("{service}: not in the Procfile: {}", lost.join(", ")));
    }
}

fn text(processes: &[Process]) -> String {
    let mut text = String::new();
    if processes.iter().any(|process| process.count > 1) {
        let pairs = processes.iter().map(|process| format!("{}={}", process.name, process.count));
        text = format!("# formation: {}\n", pairs.collect::<Vec<_>>().join(","));
    }
    text.extend(processes.iter().map(|process| format!("{}: {}\n", process.name, process.command)));
    text
}

/// Refuses a file that exists: it is overwritten only with `--force`.
fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() && !is_special(path) {
        return Err(fault(format!("{} exists; --force overwrites it", path.display())));
    }
    Ok(())
}

/// Whether the path is something that writing does not overwrite, such as /dev/stdout.
fn is_special(path: &Path) -> bool {
    path.exists() && !path.is_file()
}

fn save(path: &Path, text: &str, mode: u32, may_replace: bool) -> Result<(), Failure> {
    if !is_special(path) {
        return confdir::write(path, text.as_bytes(), mode, may_replace);
    }
    let written = OpenOptions::new().write(true).open(path);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(unable(format!("write {}", path.display())))
}
