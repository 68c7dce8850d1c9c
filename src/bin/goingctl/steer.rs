//! start, stop and restart: change the files in RUNDIR/down, and wait until the status shows the
//! effect.
//!
//! A restart holds the service down, waits until it is down, and lets it go. However this program
//! ends, by an error, by a signal or at the deadline, it first lets go what it holds for a restart.
//! Only KILL can leave a service held down that nobody wanted down. So all other signals are
//! blocked and read meanwhile. TSTP is among them, because a restart that is suspended half-way
//! would leave its service down just as well.

use crate::amounts;
use crate::confdir;
use crate::interrupt::Interrupts;
use crate::options::Options;
use crate::output::{self, EXIT_FAILED, EXIT_OK, Failure, reason, warn};
use crate::proc;
use crate::rundir::{Mark, Rundir, Supervisor, supervisor};
use crate::select::MAIN;
use crate::status::{End, Service, Status};
use going::linux::{clock, watch};
use going::model::config::policy;
use going::model::service::TIMEOUT_MS;
use std::io;

/// The time to start, in addition to the time to stop.
const START_MS: u64 = 5_000;
/// A service that has been up for this long has not ended at once.
const SETTLED_MS: u64 = 200;
/// How often the status is read even without an event, because none tells that going was killed.
const RECHECK_MS: u64 = 500;
/// How often it is read where RUNDIR cannot be watched.
const POLL_MS: u64 = 50;

/// What a service is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    Start,
    Stop,
    Restart,
    /// Its file has appeared.
    Appear,
    /// Its file has gone.
    Disappear,
}

/// How long to wait.
#[derive(Clone, Copy)]
pub struct Patience {
    pub is_waiting: bool,
    pub timeout_ms: u64,
}

impl Patience {
    /// What `options` say. By default it is long enough for the service among `names` with the
    /// longest timeout to stop and start.
    pub fn of(options: &Options, names: &[String]) -> Self {
        let longest_ms = || {
            let texts = names.iter().filter_map(|name| confdir::text(&options.confdir, name).ok());
            let stop_ms = texts.map(|text| policy(&text, None).timeout_ms).max();
            u64::from(stop_ms.unwrap_or_default().max(TIMEOUT_MS)).saturating_add(START_MS)
        };
        let timeout_ms = options.timeout_ms.unwrap_or_else(longest_ms);
        Self { is_waiting: options.is_waiting, timeout_ms }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// That it is down. Then it is let go, and is to be up.
    DownFirst,
    /// That it is stopping or down. Then it is let go, and that is all.
    Noticed,
    Down,
    Up,
    /// That going knows it, and then the same as with `Up`.
    Known,
    Gone,
    Over,
}

/// A service, and how far it has come.
struct Job<'a> {
    name: String,
    phase: Phase,
    hold: Option<Hold<'a>>,
    goal: Goal,
    /// How often it had been started before.
    starts: Option<u64>,
}

/// The file in RUNDIR/down that holds a service down during a restart. If the restart made it, or
/// is that of a start (`is_ours`), it is removed however the restart ends. If it was there before,
/// it is removed when the restart lets the service go, and stays if the restart fails before that.
/// Either stays if somebody else has asked meanwhile for the service to be down.
struct Hold<'a> {
    rundir: &'a Rundir,
    name: String,
    is_ours: bool,
    mark: Option<Mark>,
}

impl<'a> Hold<'a> {
    fn new(rundir: &'a Rundir, name: &str) -> io::Result<Self> {
        let ours = rundir.hold_for_restart(name)?;
        let mark = ours.or_else(|| rundir.mark(name));
        Ok(Self { rundir, name: name.to_owned(), is_ours: ours.is_some(), mark })
    }

    /// Removes the file, unless there is one in its place that others have to remove. Returns false
    /// if that failed.
    fn let_go(&mut self) -> bool {
        self.is_ours = false;
        if matches!(self.found(), Found::AStop | Found::ARestart) {
            return true;
        }
        let Err(error) = self.rundir.release(&self.name) else { return true };
        let path = self.rundir.0.join("down").join(&self.name);
        warn(format!("unable to remove {}: {}", path.display(), reason(&error)));
        false
    }

    /// What has become of the file. This does not rely on the status, which was read before: the
    /// file may have been made since then.
    fn found(&self) -> Found {
        match self.rundir.mark(&self.name) {
            None => Found::Nothing,
            mark if mark == self.mark => Found::TheSame,
            Some(mark) if mark.is_to_stay(self.mark) => Found::AStop,
            Some(_) => Found::ARestart,
        }
    }
}

/// What there is now in the place of the file of a [`Hold`].
#[derive(Clone, Copy, PartialEq)]
enum Found {
    Nothing,
    TheSame,
    /// A file of somebody who wants the service held down.
    AStop,
    /// The file of another restart, which lets the service go itself.
    ARestart,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if self.is_ours {
            self.let_go();
        }
    }
}

/// What became of a service, and whether that is what was asked for.
type Outcome = (String, bool);

/// Brings all of `names` to their goal. Returns the exit code.
pub fn steer(
    rundir: &Rundir,
    goal: Goal,
    names: &[String],
    patience: Patience,
) -> Result<u8, Failure> {
    let interrupts = Interrupts::open()?;
    let news = rundir.watch();
    let due_ms = clock::now_ms().saturating_add(patience.timeout_ms);
    let mut status = rundir.read()?;
    let mut is_good = true;
    let mut jobs = Vec::new();
    for name in names {
        match begin(rundir, goal, name, status.service(name), patience.is_waiting) {
            Ok(job) => jobs.push(job),
            Err(outcome) => is_good &= tell(name, &outcome),
        }
    }
    loop {
        let now_ms = clock::now_ms();
        for job in &mut jobs {
            if let Some(outcome) = advance(job, &status, now_ms) {
                job.phase = Phase::Over;
                is_good &= tell(&job.name, &outcome);
            }
        }
        jobs.retain(|job| job.phase != Phase::Over);
        if jobs.is_empty() {
            return Ok(if is_good { EXIT_OK } else { EXIT_FAILED });
        }
        if now_ms >= due_ms {
            give_up(&jobs, &status, patience.timeout_ms);
            return Ok(EXIT_FAILED);
        }
        let pause_ms = if news.is_some() { RECHECK_MS } else { POLL_MS };
        let next_ms = settled_ms(&jobs, &status).unwrap_or(u64::MAX);
        let next_ms = next_ms.min(due_ms).min(now_ms.saturating_add(pause_ms));
        interrupts.signals.wait(Some(next_ms), [news.as_ref(), None]);
        if let Some(code) = interrupts.code() {
            return Err(Failure::new(code, "interrupted"));
        }
        let _changed = news.as_ref().is_some_and(watch::has_news);
        status = rundir.read()?;
    }
}

/// Takes the first step. If that is all there is to do, or if it fails, returns the outcome as the
/// error.
fn begin<'a>(
    rundir: &'a Rundir,
    goal: Goal,
    name: &str,
    service: Option<&Service>,
    is_waiting: bool,
) -> Result<Job<'a>, Outcome> {
    let refused = |verb: &str, error: &io::Error| {
        let path = rundir.0.join("down").join(name);
        (format!("unable to {verb} {}: {}", path.display(), reason(error)), false)
    };
    if name == MAIN {
        return Err(("going ends with it; signal it, or stop going".to_owned(), false));
    }
    let starts = service.and_then(|service| service.starts);
    let job = |phase, hold| Job { name: name.to_owned(), phase, hold, goal, starts };
    let told = |to: &str| (format!("told to {to}"), true);
    // A service that is done or in backoff starts when it is held down and let go.
    let is_idle = service.is_some_and(|s| matches!(s.state.as_str(), "done" | "backoff"));
    match goal {
        Goal::Stop => {
            rundir.hold_anew(name).map_err(|error| refused("create", &error))?;
            if is_waiting { Ok(job(Phase::Down, None)) } else { Err(told("stop")) }
        }
        Goal::Start if !is_idle => {
            rundir.release(name).map_err(|error| refused("remove", &error))?;
            if is_waiting { Ok(job(Phase::Up, None)) } else { Err(told("start")) }
        }
        Goal::Start | Goal::Restart => {
            let mut hold = Hold::new(rundir, name).map_err(|error| refused("create", &error))?;
            // A start removes an earlier file, too, however it ends.
            hold.is_ours |= goal == Goal::Start;
            let phase = if is_waiting { Phase::DownFirst } else { Phase::Noticed };
            Ok(job(phase, Some(hold)))
        }
        Goal::Appear => Ok(job(Phase::Known, None)),
        Goal::Disappear => Ok(job(Phase::Gone, None)),
    }
}

/// Takes the next step if it is time for it. Returns the outcome if that was the last step.
fn advance(job: &mut Job, status: &Status, now_ms: u64) -> Option<Outcome> {
    let service = status.service(&job.name);
    let state = service.map_or("gone", |service| service.state.as_str());
    let is_down = matches!(state, "down" | "rejected" | "gone");
    let is_up =
        service.is_some_and(|s| s.is_up() && is_settled(s, now_ms) && is_executed(s, status));
    let found = job.hold.as_ref().map(Hold::found);
    let is_taken = found == Some(Found::AStop);
    // Somebody else, such as another restart, has let the service go, and it has been started since
    // we began: we may never see it down.
    let is_new = service.and_then(|service| service.starts) != job.starts;
    let is_let_go = is_new && matches!(found, Some(Found::Nothing | Found::ARestart));
    match job.phase {
        Phase::DownFirst | Phase::Noticed if is_taken => {
            Some((format!("{state}, and meanwhile held down by somebody else"), false))
        }
        Phase::DownFirst if is_down || is_let_go => {
            job.phase = Phase::Up;
            (!let_go(job)).then(|| (stays(state), false))
        }
        Phase::Noticed if is_down || is_let_go || state == "stopping" => {
            let is_good = let_go(job);
            let told = if job.goal == Goal::Start { "told to start" } else { "told to restart" };
            Some((if is_good { told.to_owned() } else { stays(state) }, is_good))
        }
        Phase::Down if is_down => Some((state.to_owned(), true)),
        Phase::Gone if state == "gone" => Some(("disabled".to_owned(), true)),
        Phase::Up | Phase::Known if is_up || state == "done" => service.map(|service| {
            let is_good = is_up || matches!(service.end, None | Some(End::Exited(0)));
            (told(service, status), is_good)
        }),
        Phase::Known if state == "rejected" => {
            Some(("rejected, \"goingctl check\" says why".to_owned(), false))
        }
        Phase::Known if state == "down" && service.is_some_and(|service| service.held) => {
            Some(("enabled, but held down".to_owned(), true))
        }
        Phase::DownFirst
        | Phase::Noticed
        | Phase::Down
        | Phase::Up
        | Phase::Known
        | Phase::Gone
        | Phase::Over => None,
    }
}

/// Removes the file that holds the service down, whoever made it. Returns false if that failed.
fn let_go(job: &mut Job) -> bool {
    job.hold.take().is_none_or(|mut hold| hold.let_go())
}

/// The message for a service that could not be let go.
fn stays(state: &str) -> String {
    format!("{state}, and stays held down")
}

/// Prints what became of a service. Returns whether that is good and could be printed.
fn tell(name: &str, (text, is_good): &Outcome) -> bool {
    output::tell(name, text) && *is_good
}

/// Prints which services have not reached their goal.
fn give_up(jobs: &[Job], status: &Status, timeout_ms: u64) {
    let seconds = timeout_ms / 1_000;
    for job in jobs {
        let goal = match job.phase {
            Phase::Up | Phase::Known => "up",
            Phase::Gone => "gone",
            _ => "down",
        };
        let service = status.service(&job.name);
        let mut is = service.map_or("no such service".to_owned(), |service| told(service, status));
        // It is being stopped, and we let it go as we end, unless it was held down before.
        let is_let_go = job.hold.as_ref().is_some_and(|hold| hold.is_ours);
        if is_let_go && service.is_some_and(|service| service.state == "stopping") {
            is += "; it starts when it is";
        }
        tell(&job.name, &(format!("not {goal} after {seconds} s: {is}"), false));
    }
    let mut services = jobs.iter().filter_map(|job| status.service(&job.name));
    if services.any(|service| service.state == "rejected") {
        warn("\"goingctl check\" says why a file is rejected");
    }
    if supervisor(status) == Supervisor::Stopped {
        warn("going is stopped: it does nothing until it gets CONT");
    }
}

/// The state of a service, in words.
fn told(service: &Service, status: &Status) -> String {
    let mut parts = vec![service.state.clone()];
    parts.extend(service.pid.map(|pid| format!("pid {pid}")));
    if service.pid.is_none() {
        parts.extend(service.end.as_ref().map(amounts::end));
    } else if service.is_up() && !is_executed(service, status) {
        parts.push("not executed yet".to_owned());
    }
    parts.extend(service.next_ms.map(|next_ms| {
        let left_ms = next_ms.saturating_sub(clock::now_ms());
        format!("next start in {}", amounts::duration(left_ms.saturating_add(999)))
    }));
    parts.join(", ")
}

fn is_settled(service: &Service, now_ms: u64) -> bool {
    service.since_ms.is_none_or(|since_ms| since_ms.saturating_add(SETTLED_MS) <= now_ms)
}

/// Whether its process has executed the command: a hung disk can delay that.
fn is_executed(service: &Service, status: &Status) -> bool {
    let both = service.pid.zip(status.pid);
    both.is_none_or(|(pid, going)| proc::is_executed(pid, going))
}

/// When the next service that is up will have been up for [`SETTLED_MS`].
fn settled_ms(jobs: &[Job], status: &Status) -> Option<u64> {
    let services = jobs.iter().filter_map(|job| status.service(&job.name));
    let up = services.filter(|service| service.is_up()).filter_map(|service| service.since_ms);
    let settled = up.map(|since_ms| since_ms.saturating_add(SETTLED_MS));
    settled.filter(|settled_ms| *settled_ms > clock::now_ms()).min()
}
