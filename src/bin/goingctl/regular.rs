//! Reading what may be anything: only a regular file is read, so that nothing waits for the other
//! end of a FIFO, takes its lines from somebody, or reads a device for ever.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Nothing that going writes or takes is so long; what is behind that is not looked at.
const READ_MAX: u64 = 1024 * 1024;

/// Opens a regular file, or what a link leads to.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// What is in it.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(READ_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
