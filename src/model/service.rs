//! The state machine of one service: every transition, in the one `match` of [`Service::step`].
//!
//! What a service *is* ([`State`]) is kept apart from what is *wanted* of it ([`Want`]). No
//! deadline is stored: each follows from the state, from how long that has lasted, and from what is
//! wanted. The caller of `step` carries out the returned [`Action`], and reports what came of it as
//! an [`Event`].
//!
//! ```text
//!           spawned         no longer wanted
//!   Down ─────────────▶ Up ──────┬───────────────────▶ Stopping ──timeout──▶ Killed
//!    ▲ ▲ ended          │        └──▶ Draining ──1 s──▶ │ ended              │ ended
//!    │ └────────────────┤      logged to, in a          ▼                    ▼
//!    │                  │      shutdown                Down                 Down
//!    └─ not wanted ─ Done not to be respawned
//! ```
//!
//! A service that was up for less than 5 s goes to Backoff instead of Down, and has to wait there.
//! An edited service is unwanted for one tick. That is all it takes to restart it, to end its
//! backoff, or to start it again if it was done.
//!
//! Never knows a service's name, sends a signal or reads a clock.

use Event::{Ended, Spawned, Tick};
use State::{Backoff, Done, Down, Draining, Killed, Stopping, Up};
use core::num::NonZeroI32;
use linux_raw_sys::general::SIGKILL;

/// A service that was up for this long is respawned at once when it ends.
const STEADY_MS: u64 = 5_000;
/// After a service was up for this long, its delays begin with the shortest one again.
const STABLE_MS: u64 = 30_000;
/// The delay after the first quick death in a row; each further one doubles it.
const DELAY_MS: u64 = 1_000;
/// The longest delay.
const DELAY_MAX_MS: u64 = 30_000;
/// From the stop signal to KILL, unless the service file has a `timeout`.
pub const TIMEOUT_MS: u32 = 5_000;
/// From end-of-file to the stop signal: time for a log reader to write out what it still has.
const DRAIN_MS: u64 = 1_000;
/// From the stop signal to KILL, for a log reader that has seen end-of-file.
const DRAIN_TIMEOUT_MS: u64 = 2_000;
/// From KILL until a shutdown stops waiting: a process in disk sleep may never end.
const GIVE_UP_MS: u64 = 2_000;

/// The main process of a service, which leads its process group.
pub type Pid = NonZeroI32;

/// What a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Has no process, and starts as soon as it is wanted.
    #[default]
    Down,
    /// Has no process, and starts when it is wanted and its delay is over.
    Backoff,
    /// Has ended, and is not to be respawned.
    Done,
    /// Runs as this process.
    Up(Pid),
    /// Sees end-of-file, and reads the rest of what others have logged to it.
    Draining(Pid),
    /// Was sent the stop signal.
    Stopping(Pid),
    /// Was sent KILL; what follows is reaping or, in a shutdown, giving up.
    Killed(Pid),
}

/// What a service should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Running.
    Up,
    /// Not running.
    Down,
    /// Not running, because of a shutdown, which waits for it only a limited time.
    Shutdown,
    /// Not running, because of a shutdown, but it may first finish reading what others have logged.
    Drain,
    /// Not running, and killed at once: a second signal has hastened the shutdown.
    Kill,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Exited(u8),
    /// This signal killed it.
    Killed(u8),
}

/// Whether a service that ends is respawned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// However it ends.
    #[default]
    Always,
    /// Unless it exits 0.
    Failure,
    /// Not at all.
    Never,
    /// Not at all, and the supervisor ends too.
    Exit,
}

/// The part of a service file that concerns the supervisor itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The key `restart`.
    pub restart: Restart,
    /// The key `stop`, a signal number.
    pub stop: u32,
    /// The key `timeout`; 0 means never.
    pub timeout_ms: u32,
    /// The key `log`, if it names a service: the index of that service.
    pub log: Option<u16>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed, or what is wanted has changed.
    Tick(Want),
    /// [`Action::Spawn`] made this process, or failed to make one, with this policy.
    Spawned(Option<Pid>, Policy),
    /// Its process was reaped.
    Ended(End),
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a process; [`Event::Spawned`] is the answer.
    Spawn,
    /// Send this signal to the group of this process.
    Signal(Pid, u32),
}

/// One service, as far as time and processes are concerned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Service {
    /// What it is.
    pub state: State,
    /// When it entered this state.
    pub since_ms: u64,
    /// The current or the last delay in a row of quick deaths.
    pub delay_ms: u64,
    /// What its current or last process was started with. A later edit of its file does not change
    /// this.
    pub policy: Policy,
    /// How many processes it has had.
    pub starts: u32,
    /// How the last of them ended.
    pub end: Option<End>,
}

impl Service {
    /// The one transition function: takes what happened at `now_ms`, returns what to do about it.
    pub fn step(&mut self, event: Event, now_ms: u64) -> Option<Action> {
        let restart = self.policy.restart;
        let lasted_ms = now_ms.saturating_sub(self.since_ms);
        let is_due = |want| self.due_ms(want).is_some_and(|due_ms| due_ms <= now_ms);
        let state = match (self.state, event) {
            (Down | Backoff, Tick(Want::Up)) if is_due(Want::Up) => return Some(Action::Spawn),
            (Down | Backoff, Spawned(Some(pid), _)) => Up(pid),
            (Down | Backoff, Spawned(None, _)) => Backoff,

            // All is as it should be, or nothing is due yet.
            (Backoff | Done | Up(_), Tick(Want::Up)) | (Down, Tick(_)) => return None,
            (Backoff | Done, Tick(_)) => Down,
            (Up(pid), Tick(Want::Drain)) => Draining(pid),
            (Up(pid), Tick(_)) => Stopping(pid),
            (Draining(_) | Stopping(_) | Killed(_), Tick(want)) if !is_due(want) => return None,
            (Draining(pid), Tick(_)) => Stopping(pid),
            (Stopping(pid), Tick(_)) => Killed(pid),
            // Given up.
            (Killed(_), Tick(_)) => Down,

            (Up(_), Ended(End::Exited(0))) if restart != Restart::Always => Done,
            (Up(_), Ended(_)) if matches!(restart, Restart::Never | Restart::Exit) => Done,
            (Up(_), Ended(_)) if lasted_ms < STEADY_MS => Backoff,
            (Up(_) | Draining(_) | Stopping(_) | Killed(_), Ended(_)) => Down,

            // Cannot happen: without a process nothing ends, and with one nothing is spawned.
            (Down | Backoff | Done, Ended(_)) => return None,
            (Done | Up(_) | Draining(_) | Stopping(_) | Killed(_), Spawned(..)) => return None,
        };
        self.delay_ms = match (event, state) {
            (_, Backoff) => self.delay_ms.saturating_mul(2).clamp(DELAY_MS, DELAY_MAX_MS),
            (Tick(_), _) => 0,
            (Ended(_), _) if lasted_ms >= STABLE_MS => 0,
            (Ended(_) | Spawned(..), _) => self.delay_ms,
        };
        if let Spawned(Some(_), policy) = event {
            (self.policy, self.starts) = (policy, self.starts.saturating_add(1));
        }
        self.end = if let Ended(end) = event { Some(end) } else { self.end };
        (self.state, self.since_ms) = (state, now_ms);
        match state {
            Stopping(pid) => Some(Action::Signal(pid, self.policy.stop)),
            Killed(pid) => Some(Action::Signal(pid, SIGKILL)),
            Down | Backoff | Done | Up(_) | Draining(_) => None,
        }
    }

    /// When the next [`Event::Tick`] is due, as far as time alone decides.
    pub fn due_ms(&self, want: Want) -> Option<u64> {
        let timeout_ms = self.policy.timeout_ms;
        let wait_ms = match (self.state, want) {
            (Down, Want::Up) => 0,
            (Backoff, Want::Up) => self.delay_ms,
            (Draining(_) | Stopping(_), Want::Kill) => 0,
            (Draining(_), _) => DRAIN_MS,
            (Stopping(_), Want::Drain) => DRAIN_TIMEOUT_MS,
            (Stopping(_), Want::Shutdown) if timeout_ms == 0 => TIMEOUT_MS.into(),
            (Stopping(_), _) if timeout_ms > 0 => timeout_ms.into(),
            (Killed(_), Want::Shutdown | Want::Drain | Want::Kill) => GIVE_UP_MS,
            (Down | Backoff | Done | Up(_) | Stopping(_) | Killed(_), _) => return None,
        };
        Some(self.since_ms.saturating_add(wait_ms))
    }

    /// The main process, if there is one.
    pub fn pid(&self) -> Option<Pid> {
        match self.state {
            Down | Backoff | Done => None,
            Up(pid) | Draining(pid) | Stopping(pid) | Killed(pid) => Some(pid),
        }
    }
}
