//! going(8), the supervisor: from the command line to the loop.
//!
//! `supervisor` is the loop and all that it does.
#![no_std]
#![no_main]

mod supervisor;

use going::linux::raw::{self, Strings};
use going::linux::syslog::{ERROR, Log};
use going::linux::{options::Options, stdio, table::Slots};

going::program!(run, Slots);

/// The program; its exit code.
fn run(words: Strings<'static>, slots: &'static mut Slots) -> u8 {
    stdio::fill();
    let started = Options::new(words).and_then(|it| supervisor::Supervisor::new(it, slots));
    // Once it runs nothing but a shutdown ends it: what fails is said, survived and tried again.
    started.map_or_else(|code| code, |mut supervisor| supervisor.run())
}

/// No input leads here. Should a defect do so after all, it says where; PID 1 stays, for the
/// machine and what runs on it depend on that.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let log = Log::open();
    log.say(ERROR, format_args!("{info}"));
    // And on the console, where somebody may look who has no syslog any more.
    Log { socket: None, ..log }.say(ERROR, format_args!("{info}"));
    while rustix::process::getpid().is_init() {
        let _interrupted = rustix::event::poll(&mut [], None);
    }
    raw::exit(going::child::EXIT_SET_UP.into())
}
