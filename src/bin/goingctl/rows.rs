//! What there is to show of a service: what going says of it, and what /proc and its file add.

use crate::confdir;
use crate::proc::{self, Usage};
use crate::status::Service;
use going::linux::clock;
use going::model::config::value;
use std::path::Path;

/// One service.
pub struct Row<'a> {
    pub service: &'a Service,
    /// How long it has been in its state.
    pub for_ms: Option<u64>,
    /// How long it is until the next start.
    pub next_in_ms: Option<u64>,
    /// What its whole process group uses.
    pub usage: Option<Usage>,
    /// The words of its process, or `cmd` of its file if they are not known.
    pub command: Option<String>,
}

/// A row for each of these services of `going`, as of now.
pub fn rows<'a>(going: Option<i32>, services: &[&'a Service], confdir: &Path) -> Vec<Row<'a>> {
    let now_ms = clock::now_ms();
    let pids: Vec<_> = services.iter().filter_map(|service| service.pid).collect();
    let usage = going.filter(|_| !pids.is_empty()).map(|going| proc::usage(going, &pids));
    let usage = usage.unwrap_or_default();
    // A process has the words of going until it executes its command.
    let not_yet = going.and_then(proc::command);
    let command = |pid: i32| proc::command(pid).filter(|words| Some(words) != not_yet.as_ref());
    let row = |&service: &&'a Service| {
        let usage = service.pid.and_then(|pid| Some((pid, *usage.get(&pid)?)));
        let command = usage.and_then(|(pid, _)| command(pid));
        Row {
            service,
            for_ms: service.since_ms.map(|since_ms| now_ms.saturating_sub(since_ms)),
            next_in_ms: service.next_ms.map(|next_ms| next_ms.saturating_sub(now_ms)),
            usage: usage.map(|(_, usage)| usage),
            command: command.or_else(|| configured(confdir, &service.name)),
        }
    };
    services.iter().map(row).collect()
}

/// The `cmd` of its file.
fn configured(confdir: &Path, name: &str) -> Option<String> {
    let text = confdir::text(confdir, name).ok()?;
    value(&text, b"cmd").map(|cmd| String::from_utf8_lossy(cmd).into_owned())
}
