//! The command line, and where we are: what is true from the start to the end.
//!
//! Never changes, and opens nothing.

use crate::linux::{clock, raw::Strings, stdio, syslog};
use crate::model::order::Place;
use core::ffi::CStr;
use rustix::fs::Mode;
use rustix::process::{getpid, umask};
use rustix::system::{RebootCommand, reboot};

/// Misused, see sysexits.h(3head).
const EXIT_USAGE: u8 = 64;

const USAGE: &str = include_str!("usage");
const VERSION: &str = concat!("going ", env!("CARGO_PKG_VERSION"), "\n");

/// What the supervisor was told.
pub struct Options {
    /// The directory of the service files.
    pub confdir: &'static CStr,
    /// The directory of what is true now.
    pub rundir: &'static CStr,
    /// Whether the files are to be checked, no more.
    pub check: bool,
    /// The words behind `--`: the main command, if there are any.
    pub main: Strings<'static>,
    /// The umask of the main command; ours, and that of services, is 022.
    pub umask: Mode,
    /// Where we run.
    pub place: Place,
    /// Since when.
    pub start_ms: u64,
}

impl Options {
    /// Reads the command line. On a machine of our own nothing in it ends the program: the kernel
    /// hands on what it does not know itself.
    ///
    /// # Errors
    /// The exit code, when what was asked for is done, or nothing can be.
    pub fn new(mut words: Strings<'static>) -> Result<Self, u8> {
        let (mut confdir, mut rundir, mut check) = (c"/etc/going.d", c"/run/going", false);
        // On a machine of our own Ctrl-Alt-Del becomes a signal, INT, by the way; in a container
        // the kernel refuses that to PID 1.
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
                    // The console may take nothing.
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
