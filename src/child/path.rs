//! Paths, put together from parts and ended with a NUL, as the kernel wants them.
//!
//! Never looks at the file system.

use core::ffi::CStr;
use heapless::Vec;
use rustix::io::Errno;

/// Bytes of a path, including its NUL, see limits.h(0p).
const PATH_MAX: usize = 4096;

/// A path with its NUL.
type Path = Vec<u8, PATH_MAX>;

/// Calls `visit` with the path that `parts` make. The path is passed by reference instead of being
/// returned, because it is large, and each page of the stack costs a child a page fault.
///
/// # Errors
/// ENAMETOOLONG, and those of `visit`.
#[inline(never)]
pub fn with_path<T>(
    parts: &[&[u8]],
    visit: impl FnOnce(&CStr) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let mut path = Path::new();
    visit(join(parts, &mut path)?)
}

/// Puts `parts` together in `path`. A function of its own, so that it exists once, and not once for
/// each type of `visit`.
#[inline(never)]
fn join<'a>(parts: &[&[u8]], path: &'a mut Path) -> Result<&'a CStr, Errno> {
    for part in parts.iter().chain(&[&b"\0"[..]]) {
        path.extend_from_slice(part).map_err(|_| Errno::NAMETOOLONG)?;
    }
    Ok(CStr::from_bytes_until_nul(path).unwrap_or_default())
}
