//! Lines on their way into a log file: which of them go next, and when another file is due.
//!
//! Knows only lengths and ends of lines. Never asks what the bytes are for, or where they come
//! from.

use heapless::Vec;

/// Bytes looked at in one go: the longest line whose end is seen before it is moved.
pub const HEAD_MAX: usize = 32 * 1024;
/// Bytes written at once: the head, and some stamps.
pub const OUT_MAX: usize = HEAD_MAX + 4096;

/// The present state of the file that lines go to.
pub struct Room {
    /// Bytes in it.
    pub size: usize,
    /// Bytes that may be in it.
    pub limit: usize,
    /// Whether it ends with a whole line.
    pub is_fresh: bool,
}

impl Room {
    /// Bytes that may be moved without a look at them. As much room as a line may need is kept
    /// free, so that a line whose beginning is moved unseen still ends within the limit.
    pub fn unseen(&self) -> usize {
        self.limit.saturating_sub(self.size).saturating_sub(HEAD_MAX.min(self.limit / 2))
    }

    /// Takes the lines at the beginning of `head` that go into this file next, and puts them into
    /// `out` with the `stamp` before each. Returns how many bytes of `head` they are. None if
    /// another file is due.
    ///
    /// They are all the whole lines that fit, and the beginning of one more if bytes may be moved
    /// unseen. If a line has begun in this file, or the file is empty, the next line goes into it
    /// even if it does not fit. `head` must not be empty, and `out` must be.
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

/// The number of bytes that `text` means: digits, and perhaps `K`, `M` or `G`. 0 means no limit.
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

/// The first line of `text`. If its end is not there, at most `max` bytes of it.
pub fn first_line(text: &[u8], max: usize) -> &[u8] {
    let line = text.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\n") { line } else { line.get(..max).unwrap_or(line) }
}
