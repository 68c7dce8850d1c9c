//! The fixed table of services, and the one pool that their texts share.
//!
//! The pool never has gaps: who leaves, or changes its text, is closed up behind. So it is full
//! only when there really is no room, and never needs tidying.
//!
//! Never decides who may come or go.

use crate::model::service::{Service, Want};
use crate::model::text::{NAME_MAX, Name, TEXT_MAX, service_name, value};
use heapless::Vec;

/// Services, rejected files among them.
pub const SERVICES_MAX: usize = 256;
/// Bytes of normalised text, all services together.
pub const POOL_MAX: usize = 48 * 1024;

/// Bits of a [`Record`]'s first byte.
const PRESENT: u8 = 1;
const HELD: u8 = 2;
const LOGGED_TO: u8 = 4;

/// Bytes of a [`Record`].
pub const RECORD_MAX: usize = 2 + NAME_MAX + TEXT_MAX;
/// What a rescan found out about one service: three bits, its name, a line feed, its text.
pub type Record = Vec<u8, RECORD_MAX>;

/// One service file and what became of it.
pub struct Slot {
    /// The name of both.
    pub name: Name,
    /// What runs, if it does.
    pub service: Service,
    /// Whether the file is there.
    pub present: bool,
    /// Whether a file in RUNDIR/down holds the service down.
    pub held: bool,
    /// Whether somebody logs to it, or did.
    pub logged_to: bool,
    /// Whether what is known of it has just changed: until that is taken note of, it is not wanted.
    pub edited: bool,
    /// Where its text is in the pool; its length is 0 as long as the file was never good.
    start: u16,
    len: u16,
}

impl Slot {
    /// Its part of the `pool`.
    pub fn text<'a>(&self, pool: &'a [u8]) -> &'a [u8] {
        let rest = pool.get(self.start.into()..).unwrap_or_default();
        rest.get(..self.len.into()).unwrap_or_default()
    }

    /// The service that it logs to, or the path, if either.
    pub fn log<'a>(&self, pool: &'a [u8]) -> Option<&'a [u8]> {
        value(self.text(pool), b"log").filter(|log| !matches!(*log, b"inherit" | b"null"))
    }

    /// Whether no version of its file was good: there is nothing to run.
    pub fn was_never_good(&self) -> bool {
        self.len == 0
    }

    /// What the files want of it.
    pub fn want(&self) -> Want {
        let is_wanted = self.present && !self.held && !self.edited && !self.was_never_good();
        if is_wanted { Want::Up } else { Want::Down }
    }

    /// What is known of it, for [`Table::apply`]; none if its text is too long.
    pub fn record(&self, pool: &[u8]) -> Option<Record> {
        let mut record = Record::new();
        let bits = [(self.present, PRESENT), (self.held, HELD), (self.logged_to, LOGGED_TO)];
        let set = bits.into_iter().filter(|(is_set, _)| *is_set);
        record.push(set.map(|(_, bit)| bit).sum()).ok()?;
        record.extend_from_slice(self.name.as_bytes()).ok()?;
        record.push(b'\n').ok()?;
        record.extend_from_slice(self.text(pool)).ok()?;
        Some(record)
    }
}

/// All services.
pub struct Table {
    /// In no order that means anything.
    pub slots: Vec<Slot, SERVICES_MAX>,
    /// Their texts, end to end.
    pub pool: Vec<u8, POOL_MAX>,
}

impl Table {
    /// An empty table.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), pool: Vec::new() }
    }

    /// The place of the service `name`, made if need be; none if the table is full.
    pub fn find_or_add(&mut self, name: Name, now_ms: u64) -> Option<usize> {
        let index = self.slots.iter().position(|slot| slot.name == name);
        let index = index.unwrap_or(self.slots.len());
        if index == self.slots.len() {
            let service = Service::new(now_ms);
            let (present, held, logged_to, edited, start, len) = (true, false, false, true, 0, 0);
            let slot = Slot { name, service, present, held, logged_to, edited, start, len };
            self.slots.push(slot).ok()?;
        }
        Some(index)
    }

    /// Gives the slot at `index` this text. None if the pool has no room for it, then nothing
    /// changes.
    pub fn set_text(&mut self, index: usize, text: &[u8]) -> Option<()> {
        let slot = self.slots.get(index)?;
        let (start, len) = (slot.start, slot.len);
        if slot.text(&self.pool) == text {
            return Some(());
        }
        let others_len = self.pool.len().checked_sub(len.into())?;
        if others_len.saturating_add(text.len()) > POOL_MAX {
            return None;
        }
        self.pool.drain(usize::from(start)..start.saturating_add(len).into());
        for slot in self.slots.iter_mut().filter(|slot| slot.start > start) {
            slot.start = slot.start.saturating_sub(len);
        }
        let slot = self.slots.get_mut(index)?;
        (slot.start, slot.len) = (others_len.try_into().ok()?, text.len().try_into().ok()?);
        slot.edited = true;
        self.pool.extend_from_slice(text).ok()
    }

    /// Takes over what a record says; none if it says nothing, or there is no room.
    pub fn apply(&mut self, record: &[u8], now_ms: u64) -> Option<()> {
        let (&bits, rest) = record.split_first()?;
        let mut parts = rest.splitn(2, |&byte| byte == b'\n');
        let (name, text) = (service_name(parts.next()?)?, parts.next()?);
        let index = self.find_or_add(name, now_ms)?;
        let slot = self.slots.get_mut(index)?;
        slot.edited = true;
        (slot.present, slot.held) = (bits & PRESENT != 0, bits & HELD != 0);
        slot.logged_to = bits & LOGGED_TO != 0;
        self.set_text(index, text)
    }

    /// Whether a service logs to the one called `name`: one that `counts`.
    pub fn is_logged_to(&self, name: &str, counts: impl Fn(&Slot) -> bool) -> bool {
        let logs = |slot: &Slot| slot.log(&self.pool) == Some(name.as_bytes());
        self.slots.iter().any(|slot| counts(slot) && logs(slot))
    }

    /// Forgets a service that has left CONFDIR and has no process any more; says where it was, and
    /// where the last one is now. None if there is none.
    pub fn forget_one(&mut self) -> Option<usize> {
        let is_over = |slot: &Slot| !slot.present && slot.service.pid().is_none();
        let index = self.slots.iter().position(is_over)?;
        self.set_text(index, b"")?;
        self.slots.swap_remove(index);
        Some(index)
    }
}
