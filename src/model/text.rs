//! Normalised text: what is kept of a service file, and the name that the file has.
//!
//! `key=value\n` for every setting, in the file's order, without comments and blanks, checked
//! before it came here. Who needs a value looks it up by key, the supervisor and the child alike,
//! and whether a file changed is one comparison of bytes.

use heapless::Vec;

/// Bytes of one file's normalised text.
pub const TEXT_MAX: usize = 4096;
/// Bytes of one service's name.
pub const NAME_MAX: usize = 32;

/// The name of a service, which is that of its file.
pub type Name = heapless::String<NAME_MAX, u8>;
/// Normalised text of one service file, or the words of its `cmd`, which are never longer.
pub type Text = Vec<u8, TEXT_MAX>;

/// `name` as a service's name, if it is one: `[A-Za-z0-9_@-]{1,32}`, run-parts(8)'s rule and `@`.
///
/// ```
/// use going::model::text::service_name;
/// assert!(service_name(b"web@8080").is_some());
/// assert!(service_name(b"web.dpkg-old").is_none());
/// ```
pub fn service_name(name: &[u8]) -> Option<Name> {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@-".contains(byte);
    let name = core::str::from_utf8(name).ok()?;
    let is_name = !name.is_empty() && name.as_bytes().iter().all(is_allowed);
    Name::try_from(name).ok().filter(|_| is_name)
}

/// The values that `key` has in normalised `text`, in order.
pub fn values<'a>(text: &'a [u8], key: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let lines = text.split(|&byte| byte == b'\n');
    lines.filter_map(move |line| line.strip_prefix(key)?.strip_prefix(b"="))
}

/// The value of a `key` that is given once at the most.
pub fn value<'a>(text: &'a [u8], key: &'a [u8]) -> Option<&'a [u8]> {
    values(text, key).next()
}
