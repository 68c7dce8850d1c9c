//! The one clock: `CLOCK_BOOTTIME`, see clock_gettime(2). It never goes back, never jumps when the
//! date is set, and goes on while the machine sleeps.

use crate::linux::raw;
use core::time::Duration;
use linux_raw_sys::general::CLOCK_BOOTTIME;

/// Milliseconds since the machine was started.
pub fn now_ms() -> u64 {
    let time = Duration::try_from(raw::time(CLOCK_BOOTTIME)).unwrap_or_default();
    time.as_millis().try_into().unwrap_or(u64::MAX)
}
