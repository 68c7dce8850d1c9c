//! The table: a slot for each service, with what is known of it, what became of it, and the pipe
//! that others log to it through.
//!
//! A service keeps its slot as long as it is known. A pipe is kept open as long, so that no line is
//! lost while one side is not there; it is never read or written here.

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
    /// What runs, if it does.
    pub service: Service,
    /// Its standard input, and what others write to.
    pub pipe: Option<(OwnedFd, OwnedFd)>,
}

/// All of them, the main command first.
pub type Slots = heapless::Vec<Slot, { SERVICES_MAX + 1 }>;

impl Slot {
    /// That of a service of which this is known since `since_ms`.
    pub fn new(entry: Entry, since_ms: u64) -> Self {
        Self { entry, service: Service { since_ms, ..Service::default() }, pipe: None }
    }

    /// Whether it has a process.
    pub fn is_up(&self) -> bool {
        self.service.pid().is_some()
    }

    /// Opens its pipe, if somebody logs to it and it has none.
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

/// An empty plan, which a reader will write: a file in memory.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM, and ENOSYS where the kernel was built without.
pub fn plan() -> Result<OwnedFd, Errno> {
    let create = |flags| memfd_create(c"plan", MemfdFlags::CLOEXEC | flags);
    // What is not to be executed has to be called so since Linux 6.3, and cannot be before.
    create(MemfdFlags::NOEXEC_SEAL).or_else(|_| create(MemfdFlags::empty()))
}
