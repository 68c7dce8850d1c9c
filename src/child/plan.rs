//! The plan: what should be, written by a reader to a file in memory. It holds the normalised text
//! of every service, then the faults that were reported, and finally the entries.
//!
//! Each reader writes a new plan from the beginning. So the gaps that replaced texts leave do not
//! add up, and nobody ever reads a plan that is half written. The supervisor reads the entries, but
//! never the texts.

use crate::linux::table::{Slot, Slots};
use crate::model::config::{POOL_MAX, Text, hash};
use crate::model::entry::{Entry, GOOD, Record, SERVICES_MAX};
use crate::model::service::Policy;
use heapless::Vec;
use rustix::fd::OwnedFd;
use rustix::io::{Errno, pread, pwrite};

/// Room for the texts: those of the old plan, and the ones that replace them.
const TEXTS_MAX: u64 = 2 * POOL_MAX as u64;
/// The offset of the hashes of reported faults; 0 is none.
const FAULTS: u64 = TEXTS_MAX;
/// The offset of a byte that says whether CONFDIR has never been read.
const IS_FIRST: u64 = FAULTS + 4 * SERVICES_MAX as u64;
/// The offset of the entries, which are in the order of the table.
pub const ENTRIES: u64 = IS_FIRST + 1;

/// Hashes of faults. A fault is reported once for as long as it lasts.
pub type Faults = Vec<[u8; 4], SERVICES_MAX>;

/// A plan that is being written.
pub struct Plan<'a> {
    file: &'a OwnedFd,
    /// Where the next text goes.
    end: u64,
    /// Bytes of the texts that are in use.
    len: usize,
}

impl<'a> Plan<'a> {
    /// Begins a plan in `file`, which is empty.
    pub fn new(file: &'a OwnedFd) -> Self {
        Self { file, end: 0, len: 0 }
    }

    /// Takes over the texts of all `slots` from the `old` plan. Returns the faults that were
    /// reported before, and whether CONFDIR has never been read.
    ///
    /// # Errors
    /// Those of read(2) and write(2).
    pub fn take_over(&mut self, old: &OwnedFd, slots: &mut Slots) -> Result<(Faults, bool), Errno> {
        let mut text = Text::new();
        for Slot { entry, .. } in slots {
            match read_text(old, entry, &mut text) {
                // Its settings are lost, until its file is found good once more.
                Err(Errno::BADMSG) => entry.flags &= !GOOD,
                read => read?,
            }
            entry.text = [0; 3];
            self.set_text(entry, &text)?;
        }
        let mut hashes = [[0; 4]; SERVICES_MAX];
        pread(old, hashes.as_flattened_mut(), FAULTS)?;
        let mut is_first = [0];
        pread(old, &mut is_first, IS_FIRST)?;
        let faults = hashes.into_iter().filter(|hash| *hash != [0; 4]).collect();
        Ok((faults, is_first != [0]))
    }

    /// Reads the text of `entry`.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read_text(&self, entry: &Entry, text: &mut Text) -> Result<(), Errno> {
        read_text(self.file, entry, text)
    }

    /// Gives `entry` this text. Returns whether it had another one before.
    ///
    /// # Errors
    /// E2BIG if there is no room for it, and those of read(2) and write(2). Then nothing changes.
    pub fn set_text(&mut self, entry: &mut Entry, text: &[u8]) -> Result<bool, Errno> {
        let mut old = Text::new();
        self.read_text(entry, &mut old)?;
        if old == text {
            return Ok(false);
        }
        let len = self.len.saturating_sub(old.len()).saturating_add(text.len());
        let end = self.end.saturating_add(text.len() as u64);
        if len > POOL_MAX || end > TEXTS_MAX {
            return Err(Errno::TOOBIG);
        }
        self.write(text, self.end)?;
        let number = |number: u64| number.try_into().unwrap_or(0);
        entry.text = [number(self.end), number(text.len() as u64), hash([text, b"", b""])];
        (self.end, self.len) = (end, len);
        Ok(true)
    }

    /// Writes all that follows the texts.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn finish(&self, faults: &Faults, is_first: bool, slots: &Slots) -> Result<(), Errno> {
        self.write(faults.as_flattened(), FAULTS)?;
        self.write(&[is_first.into()], IS_FIRST)?;
        let offsets = (ENTRIES..).step_by(size_of::<Record>());
        slots
            .iter()
            .zip(offsets)
            .try_for_each(|(slot, offset)| self.write(encode(&slot.entry).as_flattened(), offset))
    }

    /// Writes all of `bytes`, or fails.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        if pwrite(self.file, bytes, offset)? == bytes.len() { Ok(()) } else { Err(Errno::NOSPC) }
    }
}

/// Reads the text of `entry` from the plan in `file`.
///
/// # Errors
/// EBADMSG if the text found there is not the one that the entry means; `text` is empty then. And
/// those of read(2).
pub fn read_text(file: &OwnedFd, entry: &Entry, text: &mut Text) -> Result<(), Errno> {
    text.clear();
    let [start, len, hash_of_it] = entry.text;
    if len == 0 {
        return Ok(());
    }
    text.resize_default(len as usize).map_err(|_| Errno::BADMSG)?;
    let len = pread(file, text.as_mut_slice(), start.into())?;
    if len == text.len() && hash([text, b"", b""]) == hash_of_it {
        return Ok(());
    }
    text.clear();
    Err(Errno::BADMSG)
}

/// Encodes an entry for the plan; the opposite of [`Entry::decode`].
///
/// ```
/// use going::child::plan::encode;
/// use going::model::entry::{Entry, GOOD, Name};
/// let name = Name::try_from("web@8080").unwrap();
/// let entry = Entry { name, flags: GOOD, ..Entry::default() };
/// assert_eq!(Entry::decode(encode(&entry)), entry);
/// ```
pub fn encode(entry: &Entry) -> Record {
    let Entry { flags, text: [start, len, hash], .. } = *entry;
    let Policy { restart, stop, timeout_ms, log } = entry.policy;
    let log = log.unwrap_or(0).into();
    let numbers = [flags, restart as u32, stop, timeout_ms, log, start, len, hash];
    let mut record = Record::default();
    for (word, number) in record.iter_mut().zip(numbers) {
        *word = number.to_ne_bytes();
    }
    let (_, name) = record.split_at_mut(numbers.len());
    for (place, byte) in name.as_flattened_mut().iter_mut().zip(entry.name.bytes()) {
        *place = byte;
    }
    record
}
