//! What runs in child processes of the supervisor: a service until its execve(2), the reader of a
//! rescan, and the end of the machine.
//!
//! Each works on its own copy of the supervisor's memory, and may wait as long as it likes. It
//! never returns: it ends by [`raw::exit`] or execve(2). A failure in the child of a service is
//! logged and becomes its exit code, so the supervisor just sees a service that has ended.

mod command;
mod descriptors;
mod environment;
mod output;
mod path;
pub mod plan;
pub mod power;
pub mod reader;
mod scan;
mod twin;
mod users;
mod world;

use crate::linux::options::Options;
use crate::linux::raw;
use crate::linux::syslog::{ERROR, Log};
use crate::linux::table::Slots;
use crate::model::config::Text;
use crate::model::entry::MAIN;
use core::fmt;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, getppid};
use users::User;

/// The exit code if the set-up fails, of a service or of the supervisor; the same as in s6.
pub const EXIT_SET_UP: u8 = 111;
/// The exit code if the program cannot be executed; the same as in shells.
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The exit code if the program does not exist; the same as in shells.
const EXIT_NOT_FOUND: u8 = 127;

/// What the child of a service takes from the supervisor.
pub struct Birth<'a> {
    /// The service's name.
    name: &'a str,
    /// Its normalised text.
    text: &'a [u8],
    /// All services, because it may log to one of them.
    slots: &'a Slots,
    /// Its own place among them.
    index: usize,
    /// The options of the supervisor.
    options: &'a Options,
    /// Whether it is the main command, from the command line.
    is_main: bool,
    /// Where failures are logged.
    syslog: &'a Log,
}

impl Birth<'_> {
    /// Whether the supervisor has died. Another one may have taken over.
    fn is_orphan(&self) -> bool {
        getppid().map(Pid::as_raw_pid) != Some(self.syslog.pid)
    }
}

/// Why a service could not be started: `unable to VERB OBJECT: WHY`.
struct Failure<'a> {
    code: u8,
    verb: &'static str,
    object: &'a [u8],
    why: &'static str,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unable to {} {}: {}", self.verb, self.object.escape_ascii(), self.why)
    }
}

/// Makes the failure of a step of the set-up out of its error.
fn set_up<'a>(verb: &'static str, object: &'a [u8]) -> impl FnOnce(Errno) -> Failure<'a> {
    move |errno| Failure { code: EXIT_SET_UP, verb, object, why: raw::reason(errno) }
}

/// Turns this copy of the supervisor into the service at `index`, whose settings are in the `plan`.
pub fn become_service(
    slots: &Slots,
    index: usize,
    plan: Option<&OwnedFd>,
    options: &Options,
    syslog: &Log,
) -> ! {
    let Some(slot) = slots.get(index) else { raw::exit(EXIT_SET_UP.into()) };
    let mut text = Text::new();
    let read = plan.map_or(Ok(()), |plan| plan::read_text(plan, &slot.entry, &mut text));
    let (name, is_main) = (&slot.entry.name, index == MAIN);
    let birth = Birth { name, text: &text, slots, index, options, is_main, syslog };
    let mut user = User::default();
    let made = read.map_err(set_up("read the settings of", name.as_bytes()));
    match made.and_then(|()| world::set_up(&birth, &mut user)) {
        Ok(()) => command::execute(&birth, &user),
        Err(failure) => give_up(&birth, &failure),
    }
}

/// Logs why there is no service, and exits.
fn give_up(birth: &Birth, failure: &Failure) -> ! {
    // PIPE, caused by a message that nobody reads, must not kill this process before it exits.
    raw::block_signals(u64::MAX);
    birth.syslog.send(ERROR, format_args!("{}: {failure}", birth.name));
    raw::exit(failure.code.into())
}
