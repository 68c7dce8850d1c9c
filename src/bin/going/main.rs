//! going(8), the supervisor: from the command line to the loop.
//!
//! `supervisor` is the loop, `rescan` the way from the files to the table.
#![no_std]
#![no_main]

mod rescan;
mod supervisor;

use core::panic::PanicInfo;
use going::child::reader;
use going::linux::options::Options;
use going::linux::raw::{self, Strings};
use going::linux::syslog::{ERROR, Log};
use going::linux::table::{Slot, Slots};
use going::linux::{clock, rundir, signals::Signals, stdio};
use going::model::entry::{Entry, GOOD, Name, PRESENT};
use going::model::order::{Ending, Place};
use going::model::service::{Policy, Restart};
use rustix::event::poll;
use rustix::io::Errno;
use rustix::process::{getpid, set_child_subreaper};
use supervisor::Supervisor;

/// Unable to start.
const EXIT_START: u8 = 111;

going::program!(run, Slots);

/// The program; its exit code.
fn run(words: Strings<'static>, environment: Strings<'static>, slots: &'static mut Slots) -> u8 {
    stdio::fill();
    let options = match Options::new(words, environment) {
        Ok(options) => options,
        Err(code) => return code,
    };
    if options.check {
        return reader::check(options.confdir, slots).into();
    }
    start(options, slots).unwrap_or_else(|errno| {
        stdio::print(2, &["going: unable to start: ", raw::reason(errno), "\n"]);
        EXIT_START
    })
}

/// Start-up, where errors still end the program.
fn start(options: Options, slots: &'static mut Slots) -> Result<u8, Errno> {
    let (log, signals) = (Log::open(), Signals::new()?);
    let lock = rundir::lock(options.rundir);
    // All else that can be wrong with RUNDIR is said when the status cannot be written there.
    if matches!(lock, Err(Errno::AGAIN)) && options.place != Place::Machine {
        let path = options.rundir.to_bytes().escape_ascii();
        log.say(ERROR, format_args!("unable to start: another going runs on RUNDIR {path}"));
        return Ok(EXIT_START);
    }
    let now_ms = clock::now_ms();
    let _fits = slots.push(Slot::new(main_command(options), now_ms));
    // Whatever loses its parent below us becomes ours to reap; as PID 1 it does so anyway.
    let _elsewhere = set_child_subreaper(Some(getpid()));
    let mut supervisor = Supervisor {
        options,
        slots,
        log,
        signals,
        watch: None,
        plan: None,
        reader: None,
        rescan_ms: Some(now_ms),
        noticed_ms: None,
        shutdown: None,
        is_told: false,
        ending: Ending::Exit,
        ender: None,
        code: None,
        has_news: false,
        unwritten: None,
        lock: lock.ok(),
        now_ms,
        start_ms: now_ms,
    };
    // From here on nothing but a signal ends it: what fails is said, survived and tried again.
    supervisor.run();
    Ok(supervisor.code.unwrap_or(0))
}

/// The first entry of the table, which no file can have the name of.
fn main_command(options: Options) -> Entry {
    let name = Name::try_from("(main)").unwrap_or_default();
    let policy = Policy { restart: Restart::Exit, timeout_ms: 0, ..Policy::DEFAULT };
    match options.main {
        Some(_) => Entry { name, flags: PRESENT | GOOD, policy, ..Entry::NONE },
        None => Entry::NONE,
    }
}

/// No input leads here. Should a defect do so after all, it says where; PID 1 stays, for the
/// machine and what runs on it depend on that.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let log = Log::open();
    log.say(ERROR, format_args!("{info}"));
    // And on the console, where somebody may look who has no syslog any more.
    Log { socket: None, ..log }.say(ERROR, format_args!("{info}"));
    while getpid().is_init() {
        let _interrupted = poll(&mut [], None);
    }
    raw::exit(EXIT_START)
}
