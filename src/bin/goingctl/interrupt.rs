//! Signals while waiting: all are blocked and read, so that nothing is left half done.

use crate::output::{Failure, io_error, unable};
use going::linux::signals::Signals;
use rustix::process::Signal;

/// What asks a program to end.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// Blocks all signals, from now on.
pub fn signals() -> Result<Signals, Failure> {
    Signals::new().map_err(io_error).map_err(unable("read signals"))
}

/// The exit code of a program that was asked to end, if it was: that of shells.
pub fn code(signals: &Signals) -> Option<u8> {
    while let Some(signal) = signals.read() {
        let ending = ENDING.iter().filter_map(|ending| u8::try_from(ending.as_raw()).ok());
        if let Some(number) = ending.into_iter().find(|ending| u32::from(*ending) == signal) {
            return Some(number.saturating_add(128));
        }
    }
    None
}
