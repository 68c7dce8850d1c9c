//! One service file: turns its bytes into normalised text, or into the first fault and its line.
//!
//! Normalised text is `key=value\n` for every setting, in the order of the file, without comments
//! and blanks. Values are looked up in it by key, and comparing two texts tells whether the
//! settings have changed.
//!
//! Runs in children (see `child::reader`), in `going -n` and in goingctl, never in the supervisor.
//! Never opens a file.

pub use crate::model::entry::{NAME_MAX, Name};
use crate::model::service::{Policy, Restart, TIMEOUT_MS};
use heapless::Vec;
use linux_raw_sys::general::SIGTERM;

/// Bytes of one file's normalised text.
pub const TEXT_MAX: usize = 4096;
/// Bytes of the texts of all services together.
pub const POOL_MAX: usize = 48 * 1024;
/// Bytes of one file, including comments.
pub const FILE_MAX: usize = 16 * 1024;
/// Lines `env` of one file.
pub const ENV_MAX: usize = 128;
/// Words of one `cmd`.
pub const WORDS_MAX: usize = 128;
/// Bytes of the name of a user or a group.
pub const ACCOUNT_MAX: usize = 64;

/// The normalised text of one service file, or the words of its `cmd`, which are never longer.
pub type Text = Vec<u8, TEXT_MAX>;
/// Why a line was rejected, and which part of it.
pub type Reason<'a> = (&'static str, &'a [u8]);
/// The line, counted from 1, or 0 for the file as a whole; and the reason.
pub type Fault<'a> = (u32, Reason<'a>);

/// A key, the test of its values, and what is wrong with a value that fails it.
type Key = (&'static [u8], fn(&[u8]) -> bool, &'static str);

/// All keys. Only `env` may be given more than once.
const KEYS: [Key; 10] = [
    (b"cmd", is_command, "not a command of 1 to 128 words with every quote closed:"),
    (b"cwd", is_absolute, "not an absolute path:"),
    (b"chroot", is_absolute, "not an absolute path:"),
    (b"env", is_environment, "not NAME=VALUE, NAME or *:"),
    (b"user", is_account, "not the name or the number of a user:"),
    (b"group", is_account, "not the name or the number of a group:"),
    (b"log", is_log, "not inherit, null, an absolute path or the name of a service:"),
    (b"restart", is_restart, "not always, failure, never or exit:"),
    (b"stop", |value| signal(value).is_some(), "not a signal's name without SIG, or its number:"),
    (b"timeout", is_seconds, "not a number of seconds, at most 999999:"),
];

/// The signals that have a name, from 1 on, see signal(7).
pub const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The greatest signal number.
const SIGNAL_MAX: u8 = 64;

/// `name` as a service's name, if it is one: `[A-Za-z0-9_@-]{1,32}`, run-parts(8)'s rule and `@`.
///
/// ```
/// use going::model::config::service_name;
/// assert!(service_name(b"web@8080").is_some());
/// assert!(service_name(b"web.dpkg-old").is_none());
/// ```
pub fn service_name(name: &[u8]) -> Option<Name> {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@-".contains(byte);
    let name = str::from_utf8(name).ok()?;
    let is_name = !name.is_empty() && name.as_bytes().iter().all(is_allowed);
    Name::try_from(name).ok().filter(|_| is_name)
}

/// The values of `key` in normalised `text`, in order.
pub fn values<'a>(text: &'a [u8], key: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let lines = text.split(|&byte| byte == b'\n');
    lines.filter_map(move |line| line.strip_prefix(key)?.strip_prefix(b"="))
}

/// The value of a `key` that is given at most once.
pub fn value<'a>(text: &'a [u8], key: &'a [u8]) -> Option<&'a [u8]> {
    values(text, key).next()
}

/// The part of normalised `text` that concerns the supervisor. `log` is the index of the service
/// that it logs to, of which the text has only the name.
pub fn policy(text: &[u8], log: Option<u16>) -> Policy {
    let restart = match value(text, b"restart") {
        Some(b"failure") => Restart::Failure,
        Some(b"never") => Restart::Never,
        Some(b"exit") => Restart::Exit,
        _ => Restart::Always,
    };
    let number = |key| number(value(text, key)?)?.try_into().ok();
    let timeout_ms = number(b"timeout").map_or(TIMEOUT_MS, |s: u32| s.saturating_mul(1_000));
    Policy { restart, stop: number(b"stop").unwrap_or(SIGTERM), timeout_ms, log }
}

/// The number that `digits` stand for, if they are digits and nothing else.
pub fn number(digits: &[u8]) -> Option<u64> {
    let text = str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    text?.parse().ok()
}

/// FNV-1a of all `parts`. It tells texts apart, and messages about files.
#[inline(never)]
pub fn hash(parts: [&[u8]; 3]) -> u32 {
    let mix = |hash: u32, &byte: &u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    parts.into_iter().flatten().fold(0x811c_9dc5, mix)
}

/// Parses the service file `raw`, and leaves its normalised form in `text`.
///
/// # Errors
/// The first fault of the file, and its line. A missing key is reported on the last line.
///
/// ```
/// use going::model::config::{Text, parse, value};
/// let mut text = Text::new();
/// assert_eq!(parse(b"# the web server\n cmd = httpd -f\n", &mut text), Ok(()));
/// assert_eq!(value(&text, b"cmd"), Some(&b"httpd -f"[..]));
/// let fault = parse(b"cmd=httpd\ncomand=x", &mut text);
/// assert_eq!(fault, Err((2, ("unknown key", &b"comand"[..]))));
/// ```
pub fn parse<'a>(raw: &'a [u8], text: &mut Text) -> Result<(), Fault<'a>> {
    text.clear();
    let (mut line, mut end) = (0, 0_usize);
    for (bytes, number) in raw.split(|&byte| byte == b'\n').zip(1..) {
        (line, end) = (number, end.saturating_add(bytes.len()));
        // Not parsed, because the end of such a file is not read: this line may have been cut.
        if end > FILE_MAX {
            return Err((line, ("file longer than", b"16384 bytes")));
        }
        end = end.saturating_add(1);
        parse_line(bytes.trim_ascii(), text).map_err(|reason| (line, reason))?;
    }
    value(text, b"cmd").map(|_| ()).ok_or((line, ("missing key", b"cmd")))
}

/// Parses one line, which has been trimmed, and appends it to `text`.
// Never inlined: the program has to stay below 64 KiB.
#[inline(never)]
fn parse_line<'a>(line: &'a [u8], text: &mut Text) -> Result<(), Reason<'a>> {
    if line.contains(&0) {
        return Err(("NUL byte in", line));
    }
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(());
    }
    let mut halves = line.splitn(2, |&byte| byte == b'=');
    let key = halves.next().unwrap_or_default().trim_ascii_end();
    let value = halves.next().ok_or(("no = in", line))?.trim_ascii_start();
    let (_, is_good, wanted) =
        KEYS.iter().find(|(name, ..)| *name == key).ok_or(("unknown key", key))?;
    let count = values(text, key).count();
    if count > 0 && key != b"env" {
        return Err(("given twice:", key));
    }
    if count == ENV_MAX {
        return Err(("more than 128 lines with", key));
    }
    if !is_good(value) {
        return Err((wanted, value));
    }
    let number;
    let value = match signal(value).filter(|_| key == b"stop") {
        Some(signal) => {
            number = [b'0' | signal.div_euclid(10), b'0' | signal.rem_euclid(10)];
            number.get(usize::from(signal < 10)..).unwrap_or_default()
        }
        None => value,
    };
    let fits = [key, b"=", value, b"\n"].iter().all(|part| text.extend_from_slice(part).is_ok());
    if fits { Ok(()) } else { Err(("more than 4096 bytes of settings with", key)) }
}

/// Splits `cmd` into words: calls `push` with every byte of each word, and a NUL after it. None if
/// a quote is not closed, if a backslash is the last byte, or as soon as `push` returns none.
///
/// Blanks separate. `'…'` is literal; in `"…"` a backslash stands for itself unless `"` or `\`
/// follows; outside quotes a backslash makes the next byte literal. Nothing is expanded.
///
/// ```
/// use going::model::config::{Text, split_words};
/// let mut words = Text::new();
/// assert!(split_words(br#"sh -c 'a b' "c\"d" "" e\ f"#, |byte| words.push(byte).ok()).is_some());
/// assert_eq!(words, b"sh\0-c\0a b\0c\"d\0\0e f\0");
/// assert!(split_words(b"sh -c 'a b", |_| Some(())).is_none());
/// ```
pub fn split_words(cmd: &[u8], mut push: impl FnMut(u8) -> Option<()>) -> Option<()> {
    let (mut quote, mut in_word) = (None, false);
    let mut bytes = cmd.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let is_blank = quote.is_none() && matches!(byte, b' ' | b'\t');
        let is_quote = quote.map_or(matches!(byte, b'\'' | b'"'), |open| open == byte);
        let is_escape = byte == b'\\' && quote != Some(b'\'');
        if is_quote {
            quote = quote.xor(Some(byte));
        } else if is_escape && quote.is_none() {
            push(bytes.next()?)?;
        } else if is_escape {
            push(bytes.next_if(|next| b"\"\\".contains(next)).unwrap_or(byte))?;
        } else if !is_blank {
            push(byte)?;
        } else if in_word {
            push(0)?;
        }
        in_word = !is_blank;
    }
    if in_word {
        push(0)?;
    }
    quote.is_none().then_some(())
}

/// Whether it can be split into words, not too many, of which the first is not empty.
fn is_command(value: &[u8]) -> bool {
    let (mut first, mut words) = (0, 0_usize);
    let split = split_words(value, |byte| {
        first = if words == 0 { first | byte } else { first };
        words = words.saturating_add((byte == 0).into());
        Some(())
    });
    split.is_some() && first != 0 && words <= WORDS_MAX
}

/// Whether it is an absolute path.
fn is_absolute(value: &[u8]) -> bool {
    value.starts_with(b"/")
}

/// Whether it names a variable, or all of them.
fn is_environment(value: &[u8]) -> bool {
    !value.is_empty() && !value.starts_with(b"=")
}

/// Whether it can be the first field of a line of passwd(5) or group(5).
fn is_account(value: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_graphic() && !b":,".contains(byte);
    !value.is_empty() && value.len() <= ACCOUNT_MAX && value.iter().all(is_allowed)
}

/// Whether it says where the output goes.
fn is_log(value: &[u8]) -> bool {
    is_absolute(value) || service_name(value).is_some()
}

/// Whether it says after what kind of end a service is respawned.
fn is_restart(value: &[u8]) -> bool {
    matches!(value, b"always" | b"failure" | b"never" | b"exit")
}

/// Whether it is a number of at most six digits.
fn is_seconds(value: &[u8]) -> bool {
    value.len() <= 6 && number(value).is_some()
}

/// The signal whose name or number is `value`.
///
/// ```
/// use going::model::config::signal;
/// assert_eq!(signal(b"TERM"), Some(15));
/// assert_eq!(signal(b"37"), Some(37));
/// assert_eq!(signal(b"SIGTERM"), None);
/// ```
pub fn signal(value: &[u8]) -> Option<u8> {
    let mut names = SIGNALS.iter().zip(1..);
    let named = names.find(|(name, _)| name.as_bytes() == value).map(|(_, number)| number);
    let number = || number(value).filter(|_| is_seconds(value))?.try_into().ok();
    named.or_else(number).filter(|number| (1..=SIGNAL_MAX).contains(number))
}
