//! Reads a path that may be anything. Never reads anything but a regular file: we might wait for
//! the other end of a FIFO, take lines from its real reader, or read a device for ever.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// No file that going writes or accepts is this long. The rest of a longer file is not read.
const READ_MAX: u64 = 1024 * 1024;

/// Opens a regular file, or one that a link leads to.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// What is in the file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(READ_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
