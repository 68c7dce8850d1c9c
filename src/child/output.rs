//! Standard input, output and error of a service: the key `log`, and the pipe by which others log
//! to it.
//!
//! Never waits for a reader: a FIFO without one is an error.

use super::path::with_path;
use super::{Birth, EXIT_SET_UP, Failure, set_up as failed};
use crate::linux::raw;
use crate::linux::table::{Slot, Slots};
use crate::model::config::value;
use crate::model::entry::{GONE, LOGGED_TO, SERVICES_MAX};
use core::ffi::CStr;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fchmod, fcntl_setfl, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::isatty;

/// The mode of a log pipe. It gives nothing away: its inode can be reached only through a
/// descriptor of the pipe, by processes that could use this descriptor as well.
const ANYBODY_WRITES: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::WGRP).union(Mode::WOTH);

/// Connects all three; those of the main command stay as they are.
pub fn connect<'a>(birth: &Birth<'a>) -> Result<(), Failure<'a>> {
    if birth.is_main {
        return Ok(());
    }
    let log = value(birth.text, b"log").unwrap_or(b"inherit");
    let slot = birth.slots.get(birth.index);
    let pipe = |slot: &'a Slot| slot.pipe.as_ref();
    // If its file was removed and came back, it may still have an old pipe that nobody logs to.
    let stdin = slot.filter(|slot| slot.entry.has(LOGGED_TO)).and_then(pipe).map(|(read, _)| read);
    connect_input(stdin).map_err(failed("open", b"/dev/null"))?;
    let reader = slot.and_then(|slot| birth.slots.get(usize::from(slot.entry.policy.log?)));
    // A reader that has ended and has no file any more is about to be forgotten.
    let reader = reader.filter(|slot| slot.is_up() || !slot.entry.has(GONE));
    let refused = |why| Failure { code: EXIT_SET_UP, verb: "log to", object: log, why };
    let connected = match (log, reader.and_then(pipe)) {
        (b"inherit", _) => Ok(()),
        (b"null", _) => connect_log(b"/dev/null", OFlags::empty()),
        (path, _) if path.starts_with(b"/") => connect_log(path, OFlags::CREATE),
        (_, Some(_)) if is_circle(birth.slots, birth.index) => {
            return Err(refused("they log in a circle"));
        }
        (_, Some((_, write))) => {
            // So that a service that runs as any user can open /dev/stdout by name; it can write to
            // the pipe anyway.
            let _by_name = fchmod(write, ANYBODY_WRITES);
            connect_output(write)
        }
        (_, None) => return Err(refused("no such service")),
    };
    connected.map_err(failed("log to", log))?;
    for (fd, path) in (0..).zip([c"/proc/self/fd/0", c"/proc/self/fd/1", c"/proc/self/fd/2"]) {
        let _shared = open_anew(fd, path);
    }
    Ok(())
}

/// Replaces the descriptor `fd`, if it is a pipe or a terminal, by one that is opened separately,
/// so that its flags are this service's alone. Otherwise a service such as node, which sets
/// O_NONBLOCK, would make every other service that shares the pipe, now or later, lose what the
/// pipe has no room for. And a terminal is usually open for reading, too: what is typed there,
/// perhaps a password, is not meant for a service.
///
/// # Errors
/// Those of open(2), without /proc for example, and EBADF if it is neither a pipe nor a terminal.
/// The descriptor then stays shared.
fn open_anew(fd: i32, path: &CStr) -> Result<(), Errno> {
    let shared = raw::stdio(fd);
    if !isatty(shared) {
        fcntl_getpipe_size(shared)?;
    }
    let own = open_at_once(path, if fd == 0 { OFlags::RDONLY } else { OFlags::WRONLY })?;
    match fd {
        0 => dup2_stdin(&own),
        1 => dup2_stdout(&own),
        _ => dup2_stderr(&own),
    }
}

/// Connects standard input to `pipe`; without one, to something that is at its end.
fn connect_input(pipe: Option<&OwnedFd>) -> Result<(), Errno> {
    if let Some(pipe) = pipe {
        return dup2_stdin(pipe);
    }
    let null = open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    // Without /dev, a pipe without a writer will do.
    let null = null.or_else(|_| pipe_with(PipeFlags::CLOEXEC).map(|(read, _)| read))?;
    dup2_stdin(&null)
}

fn connect_output(file: &OwnedFd) -> Result<(), Errno> {
    dup2_stdout(file).and_then(|()| dup2_stderr(file))
}

/// Connects standard output and error to the file at `path`, to be appended to; if it is missing it
/// is an error, or created, as `flags` say.
fn connect_log(path: &[u8], flags: OFlags) -> Result<(), Errno> {
    let flags = flags | OFlags::WRONLY | OFlags::APPEND;
    with_path(&[path], |path| open_at_once(path, flags)).and_then(|file| connect_output(&file))
}

/// Opens a file without waiting for the other end of a FIFO.
#[inline(never)]
fn open_at_once(path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let file = open(path, flags | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC, mode)?;
    // Only open(2) had to be non-blocking.
    fcntl_setfl(&file, flags & OFlags::APPEND).map(|()| file)
}

/// Whether the chain of log readers that begins at `index` runs into a circle.
fn is_circle(slots: &Slots, index: usize) -> bool {
    let next = |index: &usize| slots.get(*index)?.entry.policy.log.map(usize::from);
    core::iter::successors(Some(index), next).nth(SERVICES_MAX).is_some()
}
