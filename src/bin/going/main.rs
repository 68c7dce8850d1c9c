//! going(8), the supervisor: from the command line to the loop.
//!
//! `supervisor` is the loop, `rescan` the way from the files to the table, `pipes` what services
//! log through.
#![no_std]
#![no_main]

mod pipes;
mod rescan;
mod supervisor;

use core::panic::PanicInfo;
use going::child::reader;
use going::linux::options::Options;
use going::linux::raw::{self, Strings};
use going::linux::syslog::{ERROR, Log};
use going::linux::{clock, rundir, signals::Signals, stdio};
use going::model::order::Place;
use going::model::text::Name;
use rustix::event::poll;
use rustix::io::Errno;
use rustix::process::{getpid, set_child_subreaper};
use supervisor::{MAIN, Memory, Supervisor};

/// Unable to start.
const EXIT_START: u8 = 111;
/// What the file of the main command would say; its words are where they are.
const MAIN_TEXT: &[u8] = b"cmd=--\nrestart=exit\ntimeout=0\n";

going::program!(run, Memory);

/// The program; its exit code.
fn run(words: Strings<'static>, environment: Strings<'static>, memory: &'static mut Memory) -> u8 {
    stdio::fill();
    let options = match Options::new(words, environment) {
        Ok(options) => options,
        Err(code) => return code,
    };
    if options.check {
        return reader::check(options.confdir, &mut memory.table).into();
    }
    start(options, memory).unwrap_or_else(|errno| {
        stdio::print(2, &["going: unable to start: ", raw::reason(errno), "\n"]);
        EXIT_START
    })
}

/// Start-up, where errors still end the program.
fn start(options: Options, memory: &'static mut Memory) -> Result<u8, Errno> {
    let (log, signals) = (Log::open(), Signals::new()?);
    let lock = rundir::lock(options.rundir);
    // All else that can be wrong with RUNDIR is said when the status cannot be written there.
    if matches!(lock, Err(Errno::AGAIN)) && options.place != Place::Machine {
        let path = options.rundir.to_bytes().escape_ascii();
        log.say(ERROR, format_args!("unable to start: another going runs on RUNDIR {path}"));
        return Ok(EXIT_START);
    }
    if options.main.is_some() {
        let name = Name::try_from(MAIN).unwrap_or_default();
        let index = memory.table.find_or_add(name, clock::now_ms());
        index.and_then(|index| memory.table.set_text(index, MAIN_TEXT));
    }
    // Whatever loses its parent below us becomes ours to reap; as PID 1 it does so anyway.
    let _elsewhere = set_child_subreaper(Some(getpid()));
    let mut supervisor = Supervisor::new(options, memory, log, signals, lock.ok());
    // From here on nothing but a signal ends it: what fails is said, survived and tried again.
    supervisor.run();
    if options.place == Place::Machine {
        supervisor.end_machine();
    }
    Ok(supervisor.code.unwrap_or(0))
}

/// No input leads here. Should a defect do so after all, it says where; PID 1 stays, for the
/// machine and what runs on it depend on that.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    Log::PLAIN.say(ERROR, format_args!("{info}"));
    Log::open().say(ERROR, format_args!("{info}"));
    while getpid().is_init() {
        let _interrupted = poll(&mut [], None);
    }
    raw::exit(EXIT_START)
}
