//! The only unsafe code: what rustix leaves to a libc, taken from musl, and the way in and out of
//! the program. One call a block; whatever can be checked is checked by the types of the safe
//! functions around it.

#![allow(unsafe_code)]

use crate::model::service::{End, Pid};
use core::ffi::{CStr, c_char, c_int, c_long};
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::time::Duration;
use linux_raw_sys::general;
use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Numbers are passed to the kernel, and its structs are read, as 64 bits have it.
const _: () = assert!(usize::BITS == 64, "going is for machines with 64 bits");

/// Bytes of a set of signals, as the kernel has it.
const SET_LEN: usize = size_of::<u64>();

// SAFETY: these are their declarations in C. Those that are called safe take numbers, or write
// nothing but what they are lent; and nobody writes to the environment.
#[link(name = "c")]
unsafe extern "C" {
    safe fn __errno_location() -> &'static core::cell::Cell<c_int>;
    safe fn clock_gettime(clock: u32, time: &mut Timespec) -> c_int;
    safe fn strerror(errno: c_int) -> *const c_char;
    safe fn waitid(by: u32, id: c_int, info: &mut [u32; 32], options: u32) -> c_int;
    /// Each argument is passed as long as a register.
    fn syscall(number: c_long, ...) -> c_long;

    /// _exit(2): ends the process without another thought.
    #[link_name = "_exit"]
    pub safe fn exit(code: c_int) -> !;
    /// environ(7): the environment, from the start to the end as the program has got it.
    pub safe static environ: Strings<'static>;
    /// The process group of a process, of this one for 0; none if that is of another PID namespace,
    /// where rustix sees a number that cannot be.
    pub safe fn getpgid(pid: c_int) -> Option<rustix::process::Pid>;
    /// close(2), of what this program does not use any more.
    pub safe fn close(fd: RawFd) -> c_int;
    /// kill(2): sends `signal` to the process `pid`, or to the group `-pid`; -1 if there is none
    /// that may be signalled.
    pub safe fn kill(pid: c_int, signal: u32) -> c_int;
}

/// Makes `$run` the program: a function that takes the words of the command line and a `$memory`,
/// and returns the exit code. The memory is static: what of it is never used costs nothing, while
/// of a frame on the stack every page is touched.
#[macro_export]
macro_rules! program {
    ($run:path, $memory:ty) => {
        // SAFETY: it is what the C start-up code calls, with a list of C strings that ends with a
        // null pointer, and stays.
        #[unsafe(no_mangle)]
        extern "C" fn main(_: i32, words: $crate::linux::raw::Strings<'static>) -> i32 {
            static mut MEMORY: $memory = <$memory>::new();
            // SAFETY: main is called once, so this is the only reference.
            let memory = unsafe { &mut *(&raw mut MEMORY) };
            $run(words, memory).into()
        }

        // Named by the tables of core, which is built to unwind; nothing here ever does.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}
    };
}

/// C strings as execve(2) takes them: the words of the command line from somewhere on, the
/// environment, or a list of our own.
///
/// Points to where each begins, up to one that is none; all stays as it is for the lifetime.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Strings<'a>(*const Option<NonNull<c_char>>, PhantomData<&'a CStr>);

impl<'a> Strings<'a> {
    /// Makes a list in `room` of all `strings`; none if they and the end do not fit.
    pub fn new(room: &'a mut [Option<NonNull<c_char>>], strings: &[&'a CStr]) -> Option<Self> {
        let mut strings = strings.iter();
        room.fill_with(|| strings.next().map(|string| NonNull::from(*string).cast()));
        room.last()?.is_none().then_some(Self(room.as_ptr(), PhantomData))
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a CStr;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the list goes on until the null pointer, which is never passed.
        let string = unsafe { *self.0 }?;
        self.0 = self.0.wrapping_add(1);
        // SAFETY: it is that of a C string that stays.
        Some(unsafe { CStr::from_ptr(string.as_ptr()) })
    }
}

/// The result of a syscall, which is -1 if it fails.
fn result(value: c_long) -> Result<c_int, Errno> {
    // No errno if it has not failed: that may be 0, which is none.
    let errno = || Errno::from_raw_os_error(__errno_location().get());
    c_int::try_from(value).ok().filter(|value| *value >= 0).ok_or_else(errno)
}

/// fork(2), as the kernel has it: clone(2) that shares nothing. What a libc does beside it is for
/// threads and handlers, which there are none of, and would cost each child page faults. The child
/// goes its own way, from which it does not come back.
///
/// # Errors
/// EAGAIN at a limit of processes, ENOMEM; then there is no child.
pub fn fork(child: impl FnOnce() -> core::convert::Infallible) -> Result<Pid, Errno> {
    let (number, flags) = (general::__NR_clone.into(), c_long::from(general::SIGCHLD));
    // SAFETY: there is one thread, so the child finds no lock held by another; without a stack of
    // its own it goes on with a copy of this one.
    let forked = result(unsafe { syscall(number, flags, 0_u64, 0_u64, 0_u64, 0_u64) })?;
    Ok(Pid::new(forked).unwrap_or_else(|| match child() {}))
}

/// execve(2). Returns why it failed.
pub fn execve(path: &CStr, argv: Strings, env: Strings) -> Errno {
    let number = general::__NR_execve.into();
    // SAFETY: a C string, and two lists of them that end with a null pointer.
    result(unsafe { syscall(number, path.as_ptr(), argv.0, env.0) }).err().unwrap_or(Errno::IO)
}

/// Blocks these `signals` of this thread, a bit each, and no others; those that cannot be blocked
/// stay as they are.
pub fn block_signals(signals: u64) {
    let (number, how) = (general::__NR_rt_sigprocmask.into(), u64::from(general::SIG_SETMASK));
    // SAFETY: the set lives through the call, and the old one is not asked for. It cannot fail:
    // the manner is right.
    unsafe { syscall(number, how, &raw const signals, 0_u64, SET_LEN) };
}

/// Has `signal` ignored, which also forgets one that came while it was blocked; or gives it
/// its default action. KILL and STOP refuse: they have no other.
pub fn set_ignored(signal: u32, is_ignored: bool) {
    // Past musl's sigaction(3), which refuses 32 to 34. All zero is SIG_DFL without flags, and a 1
    // in its place is SIG_IGN.
    let action = [u64::from(is_ignored), 0, 0, 0];
    let (number, signal) = (general::__NR_rt_sigaction.into(), u64::from(signal));
    // SAFETY: the kernel reads a struct sigaction, which is no longer than `action`, and writes
    // nothing; no handler is installed that could be called.
    unsafe { syscall(number, signal, &raw const action, 0_u64, SET_LEN) };
}

/// Closes all descriptors from `first` on, or has them closed at the next execve(2).
///
/// # Errors
/// ENOSYS before Linux 5.9, EINVAL before 5.11; EPERM in a container that does not know the call.
pub fn close_from(first: u32, at_exec: bool) -> Result<(), Errno> {
    // CLOSE_RANGE_CLOEXEC is 4; linux-raw-sys does not have it.
    let (number, flags) = (general::__NR_close_range.into(), u64::from(at_exec) << 2);
    // SAFETY: takes numbers, and closes nothing that this program still uses.
    result(unsafe { syscall(number, u64::from(first), u64::from(u32::MAX), flags) }).map(drop)
}

/// Has the descriptor `fd`, if it is open, closed at the next execve(2).
pub fn close_at_exec(fd: RawFd) {
    let (number, fd) = (general::__NR_fcntl.into(), c_long::from(fd));
    let (set, flag) = (u64::from(general::F_SETFD), u64::from(general::FD_CLOEXEC));
    // SAFETY: takes numbers, and changes nothing that this program sees.
    unsafe { syscall(number, fd, set, flag) };
}

/// A descriptor from which all signals are read, once they are blocked: signalfd(2).
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM, ENODEV.
pub fn signal_descriptor() -> Result<OwnedFd, Errno> {
    let flags = u64::from(general::O_CLOEXEC | general::O_NONBLOCK);
    let (number, set) = (general::__NR_signalfd4.into(), u64::MAX);
    // SAFETY: the set lives through the call; -1 asks for a new descriptor.
    let fd = result(unsafe { syscall(number, -1_i64, &raw const set, SET_LEN, flags) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A child that has ended, and how. It stays what it is, a zombie, until it is reaped.
pub fn peek_ended_child() -> Option<(Pid, End)> {
    // A siginfo_t seen as numbers, see sigaction(2); with 64 bits, the fourth is none.
    let mut info = [0; 32];
    waitid(general::P_ALL, 0, &mut info, general::WEXITED | general::WNOHANG | general::WNOWAIT);
    // All stays 0 when no child has ended, and when there is none (ECHILD).
    let [_, _, code, _, pid, _, number, ..] = info;
    let number = number.try_into().ok()?;
    let end = if code == general::CLD_EXITED { End::Exited(number) } else { End::Killed(number) };
    Pid::new(pid.cast_signed()).map(|pid| (pid, end))
}

/// The time of `clock`, which is one that there is, by way of musl, which has found the kernel's
/// fast path anyway.
pub fn time(clock: u32) -> Duration {
    let mut time = Timespec { tv_sec: 0, tv_nsec: 0 };
    clock_gettime(clock, &mut time);
    Duration::try_from(time).unwrap_or_default()
}

/// Standard input, output or error: descriptor 0, 1 or 2.
pub fn stdio(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: `bin/` sees to it first of all that the three are open, and nobody closes them.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// What `errno` means, in words.
pub fn reason(errno: Errno) -> &'static str {
    // SAFETY: strerror(3) returns a C string, in musl one of a constant table.
    let text = unsafe { CStr::from_ptr(strerror(errno.raw_os_error())) };
    text.to_str().unwrap_or("unknown error")
}
