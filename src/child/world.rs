//! The world that a service finds: session, signals, descriptors, root, directory, identity.
//!
//! Never gives a service more than it is to have because something failed: then there is none.

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

/// Builds the world of `birth`, in the order that the steps need; finds out who the `user` is.
///
/// Not inlined, as some other steps are not: the stack that one has used is there for the next.
#[inline(never)]
pub fn set_up<'a>(birth: &Birth<'a>, user: &mut User) -> Result<(), Failure<'a>> {
    let name = birth.name.as_bytes();
    // What fails from here on is said to the syslogd of the old root.
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
    // What needs the old root comes first.
    output::connect(birth)?;
    users::look_up(birth, user)?;
    if !birth.is_main {
        // All but standard input, output and error: what the supervisor was started with.
        let closed = descriptors::close_from(3, true);
        closed.map_err(failed("close the descriptors of", name))?;
        if let Some(root) = value(birth.text, b"chroot") {
            with_path(&[root], |path| chroot(path)).map_err(failed("change the root to", root))?;
        }
    }
    users::become_user(user).map_err(failed("change the user of", name))?;
    // It is forgotten at every change of user.
    let death = set_parent_process_death_signal(Some(Signal::TERM));
    death.map_err(failed("die with the supervisor of", name))?;
    if birth.is_orphan() {
        return Err(failed("outlive the supervisor of", name)(Errno::SRCH));
    }
    if !birth.is_main {
        // As the user, who may have put a link there: it is to lead nowhere that he may not go.
        let cwd = value(birth.text, b"cwd").unwrap_or(b"/");
        with_path(&[cwd], |path| chdir(path)).map_err(failed("change to", cwd))?;
    }
    // What our own messages and files have brought upon us is not meant for the service.
    for signal in [SIGPIPE, SIGXFSZ] {
        raw::set_ignored(signal, true);
        raw::set_ignored(signal, false);
    }
    // Last: a stop signal that came in the meantime ends this process now, not half set up.
    raw::block_signals(0);
    Ok(())
}

/// A session of its own; but the command of the command line, on a terminal, gets a group of its
/// own and the terminal: in another session it would lose that. The terminal only if it is ours to
/// give: in the background of a shell it is not.
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
    // It has no terminal after all if that is another session's.
    let _kept = tcsetpgrp(raw::stdio(0), getpid());
    Ok(())
}
