//! What /proc says about a process. Read only: nothing here signals or waits.

use nix::libc;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

/// The fields of /proc/PID/stat that scenarios ask for.
pub struct Stat {
    pub state: char,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
}

/// `None` if there is no such process, or no longer.
pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may itself contain blanks and parentheses.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        session: fields.next()?.parse().ok()?,
    })
}

/// A zombie has ended and is only waiting to be reaped.
pub fn is_running(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

pub fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Zombies included.
pub fn children(pid: i32) -> Vec<i32> {
    let has_parent = |&child: &i32| stat(child).is_some_and(|stat| stat.parent == pid);
    pids().into_iter().filter(has_parent).collect()
}

/// Children, their children and so on; zombies included. Reads /proc only once, because there may
/// be thousands.
pub fn descendants(pid: i32) -> Vec<i32> {
    let parents = pids().into_iter().filter_map(|child| Some((stat(child)?.parent, child)));
    let mut families: HashMap<i32, Vec<i32>> = HashMap::new();
    for (parent, child) in parents {
        families.entry(parent).or_default().push(child);
    }
    let mut found = families.remove(&pid).unwrap_or_default();
    let mut next = 0;
    while next < found.len() {
        found.extend(families.remove(&found[next]).unwrap_or_default());
        next += 1;
    }
    found
}

/// A line of /proc/PID/status; empty when the process is gone.
pub fn status(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// A number in /proc/PID/status, without its unit.
pub fn status_number(pid: i32, field: &str) -> u64 {
    let value = status(pid, field);
    let number = value.split_whitespace().next().and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("no number {field} in /proc/{pid}/status: {value:?}"))
}

/// The processor time it has used, in hundredths of a second; 0 if it is gone.
pub fn ticks(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    fields.take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// The open descriptors and what they refer to, in order.
pub fn descriptors(pid: i32) -> Vec<(i32, PathBuf)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).unwrap_or_default()))
        })
        .collect();
    found.sort();
    found
}

/// The words it was started with; none for a zombie.
pub fn arguments(pid: i32) -> Vec<String> {
    strings(&format!("/proc/{pid}/cmdline"))
}

pub fn environment(pid: i32) -> Vec<String> {
    strings(&format!("/proc/{pid}/environ"))
}

fn strings(path: &str) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let mut words: Vec<_> =
        bytes.split(|&byte| byte == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    // Each word ends in a NUL, the last one too.
    words.pop();
    words
}

/// Whether it is in ppoll(2) with no timeout, see proc_pid_syscall(5).
pub fn waits_for_ever(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let mut words = text.split_whitespace();
    let is_poll = words.next().and_then(|number| number.parse().ok()) == Some(libc::SYS_ppoll);
    // The third argument.
    is_poll && words.nth(2) == Some("0x0")
}

/// Whether a child of going has executed another program.
pub fn is_executed(pid: i32) -> bool {
    let parent = stat(pid).map_or(0, |stat| stat.parent);
    let program = |pid| fs::read_link(format!("/proc/{pid}/exe")).ok();
    program(pid) != program(parent)
}

/// Time since boot, the same for every process. In steps of 10 ms.
pub fn uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").expect("/proc is mounted");
    let seconds = text.split_whitespace().next().expect("two numbers");
    let (whole, hundredths) = seconds.split_once('.').expect("hundredths of a second");
    let number = |digits: &str| digits.parse::<u64>().expect("digits");
    number(whole) * 1000 + number(hundredths) * 10
}
