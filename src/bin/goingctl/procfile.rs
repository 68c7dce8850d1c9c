//! Procfile and .env, as foreman reads them, and the conversion between a line of shell and `cmd`.
//!
//! Never opens a file, and never runs anything.

use crate::confdir;
use going::model::config::split_words;

/// A process type: `NAME: COMMAND`.
#[derive(Debug, PartialEq)]
pub struct Process {
    pub name: String,
    pub command: String,
}

/// What a file says, and the numbers, from 1, of the lines that could not be understood.
pub type Parsed<T> = (Vec<T>, Vec<usize>);

/// The process types of a Procfile, in order.
pub fn processes(text: &str) -> Parsed<Process> {
    parsed(text, |line| {
        let (name, command) = line.split_once(':')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let command = command.trim();
        let is_good = !name.is_empty() && name.chars().all(is_name) && !command.is_empty();
        let process = || Process { name: name.to_owned(), command: command.to_owned() };
        is_good.then(process)
    })
}

/// The variables of a .env, in order. Of two with the same name the later one wins.
pub fn variables(text: &str) -> Parsed<(String, String)> {
    let (all, faults) = parsed(text, |line| {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        is_variable(name).then(|| (name.to_owned(), unquoted(value)))
    });
    let mut variables: Vec<(String, String)> = Vec::new();
    for (name, value) in all {
        variables.retain(|(other, _)| *other != name);
        variables.push((name, value));
    }
    (variables, faults)
}

/// Whether a .env may set a variable of this name.
pub fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The numbers, from 1, of the lines of a .env whose value begins with a quote, but does not end
/// with it. Other programs may see a comment after the closing quote, or a value of several lines.
pub fn open_quotes(text: &str) -> Vec<usize> {
    let is_open = |line: &str| {
        let value = line.split_once('=').map_or("", |(_, value)| value);
        value.starts_with(['"', '\'']) && unquoted(value) == value
    };
    parsed(text, |line| (!is_open(line)).then_some(())).1
}

fn parsed<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Parsed<T> {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for (line, number) in text.lines().zip(1..) {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        match parse(line) {
            Some(one) => found.push(one),
            None => faults.push(number),
        }
    }
    (found, faults)
}

/// The value without its quotes. `'…'` is literal. In `"…"`, a backslash and n is a line feed, and
/// a backslash and any other character is that character.
fn unquoted(value: &str) -> String {
    let within = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(text) = within('\'') {
        return text.to_owned();
    }
    let Some(text) = within('"') else { return value.to_owned() };
    let (mut plain, mut chars) = (String::new(), text.chars());
    while let Some(char) = chars.next() {
        match if char == '\\' { chars.next() } else { None } {
            Some('n') => plain.push('\n'),
            Some(escaped) => plain.push(escaped),
            None => plain.push(char),
        }
    }
    plain
}

/// The value as it is written in a .env.
pub fn quoted(value: &str) -> String {
    let is_plain = !value.starts_with(['"', '\'']) && value.trim() == value;
    if is_plain { value.to_owned() } else { format!("\"{}\"", escaped(value)) }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// How many of each process type there are to be: `web=2,worker=1`. `all=N` is for types that are
/// not named. Its default is that of foreman: 1 without a formation, and 0 with one.
pub struct Formation {
    named: Vec<(String, usize)>,
    others: usize,
}

impl Formation {
    pub fn parse(text: Option<&str>) -> Option<Self> {
        let Some(text) = text else { return Some(Self { named: Vec::new(), others: 1 }) };
        let mut formation = Self { named: Vec::new(), others: 0 };
        for pair in text.split(',') {
            let (name, count) = pair.split_once('=')?;
            let (name, count) = (name.trim(), count.trim().parse().ok()?);
            match name {
                "all" => formation.others = count,
                _ => formation.named.push((name.to_owned(), count)),
            }
        }
        Some(formation)
    }

    pub fn count(&self, name: &str) -> usize {
        let named = self.named.iter().rfind(|(other, _)| other == name);
        named.map_or(self.others, |(_, count)| *count)
    }

    /// The names in the formation that are not among these processes.
    pub fn unknown(&self, processes: &[Process]) -> Vec<&str> {
        let names = self.named.iter().map(|(name, _)| name.as_str());
        names.filter(|name| !processes.iter().any(|process| process.name == *name)).collect()
    }
}

/// Characters that mean more to a shell than a part of a word.
const SHELL: &[char] =
    &['$', '`', '&', '|', ';', '<', '>', '(', ')', '*', '?', '[', ']', '{', '}', '~', '#', '!'];
/// Characters that may make a line more than one command.
const COMPOUND: &[char] = &['&', '|', ';', '(', ')', '`', '{', '}', '!'];
/// First words that belong to the shell and are not programs.
const BUILT_IN: [&str; 31] = [
    ".", ":", "alias", "break", "case", "cd", "command", "continue", "eval", "exec", "exit",
    "export", "for", "if", "local", "read", "readonly", "return", "set", "shift", "source", "time",
    "times", "trap", "type", "ulimit", "umask", "unset", "until", "wait", "while",
];

/// The characters of the command that may be special to a shell: all outside of quotes, but none in
/// `'…'` or after a backslash, and in `"…"` only those that begin an expansion.
fn bare(command: &str) -> String {
    let (mut bare, mut quote) = (String::new(), None);
    let mut chars = command.chars().peekable();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, '\'' | '"') => quote = Some(char),
            (Some(open), _) if open == char => quote = None,
            (None, '\\') => drop(chars.next()),
            // Not `\$`, which stays special: a shell removes the backslash, going does not.
            (Some('"'), '\\') => drop(chars.next_if(|next| matches!(next, '"' | '\\'))),
            (None, _) | (Some('"'), '$' | '`') => bare.push(char),
            _ => {}
        }
    }
    bare
}

/// Whether only a shell can run the command as it is meant.
fn needs_shell(command: &str) -> bool {
    let first = command.split_whitespace().next().unwrap_or("");
    let splits = split_words(command.as_bytes(), |_| Some(())).is_some();
    !splits || bare(command).contains(SHELL) || first.contains('=') || BUILT_IN.contains(&first)
}

/// Whether the command is a single program, which the shell may become by `exec`.
fn is_simple(command: &str) -> bool {
    let first = command.split_whitespace().next().unwrap_or("");
    let is_program = !first.contains('=') && !BUILT_IN.contains(&first);
    is_program && !without_variables(&bare(command)).replace(">&", ">").contains(COMPOUND)
}

/// The text without `${…}`, whose braces do not group commands.
fn without_variables(text: &str) -> String {
    let mut parts = text.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| match part.split_once('}') {
        Some((_, rest)) => plain + rest,
        None => plain + "{" + part,
    })
}

/// The `cmd` that does what the command does in a shell.
pub fn cmd(command: &str) -> String {
    if !needs_shell(command) {
        return command.to_owned();
    }
    let script = if is_simple(command) { format!("exec {command}") } else { command.to_owned() };
    let quoted = if script.contains('\'') {
        format!("\"{}\"", escaped(&script))
    } else {
        format!("'{script}'")
    };
    format!("/bin/sh -c {quoted}")
}

/// The line of shell that does what `cmd` does.
pub fn command(cmd: &str) -> Option<String> {
    let bytes = confdir::words(cmd.as_bytes())?;
    let text = String::from_utf8(bytes.strip_suffix(b"\0")?.to_vec()).ok()?;
    let words: Vec<_> = text.split('\0').collect();
    match words[..] {
        ["/bin/sh", "-c", script] => {
            // An `exec` is redundant only if `cmd` would add it again.
            let plain = script
                .strip_prefix("exec ")
                .filter(|plain| !plain.starts_with('-') && needs_shell(plain) && is_simple(plain));
            Some(plain.unwrap_or(script).to_owned())
        }
        _ if !needs_shell(cmd) => Some(cmd.to_owned()),
        _ => Some(words.iter().map(|word| word_of_shell(word)).collect::<Vec<_>>().join(" ")),
    }
}

fn word_of_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:,+@%=-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
