//! What the supervisors of the benchmark run, and what they are compared with: one static program
//! of a few kilobytes, so that the figures are theirs and not the program's.
//!
//! ```text
//! bench-service [FIFO [NUMBER [PIDFILE]]]       a service; with PIDFILE a daemon
//! bench-service --loop COUNT FIFO               the floor of a supervisor
//! bench-service --init CMD [ARG...]             the floor of a PID 1
//! bench-service --orphans once|singly COUNT FIFO    what a PID 1 has to reap
//! bench-service --lines COUNT SIZE FIFO         what a logger has to keep, SIZE bytes a write
//! ```
//!
//! A service takes the time before anything else, reports it to the benchmark, and stays; if the
//! FIFO is called `crash`, it exits 1 instead. Executed as `run`, it finds what it needs in its
//! working directory. So it is itself a run file, with no shell in between.
#![no_std]
#![no_main]
#![allow(unsafe_code, missing_docs)]

use core::ffi::CStr;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::time::Duration;
use going::linux::raw::{self, Strings};
use going::model::service::Pid;
use heapless::{String, Vec};
use linux_raw_sys::general::SIGTERM;
use rustix::event::{Timespec, pause, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read, write};
use rustix::pipe::pipe;
use rustix::process::{WaitOptions, getpid, setpgid, wait, waitpid};
use rustix::stdio::stdout;
use rustix::time::{ClockId, clock_gettime};

const SERVICES_MAX: usize = 256;
/// Time for the benchmark to look at PID 1.
const MOMENT_MS: u64 = 300;
/// Between two checks whether orphans are left.
const LOOK_MS: u64 = 1;
/// Time for the last one that has ended to become a zombie.
const QUIET_MS: u64 = 100;
/// The most that is written at once.
const BLOCK_MAX: usize = 65_536;
/// The number of a line, then its padding and its end: 100 bytes.
const DIGITS: usize = 10;
const PADDING: &[u8; 90] =
    b" The quick brown fox jumps over the lazy dog, and the lazy dog does not even open one eye\n";

/// The processes of the loop.
struct Memory([Option<Pid>; SERVICES_MAX]);

impl Memory {
    const fn new() -> Self {
        Self([None; SERVICES_MAX])
    }
}

going::program!(run, Memory);

fn run(words: Strings<'static>, memory: &'static mut Memory) -> u8 {
    let at_ns = now_ns();
    let mut rest = words;
    let program = rest.next().unwrap_or_default();
    let mut next = || rest.next();
    match next().map(CStr::to_bytes) {
        Some(b"--loop") => {
            let (count, fifo) = (number(next()), next().unwrap_or_default());
            repeat(program, count, fifo, memory)
        }
        Some(b"--init") => init(rest),
        Some(b"--orphans") => {
            let is_once = next() == Some(c"once");
            orphans(is_once, number(next()), next().unwrap_or_default())
        }
        Some(b"--lines") => {
            let (count, size) = (number(next()), number(next()));
            lines(count, size, next().unwrap_or_default())
        }
        _ => serve(words, at_ns),
    }
}

/// The service.
fn serve(mut words: Strings, at_ns: u64) -> u8 {
    let is_run_file = words.next().is_some_and(|word| word.to_bytes().ends_with(b"run"));
    // s6 gives a run file an argument, which is not for us.
    let Some(fifo) = words.next().filter(|_| !is_run_file) else {
        let mut digits = [0; 8];
        let file = open(c"id", OFlags::RDONLY, Mode::empty());
        let len = file.and_then(|file| read(file, &mut digits)).unwrap_or(0);
        let id = parse(digits.get(..len).unwrap_or_default());
        if !tell(c"fifo", id, at_ns) {
            tell(c"crash", id, at_ns);
            return 1;
        }
        return stay();
    };
    let id = number(words.next());
    if let Some(path) = words.next() {
        // A supervisor that asks for this file expects a daemon, which goes into the background.
        let daemon = raw::fork(|| {
            let file = open(path, OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC, Mode::RUSR);
            let mut text = String::<16>::new();
            let _fits = writeln!(text, "{}", getpid().as_raw_pid());
            let _written = file.and_then(|file| write(file, text.as_bytes()));
            raw::exit(be(fifo, id, at_ns).into())
        });
        return daemon.is_err().into();
    }
    be(fifo, id, at_ns)
}

/// Reports that it is there, and stays or crashes.
fn be(fifo: &CStr, id: u32, at_ns: u64) -> u8 {
    tell(fifo, id, at_ns);
    if fifo.to_bytes().ends_with(b"crash") {
        return 1;
    }
    stay()
}

fn stay() -> u8 {
    loop {
        pause();
    }
}

/// Forks, executes and waits, and nothing else: what no supervisor can beat.
fn repeat(program: &CStr, count: u32, fifo: &CStr, Memory(pids): &mut Memory) -> u8 {
    let count = usize::try_from(count).unwrap_or(0);
    let start = |id: usize| {
        let child = || {
            let mut text = Vec::<u8, 8>::new();
            let _fits = write_number(&mut text, id);
            let id = CStr::from_bytes_until_nul(&text).unwrap_or_default();
            let mut room = [None; 4];
            if let Some(words) = Strings::new(&mut room, &[program, fifo, id]) {
                raw::execve(program, words, raw::environ);
            }
            raw::exit(127)
        };
        raw::fork(child).ok()
    };
    for (id, pid) in pids.iter_mut().take(count).enumerate() {
        *pid = start(id);
    }
    while let Ok(Some((ended, _))) = wait(WaitOptions::empty()) {
        let is_it = |pid: &Option<Pid>| pid.is_some_and(|pid| pid == ended.as_raw_nonzero());
        let id = pids.iter().position(is_it);
        if let Some((id, pid)) = id.and_then(|id| Some((id, pids.get_mut(id)?))) {
            *pid = start(id);
        }
    }
    0
}

/// The smallest PID 1 that reaps: it starts a command and waits until there is no child left.
fn init(words: Strings) -> u8 {
    let _command = raw::fork(|| {
        let mut rest = words;
        raw::execve(rest.next().unwrap_or_default(), words, raw::environ);
        raw::exit(127)
    });
    while wait(WaitOptions::empty()).is_ok() {}
    0
}

/// Makes `count` orphans for PID 1 to reap, which have all ended already or end one after the
/// other. Reports that it is there, when it began and when all had been reaped, and stays.
fn orphans(is_once: bool, count: u32, fifo: &CStr) -> u8 {
    tell(fifo, 0, now_ns());
    sleep_ms(MOMENT_MS);
    let maker = raw::fork(|| {
        let _group = setpgid(None, None);
        let at_ns = now_ns();
        let at_ns = if is_once { have_ended(count) } else { end_singly(count).unwrap_or(at_ns) };
        tell(fifo, 1, at_ns);
        raw::exit(0)
    });
    let Ok(maker) = maker else { return 111 };
    let _reaped = waitpid(rustix::process::Pid::from_raw(maker.get()), WaitOptions::empty());
    // As long as there is a member, even a zombie, signal 0 can be sent to the group.
    while raw::kill(maker.get().wrapping_neg(), 0) >= 0 {
        sleep_ms(LOOK_MS);
    }
    tell(fifo, 2, now_ns());
    stay()
}

/// Makes children that end at once, reaps none, and waits until all have ended. Returns when that
/// was.
fn have_ended(count: u32) -> u64 {
    if let Ok((left, right)) = pipe() {
        for _ in 0..count {
            let _child = raw::fork(|| raw::exit(0));
        }
        drop(right);
        // End-of-file comes when no process has the other end open.
        let _end = read(left, &mut [0; 1]);
        sleep_ms(QUIET_MS);
    }
    now_ns()
}

/// Makes grandchildren whose parents end without reaping them. Returns when it began.
fn end_singly(count: u32) -> Option<u64> {
    let at_ns = now_ns();
    for _ in 0..count {
        let parent = raw::fork(|| {
            let _grandchild = raw::fork(|| raw::exit(0));
            raw::exit(0)
        });
        let parent = parent.ok()?;
        let parent = rustix::process::Pid::from_raw(parent.get());
        waitpid(parent, WaitOptions::empty()).ok()?;
    }
    Some(at_ns)
}

/// Writes numbered lines to standard output, in blocks that end wherever they are full. Reports
/// when it began and when it had written all.
// Inlined, its block would enlarge the frame of another function.
#[inline(never)]
fn lines(count: u32, size: u32, fifo: &CStr) -> u8 {
    let size = usize::try_from(size).unwrap_or(BLOCK_MAX).clamp(1, BLOCK_MAX);
    let mut block = Vec::<u8, BLOCK_MAX>::new();
    let mut digits = [b'0'; DIGITS];
    tell(fifo, 0, now_ns());
    for _ in 0..count {
        for part in [digits.as_slice(), PADDING] {
            let mut rest = part;
            while let Some((fits, more)) = rest.split_at_checked(size.saturating_sub(block.len())) {
                let _fits = block.extend_from_slice(fits);
                if !write_all(&block) {
                    return 1;
                }
                block.clear();
                rest = more;
            }
            let _fits = block.extend_from_slice(rest);
        }
        count_up(&mut digits);
    }
    let is_written = write_all(&block);
    tell(fifo, 1, now_ns());
    u8::from(!is_written)
}

/// The next number.
fn count_up(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit = digit.saturating_add(1);
            return;
        }
        *digit = b'0';
    }
}

fn write_all(mut bytes: &[u8]) -> bool {
    // SAFETY: this is only run with a standard output, and nothing here closes it.
    let output = unsafe { stdout() };
    while !bytes.is_empty() {
        match write(output, bytes) {
            Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Reports to the benchmark which service this is, and a time; returns whether there is a
/// benchmark.
fn tell(fifo: &CStr, id: u32, at_ns: u64) -> bool {
    let Ok(fifo) = open(fifo, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()) else {
        return false;
    };
    let mut record = [0; 16];
    let pid = getpid().as_raw_pid().unsigned_abs();
    let bytes = id.to_ne_bytes().into_iter().chain(pid.to_ne_bytes()).chain(at_ns.to_ne_bytes());
    for (to, from) in record.iter_mut().zip(bytes) {
        *to = from;
    }
    write(fifo, &record).is_ok()
}

fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |number: i64| number.unsigned_abs();
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}

fn sleep_ms(ms: u64) {
    let timeout = Timespec::try_from(Duration::from_millis(ms)).ok();
    let _nothing = poll(&mut [], timeout.as_ref());
}

fn number(word: Option<&CStr>) -> u32 {
    parse(word.unwrap_or_default().to_bytes())
}

fn parse(digits: &[u8]) -> u32 {
    str::from_utf8(digits).ok().and_then(|digits| digits.trim().parse().ok()).unwrap_or(0)
}

fn write_number(text: &mut Vec<u8, 8>, number: usize) -> core::fmt::Result {
    write!(text, "{number}\0")
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    raw::kill(getpid().as_raw_pid(), SIGTERM);
    raw::exit(111)
}
