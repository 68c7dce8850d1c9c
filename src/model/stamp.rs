//! Time stamps: a moment as the text that goes before a line.
//!
//! Never asks what time it is.

use core::time::Duration;
use datealgo::{RD_SECONDS_MAX, secs_to_datetime};
use heapless::{String, format};

/// Bytes of the longest stamp.
pub const STAMP_MAX: usize = 28;
/// Added to the seconds since 1970: what TAI64 counts from, and the 10 s by which TAI was ahead of
/// UTC before the first leap second. No leap second is counted, as in daemontools and runit.
const TAI_OFFSET: u64 = (1 << 62) + 10;

/// Makes the text for the time since 1970, with a space at its end.
pub type Stamp = fn(Duration) -> String<STAMP_MAX>;

/// UTC with microseconds, see RFC 3339. Empty after the year 9999.
///
/// ```
/// use going::model::stamp::rfc3339;
/// let time = core::time::Duration::new(1_709_210_096, 123_456_789);
/// assert_eq!(rfc3339(time), "2024-02-29T12:34:56.123456Z ");
/// ```
pub fn rfc3339(time: Duration) -> String<STAMP_MAX> {
    // The calendar ends later than the last year that has a stamp.
    let seconds = time.as_secs().try_into().unwrap_or(RD_SECONDS_MAX).min(RD_SECONDS_MAX);
    let (year, month, day, hour, minute, second) = secs_to_datetime(seconds);
    let micros = time.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z ")
        .unwrap_or_default()
}

/// Nanoseconds in hexadecimal digits, see tai64nlocal(8).
///
/// ```
/// use going::model::stamp::tai64n;
/// let time = core::time::Duration::new(1_709_210_096, 123_456_789);
/// assert_eq!(tai64n(time), "@4000000065e079fa075bcd15 ");
/// ```
pub fn tai64n(time: Duration) -> String<STAMP_MAX> {
    let seconds = time.as_secs().saturating_add(TAI_OFFSET);
    format!("@{seconds:016x}{:08x} ", time.subsec_nanos()).unwrap_or_default()
}
