//! The fixed table of services, and the one pool that their texts share.
//!
//! The pool never has gaps: who leaves, or changes its text, is closed up behind. So it is full
//! only when there really is no room, and never needs tidying.
//!
//! Never decides who may come or go.

use crate::model::config::Name;
use crate::model::service::{Service, Want};
use heapless::Vec;

/// Services, rejected files among them.
pub const SERVICES_MAX: usize = 256;
/// Bytes of normalised text, all services together.
pub const POOL_MAX: usize = 48 * 1024;

/// One service file and what became of it.
pub struct Slot {
    /// The name of both.
    pub name: Name,
    /// What runs, if it does.
    pub service: Service,
    /// Whether the file is there.
    pub present: bool,
    /// Where its text is in the pool; its length is 0 as long as the file was never good.
    start: usize,
    len: usize,
}

impl Slot {
    /// A service of which nothing is known but its name.
    pub fn new(name: Name) -> Self {
        Self { name, service: Service::NEW, present: true, start: 0, len: 0 }
    }

    /// Its part of the `pool`.
    pub fn text<'a>(&self, pool: &'a [u8]) -> &'a [u8] {
        pool.get(self.start..).and_then(|rest| rest.get(..self.len)).unwrap_or_default()
    }

    /// What CONFDIR wants of it. A file that was never good wants nothing.
    pub fn want(&self) -> Want {
        if self.present && self.len > 0 { Want::Up } else { Want::Down }
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

    /// The place of the service `name`, whose file is there; none if the table is full.
    pub fn find_or_add(&mut self, name: Name) -> Option<usize> {
        let index = self.slots.iter().position(|slot| slot.name == name);
        let index = index.unwrap_or(self.slots.len());
        if index == self.slots.len() {
            self.slots.push(Slot::new(name)).ok()?;
        }
        self.slots.get_mut(index)?.present = true;
        Some(index)
    }

    /// Gives the slot at `index` this text; says whether that is another one. None if the pool has
    /// no room for it, then nothing changes.
    pub fn set_text(&mut self, index: usize, text: &[u8]) -> Option<bool> {
        let slot = self.slots.get(index)?;
        let (start, len) = (slot.start, slot.len);
        if slot.text(&self.pool) == text {
            return Some(false);
        }
        let others_len = self.pool.len().checked_sub(len)?;
        if others_len.saturating_add(text.len()) > POOL_MAX {
            return None;
        }
        self.pool.drain(start..start.saturating_add(len));
        for slot in self.slots.iter_mut().filter(|slot| slot.start > start) {
            slot.start = slot.start.saturating_sub(len);
        }
        let slot = self.slots.get_mut(index)?;
        (slot.start, slot.len) = (others_len, text.len());
        self.pool.extend_from_slice(text).ok().map(|()| true)
    }

    /// Forgets a service that has left CONFDIR and has no process any more; none if there is none.
    pub fn forget_one(&mut self) -> Option<()> {
        let is_over = |slot: &Slot| !slot.present && slot.service.pid().is_none();
        let index = self.slots.iter().position(is_over)?;
        self.set_text(index, b"")?;
        self.slots.swap_remove(index);
        Some(())
    }
}
