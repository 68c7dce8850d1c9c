//! Time stamps: a moment as the text that goes before a line.
//!
//! Never asks what time it is.

use core::num::Wrapping;
use core::time::Duration;
use heapless::{String, format};

/// Bytes of the longest stamp.
pub const STAMP_MAX: usize = 28;
/// Added to seconds since 1970: where TAI64 counts from, and the 10 s by which TAI was ahead then.
/// No later leap second is counted, as daemontools and runit do it.
const TAI_OFFSET: u64 = (1 << 62) + 10;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Makes the text for the time since 1970, and a blank; nothing after the year 9999.
pub type Stamp = fn(Duration) -> String<STAMP_MAX>;

/// UTC with microseconds, see RFC 3339.
///
/// ```
/// use going::model::stamp::rfc3339;
/// let time = core::time::Duration::new(1_709_210_096, 123_456_789);
/// assert_eq!(rfc3339(time), "2024-02-29T12:34:56.123456Z ");
/// ```
pub fn rfc3339(time: Duration) -> String<STAMP_MAX> {
    let (seconds, micros) = (time.as_secs(), time.subsec_micros());
    let (year, month, day) = date(seconds / DAY_SECONDS);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
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

/// Year, month and day of the Gregorian calendar, `days` after 1 January 1970.
///
/// Counts from 1 March of the year 0, so that the leap day is the last of its year; 146097 days
/// are 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    let w = Wrapping::<u64>;
    let days = (w(days) + w(719_468)).0;
    let (era, rest) = (days / 146_097, days % 146_097);
    let year = (w(rest) - w(rest / 1460) + w(rest / 36_524) - w(rest / 146_096)).0 / 365;
    let rest = w(rest) - w(365) * w(year) - w(year / 4) + w(year / 100);
    // Of the months from March on, 153 days are five.
    let month = (w(5) * rest + w(2)).0 / 153;
    let day = rest + w(1) - w((w(153) * w(month) + w(2)).0 / 5);
    let (month, later) = if month < 10 { (w(month) + w(3), 0) } else { (w(month) - w(9), 1) };
    ((w(era) * w(400) + w(year) + w(later)).0, month.0, day.0)
}
