//! Lines on their way into a log file: which of them go next, and when another file is due.
//!
//! Knows lengths and ends of lines. What the bytes are for, and where they come from, it never
//! asks.

use heapless::Vec;

/// Bytes looked at in one go: the longest line whose end is seen before it is moved.
pub const HEAD_MAX: usize = 32 * 1024;
/// Bytes written at once: the head, and some stamps.
pub const OUT_MAX: usize = HEAD_MAX + 4096;

/// The file that lines go to, as it is.
pub struct Room {
    /// Bytes in it.
    pub size: usize,
    /// Bytes that may be in it.
    pub limit: usize,
    /// Whether it ends with a whole line.
    pub is_fresh: bool,
}

impl Room {
    /// Bytes that may be moved without a look at them. Of what is left, as much is kept free as a
    /// line may have, so that it ends within the limit when its beginning is moved unseen.
    pub fn unseen(&self) -> usize {
        self.limit.saturating_sub(self.size).saturating_sub(HEAD_MAX.min(self.limit / 2))
    }

    /// Puts the lines at the beginning of `head` that go into this file next into `out`, the
    /// `stamp` before each; returns how many bytes of `head` that are. None: another file is due.
    ///
    /// These are all the whole lines that fit, and the beginning of one where unseen bytes may be;
    /// else one line, or what is seen of it, that fits nowhere better. `head` is not empty, and
    /// `out` is.
    ///
    /// ```
    /// use going::model::lines::Room;
    /// let mut out = heapless::Vec::new();
    /// let room = || Room { size: 90, limit: 100, is_fresh: true };
    /// assert_eq!(room().pack(b"one\ntwo\nthree\n", b"", &mut out), Some(8));
    /// out.clear();
    /// assert_eq!(room().pack(b"much too long\n", b"", &mut out), None);
    /// ```
    pub fn pack(mut self, head: &[u8], stamp: &[u8], out: &mut Vec<u8, OUT_MAX>) -> Option<usize> {
        let mut taken = 0_usize;
        for line in head.split_inclusive(|&byte| byte == b'\n') {
            let stamp = if self.is_fresh { stamp } else { b"" };
            let len = stamp.len().saturating_add(line.len());
            let size = self.size.saturating_add(len);
            let is_whole = line.ends_with(b"\n");
            let fits = if is_whole { size <= self.limit } else { self.unseen() > 0 };
            let is_due = self.is_fresh && !fits && self.size > 0;
            if is_due || out.len().saturating_add(len) > OUT_MAX {
                break;
            }
            let _fits = out.extend_from_slice(stamp).and(out.extend_from_slice(line));
            taken = taken.saturating_add(line.len());
            (self.size, self.is_fresh) = (size, is_whole);
        }
        (taken > 0).then_some(taken)
    }
}

/// The number of bytes that `text` says: digits, and `K`, `M` or `G` after them. 0 is no limit.
///
/// ```
/// use going::model::lines::size;
/// assert_eq!(size("64K"), Some(65536));
/// assert_eq!(size("64k"), None);
/// assert_eq!(size("0"), Some(usize::MAX));
/// ```
pub fn size(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at_checked(digits)?;
    let units = [("", 1), ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    let (_, unit) = units.into_iter().find(|(name, _)| *name == unit)?;
    let size = digits.parse::<usize>().ok()?.checked_mul(unit)?;
    Some(if size == 0 { usize::MAX } else { size })
}

/// The first line of `text`, or `max` bytes of it at the most while its end is not there.
pub fn first_line(text: &[u8], max: usize) -> &[u8] {
    let line = text.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\n") { line } else { line.get(..max).unwrap_or(line) }
}
