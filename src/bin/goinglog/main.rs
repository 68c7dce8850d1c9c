//! goinglog(1), the log writer: from the command line to the loop.
//!
//! `logger` is the loop, `input` the pipe that lines come from, `file` and `syslog` where they go.
#![no_std]
#![no_main]

mod file;
mod input;
mod logger;
mod syslog;

use core::ffi::CStr;
use core::num::NonZeroU32;
use core::panic::PanicInfo;
use going::linux::raw::{self, Strings};
use going::linux::stdio;
use going::model::{lines, priority, stamp::Style};
use logger::{Logger, Memory, Options, say, say_unable};

/// Misused, see sysexits.h(3head).
const EXIT_USAGE: u8 = 64;
/// Unable to start.
const EXIT_START: u8 = 111;

const USAGE: &str = include_str!("usage");
const VERSION: &str = concat!("goinglog ", env!("CARGO_PKG_VERSION"), "\n");

going::program!(run, Memory);

/// The program: its exit code, for the `words` of its command line.
fn run(words: Strings<'static>, _: Strings<'static>, memory: &'static mut Memory) -> u8 {
    stdio::fill();
    let mut options = Options::DEFAULT;
    let mut words = words.skip(1);
    while let Some(word) = words.next() {
        match word.to_bytes() {
            b"-h" => return stdio::print(1, &[USAGE]),
            b"-V" => return stdio::print(1, &[VERSION]),
            _ if take(&mut options, word, || words.next()).is_none() => return misused(word),
            _ => {}
        }
    }
    if options.word.is_empty() {
        return misused(c"no FILE");
    }
    // Once it runs, nothing ends it but the end of its input and TERM.
    let code = Logger::new(&options, memory).map(|mut logger| logger.run());
    code.unwrap_or_else(|failure| {
        say_unable(failure, &options, "");
        EXIT_START
    })
}

/// Takes a word, and the `next` one if that is its value. None: there is no such option, or no such
/// value.
fn take(
    options: &mut Options,
    word: &'static CStr,
    next: impl FnOnce() -> Option<&'static CStr>,
) -> Option<()> {
    let value = || next()?.to_str().ok();
    match word.to_bytes() {
        b"-s" => options.limit = lines::size(value()?)?,
        b"-n" => options.count = value()?.parse::<NonZeroU32>().ok()?.get(),
        b"-p" => options.priority = priority::parse(value()?)?,
        b"-t" => options.style = Some(Style::Rfc3339),
        b"-T" => options.style = Some(Style::Tai64n),
        b"-d" => options.drops = true,
        b"-y" => options.has_syslog = true,
        [b'-', ..] | [] => return None,
        _ if !options.word.is_empty() => return None,
        _ => options.word = word,
    }
    Some(())
}

fn misused(word: &CStr) -> u8 {
    let word = word.to_str().unwrap_or("?");
    stdio::print(2, &["goinglog: unknown option or bad value: ", word, "\n", USAGE]);
    EXIT_USAGE
}

/// No input leads here. Should a defect do so after all, it says where.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    say(format_args!("{info}"));
    raw::exit(EXIT_START)
}
