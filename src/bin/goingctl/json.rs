//! `--json`: the status as one object, which etc/status.schema.json describes.

use crate::rows::Row;
use crate::status::{End, Status};
use going::linux::clock;
use miniserde::{Serialize, json};

#[derive(Serialize)]
struct Document<'a> {
    format: &'a str,
    pid: Option<i32>,
    up_ms: Option<u64>,
    services: Vec<Object<'a>>,
}

#[derive(Serialize)]
struct Object<'a> {
    name: &'a str,
    state: &'a str,
    wanted: bool,
    pid: Option<i32>,
    since_ms: Option<u64>,
    for_ms: Option<u64>,
    starts: Option<u64>,
    restarts: Option<u64>,
    exit_code: Option<u8>,
    signal: Option<u8>,
    end: Option<String>,
    next_ms: Option<u64>,
    next_in_ms: Option<u64>,
    cpu_ms: Option<u64>,
    memory_kb: Option<u64>,
    memory_kind: Option<&'a str>,
    tasks: Option<u64>,
    command: Option<&'a str>,
    extra: &'a [String],
}

pub fn text(status: &Status, rows: &[Row]) -> String {
    let up_ms = status.since_ms.map(|since_ms| clock::now_ms().saturating_sub(since_ms));
    let services = rows.iter().map(object).collect();
    let document = Document { format: &status.version, pid: status.pid, up_ms, services };
    let text = json::to_string(&document);
    // DEL and the C1 controls: JSON need not escape them in strings, but a terminal obeys them.
    let show = |char: char| match char {
        '\x7f'..='\u{9f}' => format!("\\u{:04x}", u32::from(char)),
        _ => char.to_string(),
    };
    text.chars().map(show).chain(["\n".to_owned()]).collect()
}

fn object<'a>(row: &'a Row) -> Object<'a> {
    let (service, usage) = (row.service, row.usage.as_ref());
    let end = service.end.as_ref();
    Object {
        name: &service.name,
        state: &service.state,
        wanted: !service.held,
        pid: service.pid,
        since_ms: service.since_ms,
        for_ms: row.for_ms,
        starts: service.starts,
        restarts: service.restarts(),
        exit_code: end.and_then(End::exit_code),
        signal: end.and_then(End::signal),
        end: end.map(crate::amounts::end),
        next_ms: service.next_ms,
        next_in_ms: row.next_in_ms,
        cpu_ms: usage.map(|usage| usage.cpu_ms),
        memory_kb: usage.map(|usage| usage.memory_kb),
        memory_kind: usage.map(|usage| if usage.is_pss { "pss" } else { "rss" }),
        tasks: usage.map(|usage| usage.tasks),
        command: row.command.as_deref(),
        extra: &service.extra,
    }
}
