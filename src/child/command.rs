//! The command: its words, its environment, where it is found, and execve(2).
//!
//! Never uses a shell, and never expands anything.

use super::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Failure};
use crate::linux::raw;
use crate::model::config::{Text, WORDS_MAX, split_words, value};
use core::ffi::CStr;
use heapless::Vec;
use rustix::io::Errno;

/// The environment of a service, and where a command without a slash is looked for.
const PATH: &[u8] = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0";
/// Bytes of a path with its NUL, see limits.h(0p).
const PATH_MAX: usize = 4096;

/// Becomes the command of `text`, split into `words`; returns only if that failed.
pub fn execute<'a>(text: &'a [u8], words: &'a mut Text) -> Failure<'a> {
    let cmd = value(text, b"cmd").unwrap_or_default();
    // The supervisor has split it before: it can be split.
    let _split = split_words(cmd, |byte| words.push(byte).ok());
    let program = CStr::from_bytes_until_nul(words).unwrap_or_default();
    let errno = search(program, words, PATH);
    let code = match errno {
        Errno::NOENT | Errno::NOTDIR => EXIT_NOT_FOUND,
        _ => EXIT_NOT_EXECUTABLE,
    };
    Failure { code, verb: "execute", object: program.to_bytes(), errno }
}

/// Executes `program`, looked for in PATH if it has no slash, as execvp(3) does.
fn search(program: &CStr, words: &[u8], env: &[u8]) -> Errno {
    let execute = |path: &CStr| raw::execve::<{ WORDS_MAX + 1 }>(path, words, env);
    if program.to_bytes().contains(&b'/') {
        return execute(program);
    }
    let mut result = Errno::NOENT;
    let dirs = PATH.strip_prefix(b"PATH=").and_then(|dirs| dirs.strip_suffix(b"\0"));
    for dir in dirs.unwrap_or_default().split(|&byte| byte == b':') {
        let mut path = Vec::<u8, PATH_MAX>::new();
        let mut parts = [dir, b"/", program.to_bytes_with_nul()].into_iter();
        let fits = parts.all(|part| path.extend_from_slice(part).is_ok());
        let path = CStr::from_bytes_with_nul(&path).ok().filter(|_| fits);
        match path.map(execute) {
            None | Some(Errno::NOENT | Errno::NOTDIR) => {}
            // Another directory may have one that may be executed.
            Some(Errno::ACCESS) => result = Errno::ACCESS,
            Some(errno) => return errno,
        }
    }
    result
}
