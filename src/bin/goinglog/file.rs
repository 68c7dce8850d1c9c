//! FILE: opened, locked, and renamed out of the way.
//!
//! Never follows a link, never truncates what it finds, and writes to nothing but a regular file.

use crate::Options;
use core::ffi::CStr;
use core::fmt::Write;
use heapless::Vec;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::fs::{fcntl_lock, fstat, lstat, open, rename, unlink};
use rustix::io::Errno;

/// Bytes of a path, the NUL included, see open(2).
const PATH_MAX: usize = 4096;

/// Opens FILE, which is created if it is missing, and locks it: two that write to one file, each
/// at the end it knows of, would overwrite what the other wrote.
///
/// Not by `O_APPEND`, which splice(2) refuses. To be read, for its last byte. When the lines go to
/// syslog alone, FILE is what takes all and stays empty.
pub fn open_and_lock(options: &Options) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    if options.has_no_file() {
        return open(c"/dev/null", flags, Mode::empty());
    }
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let file = open(options.word, flags | OFlags::CREATE, mode)?;
    if !FileType::from_raw_mode(fstat(&file)?.st_mode).is_file() {
        return Err(Errno::NXIO);
    }
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file)
}

/// Renames FILE to FILE.1, and before that each older file to the next number, up to the first
/// number that is free: one that was killed here left a gap, and this takes no file for it.
pub fn rotate(path: &CStr, count: u32) -> Result<(), Errno> {
    let is_free = |&number: &u32| matches!(lstat(name(path, number).as_slice()), Err(Errno::NOENT));
    let last = (1..count).find(is_free).unwrap_or(count);
    // It would be replaced; but then ext4 first writes out all of what replaces it.
    let _gone = unlink(name(path, last).as_slice());
    (1..=last).rev().try_for_each(|number| {
        rename(name(path, number.saturating_sub(1)).as_slice(), name(path, number).as_slice())
    })
}

/// FILE, or FILE.NUMBER.
fn name(path: &CStr, number: u32) -> Vec<u8, PATH_MAX> {
    let mut name = Vec::from_slice(path.to_bytes()).unwrap_or_default();
    if number > 0 {
        let _cut = write!(name, ".{number}");
    }
    name
}
