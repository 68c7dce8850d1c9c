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
use core::panic::PanicInfo;
use file::{Failure, open_and_lock, unable};
use going::linux::raw::{self, Strings};
use going::linux::{signals::Signals, stdio};
use going::model::{lines, priority, stamp::Style};
use input::Input;
use logger::{Logger, Memory, Now, Options};
use syslog::Syslog;

/// Misused, see sysexits.h(3head).
const EXIT_USAGE: u8 = 64;
/// Unable to start.
const EXIT_START: u8 = 111;

const USAGE: &str = include_str!("usage");
const VERSION: &str = concat!("goinglog ", env!("CARGO_PKG_VERSION"), "\n");
/// Without -s and -n: 1 MiB, ten times.
const LIMIT: u64 = 1 << 20;
const COUNT: u32 = 10;
/// Without -p: daemon.info.
const PRIORITY: u8 = 3 << 3 | 6;

going::program!(run, Memory);

/// The program: its exit code, for the `words` of its command line.
fn run(words: Strings<'static>, _: Strings<'static>, memory: &'static mut Memory) -> u8 {
    stdio::fill();
    let (mut limit, mut count, mut priority) = (Some(LIMIT), Some(COUNT), Some(PRIORITY));
    let (mut style, mut drops, mut with_syslog, mut file) = (None, false, false, None);
    let mut words = words.skip(1);
    while let Some(word) = words.next() {
        let has_value = word == c"-s" || word == c"-n" || word == c"-p";
        let value = has_value.then(|| words.next()?.to_str().ok()).flatten();
        match (word.to_bytes(), value) {
            (b"-s", Some(text)) => limit = lines::size(text),
            (b"-n", Some(text)) => count = text.parse().ok().filter(|&count| count > 0),
            (b"-p", Some(text)) => priority = priority::parse(text),
            (b"-t", _) => style = Some(Style::Rfc3339),
            (b"-T", _) => style = Some(Style::Tai64n),
            (b"-d", _) => drops = true,
            (b"-y", _) => with_syslog = true,
            (b"-h", _) => return stdio::print(1, &[USAGE]),
            (b"-V", _) => return stdio::print(1, &[VERSION]),
            ([b'-', ..] | [], _) => return misused(word),
            _ if file.is_some() => return misused(word),
            _ => file = Some(word),
        }
        if limit.and(count).and(priority).is_none() {
            return misused(word);
        }
    }
    let (Some(limit), Some(count), Some(priority), Some(word)) = (limit, count, priority, file)
    else {
        return misused(c"no FILE");
    };
    // With syslog, a name alone names no file.
    let is_path = !with_syslog || word.to_bytes().contains(&b'/');
    let path = is_path.then_some(word);
    let options = Options { word, path, limit, count, style, drops };
    let priority = with_syslog.then_some(priority);
    start(options, priority, memory).unwrap_or_else(|(what, why)| {
        let word = word.to_str().unwrap_or("?");
        stdio::print(2, &["goinglog: unable to ", what, " ", word, ": ", why, "\n"]);
        EXIT_START
    })
}

fn misused(word: &CStr) -> u8 {
    let word = word.to_str().unwrap_or("?");
    stdio::print(2, &["goinglog: unknown option or bad value: ", word, "\n", USAGE]);
    EXIT_USAGE
}

/// Start-up, where errors still end the program.
fn start(
    options: Options,
    priority: Option<u8>,
    memory: &'static mut Memory,
) -> Result<u8, Failure> {
    let signals = Signals::new().map_err(unable("read signals for"))?;
    let input = Input::new().map_err(unable("read standard input for"))?;
    let file = options.path.map(open_and_lock).transpose()?;
    let name = options.word.to_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let name = str::from_utf8(name).unwrap_or("?");
    let syslog = priority.map(|priority| Syslog::new(priority, name)).transpose();
    let syslog = syslog.map_err(unable("send to /dev/log for"))?;
    let now = Now::default();
    // From here on nothing ends it but the end of its input and TERM: what fails is tried again.
    Ok(Logger { options, memory, signals, input, file, syslog, now }.run())
}

/// No input leads here. Should a defect do so after all, it says where.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    logger::say(format_args!("{info}"));
    raw::exit(EXIT_START)
}
