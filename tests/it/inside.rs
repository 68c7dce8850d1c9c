//! More of what this binary does as `it service VERB …`, mostly inside a machine or a container,
//! where going is PID 1.

use crate::harness::refuse_pidfds;
use crate::proc;
use crate::service::record;
use nix::libc;
use nix::sched::sched_yield;
use nix::sys::prctl;
use nix::sys::wait::waitpid;
use nix::unistd::{
    ForkResult, execv, fork, getpgrp, getpid, getppid, pause, pipe, tcgetpgrp, write,
};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Error, Read, stdin};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};
use std::ptr;
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(1);

/// Bytes of stack for a process that does next to nothing.
const STACK_LEN: usize = 4096;

/// Gives our parent `count` children that only wait, and then, for as long as `time` says, others
/// that end at once, as fast as possible. Records when a fifth of the time is over, and when all of
/// it is.
pub fn storm(directory: &str, name: &str, count: u64, time: Duration) {
    extern "C" fn wait(_: *mut libc::c_void) -> libc::c_int {
        loop {
            // SAFETY: no memory is involved.
            unsafe { libc::pause() };
        }
    }
    extern "C" fn end(_: *mut libc::c_void) -> libc::c_int {
        0
    }
    // They share our memory, so that the kernel has little to do for each; and they stay in our
    // process group, which ends with us.
    let shared = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS;
    let flags = shared | libc::CLONE_PARENT | libc::SIGCHLD;
    let mut stacks = vec![[0_u128; STACK_LEN / 16]; count.try_into().unwrap()];
    for stack in &mut stacks {
        let top = stack.as_mut_ptr_range().end.cast();
        // SAFETY: the stack is its own, and lives as long as this process does.
        let pid = unsafe { libc::clone(wait, top, flags, ptr::null_mut()) };
        if pid < 0 {
            // Fewer will do, if more are not allowed.
            break;
        }
    }
    let start = Instant::now();
    let mut blows = false;
    let mut stack = [0_u128; STACK_LEN / 16];
    while start.elapsed() < time {
        if !blows && start.elapsed() > time / 5 {
            record(directory, &format!("{name}.blows"), "");
            blows = true;
        }
        let top = stack.as_mut_ptr_range().end.cast();
        // SAFETY: we wait until it has no more use for the stack.
        unsafe { libc::clone(end, top, flags | libc::CLONE_VFORK, ptr::null_mut()) };
    }
    record(directory, &format!("{name}.over"), "");
    pause();
}

/// Uses up the memory that the kernel allows one user for pipes beyond the smallest size.
pub fn pipes(directory: &str, name: &str) {
    let mut pipes = Vec::new();
    loop {
        let (reader, writer) = pipe().expect("descriptors for all of them");
        // SAFETY: no memory is involved.
        let len = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 1 << 20) };
        if len < 0 {
            break;
        }
        pipes.push((reader, writer));
    }
    record(directory, &format!("{name}.starts"), "");
    pause();
}

/// Makes `count` orphans, one after another, and returns when each has become a child of PID 1 and
/// has been reaped there.
pub fn orphans(count: u64) {
    let (reader, writer) = pipe().expect("a pipe");
    for _ in 0..count {
        // SAFETY: there are no other threads.
        let parent = unsafe { fork() }.expect("room for a process");
        if let ForkResult::Parent { child } = parent {
            waitpid(child, None).expect("our own child");
            continue;
        }
        // SAFETY: as above.
        if unsafe { fork() }.expect("room for a process").is_child() {
            while getppid().as_raw() != 1 {
                sched_yield().expect("it never fails");
            }
            write(&writer, b".").expect("somebody reads");
        }
        // SAFETY: it returns nowhere.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut adopted = Vec::new();
    File::from(reader).read_to_end(&mut adopted).expect("a pipe that all others have closed");
    assert_eq!(adopted.len() as u64, count, "not all of them became children of PID 1");
    let start = Instant::now();
    let zombies = || proc::children(1).into_iter().filter(|&pid| !proc::is_running(pid)).count();
    while zombies() > 0 {
        if start.elapsed() > PATIENCE {
            println!("{} zombies", zombies());
            exit(1);
        }
        sleep(Duration::from_millis(5));
    }
}

/// As the first program that the kernel starts: removes all that the initramfs and the kernel have
/// made for it, and becomes the command.
pub fn bare(command: &[&str]) {
    // Not all of these need be there.
    let _none = fs::remove_file("/dev/console");
    for path in ["/dev", "/proc", "/run", "/etc", "/sys", "/root"] {
        let _none = fs::remove_dir(path);
        assert!(!Path::new(path).exists(), "{path}");
    }
    for number in 0..=2 {
        // SAFETY: nothing is read, written or said from here on.
        unsafe { libc::close(number) };
    }
    let words = command.iter().map(|word| CString::new(*word).expect("no NUL in a word"));
    let words: Vec<_> = words.collect();
    // If this fails, PID 1 ends, which the kernel reports.
    let _error = execv(&words[0], &words);
}

/// Becomes the command, on what seems to be a kernel before 5.3.
pub fn old(command: &[&str]) {
    let mut program = Command::new(command[0]);
    refuse_pidfds(program.args(&command[1..]));
    // If this fails, PID 1 ends, which the kernel reports.
    let _error = program.exec();
}

/// Ends by the signal or with the exit code `number`.
pub fn die(how: &str, number: i32) -> ! {
    if how == "signal" {
        prctl::set_dumpable(false).expect("a valid value");
        // musl refuses the signals that it keeps for itself, but nothing has changed those here.
        // SAFETY: no handler.
        unsafe { libc::signal(number, libc::SIG_DFL) };
        set_blocked(0);
        // SAFETY: no memory is involved.
        unsafe { libc::kill(getpid().as_raw(), number) };
        panic!("signal {number} does not end a process");
    }
    exit(number);
}

/// Both this process and a child in the same process group record each signal they get. Signal 64,
/// the last one there is, ends them with the exit code `code`.
pub fn note(directory: &str, name: &str, code: i32) -> ! {
    set_blocked(!0);
    // SAFETY: there are no other threads.
    let is_child = unsafe { fork() }.expect("room for a process").is_child();
    let name = if is_child { "child" } else { name };
    record(directory, &format!("{name}.ready"), &std::process::id().to_string());
    loop {
        let number = next_signal();
        if number == 64 {
            exit(code);
        }
        record(directory, &format!("{name}.signals"), &number.to_string());
    }
}

/// Sets the whole mask, including the signals that musl keeps for itself.
fn set_blocked(mask: u64) {
    let (old, length) = (ptr::null_mut::<u64>(), size_of::<u64>());
    // SAFETY: the mask outlives the call, and the old one is not asked for.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, old, length)
    };
    assert_eq!(result, 0, "{}", Error::last_os_error());
}

/// Waits for the next signal.
fn next_signal() -> i64 {
    let mask = u64::MAX;
    let (none, length) = (ptr::null_mut::<libc::c_void>(), size_of::<u64>());
    loop {
        // SAFETY: the mask outlives the call, which writes nothing.
        let number = unsafe {
            libc::syscall(libc::SYS_rt_sigtimedwait, &raw const mask, none, none, length)
        };
        // A stop and CONT interrupt the wait.
        if number > 0 {
            return number;
        }
    }
}

/// On a terminal: records whether this process group is in the foreground, and whether this process
/// leads it. If `manner` is `note`, it then records the signals from the terminal, until QUIT.
/// Otherwise signals have their default actions.
pub fn tty(directory: &str, name: &str, manner: &str) {
    let group = getpgrp();
    let is_foreground = tcgetpgrp(stdin()).is_ok_and(|foreground| foreground == group);
    let is_leader = group == getpid();
    record(directory, &format!("{name}.tty"), &format!("{is_foreground} {is_leader}"));
    if manner != "note" {
        println!("ready");
        return pause();
    }
    set_blocked(!0);
    println!("ready");
    loop {
        let number = next_signal();
        record(directory, &format!("{name}.signals"), &number.to_string());
        if number == libc::SIGQUIT.into() {
            exit(7);
        }
    }
}

/// Prints what a process inherits from its parent.
pub fn world() {
    // SAFETY: it cannot fail.
    println!("umask {:03o}", unsafe { libc::umask(0) });
    let own = getpid().as_raw();
    println!("directory {}", std::env::current_dir().expect("it exists").display());
    println!(
        "descriptors {:?}",
        proc::descriptors(own).iter().map(|(fd, _)| fd).collect::<Vec<_>>()
    );
    println!("blocked {}", proc::status(own, "SigBlk"));
    for (name, value) in std::env::vars() {
        println!("{name}={value}");
    }
    let input = std::io::read_to_string(stdin()).expect("open and readable");
    println!("input {input}");
}
