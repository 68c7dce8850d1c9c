//! `going` keeps services running: one `key=value` file each in `/etc/going.d`, see going(8) and
//! going(5).
//!
//! The map, in the order to read it:
//!
//! - [`model`] **decides**. Bytes, numbers and enums; no descriptor, no clock, no syscall. Begin
//!   with [`model::service`], the state machine, and [`model::config`], the service file.
//! - `src/bin/going/` **ties** the parts: one table, one rescan, one `poll`.
//! - [`linux`] **acts**, in the supervisor's own process, one kernel facility a file. It decides
//!   nothing and waits for nothing. [`linux::raw`] holds the only unsafe code.
//! - [`child`] **becomes** the service, between fork(2) and execve(2), in a process of its own:
//!   what goes wrong there harms that one service only.
//!
//! What none of it does: allocate, start threads, wait anywhere but in the one `poll`, or panic on
//! input, on a full table or on a failed syscall.
#![no_std]

pub mod child;
pub mod linux;
pub mod model;
