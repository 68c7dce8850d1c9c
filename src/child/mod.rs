//! Becomes the service: what runs in the child, between fork(2) and execve(2).
//!
//! Works on a copy of the supervisor's memory that goes with the process, may wait as long as it
//! likes, and ends with [`raw::exit`] alone. Whatever fails here is said in the log and becomes an
//! exit code; the supervisor sees a service that ended.

mod command;
mod twin;
mod world;

use crate::linux::raw;
use crate::linux::syslog::{ERROR, Log};
use crate::model::config::Text;
use core::fmt;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::Pid;

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
    /// RUNDIR, if it can be used.
    pub rundir: Option<&'a OwnedFd>,
    /// The supervisor.
    pub parent: Pid,
    /// Where to say what goes wrong.
    pub log: &'a Log,
}

/// Why there is no service: `unable to VERB OBJECT: ERRNO`.
struct Failure<'a> {
    code: u8,
    verb: &'static str,
    object: &'a [u8],
    errno: Errno,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = self.object.escape_ascii();
        write!(f, "unable to {} {object}: {}", self.verb, raw::reason(self.errno))
    }
}

/// A step of the set-up that failed.
fn set_up<'a>(verb: &'static str, object: &'a [u8]) -> impl FnOnce(Errno) -> Failure<'a> {
    move |errno| Failure { code: EXIT_SET_UP, verb, object, errno }
}

/// The way from a copy of the supervisor to the service. Never returns.
pub fn become_service(birth: &Birth) -> ! {
    let mut words = Text::new();
    let failure = match world::set_up(birth) {
        Ok(()) => command::execute(birth.text, &mut words),
        Err(failure) => failure,
    };
    birth.log.say(ERROR, format_args!("{}: {failure}", birth.name));
    raw::exit(failure.code)
}
