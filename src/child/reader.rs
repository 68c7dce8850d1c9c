//! The reader: a process for each rescan, which reads CONFDIR and RUNDIR/down, compares all with
//! its copy of the table, and sends the supervisor what is different.
//!
//! So no byte of a service file is parsed in the supervisor, and a directory that hangs stalls
//! nothing but the rescan. It reads everything before it sends anything: the supervisor never sees
//! half a change. A file that is no good changes nothing but the log.

use super::path::with_path;
use super::{scan, twin};
use crate::linux::syslog::{INFO, Log, WARNING};
use crate::linux::{clock, raw, rundir};
use crate::model::config::{Fault, Text, hash, parse, service_name};
use crate::model::table::{SERVICES_MAX, Slot, Table};
use core::ffi::CStr;
use core::fmt;
use heapless::Vec;
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{WatchFlags, add_watch};
use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{Signal, set_parent_process_death_signal};

/// What makes a rescan due.
const WATCHED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What the last record of a rescan begins with: all could be read, or the rescan is to be
/// repeated.
pub const COMPLETE: u8 = b'!';
/// See [`COMPLETE`]: a file has just changed, and is to be read when it has settled.
pub const UNSETTLED: u8 = b'~';
/// See [`COMPLETE`]: a file could not be read, for a reason that has nothing to do with it.
pub const UNREAD: u8 = b'%';
/// See [`COMPLETE`]: CONFDIR could not be read or watched.
pub const INCOMPLETE: u8 = b'?';

/// Who has changed so short a time ago may be about to change again.
const SETTLE_MS: u64 = 150;

/// Hashes of the faults that were found: each is told once, as long as it lasts.
pub type Told = Vec<[u8; 4], SERVICES_MAX>;

/// Checks the service files in `confdir` for `going -n`, and says what is wrong; whether anything
/// is.
pub fn check(confdir: &CStr, table: &mut Table) -> bool {
    let (log, told) = (Log::PLAIN, Told::new());
    let mut reader = Reader::new(confdir, table, &told, &log, true);
    let is_good = reader.read_confdir() && reader.faults.is_empty();
    if is_good {
        log.say(INFO, format_args!("configuration OK"));
    }
    !is_good
}

/// A rescan.
pub struct Reader<'a> {
    /// CONFDIR.
    confdir: &'a CStr,
    /// What was known before, and is brought up to date.
    table: &'a mut Table,
    /// The faults of the last rescan.
    told: &'a Told,
    /// Those of this one.
    faults: Told,
    /// How long each service's text was before.
    lengths: Vec<usize, SERVICES_MAX>,
    /// Whether CONFDIR has never been read: files are taken as they are then, even those that have
    /// just changed.
    is_first: bool,
    /// What the last record will say.
    outcome: u8,
    /// Where to tell them.
    log: &'a Log,
}

impl<'a> Reader<'a> {
    /// A rescan of `confdir`.
    pub fn new(
        confdir: &'a CStr,
        table: &'a mut Table,
        told: &'a Told,
        log: &'a Log,
        is_first: bool,
    ) -> Self {
        let lengths = table.slots.iter().map(|slot| slot.text(&table.pool).len()).collect();
        let (faults, outcome) = (Told::new(), COMPLETE);
        Self { confdir, table, told, faults, lengths, is_first, outcome, log }
    }

    /// Does the rescan in this process, a child; the changes and the faults go to `channel`.
    pub fn run(mut self, rundir: &CStr, watch: Option<&OwnedFd>, channel: &OwnedFd) -> ! {
        // What it finds is of use to this supervisor alone.
        let _old = set_parent_process_death_signal(Some(Signal::KILL));
        // First the watch: what changes from now on is for the next rescan.
        let watched = watch_dir(watch, self.confdir);
        let is_read = self.read_confdir();
        if let Some(errno) = watched.err().filter(|_| is_read) {
            self.tell_of_confdir("watch", errno);
            self.outcome = INCOMPLETE;
        }
        if let Err(errno) = self.read_down(rundir, watch) {
            let (path, why) = (rundir.to_bytes(), raw::reason(errno));
            let hash = hash([b"down", path, why.as_bytes()]);
            let path = path.escape_ascii();
            self.tell(hash, format_args!("unable to read down in RUNDIR {path}: {why}"));
        }
        self.find_logs();
        // Whoever does not listen any more has died.
        let sent = self.send_changes(channel);
        if self.is_first && self.outcome != INCOMPLETE && sent.is_ok() {
            // Where nothing can be read, nothing can be done.
            let _ended = self.end_leftovers(rundir);
        }
        raw::exit(0)
    }

    /// Brings the table up to date with CONFDIR; whether that could be read.
    pub fn read_confdir(&mut self) -> bool {
        let result = scan::open_dir(self.confdir).and_then(|dir| {
            for slot in self.table.slots.iter_mut().filter(|slot| has_file(slot)) {
                let is_gone = slot.present && scan::has(&dir, &slot.name) == Some(false);
                slot.present &= !is_gone;
                slot.edited |= is_gone;
            }
            scan::each_name(&dir, |name| self.read_file(&dir, name))
        });
        // The main command alone needs none.
        let is_needed = self.table.slots.iter().all(has_file);
        if let Some(errno) = result.err().filter(|errno| is_needed || *errno != Errno::NOENT) {
            self.tell_of_confdir("read", errno);
        }
        if result.is_err() {
            self.outcome = INCOMPLETE;
        }
        result.is_ok()
    }

    /// Brings the table up to date with one file, or says what is wrong with it.
    fn read_file(&mut self, dir: &OwnedFd, file_name: &CStr) {
        let (mut file, mut text) = (scan::File::new(), Text::new());
        let bytes = file_name.to_bytes();
        if bytes.starts_with(b".") || bytes.ends_with(b"~") {
            return;
        }
        let fault: Fault = 'fault: {
            let Some(name) = service_name(bytes) else {
                break 'fault (0, ("passed over", b"not the name of a service"));
            };
            let read = scan::read_file(dir, file_name, &mut file);
            if !self.is_first && matches!(read, Ok(age_ms) if age_ms < SETTLE_MS) {
                self.outcome = UNSETTLED;
                return;
            }
            let Some(index) = self.table.find_or_add(name, clock::now_ms()) else {
                break 'fault (0, ("no room", b"256 services are the limit"));
            };
            if let Some(slot) = self.table.slots.get_mut(index).filter(|slot| !slot.present) {
                (slot.present, slot.edited) = (true, true);
            }
            if let Err(why) = read {
                if why.is_passing() && self.outcome == COMPLETE {
                    self.outcome = UNREAD;
                }
                break 'fault (0, ("unable to read", why.reason().as_bytes()));
            }
            if let Err(fault) = parse(&file, &mut text) {
                break 'fault fault;
            }
            if self.table.set_text(index, &text).is_none() {
                break 'fault (0, ("no room", b"49152 bytes of settings are the limit"));
            }
            return;
        };
        let (name, (line, (reason, what))) = (bytes.escape_ascii(), fault);
        let hash = hash([bytes, reason.as_bytes(), &file]);
        match (line, what.escape_ascii()) {
            (0, what) => self.tell(hash, format_args!("{name}: {reason}: {what}")),
            (_, what) => self.tell(hash, format_args!("{name}:{line}: {reason} \"{what}\"")),
        }
    }

    /// Finds out who is held down. Makes the directory if need be.
    fn read_down(&mut self, rundir: &CStr, watch: Option<&OwnedFd>) -> Result<(), Errno> {
        if rundir::open_dir(rundir).is_err() {
            // Said when the status cannot be written there.
            return Ok(());
        }
        let dir = with_path(&[rundir.to_bytes(), b"/down"], |path| {
            // Whether it is there will be seen at once.
            let _exists = mkdirat(CWD, path, Mode::from_raw_mode(0o755));
            // Without a watch a HUP does it, which is not worth a message.
            let _unheard = watch_dir(watch, path);
            scan::open_dir(path)
        });
        for slot in &mut self.table.slots {
            let held = match &dir {
                Ok(dir) => scan::has(dir, &slot.name).unwrap_or(slot.held),
                Err(Errno::NOENT | Errno::NOTDIR) => false,
                Err(_) => slot.held,
            };
            slot.edited |= held != slot.held;
            slot.held = held;
        }
        dir.map(|_| ())
    }

    /// Finds out who is logged to. Whoever is for the first time starts anew, reading a pipe then,
    /// and so does everybody who logs to it: should he have a pipe, it is that of one who is gone.
    fn find_logs(&mut self) {
        let Table { slots, pool } = &mut *self.table;
        for index in 0..slots.len() {
            let Some(log) = slots.get(index).and_then(|slot| slot.log(pool)) else { continue };
            let is_new = |slot: &&mut Slot| slot.name.as_bytes() == log && !slot.logged_to;
            let Some(reader) = slots.iter_mut().find(is_new) else { continue };
            (reader.logged_to, reader.edited) = (true, true);
            for slot in slots.iter_mut().filter(|slot| slot.log(pool) == Some(log)) {
                slot.edited = true;
            }
        }
    }

    /// Sends what has changed, and at last the faults.
    fn send_changes(&self, channel: &OwnedFd) -> Result<(), Errno> {
        let Table { slots, pool } = &*self.table;
        let lengths = self.lengths.iter().copied().chain(core::iter::repeat(0));
        // Who makes room goes before who takes it: all that fits here fits there.
        for grows in [false, true] {
            let slots = slots.iter().zip(lengths.clone());
            let is_next = |(slot, length): &(&Slot, usize)| {
                slot.edited && (slot.text(pool).len() > *length) == grows
            };
            for (slot, _) in slots.filter(is_next) {
                let record = slot.record(pool).ok_or(Errno::MSGSIZE)?;
                send(channel, &record, SendFlags::NOSIGNAL)?;
            }
        }
        let mut last = Vec::<u8, { 1 + 4 * SERVICES_MAX }>::new();
        let _fits = last.push(self.outcome);
        let _fits = last.extend_from_slice(self.faults.as_flattened());
        // Nothing is known of what was not read: what was told of that is not told again.
        let old = self.told.iter().filter(|_| self.outcome != COMPLETE);
        for hash in old.filter(|hash| !self.faults.contains(hash)) {
            let _full = last.extend_from_slice(hash);
        }
        send(channel, &last, SendFlags::NOSIGNAL).map(|_| ())
    }

    /// Ends what a killed supervisor has left behind of services that will not be started now.
    /// Those that will see to it themselves.
    fn end_leftovers(&self, rundir: &CStr) -> Result<(), Errno> {
        let dir = twin::open_pids(rundir)?;
        let is_started = |slot: &Slot| slot.present && !slot.held && !slot.was_never_good();
        scan::each_name(&dir, |name| {
            let is_this = |slot: &&Slot| slot.name.as_bytes() == name.to_bytes();
            let is_left = !self.table.slots.iter().find(is_this).is_some_and(is_started);
            if is_left && !name.to_bytes().starts_with(b".") {
                // What cannot be read tells of nobody.
                let _ended = twin::end_leftover(&dir, name);
            }
        })
    }

    /// Says what is wrong, unless it was already so the last time.
    fn tell(&mut self, hash: u32, text: fmt::Arguments) {
        let hash = hash.to_ne_bytes();
        // What cannot be remembered would be told again and again.
        if self.faults.push(hash).is_ok() && !self.told.contains(&hash) {
            self.log.say(WARNING, text);
        }
    }

    fn tell_of_confdir(&mut self, verb: &str, errno: Errno) {
        let (path, why) = (self.confdir.to_bytes(), raw::reason(errno));
        let hash = hash([verb.as_bytes(), path, why.as_bytes()]);
        let path = path.escape_ascii();
        self.tell(hash, format_args!("unable to {verb} CONFDIR {path}: {why}"));
    }
}

/// Whether it is a service with a file; the main command has none.
fn has_file(slot: &Slot) -> bool {
    service_name(slot.name.as_bytes()).is_some()
}

/// Has `watch` tell of what changes in the directory at `path`.
fn watch_dir(watch: Option<&OwnedFd>, path: &CStr) -> Result<(), Errno> {
    add_watch(watch.ok_or(Errno::MFILE)?, path, WATCHED).map(|_| ())
}
