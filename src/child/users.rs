//! Users and groups, from /etc/passwd and /etc/group: passwd(5), group(5).
//!
//! Reads these files byte by byte, so that no line is too long. Never uses another source of
//! accounts, and never falls back to an identity other than the one that was asked for.

use super::{Birth, EXIT_SET_UP, Failure, set_up as failed};
use crate::model::config::{self, value};
use core::ffi::CStr;
use heapless::Vec;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read};
use rustix::process::{Gid, Uid, getgid, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Groups of one user. (The kernel would accept 65536.)
const GROUPS_MAX: usize = 1024;
/// Bytes of one field, and of the value of an environment variable that is made of one.
pub const FIELD_MAX: usize = 256;

/// The index of the field of /etc/group that lists the members.
const MEMBERS: usize = 3;

/// One field of a line.
type Field = Vec<u8, FIELD_MAX>;

/// The identity that a service runs as. None means unchanged.
#[derive(Default)]
pub struct User {
    uid: Option<u32>,
    gid: Option<u32>,
    /// The name, the home directory and the shell in /etc/passwd.
    pub account: Option<[Field; 3]>,
}

/// Fills in `user`, which is the default, with the identity that the service asks for. Joins its
/// supplementary groups, too: they are looked up in /etc/group, which is out of reach after chroot.
#[inline(never)]
pub fn look_up<'a>(birth: &Birth<'a>, user: &mut User) -> Result<(), Failure<'a>> {
    let text = birth.text;
    let unknown = |verb, object, why| Failure { code: EXIT_SET_UP, verb, object, why };
    if let Some(asked) = value(text, b"user") {
        find_user(asked, user).map_err(failed("read /etc/passwd for user", asked))?;
        if user.uid.is_none() {
            return Err(unknown("find user", asked, "not in /etc/passwd"));
        }
    }
    if let Some(asked) = value(text, b"group") {
        user.gid = number(asked);
        if user.gid.is_none() {
            user.gid = find_group(asked).map_err(failed("read /etc/group for group", asked))?;
        }
        if user.gid.is_none() {
            return Err(unknown("find group", asked, "not in /etc/group"));
        }
    }
    if let Some(asked) = value(text, b"user").filter(|_| user.gid.is_none()) {
        return Err(unknown("find the group of user", asked, "not in /etc/passwd, group= missing"));
    }
    match value(text, b"user") {
        Some(asked) => join_groups(birth, asked, user),
        None => Ok(()),
    }
}

/// Joins the groups of `user`, whom the key `user` calls `asked`, and no others. Without
/// privileges, a process that is this user already keeps the groups that it has.
///
/// Never inlined, because most services have no user, and need no stack for groups.
#[inline(never)]
fn join_groups<'a>(birth: &Birth<'a>, asked: &'a [u8], user: &User) -> Result<(), Failure<'a>> {
    let mut groups = Vec::new();
    if let Some([name, ..]) = &user.account {
        find_groups(name, &mut groups).map_err(failed("read /etc/group for user", asked))?;
    }
    let own = user.gid.map(Gid::from_raw).filter(|own| !groups.contains(own));
    let fits = own.is_none_or(|own| groups.push(own).is_ok());
    let joined = if fits { set_thread_groups(&groups) } else { Err(Errno::TOOBIG) };
    // To stay the same user takes no privileges.
    let is_it = || (user.uid, user.gid) == (Some(getuid().as_raw()), Some(getgid().as_raw()));
    if joined == Err(Errno::PERM) && is_it() {
        return Ok(());
    }
    joined.map_err(failed("change the user of", birth.name.as_bytes()))
}

/// Becomes `user`, whose groups have been joined. The user ID comes last, because a process that is
/// no longer root may not change its group.
pub fn become_user(user: &User) -> Result<(), Errno> {
    if let Some(gid) = user.gid.map(Gid::from_raw) {
        set_thread_res_gid(gid, gid, gid)?;
    }
    if let Some(uid) = user.uid.map(Uid::from_raw) {
        set_thread_res_uid(uid, uid, uid)?;
    }
    Ok(())
}

/// The user or group ID that `value` is, if it is a number. The greatest one is none: setresuid(2)
/// takes it for "unchanged".
fn number(value: &[u8]) -> Option<u32> {
    config::number(value)?.try_into().ok().filter(|number| *number != u32::MAX)
}

/// Finds the line of /etc/passwd whose name or number is `asked`.
fn find_user(asked: &[u8], user: &mut User) -> Result<(), Errno> {
    user.uid = number(asked);
    let by_number = user.uid.is_some();
    let [mut name, mut uid, mut gid, mut home, mut shell] = [const { Field::new() }; 5];
    each_field(c"/etc/passwd", &mut |index, field| {
        let place = match index {
            0 => &mut name,
            2 => &mut uid,
            3 => &mut gid,
            5 => &mut home,
            6 => &mut shell,
            _ => return,
        };
        place.clone_from(field);
        let is_asked = if by_number { number(&uid) == number(asked) } else { name == asked };
        if index == 6 && is_asked && user.account.is_none() {
            let numbers = (number(&uid), number(&gid));
            if let (Some(uid), Some(gid)) = numbers {
                (user.uid, user.gid) = (Some(uid), Some(gid));
                user.account = Some([name.clone(), home.clone(), shell.clone()]);
            }
        }
    })
}

/// Finds the number of the group called `asked`.
fn find_group(asked: &[u8]) -> Result<Option<u32>, Errno> {
    let (mut is_asked, mut gid) = (false, None);
    each_field(c"/etc/group", &mut |index, field| match index {
        0 => is_asked = field == asked,
        2 if is_asked && gid.is_none() => gid = number(field),
        _ => {}
    })?;
    Ok(gid)
}

/// Finds the groups that have the user called `name` as a member. An empty name is in none.
fn find_groups(name: &[u8], groups: &mut Vec<Gid, GROUPS_MAX>) -> Result<(), Errno> {
    let (mut gid, mut fits) = (None, true);
    // A group without members has an empty field there.
    let is_name = |field: &[u8]| field == name && !name.is_empty();
    each_field(c"/etc/group", &mut |index, field| match (index, gid) {
        (2, _) => gid = number(field),
        (MEMBERS, Some(number)) if is_name(field) && !groups.contains(&Gid::from_raw(number)) => {
            fits &= groups.push(Gid::from_raw(number)).is_ok();
        }
        _ => {}
    })?;
    if fits { Ok(()) } else { Err(Errno::TOOBIG) }
}

/// Calls `visit` with the index and the bytes of each field of each line of the file at `path`. The
/// members of a group, which commas separate, are visited one by one with the same index. A field
/// that is too long is visited as an empty one.
fn each_field(path: &CStr, visit: &mut dyn FnMut(usize, &Field)) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        // A container that holds just one program has neither file, and no accounts.
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let (mut chunk, mut field, mut index, mut fits) = ([0; 1024], Field::new(), 0_usize, true);
    loop {
        let len = read(&file, &mut chunk)?;
        // The last line may lack its end.
        let bytes = if len == 0 { &b"\n"[..] } else { chunk.get(..len).unwrap_or_default() };
        for &byte in bytes {
            // Commas separate the members of a group only; a home directory may contain one.
            if !matches!(byte, b':' | b'\n') && (byte, index) != (b',', MEMBERS) {
                fits &= field.push(byte).is_ok();
                continue;
            }
            if !fits {
                field.clear();
            }
            visit(index, &field);
            (index, fits) = match byte {
                b':' => (index.saturating_add(1), true),
                b',' => (index, true),
                _ => (0, true),
            };
            field.clear();
        }
        if len == 0 {
            return Ok(());
        }
    }
}
