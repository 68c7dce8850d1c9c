//! The table: a slot for each service, with what should be, what is, and the pipe that others log
//! to it through.
//!
//! A service keeps its slot until it is forgotten. Its log pipe stays open for as long, if there is
//! no shutdown, so that no line is lost while a writer or the reader is down. Never reads or writes
//! a pipe.

use crate::model::entry::{Entry, LOGGED_TO, SERVICES_MAX};
use crate::model::service::Service;
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// One service.
pub struct Slot {
    /// What the last rescan has found out about it.
    pub entry: Entry,
    /// Its state, and the history of its processes.
    pub service: Service,
    /// Its log pipe: the end that is its standard input, and the end that others write to.
    pub pipe: Option<(OwnedFd, OwnedFd)>,
}

/// The table. The main command comes first.
pub type Slots = heapless::Vec<Slot, { SERVICES_MAX + 1 }>;

impl Slot {
    /// A slot for a new service, known since `since_ms`.
    pub fn new(entry: Entry, since_ms: u64) -> Self {
        Self { entry, service: Service { since_ms, ..Service::default() }, pipe: None }
    }

    /// Whether it has a process.
    pub fn is_up(&self) -> bool {
        self.service.pid().is_some()
    }

    /// Opens its log pipe, if another service logs to it and there is none yet.
    ///
    /// # Errors
    /// EMFILE, ENFILE.
    pub fn open_pipe(&mut self) -> Result<(), Errno> {
        if self.entry.has(LOGGED_TO) && self.pipe.is_none() {
            self.pipe = Some(pipe_with(PipeFlags::CLOEXEC)?);
        }
        Ok(())
    }
}

/// Creates an empty plan, a file in memory, for a reader to write.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM, and ENOSYS if the kernel was built without memfd_create(2).
pub fn plan() -> Result<OwnedFd, Errno> {
    let create = |flags| memfd_create(c"plan", MemfdFlags::CLOEXEC | flags);
    // From Linux 6.3 on a machine may demand that a file says it will not be executed; an older
    // kernel does not know the flag.
    create(MemfdFlags::NOEXEC_SEAL).or_else(|_| create(MemfdFlags::empty()))
}
