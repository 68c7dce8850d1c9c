//! An entry of the plan: what a rescan has found out about one service, as far as the supervisor
//! has to know it.
//!
//! The reader passes it on as a [`Record`], which `child::plan` encodes. The supervisor never sees
//! the rest of the service file, which is for the service's own child.

use crate::model::service::{Policy, Restart, Want};

/// Services, including rejected files.
pub const SERVICES_MAX: usize = 256;
/// The index of the main command, which no service can log to. The services come after it.
pub const MAIN: usize = 0;
/// Bytes of one service's name.
pub const NAME_MAX: usize = 32;

/// The name of a service, which is that of its file.
pub type Name = heapless::String<NAME_MAX, u8>;

/// Bit of [`Entry::flags`]: the file is gone.
pub const GONE: u32 = 1;
/// Bit of [`Entry::flags`]: there are settings to run it with, for some version of the file was
/// good.
pub const GOOD: u32 = 2;
/// Bit of [`Entry::flags`]: a file in RUNDIR/down holds the service down.
pub const HELD: u32 = 4;
/// Bit of [`Entry::flags`]: another service logs to it, or once did.
pub const LOGGED_TO: u32 = 8;
/// Bit of [`Entry::flags`]: the service has to be restarted, because its settings have changed, or
/// the log pipe that it reads from or writes to.
pub const EDITED: u32 = 16;

/// Indexed by the number that a [`Record`] has for each.
const RESTARTS: [Restart; 4] = [Restart::Always, Restart::Failure, Restart::Never, Restart::Exit];
/// An encoded entry: eight numbers in the order of its fields, then the name.
pub type Record = [[u8; 4]; 8 + NAME_MAX / 4];

/// What is known of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Its name; empty if the entry is unused.
    pub name: Name,
    /// [`GONE`] and the others.
    pub flags: u32,
    /// The part of its file that concerns the supervisor.
    pub policy: Policy,
    /// Where children find its normalised text in the plan: offset, length, and hash. The hash
    /// makes sure that, whatever goes wrong, no service runs with the settings of another.
    pub text: [u32; 3],
}

impl Entry {
    /// Whether it has this flag.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// What the files want of the service. An edited one is unwanted for one tick, which restarts
    /// it.
    pub fn want(&self) -> Want {
        if self.flags & (GONE | GOOD | HELD | EDITED) == GOOD { Want::Up } else { Want::Down }
    }

    /// Decodes what a reader has written, see `child::plan`.
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
