//! The one clock: `CLOCK_BOOTTIME`, see clock_gettime(2). It never goes back, never jumps when the
//! date is set, and keeps running while the machine is suspended.

use linux_raw_sys::general::CLOCK_BOOTTIME;

/// Milliseconds since the machine was started.
#[inline(never)]
pub fn now_ms() -> u64 {
    crate::linux::raw::time(CLOCK_BOOTTIME).as_millis().try_into().unwrap_or(u64::MAX)
}
