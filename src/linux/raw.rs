//! The only unsafe code: what rustix leaves to a libc, taken from musl, and the way in and out of
//! the program. One call a block; whatever can be checked is checked by the types of the safe
//! functions around it.

#![allow(unsafe_code)]

use crate::model::service::Pid;
use core::convert::Infallible;
use core::ffi::{CStr, c_char, c_int, c_long};
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::{null, null_mut};
use core::time::Duration;
use linux_raw_sys::general;
use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::process;
use rustix::time::Timespec;

/// A siginfo_t seen as numbers.
type SignalInfo = [c_int; size_of::<general::siginfo_t>() / 4];

/// Where in it the number of the child is.
const SI_PID: usize =
    offset_of!(general::siginfo, __bindgen_anon_1.__bindgen_anon_1._sifields._sigchld._pid) / 4;
/// Of close_range(2); linux-raw-sys does not have it.
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;
/// Bytes of a set of signals, as the kernel has it.
const SET_LEN: usize = size_of::<u64>();

#[link(name = "c")]
unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
    #[link_name = "_exit"]
    fn exit_(code: c_int) -> !;
    fn clock_gettime(clock: u32, time: *mut Timespec) -> c_int;
    fn strerror(errno: c_int) -> *const c_char;
    /// Each argument is passed as long as a register.
    fn syscall(number: c_long, ...) -> c_long;
}

/// Makes `$run` the program: a function that takes the words of the command line, the environment
/// and a `$memory`, and returns the exit code. The memory is static: what of it is never used costs
/// nothing.
#[macro_export]
macro_rules! program {
    ($run:path, $memory:ty) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(
            _: i32,
            argv: *const *const core::ffi::c_char,
            env: *const *const core::ffi::c_char,
        ) -> i32 {
            static mut MEMORY: $memory = <$memory>::new();
            // SAFETY: the C start-up code calls main once, so this is the only reference.
            let memory = unsafe { &mut *(&raw mut MEMORY) };
            // SAFETY: it passes lists of C strings that end with a null pointer, and stay.
            let words = unsafe { $crate::linux::raw::Strings::new(argv) };
            // SAFETY: so it does here.
            let environment = unsafe { $crate::linux::raw::Strings::new(env) };
            $run(words, environment, memory).into()
        }

        // Named by the tables of core, which is built to unwind; nothing here ever does.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}
    };
}

/// C strings as execve(2) takes them: the words of the command line from somewhere on, the
/// environment, or a list of our own.
#[derive(Clone, Copy)]
pub struct Strings<'a>(*const *const c_char, PhantomData<&'a CStr>);

impl<'a> Strings<'a> {
    /// All of a list.
    ///
    /// # Safety
    /// The list ends with a null pointer, the others in it are of C strings, and all stays as it is
    /// for the lifetime.
    pub const unsafe fn new(list: *const *const c_char) -> Self {
        Self(list, PhantomData)
    }

    /// Makes a list in `room` of all `strings`, each in the place of one that it `replaces`, or
    /// else behind all; none if there is no room.
    pub fn collect_in(
        room: &'a mut [*const c_char],
        strings: impl Iterator<Item = &'a CStr>,
        replaces: impl Fn(&CStr, &CStr) -> bool,
    ) -> Option<Self> {
        room.fill(null());
        // The last place is for the end.
        let _end = room.last()?;
        for string in strings {
            let others = Strings(room.as_ptr(), PhantomData);
            let index = others.take_while(|other| !replaces(string, other)).count();
            let (_end, places) = room.split_last_mut()?;
            *places.get_mut(index)? = string.as_ptr();
        }
        Some(Self(room.as_ptr(), PhantomData))
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a CStr;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the list goes on until the null pointer, which is never passed.
        let string = unsafe { *self.0 };
        if string.is_null() {
            return None;
        }
        self.0 = self.0.wrapping_add(1);
        // SAFETY: `new` was promised a C string that stays.
        Some(unsafe { CStr::from_ptr(string) })
    }
}

/// The result of a syscall, which is -1 if it fails.
fn result(value: c_long) -> Result<c_int, Errno> {
    // SAFETY: takes nothing, returns where this thread's errno is.
    let errno = unsafe { __errno_location() };
    // SAFETY: that place is valid as long as the thread is.
    let errno = || Errno::from_raw_os_error(unsafe { *errno });
    // No errno if it has not failed: that may be 0, which is none.
    c_int::try_from(value).ok().filter(|value| *value >= 0).ok_or_else(errno)
}

/// fork(2), as the kernel has it: clone(2) that shares nothing. What a libc does beside it is for
/// threads and handlers, which there are none of, and would cost each child page faults. The child
/// goes its own way, from which it does not come back.
///
/// # Errors
/// EAGAIN at a limit of processes, ENOMEM; then there is no child.
pub fn fork(child: impl FnOnce() -> Infallible) -> Result<Pid, Errno> {
    let (number, flags) = (general::__NR_clone.into(), c_long::from(general::SIGCHLD));
    // SAFETY: there is one thread, so the child finds no lock held by another; without a stack of
    // its own it goes on with a copy of this one.
    let forked = result(unsafe { syscall(number, flags, 0_u64, 0_u64, 0_u64, 0_u64) })?;
    Ok(Pid::new(forked).unwrap_or_else(|| match child() {}))
}

/// kill(2): sends `signal` to the process `pid`, or to the group `-pid`.
///
/// # Errors
/// EPERM if it must not be signalled, ESRCH if it is not there.
pub fn kill(pid: i32, signal: u32) -> Result<(), Errno> {
    let (number, pid) = (general::__NR_kill.into(), c_long::from(pid));
    // SAFETY: takes numbers, touches no memory of ours.
    result(unsafe { syscall(number, pid, u64::from(signal)) }).map(|_| ())
}

/// The process group of this process; none if that is of another PID namespace, where rustix sees
/// a number that cannot be.
pub fn own_group() -> Option<process::Pid> {
    // SAFETY: takes a number, touches no memory of ours.
    let group = result(unsafe { syscall(general::__NR_getpgid.into(), 0_u64) });
    process::Pid::from_raw(group.unwrap_or(0))
}

/// _exit(2): ends the process without another thought.
pub fn exit(code: u8) -> ! {
    // SAFETY: takes a number, touches no memory, has no return.
    unsafe { exit_(code.into()) }
}

/// execve(2). Returns why it failed.
pub fn execve(path: &CStr, argv: Strings, env: Strings) -> Errno {
    let number = general::__NR_execve.into();
    // SAFETY: a C string, and two lists of them that end with a null pointer.
    result(unsafe { syscall(number, path.as_ptr(), argv.0, env.0) }).err().unwrap_or(Errno::IO)
}

/// Blocks all signals of this thread, or none; those that cannot be blocked stay as they are.
#[inline(never)]
pub fn block_signals(all: bool) {
    let (number, how) = (general::__NR_rt_sigprocmask.into(), u64::from(general::SIG_SETMASK));
    let set = if all { u64::MAX } else { 0 };
    // SAFETY: the set lives through the call, and the old one is not asked for. It cannot fail:
    // the manner is right.
    unsafe { syscall(number, how, &raw const set, null_mut::<u64>(), SET_LEN) };
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
    unsafe { syscall(number, signal, &raw const action, null_mut::<u64>(), SET_LEN) };
}

/// Closes all descriptors from `first` on, or has them closed at the next execve(2): Linux 5.11.
///
/// # Errors
/// ENOSYS or EINVAL, where the kernel is older.
pub fn close_from(first: u32, at_exec: bool) -> Result<(), Errno> {
    let (number, last) = (general::__NR_close_range.into(), u64::from(u32::MAX));
    let flags = u64::from(if at_exec { CLOSE_RANGE_CLOEXEC } else { 0 });
    // SAFETY: takes numbers, and closes nothing that this program still uses.
    let closed = unsafe { syscall(number, u64::from(first), last, flags) };
    result(closed).map(|_| ())
}

/// A descriptor from which all signals are read, once they are blocked: signalfd(2).
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM, ENODEV.
pub fn signal_descriptor() -> Result<OwnedFd, Errno> {
    let flags = u64::from(general::O_CLOEXEC | general::O_NONBLOCK);
    let (number, new, set) = (general::__NR_signalfd4.into(), c_long::from(-1), u64::MAX);
    // SAFETY: the set lives through the call; -1 asks for a new descriptor.
    let fd = result(unsafe { syscall(number, new, &raw const set, SET_LEN, flags) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A child that has ended, left as the zombie it is: waitid(2) with WNOWAIT. rustix has that, too,
/// but not whose end it is.
pub fn peek_ended_child() -> Option<Pid> {
    let (number, all) = (general::__NR_waitid.into(), u64::from(general::P_ALL));
    let flags = u64::from(general::WEXITED | general::WNOHANG | general::WNOWAIT);
    let (mut info, usage) = (SignalInfo::default(), null_mut::<u64>());
    // SAFETY: the kernel writes a siginfo_t, which has the size of `info`, and nothing else.
    unsafe { syscall(number, all, 0_u64, &raw mut info, flags, usage) };
    // It stays 0 when no child has ended, and when there is none (ECHILD).
    Pid::new(*info.get(SI_PID)?)
}

/// The time of `clock`, which is one that there is, by way of musl, which has found the kernel's
/// fast path anyway.
pub fn time(clock: u32) -> Duration {
    let mut time = Timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is written once.
    unsafe { clock_gettime(clock, &raw mut time) };
    Duration::try_from(time).unwrap_or_default()
}

/// Standard input, output or error: descriptor 0, 1 or 2.
pub fn stdio(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: `bin/` sees to it first of all that the three are open, and nobody closes them.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// What `errno` means, in words.
pub fn reason(errno: Errno) -> &'static str {
    // SAFETY: takes a number; there is one thread, and no locale to translate into.
    let text = unsafe { strerror(errno.raw_os_error()) };
    // SAFETY: strerror(3) returns a C string, in musl one of a constant table.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("unknown error")
}
