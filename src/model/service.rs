//! The state machine of one service: every transition, in the one `match` of [`Service::step`].
//!
//! What *is* ([`State`]) and what is *wanted* ([`Want`]) are two things. No deadline is stored:
//! each follows from the state, how long it has lasted and what is wanted. Whoever calls `step`
//! carries the returned [`Action`] out, and comes back with what came of it as an [`Event`].
//!
//! ```text
//!             spawned                no longer wanted, edited
//!   Down ───────────────▶ Up ───────────────────────────▶ Stopping ──timeout──▶ Killed
//!    ▲ ▲                  │ ended                             │ ended              │ ended
//!    │ └── up for 5 s ────┤                                   ▼                    ▼
//!    └─ due ── Backoff ◀──┘ sooner                          Down                 Down
//! ```
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
/// From the stop signal to KILL.
const TIMEOUT_MS: u64 = 5_000;
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
    /// Was sent the stop signal.
    Stopping(Pid),
    /// Was sent KILL; only reaping can follow.
    Killed(Pid),
    /// Died too soon; started again when it is due.
    Backoff,
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
    /// Not running, now: it was told so a second time.
    Kill,
}

/// How a process ended: `exited` or `killed by signal`, and the code or the signal's number.
pub type End = (&'static str, u8);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed, or something else is wanted.
    Tick(Want),
    /// Its file says something else than before.
    Edited,
    /// [`Action::Spawn`] made this process.
    Spawned(Pid),
    /// [`Action::Spawn`] made none.
    SpawnFailed,
    /// Its process was reaped.
    Ended,
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
}

impl Service {
    /// A service that has not run yet.
    pub const NEW: Self = Self { state: State::Down, since_ms: 0, failures: 0 };

    /// The one transition function: takes what happened at `now_ms`, returns what to do.
    pub fn step(&mut self, event: Event, now_ms: u64) -> Option<Action> {
        use State::{Backoff, Down, Killed, Stopping, Up};
        use Want::{Kill, Shutdown};
        let up_ms = now_ms.saturating_sub(self.since_ms);
        let is_due = |want| self.due_ms(want).is_some_and(|due_ms| due_ms <= now_ms);
        let (state, action) = match (self.state, event) {
            (Down, Event::Tick(Want::Up)) => return Some(Action::Spawn),
            (Backoff, Event::Tick(Want::Up)) if is_due(Want::Up) => return Some(Action::Spawn),
            (Down | Backoff, Event::Spawned(pid)) => (Up(pid), None),
            (Down | Backoff, Event::SpawnFailed) => (Backoff, None),
            (Backoff, Event::Tick(Want::Down | Shutdown | Kill) | Event::Edited) => (Down, None),

            (Up(pid), Event::Tick(Want::Down | Shutdown | Kill) | Event::Edited) => {
                (Stopping(pid), Some(Action::Signal(pid, SIGTERM)))
            }
            (Stopping(pid), Event::Tick(want)) if is_due(want) => {
                (Killed(pid), Some(Action::Signal(pid, SIGKILL)))
            }
            (Killed(_), Event::Tick(want)) if is_due(want) => (Down, None),
            (Up(_), Event::Ended) if up_ms < STEADY_MS => (Backoff, None),
            (Up(_) | Stopping(_) | Killed(_), Event::Ended) => (Down, None),

            // As it should be, on its way there, or not due yet.
            (Down, Event::Tick(Want::Down | Shutdown | Kill) | Event::Edited)
            | (Up(_) | Backoff, Event::Tick(Want::Up))
            | (Stopping(_) | Killed(_), Event::Tick(_) | Event::Edited)
            // Cannot happen: who has no process does not end, and who has one is not spawned.
            | (Down | Backoff, Event::Ended)
            | (Up(_) | Stopping(_) | Killed(_), Event::Spawned(_) | Event::SpawnFailed) => {
                return None;
            }
        };
        self.failures = match state {
            Backoff => self.failures.saturating_add(1),
            Up(_) => self.failures,
            Down if matches!(self.state, Up(_)) && up_ms < STABLE_MS => self.failures,
            Down | Stopping(_) | Killed(_) => 0,
        };
        self.state = state;
        self.since_ms = now_ms;
        action
    }

    /// When the next [`Event::Tick`] is due, as far as time alone decides.
    #[must_use]
    pub fn due_ms(&self, want: Want) -> Option<u64> {
        let delay_ms = match (self.state, want) {
            (State::Backoff, _) => self.delay_ms(),
            (State::Stopping(_), Want::Kill) => 0,
            (State::Stopping(_), _) => TIMEOUT_MS,
            (State::Killed(_), Want::Shutdown | Want::Kill) => GIVE_UP_MS,
            (State::Down | State::Up(_) | State::Killed(_), _) => return None,
        };
        Some(self.since_ms.saturating_add(delay_ms))
    }

    /// How long the next start is put off: 0 unless the last one failed.
    #[must_use]
    pub fn delay_ms(&self) -> u64 {
        let Some(doublings) = self.failures.checked_sub(1) else { return 0 };
        let doubled_ms = DELAY_MS.saturating_mul(2_u64.saturating_pow(doublings.into()));
        if self.state == State::Backoff { doubled_ms.min(DELAY_MAX_MS) } else { 0 }
    }

    /// The main process, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        match self.state {
            State::Up(pid) | State::Stopping(pid) | State::Killed(pid) => Some(pid),
            State::Down | State::Backoff => None,
        }
    }
}
