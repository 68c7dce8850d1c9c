//! What is printed where, and the exit codes.

use going::linux::raw;
use rustix::io::Errno;
use std::io::{self, ErrorKind, Write};
use std::sync::Once;

/// All is as it should be.
pub const EXIT_OK: u8 = 0;
/// Something could not be done, or not in time.
pub const EXIT_FAILED: u8 = 1;
/// Not every wanted service is up.
pub const EXIT_NOT_UP: u8 = 3;
/// There is no such service, or going is not running.
pub const EXIT_ABSENT: u8 = 4;
/// Usage error, see sysexits.h(3head).
pub const EXIT_USAGE: u8 = 64;

/// Why the program ends, and its exit code.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub text: String,
}

impl Failure {
    pub fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// The failure of something that could not be done.
pub fn fault(text: impl Into<String>) -> Failure {
    Failure::new(EXIT_FAILED, text)
}

/// `unable to do what: why`.
pub fn unable(what: impl AsRef<str>) -> impl FnOnce(io::Error) -> Failure {
    move |error| fault(format!("unable to {}: {}", what.as_ref(), reason(&error)))
}

/// What the error means, in the words that going uses.
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => raw::reason(Errno::from_raw_os_error(number)).to_owned(),
        None => error.to_string(),
    }
}

/// The same error, as one of the standard library.
pub fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

/// Prints to standard output. If nobody reads it, that is not a failure: the work itself is done.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(unable("print")(error)),
        _ => Ok(()),
    }
}

/// Prints what became of a service. Returns whether that worked: if not, the other services are
/// still dealt with, and one warning for all of them is enough.
pub fn tell(name: &str, text: &str) -> bool {
    static WARNED: Once = Once::new();
    let told = print(format!("{}: {}\n", visible(name), visible(text)));
    told.map_err(|failure| WARNED.call_once(|| warn(&failure.text))).is_ok()
}

/// Prints a warning on standard error.
pub fn warn(text: impl AsRef<str>) {
    let line = format!("goingctl: {}\n", visible(text.as_ref()));
    let _unread = io::stderr().write_all(line.as_bytes());
}

/// The text with every character escaped that is not visible as such. Control characters would act
/// on the terminal, and those that change the direction of the text would mislead the reader.
pub fn visible(text: &str) -> String {
    let show = |char: char| match char {
        '\\' | '\'' | '"' => char.to_string(),
        _ => char.escape_debug().to_string(),
    };
    text.chars().map(show).collect()
}
