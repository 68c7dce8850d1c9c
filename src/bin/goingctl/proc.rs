//! Reads /proc: what the processes of a service use, and whether a PID still belongs to the same
//! process. Never writes there.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

/// One clock tick of `/proc/PID/stat`; there are 100 a second wherever going runs.
const TICK_MS: u64 = 10;
/// Most files of /proc are shorter.
const PAGE_LEN: usize = 4096;
/// A command line may be of any length, but nobody wants to read more of it than this.
const FILE_LEN_MAX: u64 = 64 * 1024;

/// The fields of `/proc/PID/stat` that are of use here, see proc_pid_stat(5).
pub struct Stat {
    pub state: char,
    pub parent: i32,
    pub group: i32,
    /// Processor time of the process, and of its children that were waited for.
    pub cpu_ms: u64,
    pub threads: u64,
    /// When the process began, on the clock of the status.
    pub began_ms: u64,
}

/// Reads `/proc/PID/stat`. None if there is no such process, or it is hidden from us.
pub fn stat(pid: i32) -> Option<Stat> {
    let text = contents(pid, "stat")?;
    // The name is in parentheses, and may contain anything.
    let fields = str::from_utf8(text.rsplit(|&byte| byte == b')').next()?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
    let mut ticks = number(8)?;
    for _ in 0..3 {
        ticks = ticks.saturating_add(number(0)?);
    }
    let threads = number(2)?;
    let began_ms = number(1)?.saturating_mul(TICK_MS);
    let cpu_ms = ticks.saturating_mul(TICK_MS);
    Some(Stat { state, parent, group, cpu_ms, threads, began_ms })
}

/// When the machine was booted, as Unix time in whole seconds.
pub fn boot_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok().map(Duration::from_secs)
}

/// What a process group uses.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub cpu_ms: u64,
    pub tasks: u64,
    pub memory_kb: u64,
    /// Whether all the memory is Pss. If not, it is RSS for at least one of the processes.
    pub is_pss: bool,
}

/// What each of the main processes uses, together with the rest of its group. Those that are not,
/// or no longer, children of `going` are left out.
pub fn usage(going: i32, mains: &[i32]) -> HashMap<i32, Usage> {
    let tree = descendants(going, mains).unwrap_or_else(all);
    let is_child = |pid: &i32| tree.get(pid).is_some_and(|stat| stat.parent == going);
    let is_main = |pid: &&i32| mains.contains(pid) && is_child(pid);
    let mut found = HashMap::new();
    for (pid, stat) in &tree {
        // Between fork(2) and setsid(2) a main process is still in the group of going.
        let Some(main) = [pid, &stat.group].into_iter().find(is_main) else { continue };
        let usage = found.entry(*main).or_insert(Usage { is_pss: true, ..Usage::default() });
        let pss_kb = kilobytes(*pid, "smaps_rollup", "Pss:");
        let memory_kb = pss_kb.or_else(|| kilobytes(*pid, "status", "VmRSS:")).unwrap_or(0);
        usage.cpu_ms = usage.cpu_ms.saturating_add(stat.cpu_ms);
        usage.tasks = usage.tasks.saturating_add(stat.threads);
        usage.memory_kb = usage.memory_kb.saturating_add(memory_kb);
        // A zombie has no memory of either kind.
        usage.is_pss &= pss_kb.is_some() || stat.state == 'Z';
    }
    found
}

/// The descendants of `root`, which adopts orphans; the machine may have many more processes. None
/// if the kernel has no lists of children.
fn descendants(root: i32, mains: &[i32]) -> Option<HashMap<i32, Stat>> {
    let mut found = HashMap::new();
    let mut next = children(root, root)?;
    // The list may lack some children if an earlier one ends while it is read.
    next.extend(mains);
    while let Some(pid) = next.pop() {
        if found.contains_key(&pid) {
            continue;
        }
        let Some(stat) = stat(pid) else { continue };
        if stat.threads > 1 {
            // Each thread has children of its own.
            let threads = numbers(&format!("/proc/{pid}/task"));
            next.extend(threads.filter_map(|thread| children(pid, thread)).flatten());
        } else {
            next.extend(children(pid, pid).into_iter().flatten());
        }
        found.insert(pid, stat);
    }
    Some(found)
}

fn children(pid: i32, thread: i32) -> Option<Vec<i32>> {
    let text = String::from_utf8(contents(pid, &format!("task/{thread}/children"))?).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Every process there is.
fn all() -> HashMap<i32, Stat> {
    numbers("/proc").filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// The names in a directory that are numbers.
fn numbers(path: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The number after `key` in a file of the process.
fn kilobytes(pid: i32, file: &str, key: &str) -> Option<u64> {
    let text = contents(pid, file)?;
    let line = str::from_utf8(&text).ok()?.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// A file of the process, read in as few steps as possible, because there are many.
fn contents(pid: i32, file: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PAGE_LEN);
    let file = File::open(format!("/proc/{pid}/{file}")).ok()?;
    file.take(FILE_LEN_MAX).read_to_end(&mut bytes).ok().map(|_| bytes)
}

/// Whether a child of `going` has executed its command: until then it has the words of going.
pub fn is_executed(pid: i32, going: i32) -> bool {
    command(going).is_none_or(|words| command(pid) != Some(words))
}

/// The words of the process, separated by spaces. None if there is no such process or it has none.
pub fn command(pid: i32) -> Option<String> {
    let words = contents(pid, "cmdline")?;
    let words = words.strip_suffix(b"\0").unwrap_or(&words);
    let words: Vec<_> = words.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    Some(words.join(" ")).filter(|text| !text.is_empty())
}
