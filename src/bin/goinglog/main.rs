//! goinglog(1), the log writer: from the command line to the loop.
//!
//! `logger` is the loop, `input` the pipe that lines come from, `output` where they go.
#![no_std]
#![no_main]

mod input;
mod logger;
mod output;

use core::ffi::CStr;
use going::linux::raw::{self, Strings};
use going::linux::stdio;
use going::model::stamp::{Stamp, rfc3339, tai64n};
use going::model::{lines, priority};
use logger::{Logger, Out, say, say_unable};

/// Usage error, see sysexits.h(3head).
const EXIT_USAGE: u8 = 64;
/// Unable to start.
const EXIT_START: u8 = 111;
/// Bytes of FILE, or of another word, in a message.
const SHOWN_MAX: usize = 400;

const USAGE: &str = include_str!("usage");
const VERSION: &str = concat!("goinglog ", env!("CARGO_PKG_VERSION"), "\n");

going::program!(run, Out);

/// What the command line says.
#[derive(Default)]
struct Options {
    /// FILE as given on the command line; empty if it is not given.
    word: &'static CStr,
    limit: usize,
    count: u32,
    stamp: Option<Stamp>,
    drops: bool,
    /// The priority of lines, if they go to syslog.
    syslog: Option<u8>,
}

impl Options {
    /// Takes a word, and the next one of `words` if that is its value. Exits if the option asks for
    /// the usage or the version. None if there is no such option or its value is bad.
    fn take(&mut self, word: &'static CStr, words: &mut Strings<'static>) -> Option<()> {
        let mut value = || words.next()?.to_str().ok();
        match word.to_bytes() {
            b"-s" => self.limit = lines::size(value()?)?,
            b"-n" => self.count = value()?.parse().ok().filter(|&count| count > 0)?,
            b"-p" => self.syslog = Some(priority::parse(value()?)?),
            b"-t" => self.stamp = Some(rfc3339),
            b"-T" => self.stamp = Some(tai64n),
            b"-d" => self.drops = true,
            b"-y" => self.syslog = self.syslog.or(priority::parse("daemon.info")),
            b"-h" => raw::exit(stdio::print(1, &[USAGE]).into()),
            b"-V" => raw::exit(stdio::print(1, &[VERSION]).into()),
            [first, ..] if *first != b'-' && self.word.is_empty() => self.word = word,
            _ => return None,
        }
        Some(())
    }

    /// FILE, unless it is only the name for syslog: that is a word without a slash.
    fn path(&self) -> Option<&'static CStr> {
        (self.syslog.is_none() || self.word.to_bytes().contains(&b'/')).then_some(self.word)
    }
}

/// The beginning of a word of the command line, for messages.
fn shown(word: &CStr) -> core::slice::EscapeAscii<'_> {
    let word = word.to_bytes();
    word.get(..SHOWN_MAX).unwrap_or(word).escape_ascii()
}

/// The program: its exit code, for the `words` of its command line.
fn run(mut words: Strings<'static>, out: &'static mut Out) -> u8 {
    stdio::fill();
    // 1 MiB, and ten older files.
    let mut options = Options { limit: 1 << 20, count: 10, ..Options::default() };
    words.next();
    while let Some(word) = words.next() {
        if options.take(word, &mut words).is_none() {
            return misused(word);
        }
    }
    if options.word.is_empty() {
        return misused(c"no FILE");
    }
    // Once it runs, nothing but the end of its input or TERM ends it.
    let code = Logger::new(&options, out).map(|mut logger| logger.run());
    code.unwrap_or_else(|failure| {
        say_unable(failure, &options, "");
        EXIT_START
    })
}

fn misused(word: &CStr) -> u8 {
    say(format_args!("unknown option or bad value: {}", shown(word)));
    stdio::print(2, &[USAGE]);
    EXIT_USAGE
}

/// No input leads here. If a defect does, the message says where it is.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    say(format_args!("{info}"));
    raw::exit(EXIT_START.into())
}
