//! What a signal asks of the supervisor, and what it is to end with: the table of going(8).
//!
//! Never sends or receives one.

use linux_raw_sys::general::{SIGHUP, SIGINT, SIGPWR, SIGTERM, SIGUSR1, SIGUSR2};

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
    /// The supervisor exits.
    Exit,
    /// The machine is started again.
    Reboot,
    /// The machine stands still.
    Halt,
    /// The machine is switched off.
    PowerOff,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Read CONFDIR.
    Rescan,
    /// Stop everything.
    End(Ending),
    /// Nothing.
    Ignore,
}

/// What `signal` asks for in that `place`.
pub fn order(signal: u32, place: Place) -> Order {
    match (signal, place) {
        (SIGHUP, _) => Order::Rescan,
        (SIGTERM | SIGINT, Place::Process | Place::Container) => Order::End(Ending::Exit),
        (SIGTERM | SIGINT, Place::Machine) => Order::End(Ending::Reboot),
        (SIGPWR | SIGPOWER, Place::Container) => Order::End(Ending::Exit),
        (SIGPWR | SIGPOWER | SIGUSR2, Place::Machine) => Order::End(Ending::PowerOff),
        (SIGUSR1, Place::Machine) => Order::End(Ending::Halt),
        _ => Order::Ignore,
    }
}
