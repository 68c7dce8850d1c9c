//! The command: its words, where it is found, and execve(2).
//!
//! Never uses a shell, and never expands anything.

use super::environment::{self, Environment};
use super::path::with_path;
use super::users::User;
use super::{Birth, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_SET_UP, Failure};
use crate::linux::raw::{self, List, Strings};
use crate::model::config::{Text, WORDS_MAX, split_words, value};
use core::ffi::CStr;
use rustix::io::Errno;

/// Becomes the command of `birth`; returns only if that failed.
#[inline(never)]
pub fn execute<'a>(birth: &Birth<'a>, user: &User, words: &'a mut Text) -> Failure<'a> {
    let strings = environment::Strings::new(birth, user);
    let mut environment = Environment(List::empty());
    if environment.fill(birth, &strings).is_none() {
        let (object, why) = (birth.name.as_bytes(), "more than 1024 variables");
        return Failure { code: EXIT_SET_UP, verb: "take over the environment for", object, why };
    }
    let cmd = value(birth.text, b"cmd").unwrap_or_default();
    // The reader has split it before: it can be split.
    let _split = split_words(cmd, |byte| words.push(byte).ok());
    let main = birth.options.main.filter(|_| birth.is_main);
    let first = main.map_or(CStr::from_bytes_until_nul(words).ok(), |mut main| main.next());
    let split = words.split_inclusive(|&byte| byte == 0);
    let split = split.filter_map(|word| CStr::from_bytes_with_nul(word).ok());
    // For want of a list there is nothing to execute, which fails; but the reader has counted, too.
    let list = List::<{ WORDS_MAX + 1 }>::new(split);
    let words = main.or(list.as_ref().map(List::strings));
    let program = first.unwrap_or_default();
    let errno = words.map_or(Errno::TOOBIG, |words| search(program, words, &environment));
    let code = match errno {
        Errno::NOENT | Errno::NOTDIR => EXIT_NOT_FOUND,
        _ => EXIT_NOT_EXECUTABLE,
    };
    let (object, why) = (program.to_bytes(), raw::reason(errno));
    Failure { code, verb: "execute", object, why }
}

/// Executes `program`, looked for in PATH if it has no slash, as execvp(3) does.
fn search(program: &CStr, words: Strings, environment: &Environment) -> Errno {
    let execute = |path: &CStr| raw::execve(path, words, environment.0.strings());
    if program.to_bytes().contains(&b'/') {
        return execute(program);
    }
    let mut result = Errno::NOENT;
    for dir in environment.path().split(|&byte| byte == b':') {
        let dir = if dir.is_empty() { b"." } else { dir };
        match with_path(&[dir, b"/", program.to_bytes()], |path| Ok(execute(path))) {
            // Not there, or too long to be.
            Err(_) | Ok(Errno::NOENT | Errno::NOTDIR) => {}
            // Another directory may have one that may be executed.
            Ok(Errno::ACCESS) => result = Errno::ACCESS,
            Ok(errno) => return errno,
        }
    }
    result
}
