//! What a signal asks of the supervisor: the table in going(8).
//!
//! Never sends or receives a signal.

use linux_raw_sys::general::{SIGINT, SIGPWR, SIGTERM, SIGUSR1, SIGUSR2};

/// What systemd(1) calls SIGRTMIN+3. (SIGRTMIN is 34 in glibc, and 32 in the kernel.) systemd halts
/// on it, we power off.
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

/// Whether `signal` asks for the shutdown in that `place`. (HUP asks for a rescan everywhere.)
/// While there is a main command only TERM does, unless the shutdown is that of the machine: other
/// signals are meant for the command. What becomes of the machine is decided in `child::power`.
pub fn is_ending(signal: u32, place: Place, has_main: bool) -> bool {
    match (signal, place) {
        (SIGTERM, _) | (SIGINT | SIGUSR1 | SIGUSR2 | SIGPWR | SIGPOWER, Place::Machine) => true,
        (SIGINT, _) | (SIGPWR | SIGPOWER, Place::Container) => !has_main,
        _ => false,
    }
}
