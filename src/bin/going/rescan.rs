//! The one rescan: compares the table with CONFDIR, file by file, and makes it agree.
//!
//! Whatever is the reason to look, it looks at everything; what has not changed is left alone. A
//! file that is no good changes nothing but the log.

use crate::supervisor::{Memory, Supervisor};
use core::ffi::CStr;
use going::linux::syslog::{INFO, WARNING};
use going::linux::{clock, raw, scan};
use going::model::config::{Fault, hash, parse, service_name};
use going::model::service::Event;
use going::model::table::Table;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// While CONFDIR cannot be read it is tried again so often: the one exception to no polling.
const RETRY_MS: u64 = 5_000;

impl Supervisor {
    /// Checks CONFDIR, for `going -n`; returns the exit code.
    pub fn check(&mut self) -> u8 {
        self.rescan();
        if self.rescan_ms.is_some() || !self.memory.told.is_empty() {
            return 1;
        }
        self.shell.log.say(INFO, format_args!("configuration OK"));
        0
    }

    /// Reads CONFDIR now, or else again later.
    pub fn rescan(&mut self) {
        let unreadable = self.read_confdir().err();
        self.rescan_ms = unreadable.map(|_| clock::now_ms().saturating_add(RETRY_MS));
        if let Some(errno) = unreadable.filter(|_| unreadable != self.unreadable) {
            let (path, why) = (self.confdir.to_bytes().escape_ascii(), raw::reason(errno));
            let text = format_args!("unable to read CONFDIR {path}: {why}");
            self.shell.log.say(WARNING, text);
        }
        self.unreadable = unreadable;
    }

    /// Finds out who is gone, then what everybody else's file says.
    fn read_confdir(&mut self) -> Result<(), Errno> {
        let dir = scan::open_dir(self.confdir)?;
        for slot in &mut self.memory.table.slots {
            slot.present = slot.present && !scan::is_gone(&dir, &slot.name);
        }
        scan::each_name(&dir, |name| self.load(&dir, name))
    }

    /// Makes the table agree with one file, or says once what is wrong with it.
    fn load(&mut self, dir: &OwnedFd, file_name: &CStr) {
        let Memory { table, file, text, told } = &mut *self.memory;
        let bytes = file_name.to_bytes();
        if bytes.starts_with(b".") || bytes.ends_with(b"~") {
            return;
        }
        file.clear();
        let fault: Fault = 'fault: {
            let Some(name) = service_name(bytes) else {
                break 'fault (0, ("passed over", b"not the name of a service"));
            };
            let Some(index) = table.find_or_add(name) else {
                break 'fault (0, ("no room", b"256 services are the limit"));
            };
            if let Err(reason) = scan::read_file(dir, file_name, file) {
                break 'fault (0, ("unable to read", reason.as_bytes()));
            }
            if let Err(fault) = parse(file, text) {
                break 'fault fault;
            }
            let Some(is_other) = table.set_text(index, text) else {
                break 'fault (0, ("no room", b"49152 bytes of settings are the limit"));
            };
            let Table { slots, pool } = table;
            if let Some(slot) = slots.get_mut(index).filter(|_| is_other) {
                self.shell.step(slot, pool, Event::Edited);
            }
            return;
        };
        let (name, (line, (reason, what))) = (bytes.escape_ascii(), fault);
        let hash = hash([bytes, reason.as_bytes(), file]);
        if told.contains(&hash) {
            return;
        }
        told.write(hash);
        let (log, what) = (&self.shell.log, what.escape_ascii());
        match line {
            0 => log.say(WARNING, format_args!("{name}: {reason}: {what}")),
            _ => log.say(WARNING, format_args!("{name}:{line}: {reason} \"{what}\"")),
        }
    }
}
