//! The world that a service finds: session, signals, descriptors, directory.
//!
//! Never gives a service more than it is to have because something failed: then there is none.

use super::{Birth, Failure, set_up as failed, twin};
use crate::linux::raw;
use crate::linux::syslog::WARNING;
use crate::model::config::value;
use linux_raw_sys::general::_NSIG;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Signal, chdir, getppid, set_parent_process_death_signal, setsid, umask};
use rustix::stdio::dup2_stdin;

/// Builds the world of `birth`, in the order that the steps need.
pub fn set_up<'a>(birth: &Birth<'a>) -> Result<(), Failure<'a>> {
    let name = birth.name.as_bytes();
    setsid().map_err(failed("make a session for", name))?;
    umask(Mode::WGRP | Mode::WOTH);
    for signal in 1..=_NSIG {
        raw::reset_action(signal);
    }
    let only = birth.rundir.map(|rundir| twin::be_the_only_one(birth, rundir));
    if let Some(Err(errno)) = only {
        let why = raw::reason(errno);
        let text = format_args!("{}: unable to write pid/{0} in RUNDIR: {why}", birth.name);
        birth.log.say(WARNING, text);
    }
    open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|null| dup2_stdin(&null))
        .map_err(failed("open", b"/dev/null"))?;
    let cwd = value(birth.text, b"cwd").unwrap_or(b"/");
    chdir(cwd).map_err(failed("change to", cwd))?;
    raw::close_on_exec_from(3).map_err(failed("close the descriptors of", name))?;
    let death = set_parent_process_death_signal(Some(Signal::TERM));
    death.map_err(failed("die with the supervisor of", name))?;
    if getppid() != Some(birth.parent) {
        return Err(failed("outlive the supervisor of", name)(Errno::SRCH));
    }
    // Last: a stop signal that came in the meantime ends this process now, not half set up.
    raw::block_signals(false);
    // The lock on the pid file, if there is one, goes with execve(2).
    core::mem::forget(only);
    Ok(())
}
