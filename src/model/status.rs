//! RUNDIR/status: its format, for people, awk(1) and goingctl(1) alike.
//!
//! The first line is `going VERSION PID SINCE`: [`VERSION`], the supervisor's process and when it
//! started. Each further line is one service. Its fields are separated by single blanks:
//!
//! | field | |
//! |---|---|
//! | name | |
//! | state | `up`, `down`, `stopping`, `backoff`, `done`, or `rejected` if there are no settings |
//! | pid | of the main process, or `-` |
//! | since | when it entered this state |
//! | starts | how many processes it has had |
//! | last end | `exit:CODE`, `signal:NUMBER`, or `-` |
//! | next start | when it is due, in backoff, or `-` |
//!
//! Times are milliseconds of `CLOCK_BOOTTIME`. Fields may only be added at the end.

use crate::model::entry::{Entry, GOOD};
use crate::model::service::{End, Service, State, Want};
use core::fmt::{Display, from_fn};

/// The version of the format. More fields at the end of a line do not change it.
pub const VERSION: u8 = 1;

/// One service, as a line.
pub fn line(entry: &Entry, service: &Service) -> impl Display {
    from_fn(move |f| {
        let (state, next_ms) = match service.state {
            State::Down if !entry.has(GOOD) => ("rejected", None),
            State::Down => ("down", None),
            State::Backoff => ("backoff", service.due_ms(Want::Up)),
            State::Done => ("done", None),
            State::Up(_) => ("up", None),
            State::Draining(_) | State::Stopping(_) | State::Killed(_) => ("stopping", None),
        };
        write!(f, "{} {state} {} ", entry.name, or_dash(service.pid().as_ref()))?;
        write!(f, "{} {} ", service.since_ms, service.starts)?;
        match service.end {
            None => write!(f, "-")?,
            Some(End::Exited(code)) => write!(f, "exit:{code}")?,
            Some(End::Killed(signal)) => write!(f, "signal:{signal}")?,
        }
        writeln!(f, " {}", or_dash(next_ms.as_ref()))
    })
}

/// Shows a number that may be missing.
fn or_dash(number: Option<&impl Display>) -> &dyn Display {
    number.map_or(&"-", |number| number)
}
