//! What runs in processes of their own, forked from the supervisor: the service until execve(2),
//! the reader of a rescan, the end of the machine.
//!
//! Each works on a copy of the supervisor's memory that goes with the process, may wait as long as
//! it likes, and ends with [`raw::exit`] alone. What fails in a service's child is said in the log
//! and becomes an exit code; the supervisor sees a service that ended.

mod command;
mod environment;
mod output;
mod path;
pub mod power;
pub mod reader;
mod scan;
mod twin;
mod users;
mod world;

use crate::linux::options::Options;
use crate::linux::raw;
use crate::linux::syslog::{ERROR, Log};
use crate::model::table::Table;
use core::fmt;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::Pid;
use users::User;

/// Set-up failed, as s6 has it.
const EXIT_SET_UP: u8 = 111;
/// The program cannot be executed, as shells have it.
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The program does not exist, as shells have it.
const EXIT_NOT_FOUND: u8 = 127;

/// What the child takes from the supervisor.
pub struct Birth<'a> {
    /// The service's name.
    pub name: &'a str,
    /// Its normalised text.
    pub text: &'a [u8],
    /// All services, for it may log to one.
    pub table: &'a Table,
    /// The pipe that it reads, if it is logged to.
    pub stdin: Option<&'a OwnedFd>,
    /// The pipe that it logs to, if that is a service with one.
    pub log: Option<&'a OwnedFd>,
    /// What the supervisor was told.
    pub options: &'a Options,
    /// Whether it is the main command, out of the command line.
    pub is_main: bool,
    /// The supervisor.
    pub parent: Pid,
    /// Where to say what goes wrong.
    pub syslog: &'a Log,
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

/// The way from a copy of the supervisor to the service. Never returns.
pub fn become_service(birth: &Birth) -> ! {
    let mut user = User::default();
    match world::set_up(birth, &mut user) {
        Ok(()) => command::execute(birth, &user),
        Err(failure) => give_up(birth, &failure),
    }
}

/// Says why there is no service.
fn give_up(birth: &Birth, failure: &Failure) -> ! {
    birth.syslog.say(ERROR, format_args!("{}: {failure}", birth.name));
    raw::exit(failure.code)
}
