//! Decides: what a service file means, what a service does next, what is in the table; for
//! goinglog, which line goes where.
//!
//! Pure: it never sees a descriptor, reads a clock or makes a syscall. Time is an argument, in
//! milliseconds of `CLOCK_BOOTTIME`.

pub mod config;
pub mod lines;
pub mod order;
pub mod priority;
pub mod service;
pub mod stamp;
pub mod status;
pub mod table;
pub mod text;
