//! What a signal asks of the supervisor, and what it is to end with: the table of going(8).
//!
//! Never sends or receives one.

use linux_raw_sys::general::{SIGINT, SIGPWR, SIGTERM, SIGUSR1, SIGUSR2};

/// RTMIN+3 as the kernel counts, what systemd(1) has taken for power off.
const SIGPOWER: u32 = 37;

/// Where the supervisor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below an init or a shell.
    Process,
    /// As PID 1 of a container.
    Container,
    /// As PID 1 of the machine.
    Machine,
}

/// What comes when everything has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The supervisor exits; the machine, if it is one's own, is switched off.
    Exit,
    /// The machine is started again.
    Reboot,
    /// The machine stands still.
    Halt,
}

/// What `signal` ends in that `place`, if anything. (HUP, everywhere, asks for a rescan.) As long
/// as there is a main command all but TERM are that one's, unless they are for the whole machine.
pub fn ending(signal: u32, place: Place, has_main: bool) -> Option<Ending> {
    match (signal, place) {
        (SIGTERM | SIGINT, Place::Machine) => Some(Ending::Reboot),
        (SIGUSR1, Place::Machine) => Some(Ending::Halt),
        (SIGUSR2 | SIGPWR | SIGPOWER, Place::Machine) | (SIGTERM, _) => Some(Ending::Exit),
        (SIGINT, _) | (SIGPWR | SIGPOWER, Place::Container) if !has_main => Some(Ending::Exit),
        _ => None,
    }
}
