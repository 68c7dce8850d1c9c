//! What a signal asks of the supervisor: the table of going(8).
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

/// Whether `signal` ends everything in that `place`; with what is for `child::power` to know. (HUP,
/// everywhere, asks for a rescan.) As long as there is a main command all but TERM are that one's,
/// unless they are for the whole machine.
pub fn is_ending(signal: u32, place: Place, has_main: bool) -> bool {
    match (signal, place) {
        (SIGTERM, _) | (SIGINT | SIGUSR1 | SIGUSR2 | SIGPWR | SIGPOWER, Place::Machine) => true,
        (SIGINT, _) | (SIGPWR | SIGPOWER, Place::Container) => !has_main,
        _ => false,
    }
}
