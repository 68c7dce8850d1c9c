//! The machine as a whole: whether it is ours, and its end.

use crate::model::order::{Ending, Place};
use rustix::io::Errno;
use rustix::process::{Pid, getpid};
use rustix::system::{RebootCommand, reboot};

/// Where we run. On a machine of our own Ctrl-Alt-Del becomes a signal, INT, by the way; in a
/// container the kernel refuses that to PID 1.
pub fn place() -> Place {
    if getpid() != Pid::INIT {
        Place::Process
    } else if reboot(RebootCommand::CadOff).is_err() {
        Place::Container
    } else {
        Place::Machine
    }
}

/// Ends the machine at once; returns why it could not.
pub fn end(ending: Ending) -> Errno {
    let command = match ending {
        Ending::Reboot => RebootCommand::Restart,
        Ending::Halt => RebootCommand::Halt,
        Ending::Exit | Ending::PowerOff => RebootCommand::PowerOff,
    };
    reboot(command).err().unwrap_or(Errno::IO)
}
