//! The state machine of one service: every transition, in the one `match` of [`Service::step`].
//!
//! What *is* ([`State`]) and what is *wanted* ([`Want`]) are two things. No deadline is stored:
//! each follows from the state, how long it has lasted and what is wanted. Whoever calls `step`
//! carries the returned [`Action`] out, and comes back with what came of it as an [`Event`].
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
//! Who was up for less than 5 s is not Down but in Backoff, where it has to wait. An edited
//! service is not wanted for one tick: that alone restarts it, ends its backoff, and makes one that
//! was done start again.
//!
//! Never knows a service's name, sends a signal or looks at a clock.

use Event::{Ended, Spawned, Tick};
use State::{Backoff, Done, Down, Draining, Killed, Stopping, Up};
use core::num::NonZeroI32;
use linux_raw_sys::general::SIGKILL;

/// Who stays up so long is respawned at once when it ends.
const STEADY_MS: u64 = 5_000;
/// Who stays up so long has its row of quick deaths forgotten.
const STABLE_MS: u64 = 30_000;
/// How long the first quick death in a row puts off the next start; each further one doubles it.
const DELAY_MS: u64 = 1_000;
/// Until it is so long.
const DELAY_MAX_MS: u64 = 30_000;
/// From the stop signal to KILL, where the service does not say otherwise.
pub const TIMEOUT_MS: u32 = 5_000;
/// From end-of-file to the stop signal: the time to write down what is left.
const DRAIN_MS: u64 = 1_000;
/// From that stop signal to KILL.
const DRAIN_TIMEOUT_MS: u64 = 2_000;
/// From KILL until a shutdown no longer waits: a process may be in disk sleep for ever.
const GIVE_UP_MS: u64 = 2_000;

/// The main process of a service, leader of its group.
pub type Pid = NonZeroI32;

/// What a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Has no process; started as soon as it is wanted.
    #[default]
    Down,
    /// The same, but not before some time has passed.
    Backoff,
    /// Ended, and is not to be respawned.
    Done,
    /// Has this process, which runs.
    Up(Pid),
    /// It was told end-of-file: it reads what is left of what others have logged to it.
    Draining(Pid),
    /// It was told the stop signal.
    Stopping(Pid),
    /// It was told KILL; only reaping can follow.
    Killed(Pid),
}

/// What a service should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Running.
    Up,
    /// Not running.
    Down,
    /// Not running, and soon: the supervisor itself is to end.
    Shutdown,
    /// The same, but others have logged to it: it may finish reading first.
    Drain,
    /// Not running, now: the supervisor was told so a second time.
    Kill,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Killed(u8),
}

/// Which end of a process is no reason to respawn it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// None.
    #[default]
    Always,
    /// Exit code 0.
    Failure,
    /// Any.
    Never,
    /// Any, and the supervisor ends with it.
    Exit,
}

/// What a service file says to the supervisor: of starting and stopping, and of whom to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The key `restart`.
    pub restart: Restart,
    /// The key `stop`, a signal.
    pub stop: u32,
    /// The key `timeout`; 0 means never.
    pub timeout_ms: u32,
    /// The key `log`, if it names a service: the place of that.
    pub log: Option<u16>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed, or something else is wanted.
    Tick(Want),
    /// [`Action::Spawn`] made this process, or none, with this policy.
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
    /// Since when.
    pub since_ms: u64,
    /// How long the last start in a row of quick deaths was put off, or is in backoff.
    pub delay_ms: u64,
    /// Of the process there is, or was last: another file makes it no other process.
    pub policy: Policy,
    /// Processes until now.
    pub starts: u32,
    /// How the last of them ended.
    pub end: Option<End>,
}

impl Service {
    /// The one transition function: takes what happened at `now_ms`, returns what to do.
    pub fn step(&mut self, event: Event, now_ms: u64) -> Option<Action> {
        let restart = self.policy.restart;
        let lasted_ms = now_ms.saturating_sub(self.since_ms);
        let is_due = |want| self.due_ms(want).is_some_and(|due_ms| due_ms <= now_ms);
        let state = match (self.state, event) {
            (Down | Backoff, Tick(Want::Up)) if is_due(Want::Up) => return Some(Action::Spawn),
            (Down | Backoff, Spawned(Some(pid), _)) => Up(pid),
            (Down | Backoff, Spawned(None, _)) => Backoff,

            // As it should be, or not due yet.
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

            // Cannot happen: who has no process does not end, and who has one is not spawned.
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
