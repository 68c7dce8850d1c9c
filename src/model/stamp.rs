//! Time stamps: a moment as the text that goes before a line.
//!
//! Never asks what time it is.

use core::fmt::Write;
use core::num::Wrapping;
use heapless::String;

/// Bytes of the longest stamp, of every year up to 9999.
pub const STAMP_MAX: usize = 28;
/// Added to seconds since 1970: where TAI64 counts from, and the 10 s by which TAI was ahead then.
/// No later leap second is counted, as daemontools and runit do it.
const TAI_OFFSET: u64 = (1 << 62) + 10;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// How a moment is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Style {
    /// UTC with microseconds, see RFC 3339.
    Rfc3339,
    /// Nanoseconds in hexadecimal digits, see tai64nlocal(8).
    Tai64n,
}

/// The text for `seconds` and `nanos` since 1970, and a blank.
///
/// ```
/// use going::model::stamp::{Style, stamp};
/// let text = |style| stamp(style, 1_709_210_096, 123_456_789);
/// assert_eq!(text(Style::Rfc3339), "2024-02-29T12:34:56.123456Z ");
/// assert_eq!(text(Style::Tai64n), "@4000000065e079fa075bcd15 ");
/// ```
pub fn stamp(style: Style, seconds: u64, nanos: u32) -> String<STAMP_MAX> {
    let mut text = String::new();
    let (year, month, day) = date(seconds / DAY_SECONDS);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (tai, micros) = (seconds.saturating_add(TAI_OFFSET), nanos / 1000);
    let _fits = match style {
        Style::Rfc3339 => write!(
            text,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z "
        ),
        Style::Tai64n => write!(text, "@{tai:016x}{nanos:08x} "),
    };
    text
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
    let before = (w(153) * w(month) + w(2)).0 / 5;
    let (shifted, later) = if month < 10 { (w(month) + w(3), 0) } else { (w(month) - w(9), 1) };
    ((w(era) * w(400) + w(year) + w(later)).0, shifted.0, (rest - w(before) + w(1)).0)
}
