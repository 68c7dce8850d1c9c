//! The state machine of one service: every transition, in the one `match` of [`Service::step`].
//!
//! What *is* ([`State`]) and what is *wanted* ([`Want`]) are two things. No deadline is stored:
//! each follows from the state, how long it has lasted and what is wanted. Whoever calls `step`
//! carries the returned [`Action`] out, and comes back with what came of it as an [`Event`].
//!
//! ```text
//!             spawned                no longer wanted
//!   Down ───────────────▶ Up ──────────┬────────────────▶ Stopping ──timeout──▶ Killed
//!    ▲ ▲                  │ ended      └──▶ Draining ──1 s──▶ │ ended              │ ended
//!    │ ├── up for 5 s ────┤             logged to,            ▼                    ▼
//!    │ └─ due ── Backoff ◀┤ sooner      in a shutdown        Down                 Down
//!    └─ not wanted ─ Done ┘ not to be respawned
//! ```
//!
//! An edited service is not wanted for one tick: that alone restarts it, ends its backoff, and
//! makes one that was done start again.
//!
//! Never knows a service's name, sends a signal or looks at a clock.

use core::num::NonZeroI32;
use linux_raw_sys::general::{SIGKILL, SIGTERM};

/// Who stays up so long is respawned at once when it ends.
const STEADY_MS: u64 = 5_000;
/// Who stays up so long has its row of quick deaths forgotten.
const STABLE_MS: u64 = 30_000;
/// How long the first quick death in a row puts off the next start; each further one doubles it.
const DELAY_MS: u64 = 1_000;
/// Until it is so long.
const DELAY_MAX_MS: u64 = 30_000;
/// The stop signal, where the service does not say otherwise.
const STOP: u32 = SIGTERM;
/// From it to KILL, likewise.
const TIMEOUT_MS: u32 = 5_000;
/// From end-of-file to the stop signal: the time to write down what is left.
const DRAIN_MS: u64 = 1_000;
/// From that stop signal to KILL.
const DRAIN_TIMEOUT_MS: u64 = 2_000;
/// From KILL until a shutdown no longer waits: a process may be in disk sleep for ever.
const GIVE_UP_MS: u64 = 2_000;

/// The main process of a service, leader of its group.
pub type Pid = NonZeroI32;

/// What a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Has no process; started as soon as it is wanted.
    Down,
    /// Runs.
    Up(Pid),
    /// Reads what is left of what others have logged to it.
    Draining(Pid),
    /// Was sent the stop signal.
    Stopping(Pid),
    /// Was sent KILL; only reaping can follow.
    Killed(Pid),
    /// Died too soon; started again when it is due.
    Backoff,
    /// Ended, and is not to be respawned.
    Done,
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

impl End {
    /// As the exit code of whoever ends for the same reason, as shells have it.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => signal.saturating_add(128),
        }
    }
}

/// Which end of a process is no reason to respawn it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// None.
    Always,
    /// Exit code 0.
    Failure,
    /// Any.
    Never,
    /// Any, and the supervisor ends with it.
    Exit,
}

/// What a service file says to the supervisor: of starting and stopping, and of whom to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Policy {
    /// That of a service of which nothing is known.
    pub const DEFAULT: Self =
        Self { restart: Restart::Always, stop: STOP, timeout_ms: TIMEOUT_MS, log: None };

    /// Whether who ended so is not to be respawned.
    pub fn is_done(self, end: End) -> bool {
        match self.restart {
            Restart::Always => false,
            Restart::Failure => end == End::Exited(0),
            Restart::Never | Restart::Exit => true,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed, or something else is wanted.
    Tick(Want),
    /// [`Action::Spawn`] made this process, with this policy.
    Spawned(Pid, Policy),
    /// [`Action::Spawn`] made none.
    SpawnFailed,
    /// Its process was reaped.
    Ended(End),
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a process; [`Event::Spawned`] or [`Event::SpawnFailed`] is the answer.
    Spawn,
    /// Send this signal to the group of this process.
    Signal(Pid, u32),
}

/// One service, as far as time and processes are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// What it is.
    pub state: State,
    /// Since when.
    pub since_ms: u64,
    /// Quick deaths in a row.
    pub failures: u8,
    /// Of the process there is, or was last: another file makes it no other process.
    pub policy: Policy,
    /// Processes until now.
    pub starts: u32,
    /// How the last of them ended.
    pub end: Option<End>,
}

impl Service {
    /// A service that has not run yet, known since `since_ms`.
    pub const fn new(since_ms: u64) -> Self {
        let policy = Policy::DEFAULT;
        Self { state: State::Down, since_ms, failures: 0, policy, starts: 0, end: None }
    }

    /// The one transition function: takes what happened at `now_ms`, returns what to do.
    pub fn step(&mut self, event: Event, now_ms: u64) -> Option<Action> {
        use Event::{Ended, SpawnFailed, Spawned, Tick};
        use State::{Backoff, Done, Down, Draining, Killed, Stopping, Up};
        let up_ms = now_ms.saturating_sub(self.since_ms);
        let is_due = |want| self.due_ms(want).is_some_and(|due_ms| due_ms <= now_ms);
        let stop = |pid| (Stopping(pid), Some(Action::Signal(pid, self.policy.stop)));
        let (state, action) = match (self.state, event) {
            (Down, Tick(Want::Up)) => return Some(Action::Spawn),
            (Backoff, Tick(Want::Up)) if is_due(Want::Up) => return Some(Action::Spawn),
            (Down | Backoff, Spawned(pid, _)) => (Up(pid), None),
            (Down | Backoff, SpawnFailed) => (Backoff, None),

            // As it should be.
            (Up(_) | Backoff | Done, Tick(Want::Up)) => return None,
            (Backoff | Done, Tick(_)) => (Down, None),
            (Up(pid), Tick(Want::Drain)) => (Draining(pid), None),
            (Up(pid), Tick(_)) => stop(pid),
            (Draining(pid), Tick(want)) if is_due(want) => stop(pid),
            (Stopping(pid), Tick(want)) if is_due(want) => {
                (Killed(pid), Some(Action::Signal(pid, SIGKILL)))
            }
            (Killed(_), Tick(want)) if is_due(want) => (Down, None),

            (Up(_), Ended(end)) if self.policy.is_done(end) => (Done, None),
            (Up(_), Ended(_)) if up_ms < STEADY_MS => (Backoff, None),
            (Up(_) | Draining(_) | Stopping(_) | Killed(_), Ended(_)) => (Down, None),

            // On its way there, or not due yet.
            (Down | Draining(_) | Stopping(_) | Killed(_), Tick(_))
            // Cannot happen: who has no process does not end, and who has one is not spawned.
            | (Down | Backoff | Done, Ended(_))
            | (Up(_) | Draining(_) | Stopping(_) | Killed(_) | Done, Spawned(..) | SpawnFailed) => {
                return None;
            }
        };
        self.failures = match state {
            Backoff => self.failures.saturating_add(1),
            Up(_) => self.failures,
            Down if matches!(self.state, Up(_)) && up_ms < STABLE_MS => self.failures,
            Down | Draining(_) | Stopping(_) | Killed(_) | Done => 0,
        };
        if let Spawned(_, policy) = event {
            (self.policy, self.starts) = (policy, self.starts.saturating_add(1));
        }
        if let Ended(end) = event {
            self.end = Some(end);
        }
        self.state = state;
        self.since_ms = now_ms;
        action
    }

    /// When the next [`Event::Tick`] is due, as far as time alone decides.
    pub fn due_ms(&self, want: Want) -> Option<u64> {
        let timeout_ms = self.policy.timeout_ms;
        let delay_ms = match (self.state, want) {
            (State::Backoff, _) => self.delay_ms(),
            (State::Draining(_) | State::Stopping(_), Want::Kill) => 0,
            (State::Draining(_), _) => DRAIN_MS,
            (State::Stopping(_), Want::Drain) => DRAIN_TIMEOUT_MS,
            (State::Stopping(_), Want::Shutdown) if timeout_ms == 0 => TIMEOUT_MS.into(),
            (State::Stopping(_), _) if timeout_ms > 0 => timeout_ms.into(),
            (State::Killed(_), Want::Shutdown | Want::Drain | Want::Kill) => GIVE_UP_MS,
            (State::Down | State::Up(_) | State::Done, _)
            | (State::Stopping(_) | State::Killed(_), _) => return None,
        };
        Some(self.since_ms.saturating_add(delay_ms))
    }

    /// How long the next start is put off: 0 unless the last one failed.
    pub fn delay_ms(&self) -> u64 {
        let Some(doublings) = self.failures.checked_sub(1) else { return 0 };
        let doubled_ms = DELAY_MS.saturating_mul(2_u64.saturating_pow(doublings.into()));
        if self.state == State::Backoff { doubled_ms.min(DELAY_MAX_MS) } else { 0 }
    }

    /// The main process, if there is one.
    pub fn pid(&self) -> Option<Pid> {
        use State::{Backoff, Done, Down, Draining, Killed, Stopping, Up};
        match self.state {
            Up(pid) | Draining(pid) | Stopping(pid) | Killed(pid) => Some(pid),
            Down | Backoff | Done => None,
        }
    }
}
