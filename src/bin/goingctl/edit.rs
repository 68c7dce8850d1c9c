//! edit: runs an editor on a copy of a service file, which replaces the file once it is good.

use crate::confdir::{
    self, MODE_CLOSED, MODE_OPEN, draft, normalise, rename_only, replace, resemble, target,
};
use crate::interrupt;
use crate::output::{EXIT_OK, Failure, fault, print, unable, warn};
use crate::regular;
use going::linux::raw;
use going::model::config::service_name;
use linux_raw_sys::general::{SIGINT, SIGQUIT};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// What a new file begins with.
const NEW: &[u8] = b"# See going(5).\ncmd=\n";
/// The mode of a new file, before the umask.
const MODE_NEW: u32 = 0o666;

/// Edits the file of one service, which is created if it does not exist.
pub fn edit(confdir: &Path, name: &str) -> Result<u8, Failure> {
    if service_name(name.as_bytes()).is_none() {
        return Err(fault(format!("not the name of a service: {name}")));
    }
    let file = confdir::file(confdir, name);
    let path = target(&file).map_err(unable(format!("edit {}", file.display())))?;
    let before = match regular::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        read => Some(read.map_err(unable(format!("read {}", path.display())))?),
    };
    let draft = copy(&path, before.is_none());
    let draft = draft.map_err(unable(format!("copy {} beside it", path.display())))?;
    let begin = before.as_deref().unwrap_or(NEW);
    match edit_until_good(name, &draft) {
        Ok(text) if text == begin => {
            let _none = fs::remove_file(&draft);
            print(format!("{name}: unchanged\n")).map(|()| EXIT_OK)
        }
        Ok(_) => {
            let what = unable(format!("rename {} to {}", draft.display(), path.display()));
            let placed = match &before {
                Some(before) => replace(&draft, &path, before),
                // Somebody has created and disabled the service meanwhile. It must not get a second
                // file.
                None if confdir::file(confdir, name) != file => Ok(false),
                None => rename_only(&draft, &path).map(|()| true),
            };
            match placed {
                Ok(true) => print(format!("{name}: saved\n")).map(|()| EXIT_OK),
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(what(error)),
                _ => {
                    let draft = draft.display();
                    Err(fault(format!("{name} was changed by somebody else; see {draft}")))
                }
            }
        }
        Err(Failure { code, text }) if regular::read(&draft).is_ok_and(|text| text != begin) => {
            let text = format!("{text}; nothing is changed, see {}", draft.display());
            Err(Failure { code, text })
        }
        Err(Failure { code, text }) => {
            let _none = fs::remove_file(&draft);
            Err(Failure { code, text: format!("{text}; nothing is changed") })
        }
    }
}

/// Makes a draft of the file, or of what a new file begins with.
fn copy(path: &Path, is_new: bool) -> io::Result<PathBuf> {
    let (draft, mut file) = draft(path, if is_new { MODE_NEW } else { MODE_CLOSED })?;
    let copied = resemble(&draft, path, MODE_OPEN).and_then(|()| {
        if is_new {
            return file.write_all(NEW);
        }
        let mut text = Vec::new();
        regular::open(path)?.read_to_end(&mut text)?;
        file.write_all(&text)
    });
    if copied.is_err() {
        let _none = fs::remove_file(&draft);
    }
    copied.map(|()| draft)
}

/// Has the draft edited until it is good or the user gives up. Returns its text.
fn edit_until_good(name: &str, draft: &Path) -> Result<Vec<u8>, Failure> {
    loop {
        run_editor(draft)?;
        let text = regular::read(draft).map_err(unable(format!("read {}", draft.display())))?;
        match normalise(name, &text) {
            Ok(_) => return Ok(text),
            Err(failure) if io::stdin().is_terminal() => {
                // A signal may end us now, so say where the draft is.
                warn(format!("{}; see {}", failure.text, draft.display()));
                print("Edit it again? [Y/n] ")?;
                let mut answer = String::new();
                let len = io::stdin().read_line(&mut answer).unwrap_or(0);
                if len == 0 || answer.trim_start().starts_with(['n', 'N']) {
                    return Err(failure);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Runs the editor. Its variable may contain options, so it is split by a shell, as is customary.
fn run_editor(draft: &Path) -> Result<(), Failure> {
    let mut given = ["VISUAL", "EDITOR"].into_iter().filter_map(env::var_os);
    // If it were only blanks, the shell would execute the draft.
    let editor = given.find(|editor| !editor.as_bytes().trim_ascii().is_empty());
    let editor = editor.unwrap_or("vi".into());
    let mut script = OsString::from("exec ");
    script.push(&editor);
    script.push(" \"$@\"");
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(script).arg("sh").arg(draft);
    let editor = editor.to_string_lossy();
    match wait_for(shell).map_err(unable(format!("run {editor}")))? {
        status if status.success() => Ok(()),
        status => Err(fault(format!("{editor} ended with {status}"))),
    }
}

/// Runs a command that uses the terminal. The keys that interrupt it are not meant for us, so we
/// ignore their signals, as system(3) does. The key that suspends it is meant for us, too.
fn wait_for(mut command: Command) -> io::Result<ExitStatus> {
    let before = interrupt::ignored().unwrap_or(0);
    let mut child = command.spawn()?;
    let keys = [SIGINT, SIGQUIT].into_iter().filter(|key| !interrupt::has(before, *key));
    keys.clone().for_each(|key| raw::set_ignored(key, true));
    let status = child.wait();
    keys.for_each(|key| raw::set_ignored(key, false));
    status
}
