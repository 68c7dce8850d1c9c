//! The only unsafe code: what rustix leaves to a libc, taken from musl, and the entry and exit of
//! the program. One call per block. Whatever can be checked is checked by the types of the safe
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

/// Arguments are passed to the kernel, and its structs are read, as on 64-bit machines.
const _: () = assert!(usize::BITS == 64, "going is for machines with 64 bits");

/// Bytes of the kernel's signal set.
const SET_LEN: usize = size_of::<u64>();

// SAFETY: these match the declarations in C. The functions marked safe take numbers, or write only
// to what they borrow; and nothing writes to the environment.
#[link(name = "c")]
unsafe extern "C" {
    safe fn __errno_location() -> &'static core::cell::Cell<c_int>;
    safe fn clock_gettime(clock: u32, time: &mut Timespec) -> c_int;
    safe fn strerror(errno: c_int) -> *const c_char;
    safe fn waitid(by: u32, id: c_int, info: &mut [u32; 32], options: u32) -> c_int;
    /// syscall(2). Each argument has to be as wide as a register.
    fn syscall(number: c_long, ...) -> c_long;

    /// _exit(2): ends the process at once.
    #[link_name = "_exit"]
    pub safe fn exit(code: c_int) -> !;
    /// environ(7): the environment that the program was started with, unchanged.
    pub safe static environ: Strings<'static>;
    /// getpgid(2): the process group of a process; 0 means this one. None if the group is in
    /// another PID namespace: the kernel then says 0, for which the function of rustix has no
    /// value.
    pub safe fn getpgid(pid: c_int) -> Option<rustix::process::Pid>;
    /// close(2), for descriptors that this program no longer uses.
    pub safe fn close(fd: RawFd) -> c_int;
    /// kill(2): sends `signal` to the process `pid`, or to the process group `-pid`. Returns -1 if
    /// there is none that we may signal.
    pub safe fn kill(pid: c_int, signal: u32) -> c_int;
}

/// Makes `$run` the program: a function that takes the words of the command line and a `$memory`,
/// and returns the exit code. The memory is static, for then pages that are never used cost
/// nothing; in a frame on the stack every page would be touched.
#[macro_export]
macro_rules! program {
    ($run:path, $memory:ty) => {
        // SAFETY: this is the function that the C start-up code calls, with a list of C strings
        // that ends with a null pointer and lives for ever.
        #[unsafe(no_mangle)]
        extern "C" fn main(_: i32, words: $crate::linux::raw::Strings<'static>) -> i32 {
            static mut MEMORY: $memory = <$memory>::new();
            // SAFETY: main is called once, so this is the only reference.
            let memory = unsafe { &mut *(&raw mut MEMORY) };
            $run(words, memory).into()
        }

        // The unwind tables of core refer to it; nothing here ever unwinds.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}
    };
}

/// C strings as execve(2) takes them: the rest of the command line, the environment, or a list of
/// our own.
///
/// Points into an array of pointers to C strings, which a null pointer ends. Neither the array nor
/// the strings change during the lifetime.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Strings<'a>(*const Option<NonNull<c_char>>, PhantomData<&'a CStr>);

impl<'a> Strings<'a> {
    /// Makes a list of all `strings` in `room`; none if they and the null pointer do not fit.
    pub fn new(room: &'a mut [Option<NonNull<c_char>>], strings: &[&'a CStr]) -> Option<Self> {
        let mut strings = strings.iter();
        room.fill_with(|| strings.next().map(|string| NonNull::from(*string).cast()));
        room.last()?.is_none().then_some(Self(room.as_ptr(), PhantomData))
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a CStr;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the array goes on up to the null pointer, and we never move past that.
        let string = unsafe { *self.0 }?;
        self.0 = self.0.wrapping_add(1);
        // SAFETY: it points to a C string that lives for 'a.
        Some(unsafe { CStr::from_ptr(string.as_ptr()) })
    }
}

/// Turns what a syscall returned, -1 if it failed, into a result.
fn result(value: c_long) -> Result<c_int, Errno> {
    // Looked at only after a failure: before the first one errno is 0, which `Errno` cannot hold.
    let errno = || Errno::from_raw_os_error(__errno_location().get());
    c_int::try_from(value).ok().filter(|value| *value >= 0).ok_or_else(errno)
}

/// fork(2), by the bare system call: clone(2) that shares nothing. What a libc does on top of it is
/// for threads and fork handlers, of which we have none, and would cost every child page faults.
/// The child runs `child`, and never returns.
///
/// # Errors
/// EAGAIN at a limit of processes, or ENOMEM. Then there is no child.
pub fn fork(child: impl FnOnce() -> core::convert::Infallible) -> Result<Pid, Errno> {
    let (number, flags) = (general::__NR_clone.into(), c_long::from(general::SIGCHLD));
    // SAFETY: there is only one thread, so no other can hold a lock that the child needs. The stack
    // argument is 0, so the child goes on with a copy of this stack.
    let forked = result(unsafe { syscall(number, flags, 0_u64, 0_u64, 0_u64, 0_u64) })?;
    Ok(Pid::new(forked).unwrap_or_else(|| match child() {}))
}

/// execve(2). Returns only if it has failed, and why.
pub fn execve(path: &CStr, argv: Strings, env: Strings) -> Errno {
    let number = general::__NR_execve.into();
    // SAFETY: the arguments are a C string, and two arrays of them that end with a null pointer.
    result(unsafe { syscall(number, path.as_ptr(), argv.0, env.0) }).err().unwrap_or(Errno::IO)
}

/// Blocks these `signals`, a bit each, and no others. KILL and STOP cannot be blocked.
pub fn block_signals(signals: u64) {
    let (number, how) = (general::__NR_rt_sigprocmask.into(), u64::from(general::SIG_SETMASK));
    // SAFETY: the set outlives the call, and the old one is not asked for. The call cannot fail,
    // because `how` is valid.
    unsafe { syscall(number, how, &raw const signals, 0_u64, SET_LEN) };
}

/// Ignores `signal`, which also discards a pending one, or gives it its default action. Without
/// effect for KILL and STOP.
pub fn set_ignored(signal: u32, is_ignored: bool) {
    // By the system call, because musl's sigaction(3) refuses the signals 32 to 34. A struct of
    // zeros is SIG_DFL without flags; 1 as its first field is SIG_IGN.
    let action = [u64::from(is_ignored), 0, 0, 0];
    let (number, signal) = (general::__NR_rt_sigaction.into(), u64::from(signal));
    // SAFETY: the kernel reads a struct sigaction, which is no longer than `action`, and writes
    // nothing. No handler is installed.
    unsafe { syscall(number, signal, &raw const action, 0_u64, SET_LEN) };
}

/// Closes all descriptors from `first` on, now or at the next execve(2).
///
/// # Errors
/// ENOSYS before Linux 5.9; EINVAL before 5.11 for `at_exec`; EPERM in a container whose seccomp
/// filter does not know the call.
pub fn close_from(first: u32, at_exec: bool) -> Result<(), Errno> {
    // CLOSE_RANGE_CLOEXEC is 4; linux-raw-sys does not have it.
    let (number, flags) = (general::__NR_close_range.into(), u64::from(at_exec) << 2);
    // SAFETY: the arguments are numbers, and no descriptor is closed that this program still uses.
    result(unsafe { syscall(number, u64::from(first), u64::from(u32::MAX), flags) }).map(drop)
}

/// Has the descriptor `fd`, if it is open, closed by the next execve(2).
pub fn close_at_exec(fd: RawFd) {
    let (number, fd) = (general::__NR_fcntl.into(), c_long::from(fd));
    let (set, flag) = (u64::from(general::F_SETFD), u64::from(general::FD_CLOEXEC));
    // SAFETY: the arguments are numbers, and the flag has no effect on this program.
    unsafe { syscall(number, fd, set, flag) };
}

/// Opens a descriptor from which all blocked signals can be read, see signalfd(2).
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM, ENODEV.
pub fn signal_descriptor() -> Result<OwnedFd, Errno> {
    let flags = u64::from(general::O_CLOEXEC | general::O_NONBLOCK);
    let (number, set) = (general::__NR_signalfd4.into(), u64::MAX);
    // SAFETY: the set outlives the call; -1 asks for a new descriptor.
    let fd = result(unsafe { syscall(number, -1_i64, &raw const set, SET_LEN, flags) })?;
    // SAFETY: the kernel has just opened it for us, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Finds a child that has ended, and how it has. It stays a zombie until it is reaped.
pub fn peek_ended_child() -> Option<(Pid, End)> {
    // A siginfo_t seen as 32-bit numbers, see sigaction(2). On 64-bit machines the fourth is
    // padding.
    let mut info = [0; 32];
    waitid(general::P_ALL, 0, &mut info, general::WEXITED | general::WNOHANG | general::WNOWAIT);
    // All stay 0 if no child has ended, or if there is no child (ECHILD).
    let [_, _, code, _, pid, _, number, ..] = info;
    let number = number.try_into().ok()?;
    let end = if code == general::CLD_EXITED { End::Exited(number) } else { End::Killed(number) };
    Pid::new(pid.cast_signed()).map(|pid| (pid, end))
}

/// The time of `clock`, a clock that exists. By way of musl, which uses the vDSO.
pub fn time(clock: u32) -> Duration {
    let mut time = Timespec { tv_sec: 0, tv_nsec: 0 };
    clock_gettime(clock, &mut time);
    Duration::try_from(time).unwrap_or_default()
}

/// Standard input, output or error: descriptor 0, 1 or 2.
pub fn stdio(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the programs make sure first of all that the three are open. Only a child that does
    // not use them any more closes them.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// What `errno` means, in words.
pub fn reason(errno: Errno) -> &'static str {
    // SAFETY: strerror(3) returns a C string; in musl it is one of a constant table.
    let text = unsafe { CStr::from_ptr(strerror(errno.raw_os_error())) };
    text.to_str().unwrap_or("unknown error")
}
