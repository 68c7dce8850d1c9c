//! The command line, and the place where we run: what is settled at the start.
//!
//! Never changes afterwards, and never looks at what the paths lead to.

use crate::linux::{clock, raw::Strings, stdio, syslog};
use crate::model::order::Place;
use core::ffi::CStr;
use rustix::fs::Mode;
use rustix::process::{getpid, umask};
use rustix::system::{RebootCommand, reboot};

/// The exit code of a usage error, see sysexits.h(3head).
const EXIT_USAGE: u8 = 64;

const USAGE: &str = include_str!("usage");
const VERSION: &str = concat!("going ", env!("CARGO_PKG_VERSION"), "\n");

/// The options and what else the start has settled.
pub struct Options {
    /// The directory of the service files.
    pub confdir: &'static CStr,
    /// The directory of the state: status, lock, pid files, and what is held down.
    pub rundir: &'static CStr,
    /// Whether only to check the service files.
    pub check: bool,
    /// The words after `--`: the main command, if there are any.
    pub main: Strings<'static>,
    /// The umask for the main command; ours, and that of services, is 022.
    pub umask: Mode,
    /// Where we run.
    pub place: Place,
    /// When we started.
    pub start_ms: u64,
}

impl Options {
    /// Reads the command line. As PID 1 of the machine nothing in it ends the program, because the
    /// kernel passes on every word of its own command line that it does not know.
    ///
    /// # Errors
    /// The exit code: after `-h` or `-V`, or of a usage error.
    pub fn new(mut words: Strings<'static>) -> Result<Self, u8> {
        let (mut confdir, mut rundir, mut check) = (c"/etc/going.d", c"/run/going", false);
        // PID 1 of the machine may do this; PID 1 of a container is refused it by the kernel. From
        // then on Ctrl-Alt-Del sends INT to us, which we want anyway.
        let place = match getpid().is_init().then(|| reboot(RebootCommand::CadOff)) {
            None => Place::Process,
            Some(Err(_)) => Place::Container,
            Some(Ok(())) => Place::Machine,
        };
        let umask = umask(Mode::WGRP | Mode::WOTH);
        words.next();
        while let Some(word) = words.next() {
            let shown = word.to_str().unwrap_or("?");
            match word.to_bytes() {
                b"-d" if let Some(path) = words.next() => confdir = path,
                b"-r" if let Some(path) = words.next() => rundir = path,
                b"--" if words.count() > 0 => break,
                _ if place == Place::Machine => {
                    // By the log, which never waits: the console may take nothing.
                    syslog::Log::open().say(syslog::WARNING, format_args!("passed over: {shown}"));
                }
                b"-n" => check = true,
                b"-h" => return Err(stdio::print(1, &[USAGE])),
                b"-V" => return Err(stdio::print(1, &[VERSION])),
                _ => {
                    stdio::print(2, &["going: unknown or incomplete option: ", shown, "\n", USAGE]);
                    return Err(EXIT_USAGE);
                }
            }
        }
        Ok(Self { confdir, rundir, check, main: words, umask, place, start_ms: clock::now_ms() })
    }
}
