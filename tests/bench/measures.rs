//! What is measured of a supervisor with services.

use crate::peers::{FEW, Peer};
use crate::processes::Usage;
use crate::results::Results;
use crate::session::{Session, check_interrupt, now_ns};
use crate::{Choice, Result, lines};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::thread::sleep;
use std::time::Duration;

/// Numbers of services.
const SIZES: [usize; 4] = [1, 10, 100, 250];
/// Services with a logger each.
const LOGGED: usize = 10;
/// Services that are killed one after the other, or that are idle.
const SINGLE: usize = 100;
/// How many are killed one after the other if the supervisor takes seconds for each.
const SLOW_KILLS: usize = 5;
/// Services that are killed at once.
const MASS: usize = 250;
/// Services that exit at once.
const CRASHING: usize = 20;

/// The longest wait until a supervisor with many services is up. Some start one after the other.
const START_MAX: Duration = Duration::from_mins(1);
/// The longest wait until a service is back.
const BACK_MAX: Duration = Duration::from_secs(30);
/// From the last start until memory is measured: supervisord calls a service up after 1 s.
const SETTLE: Duration = Duration::from_millis(1_300);
/// How long services are up before they are killed, so that no supervisor delays the next start.
const UP: Duration = Duration::from_millis(6_100);
/// Between two kills, so that what a supervisor does after one start does not count for the next.
const PAUSE: Duration = Duration::from_millis(10);
/// After this the next one is killed, even if the last is not back.
const NEXT_MAX: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(30);
const STORM: Duration = Duration::from_secs(20);

/// What can be asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Memory,
    Cold,
    Restart,
    Mass,
    Idle,
    Storm,
    Lines,
    Orphans,
    Term,
    Growth,
}

impl Measure {
    pub const ALL: [Measure; 10] = [
        Measure::Memory,
        Measure::Cold,
        Measure::Restart,
        Measure::Mass,
        Measure::Idle,
        Measure::Storm,
        Measure::Lines,
        Measure::Orphans,
        Measure::Term,
        Measure::Growth,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Measure::Memory => "memory",
            Measure::Cold => "cold",
            Measure::Restart => "restart",
            Measure::Mass => "mass",
            Measure::Idle => "idle",
            Measure::Storm => "storm",
            Measure::Lines => "lines",
            Measure::Orphans => "orphans",
            Measure::Term => "term",
            Measure::Growth => "growth",
        }
    }
}

/// What is measured once, because it hardly varies and takes long.
pub fn once(choice: &Choice, results: &mut Results) -> Result<()> {
    let peers = || choice.peers.iter().filter(|peer| peer.set_up.is_some());
    for peer in peers().filter(|_| choice.has(Measure::Memory)) {
        if let Some(mut session) = Session::start(peer, LOGGED, true)? {
            memory_logged(&mut session, peer, results)?;
        }
    }
    // The floor has nothing to do between two deaths, and does not delay what crashes.
    if choice.has(Measure::Idle) {
        idle(peers().copied().filter(|peer| peer.name != "floor"), results)?;
    }
    for peer in peers().filter(|peer| choice.has(Measure::Storm) && peer.name != "floor") {
        storm(peer, results)?;
    }
    if choice.has(Measure::Lines) {
        lines::measure(choice, results)?;
    }
    Ok(())
}

/// Memory with loggers, if they run: one that fails at once would take none.
fn memory_logged(session: &mut Session, peer: &Peer, results: &mut Results) -> Result<()> {
    let name = "memory, 10 services with loggers";
    eprintln!("bench: {name}, {}", peer.name);
    let Some((pids, _)) = start_all(session, LOGGED)? else {
        eprintln!("bench: {}: not all up:\n  {}", peer.name, session.last_words());
        return Ok(());
    };
    wait(SETTLE)?;
    match session.count_unlogged(&pids) {
        0 => memory(session, name, peer, results),
        count => {
            let words = session.last_words();
            eprintln!("bench: {}: {count} services have no logger running:\n  {words}", peer.name);
        }
    }
    Ok(())
}

/// The rest, for every peer in turn; in the first round for all numbers of services.
pub fn round(choice: &Choice, round: usize, results: &mut Results) -> Result<()> {
    for services in SIZES.into_iter().filter(|&services| round == 0 || services >= SINGLE) {
        for peer in choice.peers.iter().filter(|peer| peer.set_up.is_some()) {
            let steps = Steps::new(choice, peer, services, round == 0);
            if steps.are_any() {
                eprintln!("bench: round {}: {services} services, {}", round + 1, peer.name);
                steps.take(peer, services, results)?;
            }
        }
    }
    let peers = || choice.peers.iter().copied().filter(|peer| peer.set_up.is_some());
    if choice.has(Measure::Restart) || choice.has(Measure::Growth) {
        restart(peers(), SINGLE, results)?;
    }
    // To find out how the times of the others grow would take too long.
    let is_meant = |peer: &&Peer| matches!(peer.name, "going" | "floor");
    for services in SIZES.into_iter().filter(|&services| services > 1 && services != SINGLE) {
        if round == 0 && choice.has(Measure::Growth) {
            restart(peers().filter(is_meant), services, results)?;
        }
    }
    Ok(())
}

/// What is measured in one session.
#[derive(Clone, Copy)]
struct Steps {
    memory: bool,
    cold: bool,
    mass: bool,
}

impl Steps {
    fn new(choice: &Choice, peer: &Peer, services: usize, is_first: bool) -> Steps {
        let growth = choice.has(Measure::Growth);
        // To find out how the times of the others grow would take too long.
        let is_soon = services <= FEW || !peer.is_slow;
        let in_full = growth && is_first && services > 1 && matches!(peer.name, "going" | "floor");
        Steps {
            memory: growth || choice.has(Measure::Memory),
            cold: is_soon && (growth || choice.has(Measure::Cold)),
            mass: in_full || is_soon && services == MASS && choice.has(Measure::Mass),
        }
    }

    fn are_any(self) -> bool {
        self.memory || self.cold || self.mass
    }

    fn take(self, peer: &Peer, services: usize, results: &mut Results) -> Result<()> {
        let Some(mut session) = Session::start(peer, services, false)? else { return Ok(()) };
        let started = start_all(&mut session, services)?;
        let start_ms = started.as_ref().map_or(f64::INFINITY, |(_, last_ns)| {
            last_ns.saturating_sub(session.start_ns) as f64 / 1e6
        });
        if self.cold {
            let name = format!("cold start, {services} services");
            results.add(&name, "all up", "ms", peer.name, start_ms);
        }
        let Some((mut pids, _)) = started else {
            eprintln!("bench: {}: not all up:\n  {}", peer.name, session.last_words());
            return Ok(());
        };
        wait(if self.mass { UP } else { SETTLE })?;
        if self.memory {
            memory(&session, &format!("memory, {services} services"), peer, results);
        }
        if self.mass {
            mass_death(&mut session, &mut pids, peer, results)?;
        }
        Ok(())
    }
}

/// Sleeps, unless interrupted.
fn wait(time: Duration) -> Result<()> {
    sleep(time);
    check_interrupt()
}

/// Waits until all are up. Returns their pids, and when the last of them began.
fn start_all(session: &mut Session, services: usize) -> Result<Option<(Vec<i32>, u64)>> {
    let mut pids = vec![0; services];
    let last_ns = session.wait_all(&mut pids, START_MAX)?;
    Ok(last_ns.map(|last_ns| (pids, last_ns)))
}

fn memory(session: &Session, name: &str, peer: &Peer, results: &mut Results) {
    let usage = Usage::of(&session.supervisors());
    results.add(name, "processes", "", peer.name, usage.processes as f64);
    results.add(name, "VmPeak", "kB", peer.name, usage.peak_kb as f64);
    results.add(name, "RSS", "kB", peer.name, usage.rss_kb as f64);
    results.add(name, "Pss", "kB", peer.name, usage.pss_kb as f64);
}

fn kill_service(pid: i32) {
    // If it is not there, we notice soon enough.
    let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Services of one supervisor that are killed one after the other, and how long each was away.
struct Deaths<'a> {
    peer: &'a Peer,
    session: Session,
    pids: Vec<i32>,
    killed_ns: Vec<u64>,
    latencies_us: Vec<f64>,
}

impl<'a> Deaths<'a> {
    fn new(peer: &'a Peer, session: Session, pids: Vec<i32>) -> Deaths<'a> {
        let kills = if peer.is_slow { SLOW_KILLS.min(pids.len()) } else { pids.len() };
        let (killed_ns, latencies_us) = (vec![0; kills], vec![f64::INFINITY; kills]);
        Deaths { peer, session, pids, killed_ns, latencies_us }
    }

    /// Kills one service and waits for it, but not for long.
    fn kill_one(&mut self, id: usize) -> Result<()> {
        if id < self.killed_ns.len() {
            self.killed_ns[id] = now_ns();
            kill_service(self.pids[id]);
            self.hear(NEXT_MAX, |latencies_us| latencies_us[id].is_finite())?;
            wait(PAUSE)?;
        }
        Ok(())
    }

    /// Notes which services are back, until those are enough.
    fn hear(&mut self, timeout: Duration, is_enough: impl Fn(&[f64]) -> bool) -> Result<()> {
        let due_ns = now_ns() + timeout.as_nanos() as u64;
        while !is_enough(&self.latencies_us) {
            let left = Duration::from_nanos(due_ns.saturating_sub(now_ns()));
            let Some(record) = self.session.next(left)? else { break };
            let id = record.id;
            let is_awaited =
                |killed_ns: &u64| *killed_ns > 0 && self.latencies_us[id].is_infinite();
            if let Some(killed_ns) = self.killed_ns.get(id).copied().filter(is_awaited) {
                self.latencies_us[id] = record.at_ns.saturating_sub(killed_ns) as f64 / 1e3;
                self.pids[id] = record.pid;
            }
        }
        Ok(())
    }

    /// From kill(2) to the first instruction of the next process.
    fn tell(&mut self, results: &mut Results) -> Result<()> {
        self.hear(BACK_MAX, |latencies_us| latencies_us.iter().all(|us| us.is_finite()))?;
        self.latencies_us.sort_by(f64::total_cmp);
        let (latencies_us, count) = (&self.latencies_us, self.latencies_us.len());
        let name = format!("restart latency, {} services", self.pids.len());
        results.add(&name, "median", "us", self.peer.name, latencies_us[count / 2]);
        if count >= SINGLE {
            results.add(&name, "p99", "us", self.peer.name, latencies_us[count * 99 / 100 - 1]);
        }
        Ok(())
    }
}

/// Kills each service under all supervisors in turn before it goes on to the next service, so that
/// whatever else the machine does at that moment affects all of them.
fn restart<'a>(
    peers: impl Iterator<Item = &'a Peer>,
    services: usize,
    results: &mut Results,
) -> Result<()> {
    let mut all = Vec::new();
    for peer in peers {
        eprintln!("bench: restart, {services} services, {}", peer.name);
        let Some(mut session) = Session::start(peer, services, false)? else { continue };
        if let Some((pids, _)) = start_all(&mut session, services)? {
            all.push(Deaths::new(peer, session, pids));
        }
    }
    wait(UP)?;
    for id in 0..services {
        for deaths in &mut all {
            deaths.kill_one(id)?;
        }
    }
    for deaths in &mut all {
        deaths.tell(results)?;
    }
    Ok(())
}

/// From the first kill(2) to the first instruction of the last that is back.
fn mass_death(
    session: &mut Session,
    pids: &mut [i32],
    peer: &Peer,
    results: &mut Results,
) -> Result<()> {
    let before = Usage::of(&session.supervisors());
    let start_ns = now_ns();
    for &pid in pids.iter() {
        kill_service(pid);
    }
    let last_ns = session.wait_all(pids, BACK_MAX)?;
    let time_ms = last_ns.map_or(f64::INFINITY, |last_ns| (last_ns - start_ns) as f64 / 1e6);
    wait(PAUSE)?;
    let cpu_ns = Usage::of(&session.supervisors()).cpu_ns.saturating_sub(before.cpu_ns);
    let name = format!("mass death, {} services", pids.len());
    results.add(&name, "all back", "ms", peer.name, time_ms);
    results.add(&name, "CPU", "ms", peer.name, cpu_ns as f64 / 1e6);
    Ok(())
}

/// All of them side by side, because they do nothing that could disturb one another.
fn idle<'a>(peers: impl Iterator<Item = &'a Peer>, results: &mut Results) -> Result<()> {
    let mut sessions = Vec::new();
    for peer in peers {
        eprintln!("bench: idle, {}", peer.name);
        let Some(mut session) = Session::start(peer, SINGLE, false)? else { continue };
        if start_all(&mut session, SINGLE)?.is_some() {
            sessions.push((peer, session));
        }
    }
    wait(UP)?;
    let usage = |session: &Session| Usage::of(&session.supervisors());
    let before: Vec<_> = sessions.iter().map(|(_, session)| usage(session)).collect();
    wait(IDLE)?;
    for ((peer, session), before) in sessions.iter().zip(before) {
        let after = usage(session);
        let name = "idle, 100 services for 30 s";
        let switches = after.switches.saturating_sub(before.switches);
        let cpu_ms = after.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e6;
        results.add(name, "context switches", "", peer.name, switches as f64);
        results.add(name, "CPU", "ms", peer.name, cpu_ms);
    }
    Ok(())
}

fn storm(peer: &Peer, results: &mut Results) -> Result<()> {
    eprintln!("bench: crash storm, {}", peer.name);
    let Some(mut session) = Session::start_crashing(peer, CRASHING)? else { return Ok(()) };
    let Some(_first) = session.next(START_MAX)? else { return Ok(()) };
    let before = Usage::of(&session.supervisors());
    let end_ns = now_ns() + STORM.as_nanos() as u64;
    let mut spawns = 1;
    loop {
        let left = Duration::from_nanos(end_ns.saturating_sub(now_ns()));
        if session.next(left)?.is_none() {
            break;
        }
        spawns += 1;
    }
    let cpu_ns = Usage::of(&session.supervisors()).cpu_ns.saturating_sub(before.cpu_ns);
    let name = "crash storm, 20 services for 20 s";
    results.add(name, "spawns", "", peer.name, f64::from(spawns));
    results.add(name, "CPU", "ms", peer.name, cpu_ns as f64 / 1e6);
    Ok(())
}

/// How each measure grows with the number of services: the exponent.
pub fn fit_growth(choice: &Choice, results: &mut Results) {
    if !choice.has(Measure::Growth) {
        return;
    }
    let measures = [
        ("memory", "Pss"),
        ("memory", "processes"),
        ("cold start", "all up"),
        ("restart latency", "median"),
        ("mass death", "all back"),
    ];
    for peer in &choice.peers {
        for (measure, metric) in measures {
            let at = |services| {
                let name = format!("{measure}, {services} services");
                let value = results.median(&name, metric, peer.name)?;
                (value > 0.0 && value.is_finite()).then(|| (f64::ln(services as f64), value.ln()))
            };
            let points: Vec<_> = SIZES.into_iter().filter_map(at).collect();
            if points.len() > 2 {
                let metric = if measure == "memory" { metric } else { measure };
                results.add("growth, exponent of N", metric, "", peer.name, slope(&points));
            }
        }
    }
}

/// The slope of the straight line that fits best.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let up: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let along: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    up / along
}
