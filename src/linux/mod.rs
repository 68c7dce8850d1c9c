//! Acts, in the supervisor's own process: one kernel facility per file.
//!
//! Never decides anything, and never waits but in [`signals::Signals::wait`], the one `poll`.

pub mod clock;
pub mod options;
pub mod raw;
pub mod rundir;
pub mod signals;
pub mod stdio;
pub mod syslog;
pub mod table;
pub mod watch;
