//! What /proc says about the supervising processes: which they are, and what they take. Read only.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What some processes take together.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub processes: usize,
    pub peak_kb: u64,
    pub rss_kb: u64,
    pub pss_kb: u64,
    pub switches: u64,
    pub cpu_ns: u64,
}

impl Usage {
    pub fn of(pids: &[i32]) -> Usage {
        let mut usage = Usage { processes: pids.len(), ..Usage::default() };
        for pid in pids {
            let status = read(&format!("/proc/{pid}/status"));
            usage.peak_kb += number(&status, "VmPeak:");
            usage.rss_kb += number(&status, "VmRSS:");
            usage.pss_kb += number(&read(&format!("/proc/{pid}/smaps_rollup")), "Pss:");
            for thread in entries(&format!("/proc/{pid}/task")) {
                let path = format!("/proc/{pid}/task/{thread}");
                let status = read(&format!("{path}/status"));
                usage.switches += number(&status, "voluntary_ctxt_switches:");
                usage.switches += number(&status, "nonvoluntary_ctxt_switches:");
                // The time on a processor comes first, to the nanosecond.
                let times = read(&format!("{path}/schedstat"));
                let cpu_ns = times.split_whitespace().next().and_then(|word| word.parse().ok());
                usage.cpu_ns += cpu_ns.unwrap_or(0_u64);
            }
        }
        usage
    }
}

/// `root` and its descendants, without those that execute `service`; parents before children.
pub fn supervisors(root: i32, service: &Path) -> Vec<i32> {
    let mut pids = tree(root);
    pids.retain(|pid| {
        let program = fs::read_link(format!("/proc/{pid}/exe"));
        // A kernel thread has none, and a zombie no longer has one.
        program.is_ok_and(|program| program != service || *pid == root)
    });
    pids
}

/// `root` and its descendants, zombies included; parents before children.
pub fn tree(root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in entries("/proc") {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut next) = (vec![root], 0);
    while next < found.len() {
        found.extend(children.remove(&found[next]).unwrap_or_default());
        next += 1;
    }
    found
}

/// The descriptors of a process: their numbers, and what they refer to.
pub fn descriptors(pid: i32) -> Vec<(i32, PathBuf)> {
    let dir = format!("/proc/{pid}/fd");
    let link = |fd| Some((fd, fs::read_link(format!("{dir}/{fd}")).ok()?));
    entries(&dir).into_iter().filter_map(link).collect()
}

/// The words of a process, for a message.
pub fn words(pid: i32) -> String {
    read(&format!("/proc/{pid}/cmdline")).replace('\0', " ")
}

fn parent(pid: i32) -> Option<i32> {
    let stat = read(&format!("/proc/{pid}/stat"));
    // The name is in parentheses and may itself contain blanks and parentheses.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// The entries of a directory that are numbers.
fn entries(path: &str) -> Vec<i32> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The number after the word that a line begins with.
fn number(text: &str, word: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// The text of a file; empty if it is not there, or no longer.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
