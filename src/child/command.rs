//! The command: splitting it into words, finding the program, and execve(2).
//!
//! Never uses a shell, and never expands anything.

use super::environment::{self, FEW, MANY};
use super::path::with_path;
use super::users::User;
use super::{Birth, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_SET_UP, Failure, give_up};
use crate::linux::raw::{self, Strings};
use crate::model::config::{Text, WORDS_MAX, split_words, value};
use core::ffi::CStr;
use heapless::Vec;
use rustix::io::Errno;

/// Becomes the command of `birth`, or logs why that is impossible.
#[inline(never)]
pub fn execute(birth: &Birth, user: &User) -> ! {
    if birth.is_main {
        let words = birth.options.main;
        let program = words.clone().next().unwrap_or_default();
        let errno = search(program, words, raw::environ);
        give_up(birth, &failed(program, errno));
    }
    let cmd = value(birth.text, b"cmd").unwrap_or_default();
    let mut words = Text::new();
    // The reader has split it before, so this succeeds, and every word has room.
    let _split = split_words(cmd, |byte| words.push(byte).ok());
    let mut list = Vec::<&CStr, WORDS_MAX>::new();
    let mut words = words.split_inclusive(|&byte| byte == 0);
    while let Some(Ok(word)) = words.next().map(CStr::from_bytes_with_nul) {
        let _fits = list.push(word);
    }
    let program = list.first().copied().unwrap_or_default();
    let mut room = [None; WORDS_MAX + 1];
    let list = Strings::new(&mut room, &list);
    let strings = environment::Strings::new(birth, user);
    let execute = |environment: Strings| {
        list.map_or(Errno::TOOBIG, |list| search(program, list, environment))
    };
    let errno = in_room::<FEW>(birth, &strings, &execute);
    match errno.or_else(|| in_room::<MANY>(birth, &strings, &execute)) {
        Some(errno) => give_up(birth, &failed(program, errno)),
        None => give_up(
            birth,
            &Failure {
                code: EXIT_SET_UP,
                verb: "take over the environment for",
                object: birth.name.as_bytes(),
                why: "more than 4095 variables",
            },
        ),
    }
}

/// Collects the environment in a list of `N`, and executes with it; none if the list is too short.
/// Never inlined, so that the longer list takes stack only if it is needed.
#[inline(never)]
fn in_room<const N: usize>(
    birth: &Birth,
    strings: &environment::Strings,
    execute: &dyn Fn(Strings) -> Errno,
) -> Option<Errno> {
    let mut list = Vec::<&CStr, N>::new();
    environment::collect_in(&mut list, birth, strings)?;
    Strings::new(&mut [None; N], &list).map(execute)
}

/// Makes a failure of why `program` could not be executed.
fn failed(program: &CStr, errno: Errno) -> Failure<'_> {
    let code = match errno {
        Errno::NOENT | Errno::NOTDIR => EXIT_NOT_FOUND,
        _ => EXIT_NOT_EXECUTABLE,
    };
    Failure { code, verb: "execute", object: program.to_bytes(), why: raw::reason(errno) }
}

/// Executes `program`, after a search in PATH if it has no slash, as execvp(3) does.
fn search(program: &CStr, words: Strings, environment: Strings) -> Errno {
    let execute = |path: &CStr| raw::execve(path, words, environment);
    // An empty name would match the directories themselves.
    if program.is_empty() || program.to_bytes().contains(&b'/') {
        return execute(program);
    }
    let mut result = Errno::NOENT;
    for dir in environment::path(environment).split(|&byte| byte == b':') {
        let dir = if dir.is_empty() { b"." } else { dir };
        match with_path(&[dir, b"/", program.to_bytes()], |path| Ok(execute(path))) {
            // Not in this directory; or the path would be too long.
            Err(_) | Ok(Errno::NOENT | Errno::NOTDIR) => {}
            // A later directory may have one that can be executed.
            Ok(Errno::ACCESS) => result = Errno::ACCESS,
            Ok(errno) => return errno,
        }
    }
    result
}
