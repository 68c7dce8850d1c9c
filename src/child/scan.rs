//! Reads directories, and the files in CONFDIR.
//!
//! Follows links to files, and accepts regular files only. Never waits for the other end of a FIFO
//! or for a device, and never decides what a service is or what becomes of it.

use super::path::with_path;
use crate::linux::raw;
use crate::model::config::FILE_MAX;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::time::Duration;
use heapless::Vec;
use linux_raw_sys::general::CLOCK_REALTIME;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, fstat, open, openat, statat};
use rustix::io::{Errno, read};

/// Bytes read from a file at once.
const CHUNK_LEN: usize = 2048;
/// Bytes read from a directory at once. An entry fits: its name has at most 4095 bytes, in FUSE.
const NAMES_LEN: usize = 4096 + 64;

/// The contents of a file, with room for the chunk that shows that it is too long.
pub type File = Vec<u8, { FILE_MAX + CHUNK_LEN }>;

/// Opens the directory at `path`.
///
/// # Errors
/// Those of open(2).
pub fn open_dir(path: &CStr) -> Result<OwnedFd, Errno> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Calls `visit` with every name in `dir`, including `.` and `..`.
///
/// # Errors
/// Those of getdents(2). The names before the error have been visited.
pub fn each_name(dir: &OwnedFd, visit: &mut dyn FnMut(&CStr)) -> Result<(), Errno> {
    let mut chunk = [MaybeUninit::uninit(); NAMES_LEN];
    let mut entries = RawDir::new(dir, &mut chunk);
    while let Some(entry) = entries.next() {
        visit(entry?.file_name());
    }
    Ok(())
}

/// Whether `dir` has an entry called `name`, even a dangling link; none if that cannot be found
/// out.
// Never inlined, for it is used in many places, and the program has to stay below 64 KiB.
#[inline(never)]
pub fn has(dir: &OwnedFd, name: &str) -> Option<bool> {
    let look = |path: &CStr| statat(dir, path, AtFlags::SYMLINK_NOFOLLOW);
    match with_path(&[name.as_bytes()], look) {
        Ok(_) => Some(true),
        Err(Errno::NOENT) => Some(false),
        Err(_) => None,
    }
}

/// Why a file cannot be read.
pub enum Unreadable {
    /// It is not a regular file, but a directory or a FIFO for example.
    Irregular,
    /// open(2) or read(2) has failed.
    Failed(Errno),
}

impl Unreadable {
    /// The reason in words.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Irregular => "not a regular file",
            Self::Failed(errno) => raw::reason(*errno),
        }
    }

    /// Whether the reason may pass without a change of the file, so that it is worth trying again.
    /// It will not if it is about what the file is, where it leads, or whose it is.
    pub fn is_passing(&self) -> bool {
        use Errno as E;
        let Self::Failed(errno) = *self else { return false };
        let is_lost = matches!(errno, E::NOENT | E::NOTDIR | E::LOOP | E::NAMETOOLONG);
        // EPERM does pass: it comes from a virus scanner, see fanotify(7).
        !is_lost && !matches!(errno, E::ACCESS | E::NXIO | E::NODEV)
    }
}

impl From<Errno> for Unreadable {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// Reads the file `name` in `dir` into `file`, up to its end or until it is longer than
/// [`FILE_MAX`]. Returns how long ago the file was changed, in ms: 0 if it was changed while it was
/// read, because what was read may then be half a change.
///
/// # Errors
/// Why it cannot be read.
pub fn read_file(dir: &OwnedFd, name: &CStr, file: &mut File) -> Result<u64, Unreadable> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(dir, name, flags, Mode::empty())?;
    let before = fstat(&opened)?;
    if !FileType::from_raw_mode(before.st_mode).is_file() {
        return Err(Unreadable::Irregular);
    }
    let mut chunk = [0; CHUNK_LEN];
    file.clear();
    while file.len() <= FILE_MAX {
        let len = read(&opened, &mut chunk)?;
        let bytes = chunk.get(..len).unwrap_or_default();
        if bytes.is_empty() || file.extend_from_slice(bytes).is_err() {
            break;
        }
    }
    // The time once more: changes from here on have no part in what was read.
    let stat = fstat(&opened)?;
    if (stat.st_ctime, stat.st_ctime_nsec) != (before.st_ctime, before.st_ctime_nsec) {
        return Ok(0);
    }
    let seconds = stat.st_ctime.try_into().unwrap_or(0);
    let changed = Duration::new(seconds, stat.st_ctime_nsec.try_into().unwrap_or(0));
    // A time in the future means that the clock was set back since: that was a while ago.
    let age_ms = raw::time(CLOCK_REALTIME)
        .checked_sub(changed)
        .and_then(|age| age.as_millis().try_into().ok());
    Ok(age_ms.unwrap_or(u64::MAX))
}
