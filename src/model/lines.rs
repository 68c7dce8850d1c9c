//! Lines on their way into a log file: which of them go next, and when another file is due.
//!
//! Knows lengths and ends of lines. What the bytes are for, and where they come from, it never
//! asks.

use heapless::Vec;

/// Bytes looked at in one go: the longest line whose end is seen before it is moved.
pub const HEAD_MAX: usize = 32 * 1024;

/// The file that lines go to, as it is.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes in it.
    pub size: u64,
    /// Bytes that may be in it.
    pub limit: u64,
    /// Whether it ends with a whole line.
    pub is_fresh: bool,
}

impl Room {
    /// Bytes that may still come.
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.size)
    }

    /// The length up to which no line ever makes a file larger than the limit: what is kept free
    /// for the end of a line whose beginning is moved unseen.
    pub fn reserve(&self) -> u64 {
        (self.limit / 2).min(HEAD_MAX as u64)
    }

    /// Bytes that may be moved without a look at them.
    pub fn unseen(&self) -> u64 {
        self.left().saturating_sub(self.reserve())
    }

    /// Puts the lines at the beginning of `head` that go into this file next into `out`, the
    /// `stamp` before each; returns how many bytes of `head` that are. None: another file is due.
    ///
    /// These are all the whole lines that fit; else one line, or what is seen of it, that does not
    /// fit anywhere better. `head` is not empty, and `out` has room for it and one stamp.
    ///
    /// ```
    /// use going::model::lines::Room;
    /// let mut out = heapless::Vec::<u8, 64>::new();
    /// let room = Room { size: 90, limit: 100, is_fresh: true };
    /// assert_eq!(room.pack(b"one\ntwo\nthree\n", b"", &mut out), Some(8));
    /// assert_eq!(room.pack(b"much too long\n", b"", &mut out), None);
    /// ```
    pub fn pack<const N: usize>(
        &self,
        head: &[u8],
        stamp: &[u8],
        out: &mut Vec<u8, N>,
    ) -> Option<usize> {
        out.clear();
        let (mut taken, mut is_fresh) = (0_usize, self.is_fresh);
        for line in head.split_inclusive(|&byte| byte == b'\n') {
            let stamp = if is_fresh { stamp } else { b"" };
            let len = out.len().saturating_add(stamp.len()).saturating_add(line.len());
            let (is_whole, fits) = (line.ends_with(b"\n"), len as u64 <= self.left());
            let may_overflow = !fits || !is_whole && self.left() <= self.reserve();
            if taken > 0 && (!is_whole || !fits || len > N) {
                break;
            }
            if is_fresh && may_overflow && self.size > 0 {
                return None;
            }
            let _fits = out.extend_from_slice(stamp).and(out.extend_from_slice(line));
            taken = taken.saturating_add(line.len());
            is_fresh = is_whole;
        }
        Some(taken)
    }
}

/// The number of bytes that `text` says: digits, and `K`, `M` or `G` after them. 0 is no limit.
///
/// ```
/// use going::model::lines::size;
/// assert_eq!(size("64K"), Some(65536));
/// assert_eq!(size("64k"), None);
/// assert_eq!(size("0"), Some(u64::MAX));
/// ```
pub fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at_checked(digits)?;
    let power = ["", "K", "M", "G"].iter().position(|known| *known == unit)?;
    let unit = 1024_u64.checked_pow(power.try_into().ok()?)?;
    let size = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    Some(if size == 0 { u64::MAX } else { size })
}

/// The first line of `text`, or as much of it as there is.
pub fn first_line(text: &[u8]) -> &[u8] {
    text.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default()
}
