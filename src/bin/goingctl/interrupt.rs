//! Signals while we wait: all are blocked and read, so that nothing is left half done.

use crate::output::{Failure, io_error, unable};
use going::linux::signals::Signals;
use rustix::process::Signal;
use std::fs;

/// The signals that ask a program to end.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// The signals of this process.
pub struct Interrupts {
    pub signals: Signals,
    /// Those that were ignored when we were started, as by nohup(1): a bit for each.
    ignored: u64,
}

impl Interrupts {
    /// Blocks all signals, from now on.
    pub fn open() -> Result<Self, Failure> {
        // Look first: `Signals::new` resets ignored signals to their default action.
        let ignored = ignored().unwrap_or(0);
        let signals = Signals::new().map_err(io_error).map_err(unable("read signals"))?;
        Ok(Self { signals, ignored })
    }

    /// The exit code if we have been asked to end: 128 and the number of the signal, as in shells.
    pub fn code(&self) -> Option<u8> {
        while let Some(signal) = self.signals.read() {
            let is_ignored = has(self.ignored, signal);
            let mut ending = ENDING.iter().filter_map(|ending| u8::try_from(ending.as_raw()).ok());
            let number = ending.find(|ending| u32::from(*ending) == signal && !is_ignored);
            if let Some(number) = number {
                return Some(number.saturating_add(128));
            }
        }
        None
    }
}

/// Whether the signal is in a set with a bit for each.
pub fn has(signals: u64, signal: u32) -> bool {
    signals >> signal.saturating_sub(1) & 1 == 1
}

/// The signals that are ignored, from /proc. None if there is no /proc.
pub fn ignored() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let bits = text.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(bits.trim(), 16).ok()
}
