//! The pure model: a seeded walk over the state machine, and properties of the service file, the
//! words of a command and the table.
//!
//! `SEED=N cargo test -- walk` takes the walk that failed again.

use going::model::config::{
    FILE_MAX, NAME_MAX, TEXT_MAX, Text, WORDS_MAX, parse, service_name, split_words, value, values,
};
use going::model::service::{Action, Event, Pid, Service, State, Want};
use going::model::table::{POOL_MAX, SERVICES_MAX, Table};
use libtest_mimic::Trial;
use linux_raw_sys::general::{SIGKILL, SIGTERM};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

pub fn tests() -> Vec<Trial> {
    let table: [(&str, fn()); 15] = [
        ("walk_a_million_steps", walk_a_million_steps),
        ("backoff_row", backoff_row),
        ("steady_service_is_respawned_at_once", steady_service_is_respawned_at_once),
        ("failed_spawn_counts_as_quick_death", failed_spawn_counts_as_quick_death),
        ("kill_follows_the_stop_signal", kill_follows_the_stop_signal),
        ("shutdown_gives_up_after_kill", shutdown_gives_up_after_kill),
        ("names", names),
        ("faults_name_line_and_reason", faults_name_line_and_reason),
        ("limits_of_a_file", limits_of_a_file),
        ("normalised_text_is_its_own_normal_form", normalised_text_is_its_own_normal_form),
        ("comments_and_blanks_change_nothing", comments_and_blanks_change_nothing),
        ("no_bytes_upset_the_parser", no_bytes_upset_the_parser),
        ("quoted_words_come_back", quoted_words_come_back),
        ("words_table", words_table),
        ("pool_stays_whole", pool_stays_whole),
    ];
    let trial = |(name, test): (&str, fn())| {
        Trial::test(format!("model::{name}"), move || {
            test();
            Ok(())
        })
    };
    table.into_iter().map(trial).collect()
}

/// Runs properties; a case that fails is printed, and not kept in a file.
fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })
}

/// Small, seeded and good enough: xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What a shell does with a service, and what it must find true at every step.
struct World {
    service: Service,
    now_ms: u64,
    want: Want,
    /// The process that exists, and what it was sent last.
    child: Option<(Pid, Option<u32>)>,
    next_pid: i32,
    /// Since when nothing is wanted and nothing was left undone.
    unwanted_since_ms: u64,
}

impl World {
    fn new() -> Self {
        World {
            service: Service::NEW,
            now_ms: 1_000_000,
            want: Want::Down,
            child: None,
            next_pid: 1,
            unwanted_since_ms: 1_000_000,
        }
    }

    /// Takes one step, and does what the state machine says, as the supervisor does.
    fn step(&mut self, random: &mut Random, event: Event) {
        match self.service.step(event, self.now_ms) {
            None => {}
            Some(Action::Spawn) => {
                assert_eq!(self.want, Want::Up, "spawned although not wanted");
                assert!(self.child.is_none(), "a second process for one service");
                if random.below(8) == 0 {
                    self.step(random, Event::SpawnFailed);
                } else {
                    let pid = Pid::new(self.next_pid).unwrap();
                    self.next_pid += 1;
                    self.child = Some((pid, None));
                    self.step(random, Event::Spawned(pid));
                }
            }
            Some(Action::Signal(pid, signal)) => {
                let (alive, last) = self.child.as_mut().expect("a signal for nobody");
                assert_eq!(*alive, pid, "a signal for somebody else");
                assert!(signal == SIGTERM || signal == SIGKILL);
                assert_eq!(signal == SIGKILL, last.is_some(), "TERM once, then KILL once");
                assert_ne!(*last, Some(SIGKILL), "nothing comes after KILL");
                *last = Some(signal);
            }
        }
    }

    fn check(&self) {
        let has_pid = self.service.pid();
        let child = self.child.map(|(pid, _)| pid);
        // Only a shutdown may let go of a process, and that only after KILL.
        if has_pid != child {
            assert!(matches!(self.want, Want::Shutdown | Want::Kill));
            assert!(has_pid.is_none());
            assert_eq!(self.child.unwrap().1, Some(SIGKILL));
        }
        match self.service.state {
            State::Up(_) => assert_eq!(self.child.unwrap().1, None, "up, but signalled"),
            State::Stopping(_) => assert_eq!(self.child.unwrap().1, Some(SIGTERM)),
            State::Killed(_) => assert_eq!(self.child.unwrap().1, Some(SIGKILL)),
            State::Backoff => assert!(self.service.failures > 0),
            State::Down => {}
        }
        assert!(self.service.since_ms <= self.now_ms);
        if let Some(due_ms) = self.service.due_ms(self.want) {
            assert!(due_ms <= self.now_ms + 30_000, "nothing is put off for more than 30 s");
        }
    }
}

/// Random events, with a shell that keeps its contract: reports each end once, ticks when a tick is
/// due at the latest, wants what it likes.
fn walk_a_million_steps() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap() | 1
    });
    let result = std::panic::catch_unwind(|| walk(seed, 1_000_000));
    assert!(result.is_ok(), "the walk failed; SEED={seed} repeats it");
}

fn walk(seed: u64, steps: u32) {
    let mut random = Random(seed);
    let mut world = World::new();
    let mut spawned = 0;
    let mut let_go = 0;
    for _ in 0..steps {
        match random.below(10) {
            0 => {
                let ends = matches!(world.want, Want::Shutdown | Want::Kill);
                world.want = match random.below(8) {
                    // There is no way back from a shutdown but a new life of the supervisor: what
                    // the old one had let go is none of its business.
                    _ if ends && world.service.pid().is_some() => Want::Kill,
                    _ if ends => {
                        let_go += u32::from(world.child.take().is_some());
                        Want::Up
                    }
                    0..=4 => Want::Up,
                    5 | 6 => Want::Down,
                    _ => Want::Shutdown,
                };
                world.unwanted_since_ms = world.now_ms;
            }
            1 => world.step(&mut random, Event::Edited),
            2 | 3 if world.child.is_some() => {
                let had_it = world.service.pid().is_some();
                world.child = None;
                if had_it {
                    world.step(&mut random, Event::Ended);
                }
            }
            _ => {}
        }
        // Whatever happened, the loop ends with a tick.
        let before = world.next_pid;
        world.step(&mut random, Event::Tick(world.want));
        // Time passes, but never beyond what is due: that is when the loop wakes up.
        let longest = match random.below(4) {
            0 => 0,
            1 => 10,
            2 => 1_000,
            _ => 40_000,
        };
        let later_ms = world.now_ms + random.below(longest + 1);
        let due_ms = world.service.due_ms(world.want).map(|due_ms| due_ms.max(world.now_ms));
        world.now_ms = due_ms.map_or(later_ms, |due_ms| later_ms.min(due_ms));
        world.step(&mut random, Event::Tick(world.want));
        spawned += world.next_pid - before;
        world.check();
        let state = world.service.state;
        if world.want == Want::Up && world.child.is_none() {
            assert_eq!(state, State::Backoff, "wanted and without a process, so it waits");
            assert!(world.service.due_ms(Want::Up).unwrap() > world.now_ms, "or else it spins");
        }
        if world.want == Want::Down && world.child.is_none() {
            assert_eq!(state, State::Down, "what is not wanted ends down");
        }
        let unwanted_ms = world.now_ms - world.unwanted_since_ms;
        if world.want == Want::Down && unwanted_ms >= 5_000 && world.child.is_some() {
            assert!(matches!(state, State::Killed(_)), "5 s after TERM comes KILL");
        }
        if matches!(world.want, Want::Shutdown | Want::Kill) && unwanted_ms >= 7_000 {
            assert_eq!(state, State::Down, "2 s after KILL a shutdown is over");
        }
    }
    assert!(spawned > 1_000 && let_go > 0, "the walk went nowhere: {spawned} {let_go}");
}

/// A service that is up at `now_ms`.
fn up_at(now_ms: u64) -> Service {
    let mut service = Service::NEW;
    assert_eq!(service.step(Event::Tick(Want::Up), now_ms), Some(Action::Spawn));
    service.step(Event::Spawned(Pid::MAX), now_ms);
    service
}

fn spawn_again(service: &mut Service, now_ms: u64) {
    assert_eq!(service.step(Event::Tick(Want::Up), now_ms), Some(Action::Spawn));
    service.step(Event::Spawned(Pid::MAX), now_ms);
}

/// 1, 2, 4, 8, 16, 30, 30 … s; a life of 30 s and an edit start the row over.
fn backoff_row() {
    let mut now_ms = 1_000;
    let mut service = up_at(now_ms);
    for round in 0..300 {
        now_ms += 4_999;
        service.step(Event::Ended, now_ms);
        let delay_ms = [1_000, 2_000, 4_000, 8_000, 16_000].get(round).copied().unwrap_or(30_000);
        assert_eq!(service.due_ms(Want::Up), Some(now_ms + delay_ms), "round {round}");
        assert_eq!(service.delay_ms(), delay_ms);
        assert_eq!(service.step(Event::Tick(Want::Up), now_ms + delay_ms - 1), None);
        now_ms += delay_ms;
        spawn_again(&mut service, now_ms);
    }
    let mut stable = service;
    stable.step(Event::Ended, now_ms + 30_000);
    spawn_again(&mut stable, now_ms + 30_000);
    stable.step(Event::Ended, now_ms + 30_001);
    assert_eq!(stable.delay_ms(), 1_000);
    service.step(Event::Ended, now_ms + 1);
    service.step(Event::Edited, now_ms + 2);
    spawn_again(&mut service, now_ms + 2);
    service.step(Event::Ended, now_ms + 3);
    assert_eq!(service.delay_ms(), 1_000);
}

fn steady_service_is_respawned_at_once() {
    let mut service = up_at(0);
    service.step(Event::Ended, 5_000);
    assert_eq!(service.state, State::Down);
    assert_eq!(service.delay_ms(), 0);
    // It does not make the row of quick deaths forgotten.
    let mut quick = up_at(0);
    quick.step(Event::Ended, 1);
    spawn_again(&mut quick, 1_001);
    quick.step(Event::Ended, 11_001);
    spawn_again(&mut quick, 11_001);
    quick.step(Event::Ended, 11_002);
    assert_eq!(quick.delay_ms(), 2_000);
}

fn failed_spawn_counts_as_quick_death() {
    let mut service = Service::NEW;
    let mut now_ms = 1_000_000;
    for delay_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
        assert_eq!(service.step(Event::Tick(Want::Up), now_ms), Some(Action::Spawn));
        assert_eq!(service.step(Event::SpawnFailed, now_ms), None);
        assert_eq!(service.delay_ms(), delay_ms);
        now_ms += delay_ms;
    }
}

fn kill_follows_the_stop_signal() {
    let mut service = up_at(0);
    let term = Some(Action::Signal(Pid::MAX, SIGTERM));
    assert_eq!(service.step(Event::Tick(Want::Down), 10), term);
    assert_eq!(service.due_ms(Want::Down), Some(5_010));
    assert_eq!(service.step(Event::Tick(Want::Up), 5_009), None);
    let kill = Some(Action::Signal(Pid::MAX, SIGKILL));
    assert_eq!(service.step(Event::Tick(Want::Up), 5_010), kill);
    assert_eq!(service.due_ms(Want::Up), None, "who does not die is waited for");
    assert_eq!(service.step(Event::Ended, 99_000), None);
    assert_eq!(service.step(Event::Tick(Want::Up), 99_000), Some(Action::Spawn));
}

fn shutdown_gives_up_after_kill() {
    let mut service = up_at(0);
    service.step(Event::Tick(Want::Shutdown), 0);
    assert_eq!(service.due_ms(Want::Shutdown), Some(5_000));
    assert_eq!(service.due_ms(Want::Kill), Some(0), "a second time, and it is now");
    let kill = Some(Action::Signal(Pid::MAX, SIGKILL));
    assert_eq!(service.step(Event::Tick(Want::Kill), 1_000), kill);
    assert_eq!(service.step(Event::Tick(Want::Kill), 2_999), None);
    assert!(service.pid().is_some());
    assert_eq!(service.step(Event::Tick(Want::Kill), 3_000), None);
    assert!(service.pid().is_none());
}

fn names() {
    for name in ["a", "web", "web@8080", "A-b_C9", "-", &"n".repeat(NAME_MAX)] {
        assert_eq!(service_name(name.as_bytes()).expect(name).as_str(), name);
    }
    let long = "n".repeat(NAME_MAX + 1);
    let bad: [&[u8]; 9] =
        [b"", b".", b"..", b"a.b", b"a b", b"a/b", b"a\n", b"\xff", long.as_bytes()];
    for name in bad {
        assert!(service_name(name).is_none(), "{}", name.escape_ascii());
    }
}

/// What is wrong with `file`, as it stands in the log behind the name.
fn fault(file: &[u8]) -> String {
    let (line, (reason, word)) = parse(file, &mut Text::new()).unwrap_err();
    format!("{line}: {reason} \"{}\"", word.escape_ascii())
}

fn faults_name_line_and_reason() {
    let command = "not a command of 1 to 128 words with every quote closed:";
    let table: [(&[u8], String); 14] = [
        (b"", "1: missing key \"cmd\"".into()),
        (b"\n# nothing\n\n", "4: missing key \"cmd\"".into()),
        (b"cmd=x\ncomand=y\n", "2: unknown key \"comand\"".into()),
        (b"cmd", "1: no = in \"cmd\"".into()),
        (b"=x", "1: unknown key \"\"".into()),
        (b"CMD=x", "1: unknown key \"CMD\"".into()),
        (b"cmd=x\ncmd=x", "2: given twice: \"cmd\"".into()),
        (b"cmd=", format!("1: {command} \"\"")),
        (b"cmd=''", format!("1: {command} \"\\'\\'\"")),
        (b"cmd=sh 'x", format!("1: {command} \"sh \\'x\"")),
        (b"cmd=sh \\", format!("1: {command} \"sh \\\\\"")),
        (b"cmd=a\0b", format!("1: {command} \"a\\x00b\"")),
        (b"cmd=x\ncwd=tmp", "2: not an absolute path: \"tmp\"".into()),
        (b"cmd=x\n\0", "2: no = in \"\\x00\"".into()),
    ];
    for (file, wanted) in table {
        assert_eq!(fault(file), wanted, "{}", file.escape_ascii());
    }
    let words = |count| format!("cmd={}", "a ".repeat(count));
    assert_eq!(parse(words(WORDS_MAX).as_bytes(), &mut Text::new()), Ok(()));
    assert!(parse(words(WORDS_MAX + 1).as_bytes(), &mut Text::new()).is_err());
}

fn limits_of_a_file() {
    let mut text = Text::new();
    let full = format!("cmd={}", "x".repeat(TEXT_MAX - 5));
    assert_eq!(parse(full.as_bytes(), &mut text), Ok(()));
    assert_eq!(text.len(), TEXT_MAX);
    let over = format!("cmd=x\ncwd=/{}", "x".repeat(TEXT_MAX));
    assert_eq!(fault(over.as_bytes()), "2: more than 4096 bytes of settings with \"cwd\"");
    let mut file = full.into_bytes();
    file.push(b'\n');
    file.resize(FILE_MAX, b'#');
    assert_eq!(parse(&file, &mut text), Ok(()), "comments do not count");
    file.push(b'#');
    assert_eq!(fault(&file), "2: file longer than \"16384 bytes\"");
}

/// A service file that is good, with comments, blanks and every spelling of line ends.
fn good_file() -> impl Strategy<Value = String> {
    let filler = prop::sample::select(vec!["", "\n", "# cmd=no\n", "  \t\n", "#\n", "\r\n"]);
    let blank = prop::sample::select(vec!["", " ", "\t "]);
    let end = prop::sample::select(vec!["\n", "\r\n", " \n"]);
    let cwd = prop::option::of("/[a-z/]{0,20}");
    ((filler.clone(), filler), blank, end, "[a-z]{1,8}( [a-z0-9/=#]{1,8}){0,5}", cwd).prop_map(
        |((before, between), blank, end, cmd, cwd)| {
            let cwd =
                cwd.map_or(String::new(), |cwd| format!("{blank}cwd{blank}={blank}{cwd}{end}"));
            format!("{before}{blank}cmd{blank}={blank}{cmd}{end}{between}{cwd}")
        },
    )
}

fn normalised_text_is_its_own_normal_form() {
    let property = |file: String| {
        let (mut text, mut again) = (Text::new(), Text::new());
        prop_assert_eq!(parse(file.as_bytes(), &mut text), Ok(()));
        prop_assert_eq!(parse(&text, &mut again), Ok(()));
        prop_assert_eq!(&text, &again);
        prop_assert_eq!(values(&text, b"cmd").count(), 1);
        Ok(())
    };
    runner().run(&good_file(), property).unwrap();
}

fn comments_and_blanks_change_nothing() {
    let property = |(file, at): (String, prop::sample::Index)| {
        let mut lines: Vec<&str> = file.lines().collect();
        lines.insert(at.index(lines.len() + 1), "   # a comment, and a blank line\n");
        let (mut text, mut other) = (Text::new(), Text::new());
        parse(file.as_bytes(), &mut text).unwrap();
        parse(lines.join("\n").as_bytes(), &mut other).unwrap();
        prop_assert_eq!(text, other);
        Ok(())
    };
    let cases = (good_file(), any::<prop::sample::Index>());
    runner().run(&cases, property).unwrap();
}

fn no_bytes_upset_the_parser() {
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    // Random bytes seldom get beyond the first line: lead half of the cases there.
    let cases = (any::<bool>(), bytes).prop_map(|(lead, mut bytes)| {
        if lead {
            bytes.splice(0..0, *b"cmd=x\ncwd=/");
        }
        bytes
    });
    let property = |bytes: Vec<u8>| {
        let mut text = Text::new();
        if let Err((line, _)) = parse(&bytes, &mut text) {
            let lines = bytes.split(|&byte| byte == b'\n').count();
            prop_assert!((1..=lines).contains(&(line as usize)));
        } else {
            prop_assert!(value(&text, b"cmd").is_some());
            prop_assert!(!text.contains(&0));
        }
        text.clear();
        let _any = split_words(&bytes, |byte| text.push(byte).ok());
        Ok(())
    };
    runner().run(&cases, property).unwrap();
}

/// `word` so that it stands for itself in a command.
fn quoted(word: &str, how: u8) -> String {
    match how % 3 {
        0 => word.chars().flat_map(|char| ['\\', char]).collect::<String>() + "''",
        1 => format!("'{}'", word.replace('\'', r#"'"'"'"#)),
        _ => format!("\"{}\"", word.replace('\\', r"\\").replace('"', "\\\"")),
    }
}

fn quoted_words_come_back() {
    let word = "[ -~\t]{0,12}";
    let cases = prop::collection::vec((word, any::<u8>()), 0..20);
    let property = |words: Vec<(String, u8)>| {
        let cmd: Vec<String> = words.iter().map(|(word, how)| quoted(word, *how)).collect();
        let wanted: Vec<u8> =
            words.iter().flat_map(|(word, _)| [word.as_bytes(), b"\0"].concat()).collect();
        let mut split = Text::new();
        prop_assert!(
            split_words(cmd.join(" \t").as_bytes(), |byte| split.push(byte).ok()).is_some()
        );
        prop_assert_eq!(split.as_slice(), wanted);
        Ok(())
    };
    runner().run(&cases, property).unwrap();
}

fn words_table() {
    let table: [(&str, Option<&str>); 14] = [
        ("", Some("")),
        ("  ", Some("")),
        ("a b", Some("a|b|")),
        (" a\t b ", Some("a|b|")),
        ("'' \"\"", Some("||")),
        ("a'b c'd\"e f\"g", Some("ab cde fg|")),
        (r"a\ b \\ \'", Some(r"a b|\|'|")),
        (r#""a\"b\\c\d\$""#, Some(r#"a"b\c\d\$|"#)),
        (r"'a\b'", Some(r"a\b|")),
        ("$HOME *~;|&", Some("$HOME|*~;|&|")),
        ("'a", None),
        ("\"a", None),
        ("\"a\\\"", None),
        ("a\\", None),
    ];
    for (cmd, wanted) in table {
        let mut words = Text::new();
        let split = split_words(cmd.as_bytes(), |byte| words.push(byte).ok());
        // `|` stands for the NUL; a command that has one itself still compares.
        let words = String::from_utf8(words.to_vec()).unwrap().replace('\0', "|");
        assert_eq!(split.map(|()| words.as_str()), wanted, "{cmd}");
    }
}

/// 10,000 random changes of a full table: every text stays what it was set to, the pool is never
/// longer than the texts in it, and says no exactly when there is no room.
fn pool_stays_whole() {
    let mut random = Random(0x0060_1146);
    let mut table = Box::new(Table::new());
    let mut texts: Vec<Vec<u8>> = Vec::new();
    let mut refusals = 0;
    for index in 0..SERVICES_MAX {
        let name = service_name(format!("s{index}").as_bytes()).unwrap();
        assert_eq!(table.find_or_add(name), Some(index));
        texts.push(Vec::new());
    }
    assert_eq!(table.find_or_add(service_name(b"one-more").unwrap()), None);
    for round in 0..10_000_u64 {
        let index = usize::try_from(random.below(SERVICES_MAX as u64)).unwrap();
        let longest = if random.below(16) == 0 { TEXT_MAX } else { 400 };
        let len = usize::try_from(random.below(longest as u64 + 1)).unwrap();
        let text: Vec<u8> =
            format!("{round},").into_bytes().into_iter().cycle().take(len).collect();
        let others: usize = texts.iter().map(Vec::len).sum::<usize>() - texts[index].len();
        let wanted = (others + len <= POOL_MAX).then_some(texts[index] != text);
        assert_eq!(table.set_text(index, &text), wanted, "round {round}");
        if wanted.is_some() {
            texts[index] = text;
        } else {
            refusals += 1;
        }
        assert_eq!(table.pool.len(), texts.iter().map(Vec::len).sum::<usize>());
        for (slot, text) in table.slots.iter().zip(&texts) {
            assert_eq!(slot.text(&table.pool), text, "round {round}");
        }
    }
    assert!(refusals > 100, "the pool was never full");
    for slot in table.slots.iter_mut().step_by(2) {
        slot.present = false;
    }
    while table.forget_one().is_some() {}
    assert_eq!(table.slots.len(), SERVICES_MAX / 2);
    for slot in &table.slots {
        let index: usize = slot.name[1..].parse().unwrap();
        assert_eq!(index % 2, 1);
        assert_eq!(slot.text(&table.pool), texts[index]);
    }
}
