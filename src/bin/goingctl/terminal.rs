//! The terminal: whether there is one, how wide it is, and its keys.

use anstyle::{AnsiColor, Style};
use going::linux::raw::stdio;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::{fcntl_dupfd_cloexec, read};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetwinsize,
    tcsetattr,
};
use std::env;

/// Columns and lines of the terminal on standard output. None if that is not a terminal.
pub fn size() -> Option<(usize, usize)> {
    if !isatty(stdio(1)) {
        return None;
    }
    let size = tcgetwinsize(stdio(1)).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    Some(size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into())))
}

/// Whether to use colours: on a terminal that is not dumb, unless NO_COLOR is set and not empty,
/// see no-color.org.
pub fn has_colours() -> bool {
    let is_refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    size().is_some() && !is_refused && !is_dumb()
}

/// Whether the terminal understands no escape sequences.
pub fn is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|value| value == "dumb")
}

/// How to show a state.
pub fn style(state: &str, is_held: bool) -> Style {
    let colour = match state {
        "up" => AnsiColor::Green,
        "backoff" | "rejected" => AnsiColor::Red,
        "stopping" => AnsiColor::Yellow,
        "down" if !is_held => AnsiColor::Red,
        _ => return Style::new().dimmed(),
    };
    Style::new().fg_color(Some(colour.into()))
}

/// A key that means something.
pub enum Key {
    Quit,
    Up,
    Down,
}

/// The keyboard, without echo and line editing. Dropping it restores the terminal.
pub struct Keys {
    pub fd: OwnedFd,
    before: Termios,
}

impl Keys {
    /// None if standard input is not a terminal.
    pub fn open() -> Option<Self> {
        let before = tcgetattr(stdio(0)).ok()?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        let fd = fcntl_dupfd_cloexec(stdio(0), 3).ok()?;
        tcsetattr(stdio(0), OptionalActions::Flush, &modes).ok()?;
        Some(Self { fd, before })
    }

    /// The keys pressed by now; does not wait.
    pub fn pressed(&self) -> Vec<Key> {
        let now = Timespec::default();
        if poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&now)).unwrap_or(0) == 0 {
            return Vec::new();
        }
        let mut bytes = [0; 64];
        let len = read(&self.fd, &mut bytes).unwrap_or(0);
        let mut rest = bytes.get(..len).unwrap_or_default();
        let mut keys = Vec::new();
        while let Some((&first, behind)) = rest.split_first() {
            let arrow = [b"\x1b[", b"\x1bO"].iter().find_map(|begin| rest.strip_prefix(*begin));
            rest = arrow.and_then(|arrow| arrow.get(1..)).unwrap_or(behind);
            match arrow.and_then(|arrow| arrow.first()) {
                Some(b'A') => keys.push(Key::Up),
                Some(b'B') => keys.push(Key::Down),
                None if matches!(first, b'q' | b'Q') => keys.push(Key::Quit),
                _ => {}
            }
        }
        // A terminal that is gone can always be read, but yields nothing.
        if len == 0 {
            keys.push(Key::Quit);
        }
        keys
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _gone = tcsetattr(stdio(0), OptionalActions::Flush, &self.before);
    }
}
