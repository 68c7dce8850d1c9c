//! going(8), the supervisor: from the command line to the loop.
//!
//! `supervisor` is the loop; `rescan` makes the table say what CONFDIR says.
#![no_std]
#![no_main]

mod rescan;
mod supervisor;

use core::ffi::CStr;
use core::panic::PanicInfo;
use going::linux::syslog::{ERROR, Log, WARNING};
use going::linux::{raw, rundir, signals::Signals, stdio};
use rustix::io::Errno;
use rustix::process::{getpid, set_child_subreaper};
use supervisor::{Memory, Shell, Supervisor};

/// Misused, see sysexits.h(3head).
const EXIT_USAGE: u8 = 64;
/// Unable to start.
const EXIT_START: u8 = 111;

const USAGE: &str = include_str!("usage");
const VERSION: &str = concat!("going ", env!("CARGO_PKG_VERSION"), "\n");

going::program!(run, Memory);

/// The program: its exit code, for the `words` of its command line.
fn run(words: impl Iterator<Item = &'static CStr>, memory: &'static mut Memory) -> u8 {
    stdio::fill();
    let (mut confdir, mut rundir, mut check) = (c"/etc/going.d", c"/run/going", false);
    let mut words = words.skip(1);
    while let Some(word) = words.next() {
        match (word.to_bytes(), if word == c"-d" || word == c"-r" { words.next() } else { None }) {
            (b"-d", Some(path)) => confdir = path,
            (b"-r", Some(path)) => rundir = path,
            (b"-n", _) => check = true,
            (b"-h", _) => return stdio::print(1, &[USAGE]),
            (b"-V", _) => return stdio::print(1, &[VERSION]),
            _ => {
                let word = word.to_str().unwrap_or("?");
                stdio::print(
                    2,
                    &["going: unknown option or nothing after it: ", word, "\n", USAGE],
                );
                return EXIT_USAGE;
            }
        }
    }
    start(confdir, rundir, check, memory).unwrap_or_else(|errno| {
        stdio::print(2, &["going: unable to start: ", raw::reason(errno), "\n"]);
        EXIT_START
    })
}

/// Start-up, where errors still end the program.
fn start(
    confdir: &'static CStr,
    rundir: &CStr,
    check: bool,
    memory: &'static mut Memory,
) -> Result<u8, Errno> {
    let log = if check { Log::PLAIN } else { Log::open()? };
    let signals = Signals::new()?;
    let opened = (!check).then(|| rundir::open_and_lock(rundir)).transpose();
    if let Err(errno) = opened {
        let is_taken = errno == Errno::AGAIN;
        let path = rundir.to_bytes().escape_ascii();
        let why = if is_taken { "another going runs there" } else { raw::reason(errno) };
        log.say(WARNING, format_args!("unable to use RUNDIR {path}: {why}"));
        if is_taken {
            return Err(errno);
        }
    }
    // Whatever loses its parent below us becomes ours to reap; as PID 1 it does so anyway.
    let _elsewhere = set_child_subreaper(Some(getpid()));
    let shell = Shell { log, rundir: opened.ok().flatten() };
    let (rescan_ms, unreadable, shutdown) = (Some(0), None, None);
    // From here on nothing but a signal ends it: what fails is said, survived and tried again.
    let mut supervisor =
        Supervisor { confdir, memory, shell, signals, rescan_ms, unreadable, shutdown };
    Ok(if check { supervisor.check() } else { supervisor.run() })
}

/// No input leads here. Should a defect do so after all, it says where.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let _mute = Log::open().map(|log| log.say(ERROR, format_args!("{info}")));
    raw::exit(EXIT_START)
}
