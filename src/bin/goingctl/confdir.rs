//! CONFDIR: reads and writes service files, and the leading dot that hides one from going.

use crate::output::{EXIT_ABSENT, Failure, fault, io_error, print, unable};
use crate::regular;
use going::child::reader;
use going::linux::table::{Slot, Slots};
use going::model::config::{Fault, Text, parse, service_name, split_words};
use going::model::entry::Entry;
use rustix::fs::{
    AtFlags, CWD, RenameFlags, XattrFlags, getxattr, linkat, removexattr, renameat_with, setxattr,
    unlink,
};
use rustix::io::Errno;
use std::cell::RefCell;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process;

/// The mode of a file that everybody may read.
pub const MODE_OPEN: u32 = 0o644;
/// The mode of a file that may hold passwords.
pub const MODE_CLOSED: u32 = 0o600;
/// The permissions of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;
/// The attribute that holds an access control list, see acl(5), and the length of the longest one,
/// which has some 500 entries.
const ACL: &str = "system.posix_acl_access";
const ACL_LEN_MAX: usize = 4096;

/// The file name of a disabled service.
pub fn disabled(name: &str) -> String {
    format!(".{name}")
}

/// The file names of all services, those of disabled ones last.
pub fn names(confdir: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(confdir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut names: Vec<String> = entries
        .map_err(unable(format!("read {}", confdir.display())))?
        .iter()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| service_name(name.trim_start_matches('.').as_bytes()).is_some())
        .filter(|name| !name.starts_with(".."))
        .collect();
    names.sort_by_key(|name| (name.starts_with('.'), name.clone()));
    Ok(names)
}

/// Whether there is a file for an enabled service of this name.
pub fn has(confdir: &Path, name: &str) -> bool {
    service_name(name.as_bytes()).is_some() && confdir.join(name).is_file()
}

/// The file of a service; that of a disabled one only if there is no other.
pub fn file(confdir: &Path, name: &str) -> PathBuf {
    let (path, hidden) = (confdir.join(name), confdir.join(disabled(name)));
    if !path.exists() && hidden.exists() { hidden } else { path }
}

/// The normalised text of a service file.
pub fn text(confdir: &Path, name: &str) -> Result<Text, Failure> {
    let path = file(confdir, name);
    let raw = regular::read(&path).map_err(unable(format!("read {}", path.display())))?;
    normalise(name, &raw)
}

/// The normalised text of `raw`, or what is wrong with it, in the words of `going -n`.
pub fn normalise(name: &str, raw: &[u8]) -> Result<Text, Failure> {
    let mut text = Text::new();
    match parse(raw, &mut text) {
        Ok(()) => Ok(text),
        Err(found) => Err(fault(told(name, found))),
    }
}

/// The words of `cmd`, each with a NUL at its end. None if it cannot be split.
pub fn words(cmd: &[u8]) -> Option<Text> {
    let mut words = Text::new();
    split_words(cmd, |byte| words.push(byte).ok()).map(|()| words)
}

fn told(name: &str, (line, (reason, what)): Fault) -> String {
    format!("{name}:{line}: {reason} \"{}\"", what.escape_ascii())
}

/// Checks all files of a directory, or a single file of any name, and prints what `going -n` would.
/// Returns whether all is well.
pub fn check(confdir: &Path) -> Result<bool, Failure> {
    if confdir.is_file() {
        let raw = regular::read(confdir).map_err(unable(format!("read {}", confdir.display())))?;
        let name = confdir.file_name().unwrap_or_default().as_bytes().escape_ascii().to_string();
        let checked = normalise(&name, &raw).map(|_| "configuration OK".to_owned());
        let is_good = checked.is_ok();
        return print(checked.unwrap_or_else(|failure| failure.text) + "\n").map(|()| is_good);
    }
    let path = CString::new(confdir.as_os_str().as_bytes());
    let path = path.map_err(|error| unable("read the directory")(error.into()))?;
    let mut slots = Box::new(Slots::new());
    // The slot of the main command, which there is none of.
    let _fits = slots.push(Slot::new(Entry::default(), 0));
    let said = RefCell::new(String::new());
    let is_good = reader::is_good(&path, &mut slots, &|line| {
        said.borrow_mut().extend([line, "\n"]);
    });
    print(said.into_inner()).map(|()| is_good)
}

/// Renames a file, unless there is already one of the new name.
pub fn rename(confdir: &Path, from: &str, to: &str) -> Result<(), Failure> {
    rename_only(&confdir.join(from), &confdir.join(to)).map_err(|error| {
        let is_absent = error.kind() == ErrorKind::NotFound;
        let failure = unable(format!("rename {from} to {to}"))(error);
        if is_absent { Failure { code: EXIT_ABSENT, ..failure } } else { failure }
    })
}

/// The same, for any two paths in one directory.
pub fn rename_only(old: &Path, new: &Path) -> io::Result<()> {
    let (old, new) = (old.as_os_str().as_bytes(), new.as_os_str().as_bytes());
    let renamed = match renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE) {
        // NFS and older ZFS, for example, lack this flag. A link overwrites nothing, either.
        Err(Errno::INVAL) => {
            linkat(CWD, old, CWD, new, AtFlags::empty()).and_then(|()| unlink(old))
        }
        renamed => renamed,
    };
    renamed.map_err(io_error)
}

/// Puts the draft in the place of the file if that still contains `before`. Returns whether it did.
pub fn replace(draft: &Path, path: &Path, before: &[u8]) -> io::Result<bool> {
    let is_same = |path| regular::read(path).is_ok_and(|text| text == before);
    let exchange = || {
        let (draft, path) = (draft.as_os_str().as_bytes(), path.as_os_str().as_bytes());
        renameat_with(CWD, draft, CWD, path, RenameFlags::EXCHANGE)
    };
    if !is_same(path) {
        return Ok(false);
    }
    // Somebody else may still change the file here. So we exchange the two, and look at the old one
    // again when it is out of the way.
    match exchange() {
        Ok(()) if is_same(draft) => {
            let _stays = fs::remove_file(draft);
            Ok(true)
        }
        Ok(()) => exchange().map(|()| false).map_err(io_error),
        Err(Errno::NOENT) => Ok(false),
        // See `rename_only`.
        Err(Errno::INVAL) => fs::rename(draft, path).map(|()| true),
        Err(errno) => Err(io_error(errno)),
    }
}

/// Writes a file as a whole: a reader sees either the old or the new one. A link stays a link, and
/// what is not a regular file is refused. An existing file is replaced only if `may_replace`.
pub fn write(path: &Path, text: &[u8], mode: u32, may_replace: bool) -> Result<(), Failure> {
    let what = unable(format!("write {}", path.display()));
    let write = || {
        let path = &target(path)?;
        if path.exists() && !path.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
        }
        let (draft, mut file) = draft(path, mode)?;
        let place = if may_replace { fs::rename } else { rename_only };
        let written = resemble(&draft, path, mode)
            .and_then(|()| file.write_all(text))
            .and_then(|()| file.sync_all())
            .and_then(|()| place(&draft, path));
        if written.is_err() {
            let _none = fs::remove_file(&draft);
        }
        written
    };
    write().map_err(what)
}

/// Gives a draft the owner, mode and ACL of the file that it replaces, if there is one. What was
/// closed to others stays closed; with [`MODE_CLOSED`] it is closed to them in any case.
pub fn resemble(draft: &Path, path: &Path, mode: u32) -> io::Result<()> {
    let (old, new) = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        old => (old?, fs::metadata(draft)?),
    };
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        chown(draft, Some(old.uid()), Some(old.gid()))?;
    }
    copy_acl(path.as_os_str().as_bytes(), draft.as_os_str().as_bytes()).map_err(io_error)?;
    let is_open = old.mode() & OTHERS != 0;
    let mode = if mode == MODE_CLOSED && is_open { mode } else { old.mode() };
    fs::set_permissions(draft, Permissions::from_mode(mode))
}

fn copy_acl(from: &[u8], to: &[u8]) -> Result<(), Errno> {
    let mut acl = [0; ACL_LEN_MAX];
    match getxattr(from, ACL, &mut acl) {
        Ok(len) => setxattr(to, ACL, acl.get(..len).unwrap_or_default(), XattrFlags::empty()),
        // The draft may have inherited a default ACL from its directory, which the old file lacks.
        Err(Errno::NODATA | Errno::OPNOTSUPP) => {
            let _none = removexattr(to, ACL);
            Ok(())
        }
        Err(errno) => Err(errno),
    }
}

/// Where a file is, or is to be made. A dangling link is an error: writing would replace the link.
pub fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {
            Ok(path.to_owned())
        }
        found => found,
    }
}

/// Creates a draft of a file: beside it, under a name that going ignores. The name is a new one,
/// even if another machine that shares the disk uses the same PID or has left a draft of that
/// number.
pub fn draft(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_start_matches('.');
    let mut number = process::id();
    loop {
        let draft = path.with_file_name(format!(".{name}.{number}.new"));
        match File::options().write(true).create_new(true).mode(mode).open(&draft) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                number = number.wrapping_add(1);
            }
            made => return made.map(|file| (draft, file)),
        }
    }
}
