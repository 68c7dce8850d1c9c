//! CONFDIR: the names in it, and what its files say.
//!
//! Follows links to files, opens nothing that could wait, and takes regular files only. Decides
//! neither what a service is nor what becomes of it.

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

/// Bytes read from a directory or a file at once: an entry has a name of 1024 at the most, in FUSE.
const CHUNK_LEN: usize = 2048;

/// One file, and room for the chunk that shows that it is longer than allowed.
pub type File = Vec<u8, { FILE_MAX + CHUNK_LEN }>;

/// Opens the directory at `path`.
///
/// # Errors
/// Those of open(2).
pub fn open_dir(path: &CStr) -> Result<OwnedFd, Errno> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Calls `visit` with every name in `dir`, `.` and `..` among them.
///
/// # Errors
/// Those of getdents(2); the names until then were visited.
pub fn each_name(dir: &OwnedFd, visit: &mut dyn FnMut(&CStr)) -> Result<(), Errno> {
    let mut chunk = [MaybeUninit::uninit(); CHUNK_LEN];
    let mut entries = RawDir::new(dir, &mut chunk);
    while let Some(entry) = entries.next() {
        visit(entry?.file_name());
    }
    Ok(())
}

/// Whether there is such a name in `dir`; none if that cannot be said. A link that leads nowhere is
/// there.
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
    /// It is a directory, a FIFO…
    Irregular,
    /// Those of open(2) and read(2).
    Failed(Errno),
}

impl Unreadable {
    /// In words.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Irregular => "not a regular file",
            Self::Failed(errno) => raw::reason(*errno),
        }
    }

    /// Whether that says nothing of the file, neither what it is, nor where it leads, nor whose it
    /// is, so that it is worth another look.
    pub fn is_passing(&self) -> bool {
        use Errno as E;
        let Self::Failed(errno) = *self else { return false };
        let is_lost = matches!(errno, E::NOENT | E::NOTDIR | E::LOOP | E::NAMETOOLONG);
        // Not EPERM: that is a program that looks for viruses, see fanotify(7).
        !is_lost && !matches!(errno, E::ACCESS | E::NXIO | E::NODEV)
    }
}

impl From<Errno> for Unreadable {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// Reads the file `name` in `dir` into `file`, to its end or until it is longer than [`FILE_MAX`];
/// says how long ago it was changed, in ms: 0 if that was meanwhile, for then it may be half of it.
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
    // Looked at again: should it be changed from now on, this is what it was before.
    let stat = fstat(&opened)?;
    if (stat.st_ctime, stat.st_ctime_nsec) != (before.st_ctime, before.st_ctime_nsec) {
        return Ok(0);
    }
    let seconds = stat.st_ctime.try_into().unwrap_or(0);
    let changed = Duration::new(seconds, stat.st_ctime_nsec.try_into().unwrap_or(0));
    // In the future if the clock was set back meanwhile: then it was some time ago.
    let age_ms = raw::time(CLOCK_REALTIME)
        .checked_sub(changed)
        .and_then(|age| age.as_millis().try_into().ok());
    Ok(age_ms.unwrap_or(u64::MAX))
}
