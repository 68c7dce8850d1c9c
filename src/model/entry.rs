//! An entry of the plan: what a rescan has found out about one service, as far as the supervisor
//! has to know.
//!
//! The reader of a rescan passes it on as a [`Record`], which `child::plan` makes. What the service
//! file says beyond it is for the service's own child to read.

use crate::model::service::{Policy, Restart, Want};

/// Services, rejected files among them.
pub const SERVICES_MAX: usize = 256;
/// The place of the main command, which nobody logs to; the services have those behind it.
pub const MAIN: usize = 0;
/// Bytes of one service's name.
pub const NAME_MAX: usize = 32;

/// The name of a service, which is that of its file.
pub type Name = heapless::String<NAME_MAX, u8>;

/// Bits of [`Entry::flags`]: the file is gone.
pub const GONE: u32 = 1;
/// A version of the file was good: there is something to run.
pub const GOOD: u32 = 2;
/// A file in RUNDIR/down holds the service down.
pub const HELD: u32 = 4;
/// Somebody logs to it, or did.
pub const LOGGED_TO: u32 = 8;
/// It is to start anew: something else is known of it than before.
pub const EDITED: u32 = 16;

/// In the order of the numbers that stand for them.
const RESTARTS: [Restart; 4] = [Restart::Always, Restart::Failure, Restart::Never, Restart::Exit];
/// An entry as it is passed on: eight numbers in the order of its fields, but the name last.
pub type Record = [[u8; 4]; 8 + NAME_MAX / 4];

/// What is known of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Its name; empty as long as the entry is nobody's.
    pub name: Name,
    /// See [`GONE`] and the others.
    pub flags: u32,
    /// What its file says to us.
    pub policy: Policy,
    /// Its normalised text, for children to find: where it begins in the plan, its bytes, and their
    /// hash: whatever goes wrong, nobody is to run with the settings of another.
    pub text: [u32; 3],
}

impl Entry {
    /// Whether it has this flag.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// What the files want of the service. To be unwanted for a moment is what starts it anew.
    pub fn want(&self) -> Want {
        if self.flags & (GONE | GOOD | HELD | EDITED) == GOOD { Want::Up } else { Want::Down }
    }

    /// What a reader has passed on, see `child::plan`.
    pub fn decode(record: Record) -> Self {
        let numbers = record.map(u32::from_ne_bytes);
        let [flags, restart, stop, timeout_ms, log, start, len, hash, name @ ..] = numbers;
        let restart = RESTARTS.get(restart as usize).copied().unwrap_or_default();
        let log = log.try_into().ok().filter(|log| usize::from(*log) != MAIN);
        let policy = Policy { restart, stop, timeout_ms, log };
        let name = name.map(u32::to_ne_bytes);
        let name = str::from_utf8(name.as_flattened()).unwrap_or_default().trim_end_matches('\0');
        let name = Name::try_from(name).unwrap_or_default();
        Self { name, flags, policy, text: [start, len, hash] }
    }
}
