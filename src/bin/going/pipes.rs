//! The pipes that services log through: each belongs to the service that reads it, and is kept open
//! as long as that is known, so that no line is lost while one side is not there.
//!
//! Never reads or writes one.

use going::model::table::{SERVICES_MAX, Slot};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// The standard input of a service, and what others write to.
pub struct Pipe {
    pub read: OwnedFd,
    pub write: OwnedFd,
}

/// That of each slot of the table, at the same index.
pub type Pipes = [Option<Pipe>; SERVICES_MAX];

/// The pipe that the service called `reader` reads, if there is one.
pub fn find<'a>(pipes: &'a Pipes, slots: &[Slot], reader: &[u8]) -> Option<&'a Pipe> {
    let index = slots.iter().position(|slot| slot.name.as_bytes() == reader)?;
    pipes.get(index)?.as_ref()
}

/// Opens those that `slot` needs and that are not open: its own, and that of whom it logs to.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn open_for(
    pipes: &mut Pipes,
    slot: &Slot,
    slots: &[Slot],
    log: Option<&[u8]>,
) -> Result<(), Errno> {
    for (pipe, other) in pipes.iter_mut().zip(slots).filter(|(pipe, _)| pipe.is_none()) {
        let is_needed = other.name == slot.name || log == Some(other.name.as_bytes());
        if other.logged_to && is_needed {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            *pipe = Some(Pipe { read, write });
        }
    }
    Ok(())
}
