//! A seeded random walk over the state machine of one service, driven by a caller that keeps its
//! contract. What must hold after each event is written out a second time here, in another way.
//!
//! `SEED=N cargo test -- walk` repeats a walk that failed.

use crate::needs::scenario;
use going::model::service::{Action, End, Event, Pid, Policy, Restart, Service, State, Want};
use libtest_mimic::Trial;
use linux_raw_sys::general::SIGKILL;
use std::collections::HashSet;

const NEVER_MS: u64 = u64::MAX;

pub fn tests() -> Vec<Trial> {
    vec![scenario!(walk_a_million_steps)]
}

/// Small, seeded and good enough: xorshift64.
pub struct Random(pub u64);

impl Random {
    /// With the seed that the environment gives, or else one from the clock.
    pub fn seeded() -> Self {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        Self(seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap() | 1
        }))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    fn policy(&mut self) -> Policy {
        Policy {
            restart: self.pick(&[
                Restart::Always,
                Restart::Always,
                Restart::Failure,
                Restart::Never,
                Restart::Exit,
            ]),
            stop: self.pick(&[15, 2, 9, 37]),
            timeout_ms: self.pick(&[0, 1_000, 5_000, 5_000, 60_000]),
            log: None,
        }
    }

    fn end(&mut self) -> End {
        self.pick(&[End::Exited(0), End::Exited(1), End::Exited(255), End::Killed(9)])
    }
}

/// A process, as the kernel and the caller know it.
struct Child {
    pid: Pid,
    policy: Policy,
    born_ms: u64,
    /// How many signals it was sent: the stop signal, then KILL.
    signals: usize,
    /// Since when it reads nothing but end-of-file, and when it was sent its last signal.
    drained_ms: Option<u64>,
    signalled_ms: u64,
}

/// What the caller does with a service, and what must hold at every step.
struct World {
    service: Service,
    now_ms: u64,
    want: Want,
    /// Whether others log to it: in a shutdown it is then wanted until they have ended.
    is_reader: bool,
    is_ending: bool,
    child: Option<Child>,
    next_pid: i32,
    starts: u32,
    last_end: Option<End>,
    /// Quick deaths in a row, counted independently.
    row: usize,
    /// It must not be started before this.
    not_before_ms: u64,
    /// Whether it has ended and must not be respawned.
    is_done: bool,
    let_go: u32,
    seen: HashSet<(u8, u8)>,
}

impl World {
    fn new(now_ms: u64) -> Self {
        World {
            service: Service { since_ms: now_ms, ..Service::default() },
            now_ms,
            want: Want::Down,
            is_reader: false,
            is_ending: false,
            child: None,
            next_pid: 1,
            starts: 0,
            last_end: None,
            row: 0,
            not_before_ms: 0,
            is_done: false,
            let_go: 0,
            seen: HashSet::new(),
        }
    }

    /// Begins another life of the supervisor, which knows nothing of a process that the old one
    /// gave up.
    fn begin(&mut self, random: &mut Random) {
        let (now_ms, next_pid, let_go) = (self.now_ms, self.next_pid, self.let_go);
        let seen = std::mem::take(&mut self.seen);
        *self = World { next_pid, let_go, seen, ..World::new(now_ms) };
        self.is_reader = random.below(2) == 0;
    }

    /// Changes what is wanted to something that can follow.
    fn turn(&mut self, random: &mut Random) {
        let is_over = self.is_ending && self.service.pid().is_none() && random.below(2) == 0;
        if is_over {
            self.let_go += u32::from(self.child.is_some());
            self.begin(random);
            return;
        }
        self.is_ending |= random.below(8) == 0;
        self.want = match (self.is_ending, self.is_reader) {
            (false, _) => random.pick(&[Want::Up, Want::Up, Want::Down]),
            // There is no way back from this.
            (true, _) if self.want == Want::Kill || random.below(8) == 0 => Want::Kill,
            (true, false) => Want::Shutdown,
            // If it were wanted up, a second process would run beside the one that was given up.
            (true, true) if self.service.pid().is_none() && self.child.is_some() => Want::Drain,
            (true, true) => random.pick(&[Want::Up, Want::Down, Want::Drain, Want::Drain]),
        };
    }

    /// Takes one step, and does what the state machine says, as the supervisor does.
    fn step(&mut self, random: &mut Random, event: Event) {
        if let Event::Tick(want) = event {
            self.seen.insert((state_number(self.service.state), want as u8));
            self.note_unwanted(want);
        }
        let before = self.service.state;
        match self.service.step(event, self.now_ms) {
            None => {}
            Some(Action::Spawn) => self.spawn(random),
            Some(Action::Signal(pid, signal)) => self.signal(pid, signal),
        }
        let phases = (before, self.service.state);
        if let (State::Up(_), State::Draining(_)) = phases {
            assert_eq!(self.want, Want::Drain);
            self.child.as_mut().unwrap().drained_ms = Some(self.now_ms);
        }
    }

    /// A service that is not wanted for one tick is no longer done, and waits for no delay.
    fn note_unwanted(&mut self, want: Want) {
        if want != Want::Up && self.service.state != State::Down {
            (self.row, self.not_before_ms, self.is_done) = (0, 0, false);
        }
    }

    fn spawn(&mut self, random: &mut Random) {
        assert_eq!(self.want, Want::Up, "spawned although not wanted");
        assert!(self.child.is_none(), "a second process for one service");
        assert!(!self.is_done, "respawned against its policy");
        assert!(self.now_ms >= self.not_before_ms, "respawned too soon");
        if random.below(8) == 0 {
            self.fail();
            let policy = random.policy();
            self.step(random, Event::Spawned(None, policy));
            return;
        }
        let (pid, policy) = (Pid::new(self.next_pid).unwrap(), random.policy());
        self.next_pid += 1;
        self.starts += 1;
        let (born_ms, signalled_ms) = (self.now_ms, self.now_ms);
        self.child =
            Some(Child { pid, policy, born_ms, signals: 0, drained_ms: None, signalled_ms });
        self.step(random, Event::Spawned(Some(pid), policy));
    }

    /// A quick death: 1, 2, 4, 8, 16, 30, 30 … s.
    fn fail(&mut self) {
        let delay_s = [1, 2, 4, 8, 16].get(self.row).copied().unwrap_or(30);
        self.row += 1;
        self.not_before_ms = self.now_ms + 1_000 * delay_s;
    }

    fn signal(&mut self, pid: Pid, signal: u32) {
        let (want, now_ms) = (self.want, self.now_ms);
        let child = self.child.as_mut().expect("a signal for nobody");
        assert_eq!(child.pid, pid, "a signal for somebody else");
        child.signals += 1;
        let waited_ms = now_ms - child.signalled_ms;
        match child.signals {
            1 => {
                assert_eq!(signal, child.policy.stop);
                let waited_ms = child.drained_ms.map(|drained_ms| now_ms - drained_ms);
                let is_early = waited_ms.is_some_and(|waited_ms| waited_ms < 1_000);
                assert!(!is_early || want == Want::Kill, "stopped while it drains");
            }
            2 => {
                assert_eq!(signal, SIGKILL);
                assert!(waited_ms >= patience_ms(want, child.policy), "killed too soon");
            }
            _ => panic!("nothing comes after KILL"),
        }
        child.signalled_ms = now_ms;
    }

    /// The process ends, and is reaped.
    fn end(&mut self, random: &mut Random) {
        let Some(child) = self.child.take() else { return };
        if self.service.pid().is_none() {
            return;
        }
        let end = random.end();
        let lived_ms = self.now_ms - child.born_ms;
        self.last_end = Some(end);
        if matches!(self.service.state, State::Up(_)) {
            self.is_done = match child.policy.restart {
                Restart::Always => false,
                Restart::Failure => end == End::Exited(0),
                Restart::Never | Restart::Exit => true,
            };
            match lived_ms {
                _ if self.is_done => self.row = 0,
                0..5_000 => self.fail(),
                5_000..30_000 => {}
                _ => self.row = 0,
            }
        }
        self.step(random, Event::Ended(end));
    }

    /// Ticks like the loop until nothing is due any more, which must be soon.
    fn tick(&mut self, random: &mut Random) {
        for _ in 0..4 {
            self.step(random, Event::Tick(self.want));
            if self.service.due_ms(self.want).is_none_or(|due_ms| due_ms > self.now_ms) {
                return;
            }
        }
        panic!("it spins: {:?}", self.service);
    }

    fn check(&self) {
        let Service { state, since_ms, policy, starts, end, .. } = self.service;
        assert!(since_ms <= self.now_ms);
        assert_eq!((starts, end), (self.starts, self.last_end));
        // Only a shutdown may give up a process, and only after KILL.
        let (known, child) = (self.service.pid(), self.child.as_ref());
        if known != child.map(|child| child.pid) {
            let child = child.expect("a process that does not exist");
            assert!(known.is_none() && child.signals == 2 && self.is_ending);
            assert!(self.now_ms >= child.signalled_ms + 2_000, "given up too soon");
        }
        match state {
            State::Up(_) => {
                assert_eq!((child.unwrap().signals, self.want), (0, Want::Up));
            }
            State::Draining(_) => assert_eq!(child.unwrap().signals, 0),
            State::Stopping(_) => assert_eq!(child.unwrap().signals, 1),
            State::Killed(_) => assert_eq!(child.unwrap().signals, 2),
            State::Down => assert_ne!(self.want, Want::Up, "wanted, and nothing is done"),
            State::Backoff => assert_eq!((self.want, self.is_done), (Want::Up, false)),
            State::Done => assert_eq!((self.want, self.is_done), (Want::Up, true)),
        }
        if let Some(child) = child.filter(|_| known.is_some()) {
            assert_eq!(policy, child.policy);
        }
        let lasted_ms = self.now_ms - since_ms;
        let longest_ms = match (state, self.want) {
            (State::Backoff, _) => 30_000,
            (State::Draining(_), Want::Kill) => 0,
            (State::Draining(_), _) => 1_000,
            (State::Stopping(_), want) => patience_ms(want, policy),
            (State::Killed(_), Want::Shutdown | Want::Drain | Want::Kill) => 2_000,
            (State::Up(_) | State::Killed(_) | State::Down | State::Done, _) => NEVER_MS,
        };
        assert!(lasted_ms < longest_ms, "{state:?} for {lasted_ms} ms, {:?}", self.want);
        // The deadline is exactly that, and no later.
        let due_ms = self.service.due_ms(self.want).unwrap_or(NEVER_MS);
        assert_eq!(
            due_ms,
            match state {
                State::Backoff => self.not_before_ms,
                _ => since_ms.saturating_add(longest_ms),
            }
        );
    }
}

/// From the stop signal to KILL.
fn patience_ms(want: Want, policy: Policy) -> u64 {
    match (want, policy.timeout_ms) {
        (Want::Kill, _) => 0,
        (Want::Drain, _) => 2_000,
        (Want::Shutdown, 0) => 5_000,
        (Want::Up | Want::Down, 0) => NEVER_MS,
        (_, timeout_ms) => timeout_ms.into(),
    }
}

fn state_number(state: State) -> u8 {
    match state {
        State::Down => 0,
        State::Up(_) => 1,
        State::Draining(_) => 2,
        State::Stopping(_) => 3,
        State::Killed(_) => 4,
        State::Backoff => 5,
        State::Done => 6,
    }
}

/// Random events from a caller that keeps its contract: it reports each end once, ticks at the
/// latest when a tick is due, and wants what it likes.
fn walk_a_million_steps() {
    let random = Random::seeded();
    let seed = random.0;
    let result = std::panic::catch_unwind(|| walk(random, 1_000_000));
    assert!(result.is_ok(), "the walk failed; SEED={seed} repeats it");
}

fn walk(mut random: Random, steps: u32) {
    let mut world = World::new(1_000_000);
    for _ in 0..steps {
        match random.below(10) {
            0 => world.turn(&mut random),
            1 | 2 => world.end(&mut random),
            _ => {}
        }
        world.tick(&mut random);
        world.check();
        // Time passes, but never beyond what is due: that is when the loop wakes up.
        let longest_ms = random.pick(&[0, 10, 1_000, 40_000]);
        let later_ms = world.now_ms + random.below(longest_ms + 1);
        let due_ms = world.service.due_ms(world.want);
        world.now_ms = due_ms.map_or(later_ms, |due_ms| later_ms.min(due_ms));
        world.tick(&mut random);
        world.check();
    }
    // Every state was met under every want, except for one pair: see `World::turn`.
    let all = (0..7).flat_map(|state| (0..5).map(move |want| (state, want)));
    let missing: Vec<_> = all.filter(|pair| !world.seen.contains(pair)).collect();
    let draining_in_a_plain_shutdown = (2, Want::Shutdown as u8);
    assert_eq!(missing, [draining_in_a_plain_shutdown], "states and wants never met");
    assert!(world.next_pid > 1_000 && world.let_go > 0, "the walk went nowhere");
}
