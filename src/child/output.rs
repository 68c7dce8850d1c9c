//! Standard input, output and error of a service: the keys `log`, and who logs to it.
//!
//! Never waits for a reader: a FIFO without one is an error.

use super::path::with_path;
use super::{Birth, EXIT_SET_UP, Failure, set_up as failed};
use crate::model::config::value;
use crate::model::table::{SERVICES_MAX, Table};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Connects all three, as far as they are not to stay what they are.
pub fn connect<'a>(birth: &Birth<'a>) -> Result<(), Failure<'a>> {
    if birth.is_main {
        return Ok(());
    }
    let log = value(birth.text, b"log").unwrap_or(b"inherit");
    connect_input(birth.stdin).map_err(failed("open", b"/dev/null"))?;
    let refused = |why| Failure { code: EXIT_SET_UP, verb: "log to", object: log, why };
    let opened = match (log, birth.log) {
        (b"inherit", _) => return Ok(()),
        (b"null", _) => open_log(b"/dev/null"),
        (path, _) if path.starts_with(b"/") => open_log(path),
        (_, Some(_)) if is_circle(birth.table, birth.name) => {
            return Err(refused("they log in a circle"));
        }
        (_, Some(pipe)) => return connect_output(pipe).map_err(failed("log to", log)),
        (_, None) => return Err(refused("no such service")),
    };
    opened.and_then(|file| connect_output(&file)).map_err(failed("log to", log))
}

/// Connects the standard input to `pipe`, or else to what has nothing to say.
fn connect_input(pipe: Option<&OwnedFd>) -> Result<(), Errno> {
    if let Some(pipe) = pipe {
        return dup2_stdin(pipe);
    }
    let null = open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    // Where there is no /dev, a pipe without a writer will do.
    let null = null.or_else(|_| pipe_with(PipeFlags::CLOEXEC).map(|(read, _)| read))?;
    dup2_stdin(&null)
}

fn connect_output(file: &OwnedFd) -> Result<(), Errno> {
    dup2_stdout(file).and_then(|()| dup2_stderr(file))
}

/// Opens a file to be appended to.
fn open_log(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOCTTY;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = with_path(&[path], |path| open(path, flags, mode))?;
    // Only opening it was not to wait.
    fcntl_setfl(&file, OFlags::APPEND).map(|()| file)
}

/// Whether what `name` logs comes back to it.
fn is_circle(table: &Table, name: &str) -> bool {
    let mut reader = name.as_bytes();
    for _ in 0..SERVICES_MAX {
        let slot = table.slots.iter().find(|slot| slot.name.as_bytes() == reader);
        let Some(next) = slot.and_then(|slot| slot.log(&table.pool)) else { return false };
        if next == name.as_bytes() {
            return true;
        }
        reader = next;
    }
    // A circle, though not one of his.
    true
}
