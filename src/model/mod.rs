//! Decides: what a service file means, what a service does next, what passes from a rescan to the
//! supervisor; for goinglog, which line goes where.
//!
//! Pure: it never sees a descriptor, reads a clock or makes a syscall. Time is an argument, in
//! milliseconds of `CLOCK_BOOTTIME`.

pub mod config;
pub mod entry;
pub mod lines;
pub mod order;
pub mod priority;
pub mod service;
pub mod stamp;
pub mod status;
