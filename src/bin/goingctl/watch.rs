//! `--watch`: the table on the alternate screen, redrawn as it changes; q quits, arrows scroll.

use crate::amounts;
use crate::interrupt::Interrupts;
use crate::options::Options;
use crate::output::{EXIT_OK, EXIT_USAGE, Failure, print, visible};
use crate::rows::rows;
use crate::rundir::{Rundir, Supervisor, supervisor};
use crate::select::{ALL, is_chosen, is_meant};
use crate::status::{Service, Status};
use crate::table;
use crate::terminal::{self, Key, Keys};
use going::linux::{clock, watch};
use std::collections::BTreeMap;

/// How often times and the like are brought up to date without an event.
const REDRAW_MS: u64 = 1_000;
/// Enters the alternate screen, hides the cursor, and cuts lines that are too long.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The screen. Dropping it restores what was there before.
struct Screen {
    keys: Option<Keys>,
}

impl Screen {
    fn open() -> Result<Self, Failure> {
        if terminal::size().is_none() || terminal::is_dumb() {
            return Err(Failure::new(EXIT_USAGE, "--watch needs a terminal that is not dumb"));
        }
        let screen = Self { keys: Keys::open() };
        print(ENTER)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _gone = print(LEAVE);
    }
}

/// Shows the table until the user quits.
pub fn show(rundir: &Rundir, options: &Options) -> Result<u8, Failure> {
    let interrupts = Interrupts::open()?;
    let screen = Screen::open()?;
    let mut first = 0_usize;
    loop {
        // Watched anew each time: RUNDIR may appear, disappear or be made anew.
        let news = rundir.watch();
        let lines = lines(rundir, options);
        let (columns, height) = terminal::size().unwrap_or((80, 24));
        let room = height.saturating_sub(2).max(1);
        first = first.min(lines.len().saturating_sub(2).saturating_sub(room));
        print(page(&lines, first, height, columns))?;
        let keys = screen.keys.as_ref();
        let next_ms = clock::now_ms().saturating_add(REDRAW_MS);
        interrupts.signals.wait(Some(next_ms), [news.as_ref(), keys.map(|keys| &keys.fd)]);
        let _changed = news.as_ref().is_some_and(watch::has_news);
        if interrupts.code().is_some() || has_quit(&screen, &mut first) {
            return Ok(EXIT_OK);
        }
    }
}

/// Obeys the keys that were pressed. Returns whether one of them was to quit.
fn has_quit(screen: &Screen, first: &mut usize) -> bool {
    let Some(keys) = &screen.keys else { return false };
    for key in keys.pressed() {
        match key {
            Key::Up => *first = first.saturating_sub(1),
            Key::Down => *first = first.saturating_add(1),
            Key::Quit => return true,
        }
    }
    false
}

/// What there is to see: a summary, the headings of the table, and the table.
fn lines(rundir: &Rundir, options: &Options) -> Vec<String> {
    let status = match rundir.read() {
        Ok(status) => status,
        Err(failure) => return vec![visible(&failure.text)],
    };
    let is_chosen = |service: &&Service| is_chosen(&service.name, &options.words);
    let chosen: Vec<_> = status.services.iter().filter(is_chosen).collect();
    let rows = rows(status.pid, &chosen, &options.confdir);
    let is_known = |word: &&String| status.services.iter().any(|s| is_meant(&s.name, word));
    let unknown = options.words.iter().filter(|word| *word != ALL && !is_known(word));
    let unknown = unknown.map(|word| visible(&format!(", no such service: {word}")));
    let mut lines = vec![summary(&status, &chosen) + &unknown.collect::<String>()];
    lines.extend(table::lines(&rows));
    lines
}

fn summary(status: &Status, services: &[&Service]) -> String {
    let mut counts = BTreeMap::new();
    for service in services {
        let count: &mut usize = counts.entry(visible(&service.state)).or_default();
        *count = count.saturating_add(1);
    }
    let counts: Vec<_> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let pid = status.pid.map_or("-".to_owned(), |pid| pid.to_string());
    let up_ms = clock::now_ms().saturating_sub(status.since_ms.unwrap_or(u64::MAX));
    let stopped = match supervisor(status) {
        Supervisor::Stopped => "STOPPED, ",
        Supervisor::Running | Supervisor::Gone => "",
    };
    let up = amounts::duration(up_ms);
    let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    format!("going, pid {pid}, {stopped}for {up}: {counts}")
}

/// One screenful, from line `first` of the table on.
fn page(lines: &[String], first: usize, height: usize, columns: usize) -> String {
    let mut above = lines.iter();
    let mut page = "\x1b[H".to_owned();
    let summary = above.next().map(|line| table::cut(line, Some(columns)));
    let shown = above.as_slice().iter().skip(1).skip(first);
    for line in summary.iter().chain(above.as_slice().first()).chain(shown).take(height) {
        page.push_str(line);
        page.push_str("\x1b[K\r\n");
    }
    page.truncate(page.len().saturating_sub(2));
    page.push_str("\x1b[J");
    page
}
