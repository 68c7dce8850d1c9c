//! What runs in processes of their own, forked from the supervisor: the service until execve(2),
//! the reader of a rescan, the end of the machine.
//!
//! Each works on a copy of the supervisor's memory that goes with the process, may wait as long as
//! it likes, and ends with [`raw::exit`] or execve(2) alone. What fails in a service's child is
//! said in the log and becomes an exit code; the supervisor sees a service that ended.

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

/// Set-up failed, as s6 has it: that of a service, or of the supervisor.
pub const EXIT_SET_UP: u8 = 111;
/// The program cannot be executed, as shells have it.
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The program does not exist, as shells have it.
const EXIT_NOT_FOUND: u8 = 127;

/// What the child takes from the supervisor.
pub struct Birth<'a> {
    /// The service's name.
    name: &'a str,
    /// Its normalised text.
    text: &'a [u8],
    /// All services, for it may log to one; and its place among them.
    slots: &'a Slots,
    index: usize,
    /// What the supervisor was told.
    options: &'a Options,
    /// Whether it is the main command, out of the command line.
    is_main: bool,
    /// Where to say what goes wrong.
    syslog: &'a Log,
}

impl Birth<'_> {
    /// Whether the supervisor has died, so that another may have taken over.
    fn is_orphan(&self) -> bool {
        getppid().map(Pid::as_raw_pid) != Some(self.syslog.pid)
    }
}

/// Why there is no service: `unable to VERB OBJECT: WHY`.
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

/// A step of the set-up that failed.
fn set_up<'a>(verb: &'static str, object: &'a [u8]) -> impl FnOnce(Errno) -> Failure<'a> {
    move |errno| Failure { code: EXIT_SET_UP, verb, object, why: raw::reason(errno) }
}

/// The way from a copy of the supervisor to the service at `index`, whose settings are in the
/// `plan`. Never returns.
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

/// Says why there is no service.
fn give_up(birth: &Birth, failure: &Failure) -> ! {
    // PIPE, of a message that nobody reads, is not what this is to end by.
    raw::block_signals(u64::MAX);
    birth.syslog.send(ERROR, format_args!("{}: {failure}", birth.name));
    raw::exit(failure.code.into())
}
