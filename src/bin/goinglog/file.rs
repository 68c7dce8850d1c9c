//! FILE: opened, locked, measured, and renamed out of the way.
//!
//! Never follows a link, never truncates what it finds, and writes to nothing but a regular file.

use core::ffi::CStr;
use core::fmt::Write;
use going::linux::raw;
use heapless::Vec;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::fs::{fcntl_lock, fstat, open, renameat, statat, unlinkat};
use rustix::io::{Errno, pread};

/// What could not be done, and why.
pub type Failure = (&'static str, &'static str);

/// Bytes of a path, the NUL included, see open(2).
const PATH_MAX: usize = 4096;

/// Says that `what` is what failed.
pub fn unable(what: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| (what, raw::reason(errno))
}

/// Opens FILE, which is created if it is missing, and locks it: two that write to one file, each
/// at the end it knows of, would overwrite what the other wrote.
///
/// Not by `O_APPEND`, which splice(2) refuses. To be read, for its last byte.
pub fn open_and_lock(path: &CStr) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let file = open(path, flags | OFlags::NOCTTY | OFlags::CLOEXEC, mode);
    let file = file.map_err(|errno| match errno {
        // A link; a FIFO that nobody reads, or a socket; a directory.
        Errno::LOOP | Errno::NXIO | Errno::ISDIR => ("open", "not a regular file"),
        _ => unable("open")(errno),
    })?;
    let stat = fstat(&file).map_err(unable("open"))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(("open", "not a regular file"));
    }
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::ACCESS) => Err(("open", "another goinglog writes to it")),
        locked => locked.map(|()| file).map_err(unable("lock")),
    }
}

/// Whether `file`, of so many bytes, ends with a whole line, or is empty.
pub fn is_fresh(file: &OwnedFd, size: u64) -> Result<bool, Failure> {
    let Some(last) = size.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    pread(file, &mut byte, last).map_err(unable("read"))?;
    Ok(byte == *b"\n")
}

/// Renames FILE to FILE.1, and before that each older file to the next number, up to the first
/// number that is free: one that was killed here left a gap, and this takes no file for it.
pub fn rotate(path: &CStr, count: u32) -> Result<(), Failure> {
    let is_there = |&number: &u32| {
        statat(CWD, name(path, number).as_slice(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    };
    let older = (1..count).take_while(is_there).last().unwrap_or(0);
    if older.saturating_add(1) == count {
        // It would be replaced; but then ext4 first writes out all of what replaces it.
        let _gone = unlinkat(CWD, name(path, count).as_slice(), AtFlags::empty());
    }
    for number in (0..=older).rev() {
        let (old, new) = (name(path, number), name(path, number.saturating_add(1)));
        match renameat(CWD, old.as_slice(), CWD, new.as_slice()) {
            // The latter if somebody was faster.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(unable("rotate")(errno)),
        }
    }
    Ok(())
}

/// FILE, or FILE.NUMBER.
fn name(path: &CStr, number: u32) -> Vec<u8, PATH_MAX> {
    let mut name = Vec::new();
    let _cut = name.extend_from_slice(path.to_bytes());
    if number > 0 {
        let _cut = write!(name, ".{number}");
    }
    name
}
