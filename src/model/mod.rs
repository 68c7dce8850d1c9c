//! Decides: what a service file means, what a service does next, and what a rescan passes on to the
//! supervisor; for goinglog, which line goes where.
//!
//! Pure: never sees a descriptor, reads a clock or makes a syscall. Time is an argument: in
//! milliseconds of `CLOCK_BOOTTIME`, or, for [`stamp`], since 1970.

pub mod config;
pub mod entry;
pub mod lines;
pub mod order;
pub mod priority;
pub mod service;
pub mod stamp;
pub mod status;
