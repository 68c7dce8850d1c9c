//! The world of a service: session, signals, descriptors, root, working directory, identity.
//!
//! Never starts a service with more rights than it should have: if a step that takes rights away
//! fails, it does not start.

use super::path::with_path;
use super::users::{self, User};
use super::{Birth, Failure, descriptors, output, set_up as failed, twin};
use crate::linux::raw;
use crate::linux::syslog::WARNING;
use crate::model::config::value;
use linux_raw_sys::general::{SIGPIPE, SIGXFSZ};
use rustix::io::Errno;
use rustix::process::{Signal, chdir, chroot, getpid, setpgid, setsid};
use rustix::process::{set_parent_process_death_signal, test_kill_process_group, umask};
use rustix::termios::{isatty, tcgetpgrp, tcsetpgrp};

/// Builds the world of `birth`, in the order that the steps depend on; fills in `user`.
///
/// Never inlined, like some of the steps, so that they use the same stack one after the other.
#[inline(never)]
pub fn set_up<'a>(birth: &Birth<'a>, user: &mut User) -> Result<(), Failure<'a>> {
    let name = birth.name.as_bytes();
    // From here on failures go to the syslogd of the old root.
    birth.syslog.connect();
    make_session(birth).map_err(failed("make a session for", name))?;
    if let Err(errno) = twin::be_the_only_one(birth) {
        let why = raw::reason(errno);
        let text = format_args!("{}: unable to write pid/{0} in RUNDIR: {why}", birth.name);
        birth.syslog.say(WARNING, text);
    }
    if birth.is_main {
        umask(birth.options.umask);
    }
    // These need the old root.
    output::connect(birth)?;
    users::look_up(birth, user)?;
    if !birth.is_main {
        // All but standard input, output and error: the supervisor may have inherited others.
        let closed = descriptors::close_from(3, true);
        closed.map_err(failed("close the descriptors of", name))?;
        if let Some(root) = value(birth.text, b"chroot") {
            with_path(&[root], |path| chroot(path)).map_err(failed("change the root to", root))?;
        }
    }
    users::become_user(user).map_err(failed("change the user of", name))?;
    // Only now, because a change of user resets it.
    let death = set_parent_process_death_signal(Some(Signal::TERM));
    death.map_err(failed("die with the supervisor of", name))?;
    if birth.is_orphan() {
        return Err(failed("outlive the supervisor of", name)(Errno::SRCH));
    }
    if !birth.is_main {
        // As the user, who may own a link on the way: it must not lead where the user may not go.
        let cwd = value(birth.text, b"cwd").unwrap_or(b"/");
        with_path(&[cwd], |path| chdir(path)).map_err(failed("change to", cwd))?;
    }
    // Discards signals that our own messages and files have caused: the service must not get them.
    for signal in [SIGPIPE, SIGXFSZ] {
        raw::set_ignored(signal, true);
        raw::set_ignored(signal, false);
    }
    // Last: a stop signal that has come meanwhile ends this process now, not half-way.
    raw::block_signals(0);
    Ok(())
}

/// Makes a session. But the main command, if it is on a terminal, gets just a process group and the
/// foreground of the terminal, because a new session would lose the terminal. It gets the
/// foreground only if that is ours to give, which it is not in the background of a shell.
fn make_session(birth: &Birth) -> Result<(), Errno> {
    if !birth.is_main || !isatty(raw::stdio(0)) {
        return setsid().map(|_| ());
    }
    let others = tcgetpgrp(raw::stdio(0)).ok().filter(|group| {
        let is_there = test_kill_process_group(*group) != Err(Errno::SRCH);
        is_there && raw::getpgid(0).is_some_and(|own| own != *group)
    });
    setpgid(None, None)?;
    if others.is_some() {
        return Ok(());
    }
    // Fails if the terminal is that of another session.
    let _kept = tcsetpgrp(raw::stdio(0), getpid());
    Ok(())
}
