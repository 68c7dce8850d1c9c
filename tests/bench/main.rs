//! `make bench`: going beside what a user would pick instead, and beside what nothing can beat.
//!
//! All run the same service (`service.rs`), one after the other, round by round, each in a
//! temporary directory of its own. The result is the median of the rounds. `peers` says how each
//! supervisor is set up, and `session` runs it. `measures` has what is measured of supervisors,
//! `lines` of loggers, and `pid1` of a PID 1. `results` has the table and target/bench/results.tsv,
//! and `report` what README, manual page and chart say.
//!
//! The directories are in memory, as /run is: the Makefile sets TMPDIR to /dev/shm, if that exists
//! and TMPDIR is not set. On a disk, the file system would take some hundred microseconds for every
//! rename and truncation of a status file, whatever the supervisor, and hide the supervisor's own
//! time.
//!
//! `bench [MEASURE|PEER]...` measures, `bench report` writes the report. Nothing here asserts a
//! time.

#![allow(
    // A benchmark that meets something unexpected says so and stops.
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    // `pre_exec` and signal handlers.
    unsafe_code,
    // These have no callers outside the crate.
    missing_docs
)]

mod lines;
mod measures;
mod peers;
mod pid1;
mod processes;
mod report;
mod results;
mod session;

use measures::Measure;
use peers::{PEERS, Peer};
use results::Results;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What went wrong, in words.
type Result<T> = std::result::Result<T, String>;

/// Rounds, unless ROUNDS in the environment says otherwise.
const ROUNDS: usize = 3;
/// No round begins that would end later than this.
const BUDGET: Duration = Duration::from_mins(14);

fn main() -> ExitCode {
    // Cargo adds this argument.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let result = match words.first().map(String::as_str) {
        Some("report") => report::write(),
        _ => bench(&words),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What the words choose: the measures that are named, or all, and the peers that are named, or
/// all.
struct Choice {
    measures: Vec<Measure>,
    peers: Vec<&'static Peer>,
}

impl Choice {
    fn new(words: &[String]) -> Result<Choice> {
        let (mut measures, mut names) = (Vec::new(), Vec::new());
        for word in words.iter().flat_map(|words| words.split_whitespace()) {
            match Measure::ALL.into_iter().find(|measure| measure.name() == word) {
                Some(measure) => measures.push(measure),
                None => names.push(word),
            }
        }
        if let Some(name) = names.iter().find(|&&name| PEERS.iter().all(|peer| peer.name != name)) {
            let measures = Measure::ALL.map(Measure::name).join(" ");
            let peers: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
            return Err(format!("no {name}; there is {measures}, and {}", peers.join(" ")));
        }
        if measures.is_empty() {
            measures = Measure::ALL.into();
        }
        let is_meant = |peer: &&Peer| names.is_empty() || names.contains(&peer.name);
        let mut peers: Vec<_> = PEERS.iter().filter(is_meant).collect();
        peers.retain(|peer| {
            let lacks = peer.missing();
            if let Some(what) = &lacks {
                eprintln!("bench: without {}, which needs {what}", peer.name);
            }
            lacks.is_none()
        });
        Ok(Choice { measures, peers })
    }

    fn has(&self, measure: Measure) -> bool {
        self.measures.contains(&measure)
    }
}

fn bench(words: &[String]) -> Result<()> {
    let start = Instant::now();
    session::prepare()?;
    let choice = Choice::new(words)?;
    let mut results = Results::new();
    let measured = measure(&choice, start, &mut results);
    measures::fit_growth(&choice, &mut results);
    results.print();
    // An interrupted run prints what it has found, but leaves the last complete results in the
    // file.
    measured?;
    results.save()?;
    eprintln!("bench: {} s; {}", start.elapsed().as_secs(), results::PATH);
    Ok(())
}

/// Round by round, as long as there is time.
fn measure(choice: &Choice, start: Instant, results: &mut Results) -> Result<()> {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let mut longest = Duration::ZERO;
    measures::once(choice, results)?;
    for round in 0..rounds.unwrap_or(ROUNDS) {
        if round > 0 && start.elapsed() + longest > BUDGET {
            eprintln!("bench: no time for round {}", round + 1);
            break;
        }
        let begin = Instant::now();
        measures::round(choice, round, results)?;
        pid1::round(choice, results)?;
        // The first round, with more numbers of services, is the longest.
        longest = longest.max(begin.elapsed());
        results.rounds += 1;
    }
    Ok(())
}
