//! A storm of edits from five sides, against a model of what should run when it is over.
//!
//! `SEED=N cargo test -- storm` repeats the same edits, though not at the same moments.

use crate::harness::Going;
use crate::needs::scenario;
use crate::proc;
use crate::walk::Random;
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::RwLock;
use std::thread::{scope, sleep};
use std::time::Duration;

const WRITERS: usize = 5;
/// Names per writer; no two writers share one.
const NAMES: usize = 6;
const EDITS: u32 = 400;

pub fn tests() -> Vec<Trial> {
    vec![scenario!(two_thousand_edits_by_five_writers)]
}

/// What is known of one service.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Default)]
struct Known {
    /// The version that was last written to its file, if there is a file.
    version: Option<u32>,
    /// Whether the file is bad now.
    is_bad: bool,
    /// Whether the file is outside CONFDIR for now.
    is_away: bool,
    held: bool,
    /// A link to `..data/NAME`.
    is_link: bool,
}

/// One of the five writers.
struct Writer<'a> {
    going: &'a Going,
    /// Shared by the writers that work in CONFDIR; one that replaces it holds it alone.
    confdir: &'a RwLock<()>,
    number: usize,
    random: Random,
    known: BTreeMap<String, Known>,
    edits: u32,
}

impl Writer<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.going.path("going.d").join(name)
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.going.path("outside").join(name)
    }

    fn text(&self, name: &str, version: u32) -> String {
        self.going.cmd("pause", name, &[&version.to_string()])
    }

    fn run(&mut self) {
        for _ in 0..EDITS {
            self.edits += 1;
            let names: Vec<_> = self.known.keys().cloned().collect();
            let name = &names[self.random.index(names.len())];
            if self.random.below(100) == 0 {
                let _alone = self.confdir.write().unwrap();
                replace_directory(self.going, self.number);
            } else {
                let _among_others = self.confdir.read().unwrap();
                self.edit(name);
            }
            // The pace of the storm: some edits fall into the same rescan, and some do not.
            let longest = if self.random.below(20) == 0 { 300 } else { 10 };
            sleep(Duration::from_millis(self.random.below(longest)));
        }
    }

    /// Makes one random edit, or creates the file.
    fn edit(&mut self, name: &str) {
        let mut known = self.known[name].clone();
        let (path, version) = (self.path(name), self.edits);
        let is_there = known.version.is_some() && !known.is_away;
        match self.random.below(12) {
            0 => self.toggle_down(name, &mut known),
            _ if known.is_away => {
                fs::rename(self.outside(name), &path).expect("the same disk");
                known.is_away = false;
            }
            _ if known.is_link => self.swap(name, &mut known),
            2 | 3 if is_there => {
                fs::remove_file(&path).expect("our own file");
                known = Known { held: known.held, ..Known::default() };
            }
            4 if is_there => {
                fs::rename(&path, self.outside(name)).expect("the same disk");
                known.is_away = true;
            }
            5 if is_there => {
                append(&path, "# a comment\n");
                // If the last line had no newline, it is longer now.
            }
            6 if is_there => {
                fs::write(&path, "").expect("our own file");
                known.is_bad = true;
            }
            7 if is_there => {
                append(&path, "comand=x\n");
                known.is_bad = true;
            }
            8 if is_there => {
                for mode in [0o000, 0o644] {
                    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("our file");
                }
            }
            9 if is_there && !known.is_bad => {
                let old = known.version.expect("it is there");
                self.sed(&path, &format!("s/ {old}$/ {version}/"));
                known.version = Some(version);
            }
            10 => {
                let new = self.path(&format!(".{name}.new"));
                fs::write(&new, self.text(name, version)).expect("a file");
                fs::rename(&new, &path).expect("the same disk");
                (known.version, known.is_bad) = (Some(version), false);
            }
            _ => {
                fs::write(&path, self.text(name, version)).expect("a file");
                (known.version, known.is_bad) = (Some(version), false);
            }
        }
        self.known.insert(name.to_owned(), known);
    }

    /// Like `sed -i`, except for the name of the new file, which could otherwise be that of a
    /// service.
    fn sed(&self, path: &Path, script: &str) {
        let output = Command::new("sed").arg(script).arg(path).output().expect("sed");
        let new = path.with_file_name(format!(".sed{}", self.number));
        fs::write(&new, output.stdout).expect("a file");
        fs::rename(&new, path).expect("the same disk");
    }

    fn toggle_down(&self, name: &str, known: &mut Known) {
        known.held = !known.held;
        if known.held { self.going.hold_down(name) } else { self.going.let_up(name) }
    }

    /// Like Kubernetes: makes another directory, and lets `..data` lead there.
    fn swap(&self, name: &str, known: &mut Known) {
        let (version, confdir) = (self.edits, self.going.path("going.d"));
        let data = format!("..{}", self.edits);
        fs::create_dir(confdir.join(&data)).expect("a directory");
        fs::write(confdir.join(&data).join(name), self.text(name, version)).expect("a file");
        symlink(&data, confdir.join("..data_tmp")).expect("a symlink");
        let old = fs::read_link(confdir.join("..data")).ok();
        fs::rename(confdir.join("..data_tmp"), confdir.join("..data")).expect("a symlink");
        if known.version.is_none() {
            symlink(Path::new("..data").join(name), self.path(name)).expect("a symlink");
        }
        if let Some(old) = old {
            fs::remove_dir_all(confdir.join(old)).expect("our own directory");
        }
        known.version = Some(version);
    }
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).open(path);
    file.expect("our own file").write_all(text.as_bytes()).expect("room on the disk");
}

/// Replaces the directory by a copy; in between there is none. It goes and comes in a single step
/// each, because deleting it file by file would be an order to stop the services.
fn replace_directory(going: &Going, number: usize) {
    let (confdir, new) = (going.path("going.d"), going.path(&format!("new.d{number}")));
    let copied = Command::new("cp").arg("-a").arg(&confdir).arg(&new).status().expect("cp");
    assert!(copied.success());
    let old = going.path(&format!("old.d{number}"));
    fs::rename(&confdir, &old).expect("our own directory");
    fs::remove_dir_all(&old).expect("our own directory");
    // One of the writers waits for long enough that going notices.
    sleep(Duration::from_millis(if number == 0 { 300 } else { 0 }));
    fs::rename(&new, &confdir).expect("our own directory");
}

/// The services that run below going, each with its version and pid.
fn running(going: &Going) -> Vec<(String, String, i32)> {
    let pids = going.children().into_iter().filter(|&pid| proc::is_running(pid));
    let mut found: Vec<_> = pids
        .filter_map(|pid| {
            let words = proc::arguments(pid);
            Some((words.get(4)?.clone(), words.get(5)?.clone(), pid))
        })
        .collect();
    found.sort();
    found
}

/// Whether exactly the services that should run do so, each once.
fn agrees(going: &Going, known: &BTreeMap<String, Known>) -> bool {
    let running = running(going);
    let is_once = running.windows(2).all(|pair| pair[0].0 != pair[1].0);
    let is_known = running.iter().all(|(name, ..)| known.contains_key(name));
    let is_right = |(name, known): (&String, &Known)| {
        let version =
            running.iter().find(|(other, ..)| other == name).map(|(_, version, _)| version);
        match known.version {
            _ if known.held || known.is_away => version.is_none(),
            None => version.is_none(),
            // Any good version that was seen before, or none if there was none.
            Some(_) if known.is_bad => true,
            Some(wanted) => version == Some(&wanted.to_string()),
        }
    };
    is_once && is_known && known.iter().all(is_right)
}

fn difference(going: &Going, known: &BTreeMap<String, Known>) -> String {
    let wanted = known.iter().map(|(name, known)| {
        let Known { version, is_bad, is_away, held, .. } = known;
        format!("{name}: {version:?} bad {is_bad} away {is_away} held {held}\n")
    });
    format!("--- runs: {:?}\n--- wanted:\n{}", running(going), wanted.collect::<String>())
}

fn two_thousand_edits_by_five_writers() {
    let mut going = Going::new();
    fs::create_dir(going.path("outside")).expect("a directory");
    let mut all: BTreeMap<String, Known> = BTreeMap::new();
    for number in 0..WRITERS {
        let name = format!("same{number}");
        going.write(&name, going.cmd("pause", &name, &["0"]));
        all.insert(name, Known { version: Some(0), ..Known::default() });
    }
    going.start();
    going.wait_for("all that stays", || agrees(&going, &all));
    let same = running(&going);
    going.wait_for("RUNDIR/down", || going.path("run/down").is_dir());
    let seed = Random::seeded().0;
    eprintln!("the storm of two_thousand_edits_by_five_writers: SEED={seed}");
    let confdir = RwLock::new(());
    let writers = scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let names = (0..NAMES).map(|name| (format!("w{number}s{name}"), Known::default()));
                let mut known: BTreeMap<_, _> = names.collect();
                if number == 0 {
                    known.insert("linked".into(), Known { is_link: true, ..Known::default() });
                }
                let random = Random(seed.wrapping_add(number as u64) | 1);
                let (going, confdir) = (&going, &confdir);
                let mut writer = Writer { going, confdir, number, random, known, edits: 0 };
                scope.spawn(move || {
                    writer.run();
                    writer.known
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect::<Vec<_>>()
    });
    all.extend(writers.into_iter().flatten());
    settle(&going, &all);
    let still = running(&going).into_iter().filter(|(name, ..)| name.starts_with("same"));
    assert_eq!(
        still.collect::<Vec<_>>(),
        same,
        "services that were not edited kept their processes"
    );
    spoil(&going, &mut all);
    going.terminate();
}

#[track_caller]
fn settle(going: &Going, all: &BTreeMap<String, Known>) {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        going.wait_for("exactly what should run", || agrees(going, all));
        going.wait_quiet();
        going.wait_for("exactly what should run, still", || agrees(going, all));
    }));
    assert!(result.is_ok(), "{}\n{}", difference(going, all), going.report());
}

/// Makes all files good, lets all services come up, and then makes all files bad at once: nothing
/// changes.
fn spoil(going: &Going, all: &mut BTreeMap<String, Known>) {
    for (name, known) in all.iter_mut().filter(|(_, known)| !known.is_link && !known.is_away) {
        going.write(name, going.cmd("pause", name, &["7"]));
        (known.version, known.is_bad) = (Some(7), false);
    }
    settle(going, all);
    let before = running(going);
    for (name, bad) in all.keys().zip(["", "comand=x\n", "cmd=\n", "cmd=x\ncmd=y\n"].iter().cycle())
    {
        if !all[name].is_link && !all[name].is_away {
            going.write(name, bad);
        }
    }
    settle(going, all);
    going.rescan();
    going.remove("mark");
    going
        .wait_for("the end of the mark", || running(going).iter().all(|(name, ..)| name != "mark"));
    assert_eq!(running(going), before, "a bad file takes nobody down\n{}", going.report());
}
