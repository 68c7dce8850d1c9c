//! The environment of a service: where it begins, what `user` adds to it, and the lines `env`.
//!
//! Never copies a string: each entry points to where it is anyway.

use super::Birth;
use super::users::{FIELD_MAX, User};
use crate::linux::raw;
use crate::model::config::Text;
use crate::model::order::Place;
use core::ffi::CStr;
use heapless::{Vec, VecView};

/// Entries of most environments, and one for the end.
pub const FEW: usize = 128;
/// Entries of all others, likewise: what is inherited may be much.
pub const MANY: usize = 4096;
/// Where a command without a slash is looked for.
const PATH: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `NAME=VALUE` made of a field of /etc/passwd, with its NUL.
type Variable = Vec<u8, { FIELD_MAX + 16 }>;

/// What entries point to that has no place elsewhere.
pub struct Strings {
    /// The service's text, each line of it a C string.
    lines: Text,
    account: Vec<Variable, 4>,
}

impl Strings {
    /// Makes them, for a service that runs as `user`.
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

/// Fills `list` with all entries, each name once; later ones in place of earlier ones. None if they
/// are too many. Once for all sizes of lists, not once for each.
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
        // What has a value is no name.
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

/// The value of PATH in an environment, or the default one.
pub fn path(environment: raw::Strings<'_>) -> &[u8] {
    let mut entries = environment.chain([PATH]);
    entries.find_map(|entry| entry.to_bytes().strip_prefix(b"PATH=")).unwrap_or_default()
}

/// What stands before the `=`.
fn name(entry: &CStr) -> &[u8] {
    entry.to_bytes().split(|&byte| byte == b'=').next().unwrap_or_default()
}
