//! Decides: what a service file means, what a service does next, what is in the table.
//!
//! Pure: it never sees a descriptor, reads a clock or makes a syscall. Time is an argument, in
//! milliseconds of `CLOCK_BOOTTIME`.

pub mod config;
pub mod service;
pub mod table;
