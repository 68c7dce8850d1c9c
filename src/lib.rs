//! `going` keeps services running: one `key=value` file each in `/etc/going.d`, see going(8) and
//! going(5).
//!
//! The map, in the order to read it:
//!
//! - [`model`] **decides**. Bytes, numbers and enums; no descriptor, no clock, no syscall. Begin
//!   with [`model::service`], the state machine, and [`model::config`], the service file.
//!   [`model::lines`], [`model::stamp`] and [`model::priority`] do the same for goinglog.
//! - `src/bin/going/` **ties** the parts together: one table, one rescan, one `poll`.
//! - [`linux`] **acts**, in the supervisor's own process, one kernel facility per file. It decides
//!   nothing, and waits only in the one `poll`. [`linux::raw`] holds the only unsafe code.
//! - [`child`] is what forked processes run. It **becomes** the service, between fork(2) and
//!   execve(2); or reads the service files and leaves a plan behind; or ends the machine. Whatever
//!   goes wrong there harms no other process.
//! - `src/bin/goinglog/` is the log writer, a separate program; see goinglog(1). It follows the
//!   same rules, and uses what it can of the library.
//! - `src/bin/goingctl/` shows and steers services, a separate program that uses std and that
//!   going can do without; see goingctl(1).
//!
//! Neither going nor goinglog ever allocates, starts a thread, or panics on input, on a full table
//! or on a failed syscall. Both wait in one place only, their `poll`; only forked children may
//! block elsewhere. (There are two exceptions in goinglog, of one second at most: it waits for a
//! syslog daemon, because otherwise the services that log to it would, and for standard error, so
//! that a message need not be repeated.)
#![no_std]

pub mod child;
pub mod linux;
pub mod model;
