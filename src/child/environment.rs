//! The environment of a service: the default or inherited one, what `user` adds to it, and the
//! lines `env`.
//!
//! The list copies no string: each of its entries points to where the string is stored already.

use super::Birth;
use super::users::{FIELD_MAX, User};
use crate::linux::raw;
use crate::model::config::Text;
use crate::model::order::Place;
use core::ffi::CStr;
use heapless::{Vec, VecView};

/// Room for most environments, with the null pointer at the end.
pub const FEW: usize = 128;
/// Room for all others, likewise: a large environment may be inherited.
pub const MANY: usize = 4096;
/// The default PATH.
const PATH: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `NAME=VALUE`, made of a field of /etc/passwd, with its NUL.
type Variable = Vec<u8, { FIELD_MAX + 16 }>;

/// The strings that are stored nowhere else as C strings.
pub struct Strings {
    /// The service's text, each line of it a C string.
    lines: Text,
    /// What `user` adds.
    account: Vec<Variable, 4>,
}

impl Strings {
    /// Makes the strings for a service that runs as `user`.
    pub fn new(birth: &Birth, user: &User) -> Self {
        let ends = |&byte: &u8| if byte == b'\n' { 0 } else { byte };
        let lines = birth.text.iter().map(ends).collect();
        let mut account = Vec::new();
        if let Some([name, home, shell]) = &user.account {
            let shell = if shell.is_empty() { &b"/bin/sh"[..] } else { shell };
            let variables = [
                (&b"HOME="[..], &home[..]),
                (b"USER=", name),
                (b"LOGNAME=", name),
                (b"SHELL=", shell),
            ];
            for (name, value) in variables {
                let parts = [name, value, b"\0"].into_iter().flatten().copied();
                let _fits = account.push(parts.collect());
            }
        }
        Self { lines, account }
    }
}

/// Fills `list` with all entries. Each name occurs once: later entries replace earlier ones. None
/// if there are too many. Takes a view, so that there is one function for lists of all lengths.
#[inline(never)]
pub fn collect_in<'a>(
    list: &mut VecView<&'a CStr>,
    birth: &'a Birth,
    strings: &'a Strings,
) -> Option<()> {
    let own = raw::environ;
    let inherited = own.filter(|_| birth.options.place != Place::Process);
    let to_string = |bytes: &'a [u8]| CStr::from_bytes_with_nul(bytes).ok();
    let account = strings.account.iter().filter_map(move |bytes| to_string(bytes));
    let lines = strings.lines.split_inclusive(|&byte| byte == 0);
    let settings = lines.filter_map(|line| line.strip_prefix(b"env=")).filter_map(to_string);
    let set = settings.flat_map(move |setting| {
        // If the setting has a value, no entry's name equals it.
        let is_meant = move |entry: &&CStr| setting == c"*" || name(entry) == setting.to_bytes();
        let value = setting.to_bytes().contains(&b'=').then_some(setting);
        value.into_iter().chain(own.filter(is_meant))
    });
    let entries = [PATH].into_iter().chain(inherited).chain(account).chain(set);
    for entry in entries {
        let name_of_it = name(entry);
        match list.iter_mut().find(|other| name(other) == name_of_it) {
            Some(other) => *other = entry,
            None => list.push(entry).ok()?,
        }
    }
    Some(())
}

/// The value of PATH in `environment`, or the default one.
pub fn path(environment: raw::Strings<'_>) -> &[u8] {
    let mut entries = environment.chain([PATH]);
    entries.find_map(|entry| entry.to_bytes().strip_prefix(b"PATH=")).unwrap_or_default()
}

/// The part of an entry before the `=`.
fn name(entry: &CStr) -> &[u8] {
    entry.to_bytes().split(|&byte| byte == b'=').next().unwrap_or_default()
}
