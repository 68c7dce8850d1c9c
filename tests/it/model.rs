//! The pure model: the state machine step by step (its random walk is in `walk`), the service file
//! with every key, the words of a command, the plan and its entries, the meaning of signals, and
//! the lines of the status.

use crate::needs::scenario;
use crate::walk::Random;
use going::child::plan::{ENTRIES, Faults, Plan, encode, read_text};
use going::child::power::command;
use going::linux::table::{Slot, Slots};
use going::model::config::{
    ENV_MAX, FILE_MAX, NAME_MAX, POOL_MAX, TEXT_MAX, Text, WORDS_MAX, parse, policy, service_name,
    signal, split_words, value, values,
};
use going::model::entry::{EDITED, Entry, GONE, GOOD, HELD, LOGGED_TO, Record, SERVICES_MAX};
use going::model::order::{Place, is_ending};
use going::model::service::{Action, End, Event, Pid, Policy, Restart, Service, State, Want};
use going::model::status::line;
use libtest_mimic::Trial;
use linux_raw_sys::general::{SIGKILL, SIGTERM};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, pread};
use rustix::system::RebootCommand;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(backoff_row),
        scenario!(steady_service_is_respawned_at_once),
        scenario!(failed_spawn_counts_as_quick_death),
        scenario!(kill_follows_the_stop_signal),
        scenario!(a_timeout_of_0_is_never_but_in_a_shutdown),
        scenario!(shutdown_gives_up_after_kill),
        scenario!(a_logger_drains_first),
        scenario!(an_end_is_judged_by_its_policy),
        scenario!(done_starts_again_when_unwanted_for_one_tick),
        scenario!(the_policy_is_that_of_the_process),
        scenario!(policies_are_read_from_the_text),
        scenario!(names),
        scenario!(faults_name_line_and_reason),
        scenario!(good_values_of_every_key),
        scenario!(bad_values_of_every_key),
        scenario!(any_value_is_kept_or_refused),
        scenario!(signals_have_all_their_names),
        scenario!(limits_of_a_file),
        scenario!(normalised_text_is_its_own_normal_form),
        scenario!(comments_and_blanks_change_nothing),
        scenario!(no_bytes_upset_the_parser),
        scenario!(quoted_words_come_back),
        scenario!(words_table),
        scenario!(a_plan_stays_whole),
        scenario!(a_plan_has_room_for_a_change_of_every_text),
        scenario!(a_plan_remembers_reported_faults),
        scenario!(an_entry_of_another_plan_has_no_text),
        scenario!(entries_come_back),
        scenario!(no_record_upsets_an_entry),
        scenario!(what_the_files_want),
        scenario!(every_signal_in_every_place),
        scenario!(status_lines),
    ]
}

/// Runs properties. A case that fails is printed, but not saved to a file.
fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })
}

/// The policy of a file that sets none of its keys.
const DEFAULT: Policy =
    Policy { restart: Restart::Always, stop: SIGTERM, timeout_ms: 5_000, log: None };

/// A service that has not run yet.
fn known_at(since_ms: u64) -> Service {
    Service { since_ms, ..Service::default() }
}

/// A service that is up at `now_ms`.
fn up_at(now_ms: u64) -> Service {
    up_with(now_ms, DEFAULT)
}

fn up_with(now_ms: u64, policy: Policy) -> Service {
    let mut service = known_at(now_ms);
    spawn_with(&mut service, now_ms, policy);
    service
}

fn spawn_again(service: &mut Service, now_ms: u64) {
    spawn_with(service, now_ms, DEFAULT);
}

fn spawn_with(service: &mut Service, now_ms: u64, policy: Policy) {
    assert_eq!(service.step(Event::Tick(Want::Up), now_ms), Some(Action::Spawn));
    service.step(Event::Spawned(Some(Pid::MAX), policy), now_ms);
}

/// How long the next start is delayed.
fn put_off_ms(service: &Service) -> u64 {
    if service.state == State::Backoff { service.delay_ms } else { 0 }
}

const FAILED: Event = Event::Ended(End::Exited(1));
const TERM: Option<Action> = Some(Action::Signal(Pid::MAX, SIGTERM));
const KILL: Option<Action> = Some(Action::Signal(Pid::MAX, SIGKILL));

/// 1, 2, 4, 8, 16, 30, 30 … s. The row starts over after 30 s up, and after an edit.
fn backoff_row() {
    let mut now_ms = 1_000;
    let mut service = up_at(now_ms);
    for round in 0..300 {
        now_ms += 4_999;
        service.step(FAILED, now_ms);
        let delay_ms = [1_000, 2_000, 4_000, 8_000, 16_000].get(round).copied().unwrap_or(30_000);
        assert_eq!(service.due_ms(Want::Up), Some(now_ms + delay_ms), "round {round}");
        assert_eq!(put_off_ms(&service), delay_ms);
        assert_eq!(service.step(Event::Tick(Want::Up), now_ms + delay_ms - 1), None);
        now_ms += delay_ms;
        spawn_again(&mut service, now_ms);
    }
    let mut stable = service;
    stable.step(FAILED, now_ms + 30_000);
    spawn_again(&mut stable, now_ms + 30_000);
    stable.step(FAILED, now_ms + 30_001);
    assert_eq!(put_off_ms(&stable), 1_000);
    // An edit or a down file: the service is not wanted for one tick.
    service.step(FAILED, now_ms + 1);
    assert_eq!(service.step(Event::Tick(Want::Down), now_ms + 2), None);
    spawn_again(&mut service, now_ms + 2);
    service.step(FAILED, now_ms + 3);
    assert_eq!(put_off_ms(&service), 1_000);
}

fn steady_service_is_respawned_at_once() {
    let mut service = up_at(0);
    service.step(FAILED, 5_000);
    assert_eq!(service.state, State::Down);
    assert_eq!(put_off_ms(&service), 0);
    // The quick deaths before it still count.
    let mut quick = up_at(0);
    quick.step(FAILED, 1);
    spawn_again(&mut quick, 1_001);
    quick.step(FAILED, 11_001);
    spawn_again(&mut quick, 11_001);
    quick.step(FAILED, 11_002);
    assert_eq!(put_off_ms(&quick), 2_000);
}

fn failed_spawn_counts_as_quick_death() {
    let mut service = known_at(0);
    let mut now_ms = 1_000_000;
    for delay_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
        assert_eq!(service.step(Event::Tick(Want::Up), now_ms), Some(Action::Spawn));
        assert_eq!(service.step(Event::Spawned(None, DEFAULT), now_ms), None);
        assert_eq!(put_off_ms(&service), delay_ms);
        now_ms += delay_ms;
    }
    assert_eq!((service.starts, service.end), (0, None));
}

fn kill_follows_the_stop_signal() {
    let mut service = up_at(0);
    assert_eq!(service.step(Event::Tick(Want::Down), 10), TERM);
    assert_eq!(service.due_ms(Want::Down), Some(5_010));
    assert_eq!(service.step(Event::Tick(Want::Up), 5_009), None);
    assert_eq!(service.step(Event::Tick(Want::Up), 5_010), KILL);
    assert_eq!(service.due_ms(Want::Up), None, "a process that does not end is waited for");
    assert_eq!(service.step(FAILED, 99_000), None);
    assert_eq!(service.step(Event::Tick(Want::Up), 99_000), Some(Action::Spawn));
}

fn a_timeout_of_0_is_never_but_in_a_shutdown() {
    let mut service = up_with(0, Policy { timeout_ms: 0, stop: 2, ..DEFAULT });
    let int = Some(Action::Signal(Pid::MAX, 2));
    assert_eq!(service.step(Event::Tick(Want::Down), 0), int);
    assert_eq!(service.due_ms(Want::Down), None);
    assert_eq!(service.step(Event::Tick(Want::Down), 1 << 40), None);
    let mut ending = up_with(0, Policy { timeout_ms: 0, ..DEFAULT });
    assert_eq!(ending.step(Event::Tick(Want::Shutdown), 0), TERM);
    assert_eq!(ending.step(Event::Tick(Want::Shutdown), 4_999), None);
    assert_eq!(ending.step(Event::Tick(Want::Shutdown), 5_000), KILL);
    // The deadline counts from the stop signal, even if the shutdown came later.
    assert_eq!(service.due_ms(Want::Shutdown), Some(5_000));
}

fn shutdown_gives_up_after_kill() {
    let mut service = up_at(0);
    service.step(Event::Tick(Want::Shutdown), 0);
    assert_eq!(service.due_ms(Want::Shutdown), Some(5_000));
    assert_eq!(service.due_ms(Want::Kill), Some(0), "a second time, and it is now");
    assert_eq!(service.step(Event::Tick(Want::Kill), 1_000), KILL);
    assert_eq!(service.step(Event::Tick(Want::Kill), 2_999), None);
    assert!(service.pid().is_some());
    assert_eq!(service.step(Event::Tick(Want::Kill), 3_000), None);
    assert!(service.pid().is_none());
}

/// End-of-file, 1 s, the stop signal, 2 s, KILL.
fn a_logger_drains_first() {
    let mut service = up_with(0, Policy { timeout_ms: 60_000, ..DEFAULT });
    assert_eq!(service.step(Event::Tick(Want::Drain), 100), None);
    assert_eq!(service.state, State::Draining(Pid::MAX));
    assert_eq!(service.step(Event::Tick(Want::Drain), 1_099), None);
    let mut hastened = service;
    assert_eq!(service.step(Event::Tick(Want::Drain), 1_100), TERM);
    assert_eq!(service.step(Event::Tick(Want::Drain), 3_099), None);
    assert_eq!(service.step(Event::Tick(Want::Drain), 3_100), KILL);
    assert_eq!(hastened.step(Event::Tick(Want::Kill), 200), TERM);
    assert_eq!(hastened.step(Event::Tick(Want::Kill), 200), KILL);
    // A service that exits at end-of-file is not started again, and has not failed.
    let mut obeys = up_at(0);
    obeys.step(Event::Tick(Want::Drain), 0);
    obeys.step(Event::Ended(End::Exited(0)), 1);
    assert_eq!((obeys.state, obeys.delay_ms), (State::Down, 0));
    assert_eq!(obeys.step(Event::Tick(Want::Drain), 1), None);
}

/// Four policies, three ends: the service is done, or respawned, after a delay if it was up too
/// briefly.
fn an_end_is_judged_by_its_policy() {
    let ends = [End::Exited(0), End::Exited(1), End::Killed(9)];
    let table = [
        (Restart::Always, [false, false, false]),
        (Restart::Failure, [true, false, false]),
        (Restart::Never, [true, true, true]),
        (Restart::Exit, [true, true, true]),
    ];
    for (restart, done) in table {
        for (end, is_done) in ends.into_iter().zip(done) {
            for (up_ms, otherwise) in [(4_999, State::Backoff), (5_000, State::Down)] {
                let mut service = up_with(0, Policy { restart, ..DEFAULT });
                assert_eq!(service.step(Event::Ended(end), up_ms), None);
                let wanted = if is_done { State::Done } else { otherwise };
                assert_eq!(service.state, wanted, "{restart:?} {end:?} {up_ms}");
                let delay_ms = if wanted == State::Backoff { 1_000 } else { 0 };
                assert_eq!(put_off_ms(&service), delay_ms);
                assert_eq!(service.end, Some(end));
            }
            // A service that ends because it was told to is down, whatever its policy.
            let mut stopped = up_with(0, Policy { restart, ..DEFAULT });
            stopped.step(Event::Tick(Want::Down), 0);
            stopped.step(Event::Ended(end), 1);
            assert_eq!(stopped.state, State::Down);
        }
    }
}

/// Neither time nor HUP starts it again. An edit does, and a down file that comes and goes.
fn done_starts_again_when_unwanted_for_one_tick() {
    let mut service = up_with(0, Policy { restart: Restart::Never, ..DEFAULT });
    service.step(Event::Ended(End::Exited(0)), 1);
    assert_eq!(service.due_ms(Want::Up), None);
    assert_eq!(service.step(Event::Tick(Want::Up), 1 << 40), None);
    assert_eq!(service.step(Event::Tick(Want::Down), 1 << 40), None);
    assert_eq!(service.state, State::Down);
    spawn_again(&mut service, 1 << 40);
}

/// What the file says now applies to the next process.
fn the_policy_is_that_of_the_process() {
    let mut service = up_with(0, Policy { stop: 2, timeout_ms: 1_000, ..DEFAULT });
    let int = Some(Action::Signal(Pid::MAX, 2));
    assert_eq!(service.step(Event::Tick(Want::Down), 0), int);
    assert_eq!(service.step(Event::Tick(Want::Up), 1_000), KILL);
    service.step(FAILED, 1_001);
    spawn_again(&mut service, 1_001);
    assert_eq!(service.policy, DEFAULT);
    assert_eq!(service.step(Event::Tick(Want::Down), 2_000), TERM);
}

fn policies_are_read_from_the_text() {
    let of = |settings: &str| {
        let mut text = Text::new();
        assert_eq!(parse(format!("cmd=x\n{settings}").as_bytes(), &mut text), Ok(()));
        let Policy { restart, stop, timeout_ms, log } = policy(&text, Some(7));
        assert_eq!(log, Some(7), "whom that means others know");
        (restart, stop, timeout_ms)
    };
    assert_eq!(of(""), (Restart::Always, 15, 5_000));
    assert_eq!(of("restart=always\nstop=TERM\ntimeout=5"), of(""));
    assert_eq!(of("restart=failure\nstop=INT\ntimeout=0"), (Restart::Failure, 2, 0));
    assert_eq!(of("restart=never\nstop=37\ntimeout=007"), (Restart::Never, 37, 7_000));
    assert_eq!(of("restart=exit\nstop=KILL\ntimeout=999999"), (Restart::Exit, 9, 999_999_000));
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

/// What is wrong with `file`, as the log says it after the name.
fn fault(file: &[u8]) -> String {
    let (line, (reason, word)) = parse(file, &mut Text::new()).unwrap_err();
    format!("{line}: {reason} \"{}\"", word.escape_ascii())
}

fn faults_name_line_and_reason() {
    let command = "not a command of 1 to 128 words with every quote closed:";
    let table: [(&[u8], String); 15] = [
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
        (b"cmd=a\0b", "1: NUL byte in \"cmd=a\\x00b\"".into()),
        (b"cmd=x\ncwd=tmp", "2: not an absolute path: \"tmp\"".into()),
        (b"cmd=x\n\0", "2: NUL byte in \"\\x00\"".into()),
        (b"cmd=x\n# \0", "2: NUL byte in \"# \\x00\"".into()),
    ];
    for (file, wanted) in table {
        assert_eq!(fault(file), wanted, "{}", file.escape_ascii());
    }
    let words = |count| format!("cmd={}", "a ".repeat(count));
    assert_eq!(parse(words(WORDS_MAX).as_bytes(), &mut Text::new()), Ok(()));
    assert!(parse(words(WORDS_MAX + 1).as_bytes(), &mut Text::new()).is_err());
}

/// The good values of every key, including extreme ones, and what is kept of them.
fn good_values_of_every_key() {
    let account = "a".repeat(64);
    let table: [(&str, &[&str]); 10] = [
        ("cmd", &["x", "/bin/x y", "'a b'", "\\x", "\"\"x", "# x", "=", "a=b"]),
        ("cwd", &["/", "/a b", "/a=b", "//", "/.."]),
        ("chroot", &["/", "/srv/a b"]),
        ("env", &["*", "A", "A=", "A=b", "A==", "a b=c d", "*=x", "A= x"]),
        ("user", &["root", "0", "4294967294", "4294967295", "a$", "-", "a.b", &account]),
        ("group", &["root", "0", "users", "99999999999", &account]),
        ("log", &["inherit", "null", "/a b", "logger", "log@1", "-", &"n".repeat(NAME_MAX)]),
        ("restart", &["always", "failure", "never", "exit"]),
        ("stop", &["1", "15", "64"]),
        ("timeout", &["0", "5", "999999", "000000"]),
    ];
    for (key, good) in table {
        for setting in good {
            let lead = if key == "cmd" { "" } else { "cmd=x\n" };
            let mut text = Text::new();
            let file = format!("{lead}{key}={setting}\n");
            assert_eq!(parse(file.as_bytes(), &mut text), Ok(()), "{file}");
            assert_eq!(value(&text, key.as_bytes()), Some(setting.as_bytes()), "{file}");
            // Blanks around the key and the value are not part of them.
            let blanks = format!("{lead}\t {key} \t=  {setting} \t\r\n");
            assert_eq!(parse(blanks.as_bytes(), &mut text), Ok(()), "{blanks:?}");
            assert_eq!(value(&text, key.as_bytes()), Some(setting.as_bytes()), "{blanks:?}");
        }
    }
}

/// The bad values of every key, each with the reason that is reported.
fn bad_values_of_every_key() {
    let long = ["a".repeat(65), "n".repeat(NAME_MAX + 1)];
    let path = "not an absolute path:";
    let command = "not a command of 1 to 128 words with every quote closed:";
    let log = "not inherit, null, an absolute path or the name of a service:";
    let stop = "not a signal's name without SIG, or its number:";
    let table: [(&str, &str, &[&str]); 10] = [
        ("cmd", command, &["", "''", "\"\" x", "'x", "\"x", "x\\"]),
        ("cwd", path, &["", "a", "./a", "~"]),
        ("chroot", path, &["", "srv"]),
        ("env", "not NAME=VALUE, NAME or *:", &["", "=", "=x"]),
        (
            "user",
            "not the name or the number of a user:",
            &["", "a b", "a:b", "a,b", "\u{e9}", &long[0]],
        ),
        ("group", "not the name or the number of a group:", &["", "a b", "a:b", &long[0]]),
        ("log", log, &["", "a.b", "a/b", "./a", "a b", &long[1]]),
        ("restart", "not always, failure, never or exit:", &["", "Always", "yes", "on-failure"]),
        ("stop", stop, &["", "0", "65", "SIGTERM", "term", "-1", "+9", "1.5", "RTMIN", "0000015"]),
        (
            "timeout",
            "not a number of seconds, at most 999999:",
            &["", "-1", "+1", "1.5", "5s", "1000000", "0x1", " "],
        ),
    ];
    for (key, reason, bad) in table {
        for setting in bad {
            let lead = if key == "cmd" { "" } else { "cmd=x\n" };
            let file = format!("{lead}{key}={setting}");
            let line = lead.lines().count() + 1;
            let word = setting.trim().as_bytes().escape_ascii();
            assert_eq!(fault(file.as_bytes()), format!("{line}: {reason} \"{word}\""));
        }
        // A C string would end there.
        let file = format!("{key}=/a\0");
        assert_eq!(fault(file.as_bytes()), format!("1: NUL byte in \"{key}=/a\\x00\""));
        // Each key may be given only once, except env.
        let good = if key == "cmd" { "x" } else { "/" };
        let good = match key {
            "restart" => "exit",
            "stop" | "timeout" => "1",
            _ => good,
        };
        let twice = format!("{key}={good}\n{key}={good}\ncmd=x\n");
        match key {
            "env" => assert_eq!(parse(twice.as_bytes(), &mut Text::new()), Ok(())),
            _ => assert_eq!(fault(twice.as_bytes()), format!("2: given twice: \"{key}\"")),
        }
    }
    let lines = |count| format!("cmd=x\n{}", "env=A=b\n".repeat(count));
    assert_eq!(parse(lines(ENV_MAX).as_bytes(), &mut Text::new()), Ok(()));
    let more = fault(lines(ENV_MAX + 1).as_bytes());
    assert_eq!(more, format!("{}: more than 128 lines with \"env\"", ENV_MAX + 2));
}

/// Whatever the value of a key, the file is refused on that line, or the value is kept as it was.
fn any_value_is_kept_or_refused() {
    let keys =
        ["cwd", "chroot", "env", "user", "group", "log", "restart", "stop", "timeout", "umask"];
    let likely = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "[ -~]{0,40}".prop_map(String::into_bytes),
        "/[ -~]{0,40}".prop_map(String::into_bytes),
        "[0-9]{1,8}".prop_map(String::into_bytes),
        "[A-Z0-9]{1,5}".prop_map(String::into_bytes),
    ];
    let property = |(key, setting): (&str, Vec<u8>)| {
        let setting: Vec<u8> = setting.into_iter().filter(|&byte| byte != b'\n').collect();
        let file = [b"cmd=x\n", key.as_bytes(), b"=", &setting].concat();
        let mut text = Text::new();
        match parse(&file, &mut text) {
            Err((line, _)) => prop_assert_eq!(line, 2),
            Ok(()) if key == "stop" => {
                let number: u8 =
                    str::from_utf8(value(&text, b"stop").unwrap()).unwrap().parse().unwrap();
                prop_assert!((1..=64).contains(&number));
                prop_assert_eq!(signal(setting.trim_ascii()), Some(number));
            }
            Ok(()) => prop_assert_eq!(value(&text, key.as_bytes()), Some(setting.trim_ascii())),
        }
        Ok(())
    };
    runner().run(&(prop::sample::select(keys.to_vec()), likely), property).unwrap();
}

/// The signals of signal(7) on this machine, as another library names them.
fn signals_have_all_their_names() {
    for known in nix::sys::signal::Signal::iterator() {
        let name = known.as_str().strip_prefix("SIG").unwrap();
        let number = u8::try_from(known as i32).unwrap();
        assert_eq!(signal(name.as_bytes()), Some(number), "{name}");
        assert_eq!(signal(number.to_string().as_bytes()), Some(number));
        let mut text = Text::new();
        assert_eq!(parse(format!("cmd=x\nstop={name}").as_bytes(), &mut text), Ok(()));
        assert_eq!(value(&text, b"stop"), Some(number.to_string().as_bytes()));
    }
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
    file.extend_from_slice(b"\ncw");
    let why = "its last line may have been cut";
    assert_eq!(fault(&file), "2: file longer than \"16384 bytes\"", "{why}");
}

/// A good service file, with comments, blanks and every kind of line end.
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
    // Random bytes seldom get past the first line, so half of the cases start beyond it.
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

/// Quotes `word`, so that it stands for itself in a command.
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
        // `|` stands for NUL. A command that itself contains `|` still compares correctly.
        let words = String::from_utf8(words.to_vec()).unwrap().replace('\0', "|");
        assert_eq!(split.map(|()| words.as_str()), wanted, "{cmd}");
    }
}

/// A table with the slot of the main command and this many services without a text.
fn table_of(services: usize) -> Box<Slots> {
    let mut slots = Box::new(Slots::new());
    assert!(slots.push(Slot::new(Entry::default(), 0)).is_ok());
    for index in 0..services {
        let name = service_name(format!("s{index}").as_bytes()).unwrap();
        assert!(slots.push(Slot::new(Entry { name, ..Entry::default() }, 0)).is_ok());
    }
    slots
}

fn memory() -> OwnedFd {
    memfd_create(c"plan", MemfdFlags::CLOEXEC).expect("a file in memory")
}

/// 10,000 random changes of a full table, 40 in each of a series of plans. Every text stays as it
/// was set, and a change is refused exactly when there is no room for it.
fn a_plan_stays_whole() {
    let mut random = Random(0x0060_1146);
    let mut slots = table_of(SERVICES_MAX);
    let mut texts: Vec<Vec<u8>> = vec![Vec::new(); SERVICES_MAX + 1];
    let (mut refusals, mut file) = (0, memory());
    // 10,000 changes; emulated, as for aarch64, they would take half a minute.
    let rounds = if cfg!(target_arch = "x86_64") { 250 } else { 50 };
    for round in 0..rounds {
        let next = memory();
        let mut plan = Plan::new(&next);
        plan.take_over(&file, &mut slots).expect("the texts");
        for change in 0..40 {
            let index = 1 + random.index(SERVICES_MAX);
            let longest = if random.below(16) == 0 { TEXT_MAX } else { 400 };
            let len = random.index(longest + 1);
            let text = format!("{round}.{change},").into_bytes();
            let text: Vec<u8> = text.into_iter().cycle().take(len).collect();
            let others: usize = texts.iter().map(Vec::len).sum::<usize>() - texts[index].len();
            let wanted = if others + len <= POOL_MAX {
                Ok(texts[index] != text)
            } else {
                Err(Errno::TOOBIG)
            };
            assert_eq!(plan.set_text(&mut slots[index].entry, &text), wanted, "round {round}");
            if wanted.is_ok() {
                texts[index] = text;
            } else {
                refusals += 1;
            }
        }
        plan.finish(&Faults::new(), false, &slots).expect("the entries");
        file = next;
        for (slot, text) in slots.iter().zip(&texts) {
            let mut read = Text::new();
            read_text(&file, &slot.entry, &mut read).expect("a text");
            assert_eq!(read, text.as_slice(), "round {round}");
        }
    }
    assert!(refusals > rounds / 10, "the plan was never full");
    // The supervisor reads exactly what the reader knew, up to the last entry.
    for (slot, offset) in slots.iter().zip((ENTRIES..).step_by(size_of::<Record>())) {
        let mut record = Record::default();
        assert_eq!(pread(&file, record.as_flattened_mut(), offset), Ok(size_of::<Record>()));
        assert_eq!(Entry::decode(record), slot.entry);
    }
    let end = ENTRIES + ((SERVICES_MAX + 1) * size_of::<Record>()) as u64;
    assert_eq!(pread(&file, &mut [0; 1][..], end), Ok(0));
}

/// All texts can change at once, even if they take all the room there is. One that changes a second
/// time has to wait for the next plan, and what follows the texts stays intact.
fn a_plan_has_room_for_a_change_of_every_text() {
    let (old, new) = (memory(), memory());
    let mut slots = table_of(POOL_MAX / TEXT_MAX);
    let text = |index: usize, byte: u8| {
        let mut text = vec![byte; TEXT_MAX];
        text[0] = index.try_into().unwrap();
        text
    };
    let mut plan = Plan::new(&old);
    for index in 1..slots.len() {
        let entry = &mut slots[index].entry;
        assert_eq!(plan.set_text(entry, &text(index, b'a')), Ok(true));
    }
    plan.finish(&Faults::new(), false, &slots).expect("the entries");
    let mut plan = Plan::new(&new);
    plan.take_over(&old, &mut slots).expect("the texts");
    for index in 1..slots.len() {
        let entry = &mut slots[index].entry;
        assert_eq!(plan.set_text(entry, &text(index, b'b')), Ok(true));
    }
    assert_eq!(plan.set_text(&mut slots[1].entry, &text(1, b'c')), Err(Errno::TOOBIG));
    let told: Faults = [[1, 2, 3, 4]].into_iter().collect();
    plan.finish(&told, false, &slots).expect("the entries");
    for index in 1..slots.len() {
        let mut read = Text::new();
        assert_eq!(read_text(&new, &slots[index].entry, &mut read), Ok(()));
        assert_eq!(read, text(index, b'b').as_slice());
    }
}

fn a_plan_remembers_reported_faults() {
    let (old, new) = (memory(), memory());
    let mut slots = table_of(1);
    let told: Faults = [[1, 2, 3, 4], [0, 0, 0, 1]].into_iter().collect();
    for is_first in [true, false] {
        Plan::new(&old).finish(&told, is_first, &slots).expect("a plan");
        let taken_over = Plan::new(&new).take_over(&old, &mut slots);
        assert_eq!(taken_over, Ok((told.clone(), is_first)));
    }
}

/// As after an entry that could not be read: its place now holds the text of another service.
fn an_entry_of_another_plan_has_no_text() {
    let (old, new, next) = (memory(), memory(), memory());
    let mut slots = table_of(2);
    let mut plan = Plan::new(&old);
    plan.set_text(&mut slots[1].entry, b"cmd=one\nuser=nobody\n").expect("room");
    slots[1].entry.flags = GOOD;
    let stale = slots[1].entry.clone();
    Plan::new(&new).set_text(&mut slots[2].entry, b"cmd=two\nuser=somebody\n").expect("room");
    let mut text = Text::new();
    assert_eq!(read_text(&old, &stale, &mut text), Ok(()));
    assert_eq!(text, b"cmd=one\nuser=nobody\n");
    assert_eq!(read_text(&new, &stale, &mut text), Err(Errno::BADMSG));
    assert_eq!(text, b"");
    // No text is this long, and none begins beyond the end of the file.
    let [start, len, hash] = stale.text;
    let endless = Entry { text: [start, u32::MAX, hash], ..stale.clone() };
    assert_eq!(read_text(&new, &endless, &mut text), Err(Errno::BADMSG));
    let beyond = Entry { text: [10_000, len, hash], ..stale };
    assert_eq!(read_text(&new, &beyond, &mut text), Err(Errno::BADMSG));
    // The next reader does not have the text until it reads the service file again.
    slots[1].entry = beyond;
    slots[2].entry.flags = GOOD;
    Plan::new(&next).take_over(&new, &mut slots).expect("what there is");
    assert_eq!(slots[1].entry.flags, 0);
    assert_eq!(slots[2].entry.flags, GOOD);
    assert_eq!(read_text(&next, &slots[1].entry, &mut text), Ok(()));
    assert_eq!(text, b"");
    assert_eq!(read_text(&next, &slots[2].entry, &mut text), Ok(()));
    assert_eq!(text, b"cmd=two\nuser=somebody\n");
}

/// Every entry survives being passed on, whatever it says.
fn entries_come_back() {
    let restart = prop::sample::select(vec![
        Restart::Always,
        Restart::Failure,
        Restart::Never,
        Restart::Exit,
    ]);
    let log = prop::option::of(1..=u16::try_from(SERVICES_MAX).unwrap());
    let policy = (restart, any::<u32>(), any::<u32>(), log);
    let policy = policy.prop_map(|(restart, stop, timeout_ms, log)| Policy {
        restart,
        stop,
        timeout_ms,
        log,
    });
    let entries = ("[a-zA-Z0-9_@-]{0,32}", policy, any::<[u32; 4]>());
    let property = |(name, policy, numbers): (String, Policy, [u32; 4])| {
        let name = name.as_str().try_into().unwrap();
        let [flags, text @ ..] = numbers;
        let entry = Entry { name, flags, policy, text };
        prop_assert_eq!(Entry::decode(encode(&entry)), entry);
        Ok(())
    };
    runner().run(&entries, property).unwrap();
}

/// Garbage causes no panic. Nothing more is required, because nobody else writes records.
fn no_record_upsets_an_entry() {
    let property = |record: Vec<[u8; 4]>| {
        let entry = Entry::decode(record.try_into().unwrap());
        prop_assert!(entry.name.len() <= NAME_MAX);
        Ok(())
    };
    let words = size_of::<Record>() / 4;
    runner().run(&prop::collection::vec(any::<[u8; 4]>(), words), property).unwrap();
}

/// Up only if the file is there, was good once and has not just changed, and the service is not
/// held down. Being logged to makes no difference.
fn what_the_files_want() {
    for flags in 0..32 {
        let wanted = match flags & (GONE | GOOD | HELD | EDITED) {
            GOOD => Want::Up,
            _ => Want::Down,
        };
        assert_eq!(Entry { flags, ..Entry::default() }.want(), wanted, "{flags:b}");
        assert_eq!(Entry { flags, ..Entry::default() }.has(LOGGED_TO), flags & LOGGED_TO != 0);
    }
}

/// The whole table in going(8). A signal that is not in it is ignored.
fn every_signal_in_every_place() {
    let meant = |number| match number {
        // INT, TERM
        2 | 15 => [true; 3],
        // USR1, USR2
        10 | 12 => [false, false, true],
        // PWR, RTMIN+3
        30 | 37 => [false, true, true],
        _ => [false; 3],
    };
    for number in 0..=255 {
        let places = [Place::Process, Place::Container, Place::Machine];
        let with = |has_main| places.map(|place| is_ending(number, place, has_main));
        assert_eq!(with(false), meant(number), "signal {number}");
        // A main command gets all of them except TERM for itself, unless they are for the whole
        // machine.
        let [_, _, machine] = meant(number);
        let is_term = number == 15;
        assert_eq!(with(true), [is_term, is_term, machine], "signal {number}");
        let meant = match number {
            2 | 15 => RebootCommand::Restart,
            10 => RebootCommand::Halt,
            _ => RebootCommand::PowerOff,
        };
        assert_eq!(command(number), meant, "signal {number}");
    }
}

fn status_lines() {
    let name = service_name(b"web@1").unwrap();
    let mut entry = Entry { name, flags: 0, ..Entry::default() };
    let mut service = known_at(1_000);
    assert_eq!(line(&entry, &service).to_string(), "web@1 rejected - 1000 0 - -\n");
    entry.flags |= GOOD;
    assert_eq!(line(&entry, &service).to_string(), "web@1 down - 1000 0 - -\n");
    let pid = Pid::new(321).unwrap();
    let mut step = |event, now_ms| {
        service.step(event, now_ms);
        line(&entry, &service).to_string()
    };
    step(Event::Tick(Want::Up), 1_500);
    let spawned = Event::Spawned(Some(pid), DEFAULT);
    assert_eq!(step(spawned, 1_500), "web@1 up 321 1500 1 - -\n");
    assert_eq!(step(FAILED, 2_000), "web@1 backoff - 2000 1 exit:1 3000\n");
    assert_eq!(step(spawned, 3_000), "web@1 up 321 3000 2 exit:1 -\n");
    assert_eq!(step(Event::Tick(Want::Drain), 3_100), "web@1 stopping 321 3100 2 exit:1 -\n");
    assert_eq!(step(Event::Tick(Want::Drain), 4_100), "web@1 stopping 321 4100 2 exit:1 -\n");
    assert_eq!(step(Event::Tick(Want::Kill), 4_100), "web@1 stopping 321 4100 2 exit:1 -\n");
    let killed = Event::Ended(End::Killed(9));
    assert_eq!(step(killed, 4_200), "web@1 down - 4200 2 signal:9 -\n");
    let once = Event::Spawned(Some(pid), Policy { restart: Restart::Never, ..DEFAULT });
    step(once, 5_000);
    assert_eq!(step(Event::Ended(End::Exited(0)), 5_001), "web@1 done - 5001 3 exit:0 -\n");
}
