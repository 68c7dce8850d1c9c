//! `going` keeps services running: one `key=value` file each in `/etc/going.d`, see going(8) and
//! going(5).
//!
//! The map, in the order to read it:
//!
//! - [`model`] **decides**. Bytes, numbers and enums; no descriptor, no clock, no syscall. Begin
//!   with [`model::service`], the state machine, and [`model::config`], the service file.
//!   [`model::lines`], [`model::stamp`] and [`model::priority`] are goinglog's, in the same manner.
//! - `src/bin/going/` **ties** the parts: one table, one rescan, one `poll`.
//! - [`linux`] **acts**, in the supervisor's own process, one kernel facility a file. It decides
//!   nothing and waits for nothing. [`linux::raw`] holds the only unsafe code.
//! - [`child`] **becomes** the service, between fork(2) and execve(2), or reads the service files
//!   and leaves a plan behind, or ends the machine: each in a process of its own, where what goes
//!   wrong harms nobody else.
//! - `src/bin/goinglog/` is a program of its own, the log writer, see goinglog(1). It shares what
//!   it can use of the library, and its rules.
//! - `src/bin/goingctl/` is a program of its own, with std, that going does not need; see
//!   goingctl(1).
//!
//! What neither going nor goinglog does: allocate, start threads, or panic on input, on a full
//! table or on a failed syscall; nor does either wait anywhere but in the one `poll`: only children
//! do. (goinglog may wait for a syslog daemon, too, a second at the most, else its writers would;
//! and as long for standard error, to say what it says only once.)
#![no_std]

pub mod child;
pub mod linux;
pub mod model;
