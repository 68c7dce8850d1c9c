//! `--prometheus`: the status in the text exposition format, for a textfile collector.

use crate::proc;
use crate::rows::Row;
use crate::status::{End, Status};
use going::linux::clock;
use std::fmt::{Display, Write};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// The states that going has a word for.
const STATES: [&str; 6] = ["up", "down", "stopping", "backoff", "done", "rejected"];

/// A metric of services: its name, its kind, what it is, and its value where there is one.
type Metric = (&'static str, &'static str, &'static str, fn(&Row) -> Option<String>);

const METRICS: [Metric; 9] = [
    ("up", "gauge", "Whether the service is up.", |row| Some(flag(row.service.is_up()))),
    ("wanted", "gauge", "Whether it is not held down.", |row| Some(flag(!row.service.held))),
    ("since_seconds", "gauge", "Unix time at which it entered its state.", |row| {
        row.service.since_ms.map(unix_time)
    }),
    ("starts_total", "counter", "Processes started so far.", |row| text(row.service.starts)),
    ("last_exit_code", "gauge", "Exit code of the last process that exited.", |row| {
        text(row.service.end.as_ref().and_then(End::exit_code))
    }),
    ("last_signal", "gauge", "Signal that killed the last process that was killed.", |row| {
        text(row.service.end.as_ref().and_then(End::signal))
    }),
    ("next_start_seconds", "gauge", "Unix time of the next start, in backoff.", |row| {
        row.service.next_ms.map(unix_time)
    }),
    ("cpu_seconds_total", "counter", "Processor time of its process group.", |row| {
        row.usage.map(|usage| seconds(Duration::from_millis(usage.cpu_ms)))
    }),
    ("tasks", "gauge", "Threads of its process group.", |row| text(row.usage.map(|u| u.tasks))),
];

/// The metrics of all `rows`.
pub fn text_of(status: &Status, rows: &[Row]) -> String {
    let mut out = going_is(true);
    if let Some(since_ms) = status.since_ms {
        describe(&mut out, "going_start_time_seconds", "gauge", "Unix time of going's start.");
        add(&mut out, "going_start_time_seconds", "", unix_time(since_ms));
    }
    for (name, kind, what, value) in METRICS {
        let name = format!("going_service_{name}");
        describe(&mut out, &name, kind, what);
        for row in rows {
            if let Some(value) = value(row) {
                add(&mut out, &name, &format!("{{service={}}}", label(&row.service.name)), value);
            }
        }
    }
    describe(&mut out, "going_service_state", "gauge", "Which state the service is in.");
    describe_states(&mut out, rows);
    let what = "Memory of its process group, as Pss or else as RSS.";
    describe(&mut out, "going_service_memory_bytes", "gauge", what);
    for row in rows {
        let Some(usage) = row.usage else { continue };
        let kind = if usage.is_pss { "pss" } else { "rss" };
        let labels = format!("{{service={},kind=\"{kind}\"}}", label(&row.service.name));
        let bytes = usage.memory_kb.saturating_mul(1024);
        add(&mut out, "going_service_memory_bytes", &labels, bytes);
    }
    out
}

/// Whether going runs.
pub fn going_is(running: bool) -> String {
    let mut out = String::new();
    describe(&mut out, "going_up", "gauge", "Whether going runs.");
    add(&mut out, "going_up", "", u8::from(running));
    out
}

/// A sample for each known state, and one for the state of the service if it is not among them.
fn describe_states(out: &mut String, rows: &[Row]) {
    for row in rows {
        let state = row.service.state.as_str();
        let other = Some(state).filter(|state| !STATES.contains(state));
        for candidate in STATES.into_iter().chain(other) {
            let (service, shown) = (label(&row.service.name), label(candidate));
            let labels = format!("{{service={service},state={shown}}}");
            add(out, "going_service_state", &labels, u8::from(candidate == state));
        }
    }
}

fn describe(out: &mut String, name: &str, kind: &str, what: &str) {
    let _fits = writeln!(out, "# HELP {name} {what}\n# TYPE {name} {kind}");
}

fn add(out: &mut String, name: &str, labels: &str, value: impl Display) {
    let _fits = writeln!(out, "{name}{labels} {value}");
}

/// The value of a label, in quotes, with the three characters escaped that are special there.
fn label(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

fn flag(is_set: bool) -> String {
    u8::from(is_set).to_string()
}

fn text(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn seconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}

/// A moment of going's clock as Unix time. It has to be the same in each collection, unless the
/// clock is set, or it would look like a restart that never happened.
fn unix_time(moment_ms: u64) -> String {
    static BOOT: OnceLock<Duration> = OnceLock::new();
    let computed = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(Duration::from_millis(clock::now_ms()))
    };
    let boot = BOOT.get_or_init(|| proc::boot_time().unwrap_or_else(computed));
    seconds(boot.saturating_add(Duration::from_millis(moment_ms)))
}
