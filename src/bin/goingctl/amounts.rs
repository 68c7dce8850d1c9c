//! Times and sizes, and how a process ended, as people read them.

use crate::status::End;
use going::model::config::SIGNALS;

const SECOND_MS: u64 = 1_000;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A length of time, in at most two units.
pub fn duration(ms: u64) -> String {
    let seconds = ms / SECOND_MS;
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m{:02}s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{}h{:02}m", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{}d{:02}h", seconds / DAY, seconds % DAY / HOUR),
    }
}

/// Processor time, which is usually short.
pub fn cpu(ms: u64) -> String {
    let hundredths = ms / 10;
    if ms < MINUTE.saturating_mul(SECOND_MS) {
        format!("{}.{:02}s", hundredths / 100, hundredths % 100)
    } else {
        duration(ms)
    }
}

/// An amount of memory.
pub fn memory(kb: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = kb.saturating_mul(10).checked_div(unit).unwrap_or(0);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match kb {
        0..1024 => format!("{kb}K"),
        1024..0x10_0000 => format!("{}M", tenths(1024)),
        _ => format!("{}G", tenths(0x10_0000)),
    }
}

/// How a process ended, and what that means: see EXIT STATUS in going(8).
pub fn end(end: &End) -> String {
    match end {
        End::Exited(127) => "exit 127: not found".to_owned(),
        End::Exited(126) => "exit 126: not executable".to_owned(),
        End::Exited(111) => "exit 111: set-up failed".to_owned(),
        End::Exited(code) => format!("exit {code}"),
        End::Killed(signal) => format!("signal {signal}{}", name_of(*signal)),
        End::Other(text) => text.clone(),
    }
}

/// `: NAME` of a signal, if it has a name.
fn name_of(signal: u8) -> String {
    let index = usize::from(signal).checked_sub(1);
    let name = index.and_then(|index| SIGNALS.get(index));
    name.map(|name| format!(": {name}")).unwrap_or_default()
}
