//! The reader: a child process for each rescan. It reads CONFDIR and RUNDIR/down, compares what it
//! finds with its copy of the table, and leaves a plan behind.
//!
//! So the supervisor never parses a byte of a service file, and a directory that hangs stalls
//! nothing but the rescan. The plan is adopted only when the reader has ended, so the supervisor
//! never sees half a change. A bad file is reported, and changes no service.

use super::path::with_path;
use super::plan::{Faults, Plan};
use super::{EXIT_SET_UP, scan, twin};
use crate::linux::options::Options;
use crate::linux::syslog::{Log, Message, WARNING};
use crate::linux::table::{self, Slot, Slots};
use crate::linux::{raw, rundir, stdio};
use crate::model::config::{Fault, Name, Text, hash, parse, policy, service_name, value};
use crate::model::entry::{EDITED, Entry, GONE, GOOD, HELD, LOGGED_TO};
use crate::model::service::Want;
use core::cell::Cell;
use core::ffi::CStr;
use core::fmt::{self, Write};
use linux_raw_sys::general::SIGXFSZ;
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{WatchFlags, add_watch};
use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal};
use rustix::process::{getrlimit, set_parent_process_death_signal, setrlimit};

/// The changes of a directory that make a rescan due.
const WATCHED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Exit code of a reader: all was read, but for files with a fault that only a change can mend.
pub const COMPLETE: u8 = 0;
/// Exit code of a reader: the rescan has to be repeated soon, because a file has changed too
/// recently to be read, or because there may now be room for one that was turned away.
pub const UNSETTLED: u8 = 1;
/// Exit code of a reader: a file could not be read, for a reason that may pass.
pub const UNREAD: u8 = 2;
/// Exit code of a reader: CONFDIR could not be read or watched. Any greater code means that there
/// is no plan.
pub const INCOMPLETE: u8 = 3;

/// A file that was changed less than this ago may be about to change again.
const SETTLE_MS: u64 = 150;

/// `going -n`: prints what is wrong with the service files in `confdir`. Returns the exit code.
pub fn check(confdir: &CStr, slots: &mut Slots) -> u8 {
    // Signals are not blocked here, and this one would kill us where EFBIG is to be reported.
    raw::set_ignored(SIGXFSZ, true);
    let code = Cell::new(0);
    let print = |line: &str| code.set(code.get() | stdio::print(1, &[line, "\n"]));
    let is_good = is_good(confdir, slots, &print);
    code.get() | u8::from(!is_good)
}

/// Whether the service files in `confdir` are good. Calls `say` with a line for each fault, or with
/// one that says there is none. `slots` hold the main command, which is not checked, or none.
pub fn is_good(confdir: &CStr, slots: &mut Slots, say: &dyn Fn(&str)) -> bool {
    let say = |text: fmt::Arguments<'_>| {
        let mut message = Message::default();
        let _cut = message.write_fmt(text);
        say(&message.0);
    };
    allow_files();
    let read = table::plan().and_then(|file| {
        let mut reader = Reader::new(confdir, slots, &file, &say);
        // If it could not be read, that is one of the faults; unless it need not be there.
        reader.read_confdir();
        reader.failed.map_or(Ok(reader.faults.is_empty()), Err)
    });
    match read {
        Ok(true) => say(format_args!("configuration OK")),
        Ok(false) => {}
        Err(errno) => say(format_args!("unable to make a plan: {}", raw::reason(errno))),
    }
    read == Ok(true)
}

/// Does a rescan in this process, a child. Begins with the `old` plan, if there is one, and leaves
/// a new one in `file`.
pub fn run(
    options: &Options,
    slots: &mut Slots,
    file: &OwnedFd,
    old: Option<&OwnedFd>,
    watch: Option<&OwnedFd>,
    log: &Log,
) -> ! {
    // Nobody but this supervisor can use the plan.
    let _old = set_parent_process_death_signal(Some(Signal::KILL));
    allow_files();
    // This may take long, and must not keep a log reader from seeing end-of-file.
    slots.iter_mut().for_each(|slot| slot.pipe = None);
    let say = |text: fmt::Arguments<'_>| log.say(WARNING, text);
    let mut reader = Reader::new(options.confdir, slots, file, &say);
    match reader.rescan(options.rundir, watch, old) {
        // If CONFDIR could not be read we do not know which services will be started.
        Ok(is_read) if reader.is_first && is_read => drop(reader.end_leftovers(options.rundir)),
        Ok(_) => {}
        Err(errno) => {
            let why = raw::reason(errno);
            reader.report(0, format_args!("unable to make a plan: {why}"));
            raw::exit(EXIT_SET_UP.into());
        }
    }
    raw::exit(reader.outcome.into())
}

/// A rescan.
struct Reader<'a> {
    /// CONFDIR.
    confdir: &'a CStr,
    /// The table, which is brought up to date.
    slots: &'a mut Slots,
    /// The plan that is being written.
    plan: Plan<'a>,
    /// The faults that the last rescan has found.
    old_faults: Faults,
    /// The faults that this one has found.
    faults: Faults,
    /// Whether a file was turned away for lack of room.
    is_full: bool,
    /// Whether there is more room than before.
    is_roomier: bool,
    /// Whether CONFDIR has never been read. Then even files that have just changed are taken as
    /// they are.
    is_first: bool,
    /// The exit code.
    outcome: u8,
    /// Why there is no plan, if it could not be written.
    failed: Option<Errno>,
    /// Reports a fault.
    say: &'a dyn Fn(fmt::Arguments),
}

impl<'a> Reader<'a> {
    /// Prepares a rescan of `confdir`, whose plan goes to `file`.
    fn new(
        confdir: &'a CStr,
        slots: &'a mut Slots,
        file: &'a OwnedFd,
        say: &'a dyn Fn(fmt::Arguments),
    ) -> Self {
        let (plan, old_faults, faults) = (Plan::new(file), Faults::new(), Faults::new());
        let (is_full, is_roomier, is_first) = (false, false, true);
        let (outcome, failed) = (COMPLETE, None);
        Self {
            confdir,
            slots,
            plan,
            old_faults,
            faults,
            is_full,
            is_roomier,
            is_first,
            outcome,
            failed,
            say,
        }
    }

    /// Does the whole rescan except for leftovers, beginning with the `old` plan. Returns whether
    /// CONFDIR could be read.
    ///
    /// # Errors
    /// Why there is no plan.
    fn rescan(
        &mut self,
        rundir: &CStr,
        watch: Option<&OwnedFd>,
        old: Option<&OwnedFd>,
    ) -> Result<bool, Errno> {
        for slot in self.slots.iter_mut() {
            slot.entry.flags &= !EDITED;
            // A service that has ended and has no file any more is forgotten.
            if slot.entry.has(GONE) && !slot.is_up() {
                *slot = Slot::new(Entry::default(), 0);
            }
        }
        if let Some(old) = old {
            (self.old_faults, self.is_first) = self.plan.take_over(old, self.slots)?;
        }
        // The watch comes first, so that any change from now on leads to the next rescan.
        let watched = watch_dir(watch, self.confdir);
        let is_read = self.read_confdir();
        if let Err(errno) = watched
            && is_read
        {
            self.report_confdir("watch", errno);
            self.outcome = INCOMPLETE;
        }
        if let Err(errno) = self.read_down(rundir, watch) {
            let (path, why) = (rundir.to_bytes(), raw::reason(errno));
            let hash = hash([b"down", path, why.as_bytes()]);
            let path = path.escape_ascii();
            self.report(hash, format_args!("unable to read down in RUNDIR {path}: {why}"));
        }
        self.read_texts()?;
        if let Some(errno) = self.failed {
            return Err(errno);
        }
        if self.outcome != COMPLETE {
            // Faults of what could not be read this time may still be there. They are kept, so that
            // they are not reported again.
            for hash in &self.old_faults {
                let _full =
                    if self.faults.contains(hash) { Ok(()) } else { self.faults.push(*hash) };
            }
        }
        self.plan.finish(&self.faults, self.is_first && !is_read, self.slots).map(|()| is_read)
    }

    /// Brings the table up to date with CONFDIR. Returns whether that could be read.
    fn read_confdir(&mut self) -> bool {
        let result = scan::open_dir(self.confdir).and_then(|dir| {
            scan::each_name(&dir, &mut |name| self.read_file(&dir, name))?;
            // Only now, for getdents(2) has failed if CONFDIR was deleted while a bind mount keeps
            // it: it has no files then, but that does not ask for all services to be stopped.
            for Slot { entry, .. } in self.slots.iter_mut().skip(1) {
                if !entry.name.is_empty() && scan::has(&dir, &entry.name) == Some(false) {
                    entry.flags |= GONE;
                }
            }
            Ok(())
        });
        // With a main command there need not be a CONFDIR.
        let is_needed = self.slots.first().is_none_or(|main| main.entry.name.is_empty());
        if let Some(errno) = result.err().filter(|errno| is_needed || *errno != Errno::NOENT) {
            self.report_confdir("read", errno);
        }
        if result.is_err() {
            self.outcome = INCOMPLETE;
        } else if self.is_full && self.is_roomier && self.outcome == COMPLETE {
            self.outcome = UNSETTLED;
        }
        result.is_ok()
    }

    /// Brings the table up to date with one file, or reports what is wrong with it.
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
            if read.is_err() && scan::has(dir, &name) == Some(false) {
                // It was removed just now, which is no fault.
                return;
            }
            let Some(index) = self.find_or_add(&name) else {
                self.is_full = true;
                break 'fault (0, ("no room", b"256 services are the limit"));
            };
            if let Err(why) = read {
                if why.is_passing() && self.outcome == COMPLETE {
                    self.outcome = UNREAD;
                }
                break 'fault (0, ("unable to read", why.reason().as_bytes()));
            }
            if let Err(fault) = parse(&file, &mut text) {
                break 'fault fault;
            }
            if self.set_text(index, &text).is_none() {
                self.is_full = true;
                break 'fault (0, ("no room", b"49152 bytes of settings are the limit"));
            }
            return;
        };
        let (name, (line, (reason, what))) = (bytes.escape_ascii(), fault);
        let hash = hash([bytes, reason.as_bytes(), &file]);
        match (line, what.escape_ascii()) {
            (0, what) => self.report(hash, format_args!("{name}: {reason}: {what}")),
            (_, what) => self.report(hash, format_args!("{name}:{line}: {reason} \"{what}\"")),
        }
    }

    /// Finds the service `name`, or an unused slot if `name` is empty.
    fn find(&self, name: &[u8]) -> Option<usize> {
        let mut places = self.slots.iter().zip(0..).skip(1);
        places.find(|(slot, _)| slot.entry.name.as_bytes() == name).map(|(_, index)| index)
    }

    /// Finds the service `name`, or adds it; none if the table is full.
    fn find_or_add(&mut self, name: &Name) -> Option<usize> {
        let index = self.find(name.as_bytes()).or_else(|| self.find(b""));
        let index = index.unwrap_or(self.slots.len());
        if index == self.slots.len() {
            self.slots.push(Slot::new(Entry::default(), 0)).ok()?;
        }
        let entry = &mut self.slots.get_mut(index)?.entry;
        entry.name.clone_from(name);
        entry.flags &= !GONE;
        Some(index)
    }

    /// Gives the service at `index` this text. None if there is no room for it.
    fn set_text(&mut self, index: usize, text: &[u8]) -> Option<()> {
        let entry = &mut self.slots.get_mut(index)?.entry;
        let [_, old_len, _] = entry.text;
        match self.plan.set_text(entry, text) {
            Ok(false) => {}
            Ok(true) => {
                entry.flags |= GOOD | EDITED;
                self.is_roomier |= text.len() < old_len as usize;
            }
            Err(Errno::TOOBIG) => return None,
            Err(errno) => self.failed = Some(errno),
        }
        Some(())
    }

    /// Finds out which services are held down. Creates the directory if it is missing.
    fn read_down(&mut self, rundir: &CStr, watch: Option<&OwnedFd>) -> Result<(), Errno> {
        let has_rundir = rundir::open_dir(rundir).is_ok();
        let dir = with_path(&[rundir.to_bytes(), b"/down"], |path| {
            // Whether it exists now is seen when it is opened.
            let _exists = mkdirat(CWD, path, Mode::from_raw_mode(0o755));
            // Without a watch HUP still works. That is not worth a message.
            let _unheard = watch_dir(watch, path);
            scan::open_dir(path)
        });
        for Slot { entry, .. } in self.slots.iter_mut().skip(1) {
            let is_held = match &dir {
                Ok(dir) => scan::has(dir, &entry.name).unwrap_or(entry.has(HELD)),
                Err(Errno::NOENT | Errno::NOTDIR) => false,
                Err(_) => entry.has(HELD),
            };
            if is_held != entry.has(HELD) {
                entry.flags ^= HELD;
            }
        }
        // A fault of RUNDIR itself is reported when the status cannot be written.
        if has_rundir { dir.map(|_| ()) } else { Ok(()) }
    }

    /// Finds out what the texts tell the supervisor: how to restart and stop services, and which of
    /// them are logged to.
    fn read_texts(&mut self) -> Result<(), Errno> {
        let mut text = Text::new();
        for index in 1..self.slots.len() {
            let Some(slot) = self.slots.get(index) else { continue };
            self.plan.read_text(&slot.entry, &mut text)?;
            let log = value(&text, b"log").filter(|log| !matches!(*log, b"inherit" | b"null"));
            let log = log.and_then(|log| self.find(log));
            let Some(slot) = self.slots.get_mut(index) else { continue };
            slot.entry.policy = policy(&text, log.and_then(|log| log.try_into().ok()));
        }
        self.find_logs();
        Ok(())
    }

    /// A service that is logged to for the first time is restarted, to read from a pipe; even if it
    /// is done, because it may have ended for lack of anything to read. So are the services that
    /// log to it: if they have a pipe, it leads to a service that is gone. But those that are done
    /// stay done: they have neither a process nor a start that is due.
    fn find_logs(&mut self) {
        let mark = |slot: &mut Slot| {
            if slot.service.pid().is_some() || slot.service.due_ms(Want::Up).is_some() {
                slot.entry.flags |= EDITED;
            }
        };
        for index in 1..self.slots.len() {
            let log = self.slots.get(index).and_then(|slot| slot.entry.policy.log);
            let Some(log) = log else { continue };
            let reader = self.slots.get_mut(usize::from(log));
            let is_new = |slot: &&mut Slot| !slot.entry.has(LOGGED_TO);
            let Some(reader) = reader.filter(is_new) else { continue };
            reader.entry.flags |= LOGGED_TO | EDITED;
            let writers = self.slots.iter_mut().filter(|slot| slot.entry.policy.log == Some(log));
            writers.for_each(mark);
        }
    }

    /// Ends what a killed supervisor has left behind of services that are not going to be started.
    /// The others do that themselves when they start.
    fn end_leftovers(&self, rundir: &CStr) -> Result<(), Errno> {
        let dir = twin::open_pids(rundir)?;
        let is_started = |slot: &Slot| slot.entry.flags & (GONE | GOOD | HELD) == GOOD;
        scan::each_name(&dir, &mut |name| {
            let is_this = |slot: &&Slot| slot.entry.name.as_bytes() == name.to_bytes();
            if !self.slots.iter().find(is_this).is_some_and(is_started) {
                // What cannot be read, such as a directory, is no pid file.
                let _ended = twin::end_leftover(&dir, name);
            }
        })
    }

    /// Reports a fault, unless the last rescan has found it, too.
    #[inline(never)]
    fn report(&mut self, hash: u32, text: fmt::Arguments) {
        let hash = hash.to_ne_bytes();
        // A fault for which there is no room would be reported again and again.
        if self.faults.push(hash).is_ok() && !self.old_faults.contains(&hash) {
            (self.say)(text);
        }
    }

    fn report_confdir(&mut self, verb: &str, errno: Errno) {
        let (path, why) = (self.confdir.to_bytes(), raw::reason(errno));
        let hash = hash([verb.as_bytes(), path, why.as_bytes()]);
        let path = path.escape_ascii();
        self.report(hash, format_args!("unable to {verb} CONFDIR {path}: {why}"));
    }
}

/// Raises the limit of file sizes, which is meant for files on disk, as far as possible, because
/// the plan is a file, too. Only root may raise it beyond the hard limit.
fn allow_files() {
    let maximum = getrlimit(Resource::Fsize).maximum;
    for maximum in [maximum, None] {
        let _limited = setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum });
    }
}

/// Adds the directory at `path` to `watch`.
fn watch_dir(watch: Option<&OwnedFd>, path: &CStr) -> Result<(), Errno> {
    add_watch(watch.ok_or(Errno::MFILE)?, path, WATCHED).map(|_| ())
}
