//! Invariants of the sources that no compiler checks: what must not occur where.
//!
//! Only code is searched. Comments, strings and characters are blanked out first, without moving
//! any line or column, so that a comment that names `unsafe` raises no alarm, and a quote in a
//! string hides none. The blanking itself is tested too.

use crate::needs::scenario;
use libtest_mimic::Trial;
use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 60;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(comments_and_literals_are_blanked),
        scenario!(words_are_found_whole),
        scenario!(functions_are_measured),
        scenario!(second_statements_are_seen),
        scenario!(the_model_knows_no_kernel),
        scenario!(unsafe_stands_in_one_file),
        scenario!(only_the_model_knows_states),
        scenario!(the_supervisor_has_no_heap_and_no_threads),
        scenario!(nothing_panics_on_purpose),
        scenario!(nothing_sleeps),
        scenario!(the_supervisor_waits_in_one_place),
        scenario!(lines_and_functions_are_short),
        scenario!(one_statement_a_line),
        scenario!(files_say_what_they_are_for),
        scenario!(no_module_is_named_after_nothing),
        scenario!(times_carry_their_unit),
    ]
}

/// One file below src/.
struct Source {
    /// Relative to the package.
    path: PathBuf,
    text: String,
    /// The text with comments and literals blanked, each line and column where it was.
    code: String,
}

impl Source {
    fn is_below(&self, directories: &[&str]) -> bool {
        directories.iter().any(|directory| self.path.starts_with(directory))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![root.join("src")];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let path = path.strip_prefix(root).expect("below the package").to_owned();
                found.push(Source { path, code: code(&text), text });
            }
        }
    }
    assert!(found.len() > 5, "these are not all: {}", found.len());
    found
}

/// Panics with one line for each fault.
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// `PATH:LINE: what`, for each line of code in which the closure finds a fault.
fn faults_of_lines(source: &Source, fault: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let lines = source.code.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let what = fault(line)?;
            Some(format!("{}:{}: {what}", source.path.display(), index + 1))
        })
        .collect()
}

/// None of the files that are meant has one of these words in its code.
fn assert_absent(words: &[&str], is_meant: impl Fn(&Source) -> bool) {
    let meant: Vec<_> = sources().into_iter().filter(is_meant).collect();
    assert!(!meant.is_empty(), "nothing to search in");
    let search = |line: &str| {
        let word = words.iter().find(|word| has_word(line, word))?;
        Some(format!("`{word}`"))
    };
    assert_none(&meant.iter().flat_map(|file| faults_of_lines(file, search)).collect::<Vec<_>>());
}

// The invariants.

/// The model decides on bytes, numbers and enums, without a kernel.
fn the_model_knows_no_kernel() {
    let model = ["src/model"];
    let kernel = ["rustix", "libc", "unsafe", "extern"];
    assert_absent(&kernel, |source| source.is_below(&model));
}

fn unsafe_stands_in_one_file() {
    assert_absent(&["unsafe"], |source| !source.is_below(&["src/linux/raw.rs"]));
}

/// The code that acts does not decide.
fn only_the_model_knows_states() {
    assert_absent(&["State"], |source| source.is_below(&["src/linux", "src/child"]));
}

/// Nor has goinglog. goingctl is an ordinary program.
fn the_supervisor_has_no_heap_and_no_threads() {
    let tools = ["src/bin/goingctl"];
    assert_absent(&["std", "alloc"], |source| !source.is_below(&tools));
}

/// PID 1 must never panic.
fn nothing_panics_on_purpose() {
    let words = ["panic", "todo", "unimplemented", "unreachable", "unwrap", "expect"];
    let is_called = |line: &str, word: &str| {
        let mut rest = line;
        while let Some(at) = find_word(rest, word) {
            let (before, after) = (&rest[..at], &rest[at + word.len()..]);
            if after.starts_with('!') || (before.ends_with('.') && after.starts_with('(')) {
                return true;
            }
            rest = after;
        }
        false
    };
    let search = |line: &str| {
        let word = words.iter().find(|word| is_called(line, word))?;
        Some(format!("`{word}`"))
    };
    let faults =
        sources().iter().flat_map(|file| faults_of_lines(file, search)).collect::<Vec<_>>();
    assert_none(&faults);
}

/// The loop's poll is the only place to wait.
fn nothing_sleeps() {
    let words = ["sleep", "nanosleep", "clock_nanosleep", "usleep", "pause", "sigsuspend"];
    assert_absent(&words, |_| true);
}

/// No call may wait, except in `Signals::wait`, and in a panic, after which nothing else happens.
fn the_supervisor_waits_in_one_place() {
    let own = ["src/linux", "src/bin/going"];
    let place = ["src/linux/signals.rs"];
    let waits = ["ppoll", "epoll", "select", "pselect", "futex", "sync", "fsync", "fdatasync"];
    assert_absent(&waits, |source| source.is_below(&own));
    let search = |line: &str| {
        let is_panic = line.contains("poll(&mut [], None)");
        let is_poll = has_word(line, "poll") && !is_panic;
        let is_wait = has_word(line, "waitpid") && line.contains('(') && !line.contains("NOHANG");
        let is_lock = line.contains("FlockOperation::") && !line.contains("NonBlocking");
        (is_poll || is_wait || is_lock).then(|| line.trim().to_owned())
    };
    let is_meant = |source: &Source| source.is_below(&own) && !source.is_below(&place);
    let sources: Vec<_> = sources().into_iter().filter(is_meant).collect();
    assert_none(&sources.iter().flat_map(|file| faults_of_lines(file, search)).collect::<Vec<_>>());
}

fn lines_and_functions_are_short() {
    let mut faults = Vec::new();
    for source in sources() {
        let path = source.path.display();
        for (index, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                faults.push(format!("{path}:{}: {columns} columns", index + 1));
            }
        }
        for function in functions(&source.code) {
            if function.lines > FUNCTION_LINES_MAX {
                let Function { name, line, lines } = function;
                faults.push(format!("{path}:{line}: {name} has {lines} lines"));
            }
        }
    }
    assert_none(&faults);
}

fn one_statement_a_line() {
    let mut faults = Vec::new();
    for source in sources() {
        let path = source.path.display();
        let lines = second_statements(&source.code);
        faults.extend(lines.into_iter().map(|line| format!("{path}:{line}: two statements")));
    }
    assert_none(&faults);
}

fn files_say_what_they_are_for() {
    let mut silent = sources();
    silent.retain(|source| !source.text.starts_with("//! "));
    assert_none(&silent.iter().map(|source| source.path.display().to_string()).collect::<Vec<_>>());
}

fn no_module_is_named_after_nothing() {
    let banned = ["util", "utils", "misc", "common", "helper", "helpers", "types"];
    let mut faults = Vec::new();
    for source in sources() {
        let parts = source.path.with_extension("");
        let is_banned = parts.iter().any(|part| banned.iter().any(|word| part == *word));
        if is_banned {
            faults.push(format!("{}: its name", source.path.display()));
        }
        faults.extend(faults_of_lines(&source, |line| {
            let (_, name) = line.split_once("mod ")?;
            let name = name.split(|c: char| !is_word(c)).next()?;
            banned.contains(&name).then(|| format!("mod {name}"))
        }));
    }
    assert_none(&faults);
}

/// The name of a constant for a time ends in its unit, or in _MAX for a limit.
fn times_carry_their_unit() {
    let times = [
        "AGE", "BACKOFF", "DEADLINE", "DELAY", "DELAYS", "GRACE", "INTERVAL", "PERIOD", "QUIET",
        "RETRY", "STABLE", "TIME", "TIMEOUT", "UPTIME", "WAIT",
    ];
    let search = |line: &str| {
        let (_, rest) = line.split_once("const ")?;
        let name = rest.split(|c: char| !is_word(c)).next()?;
        let is_time = name.split('_').any(|part| times.contains(&part));
        let has_unit = name.ends_with("_MS") || name.ends_with("_MAX");
        (is_time && !has_unit).then(|| format!("{name} without _MS"))
    };
    let faults =
        sources().iter().flat_map(|file| faults_of_lines(file, search)).collect::<Vec<_>>();
    assert_none(&faults);
}

// Just enough parsing of Rust.

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` occurs as a whole word.
fn find_word(line: &str, word: &str) -> Option<usize> {
    let is_whole = |&(at, _): &(usize, &str)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    };
    line.match_indices(word).find(is_whole).map(|(at, _)| at)
}

fn has_word(line: &str, word: &str) -> bool {
    find_word(line, word).is_some()
}

/// The text with comments, strings and characters blanked: each of their characters, quotes
/// included, becomes a blank, and every line end stays.
fn code(text: &str) -> String {
    let mut rest: &str = text;
    let mut code = String::with_capacity(text.len());
    let mut last = ' ';
    while let Some(first) = rest.chars().next() {
        // An `r` at the end of a word begins no raw string.
        let prefixed = || if is_word(last) { None } else { prefixed(rest) };
        let blank = comment(rest).or_else(|| quoted(rest)).or_else(prefixed);
        let (taken, rest_of_text) = rest.split_at(blank.unwrap_or(first.len_utf8()));
        if blank.is_some() {
            code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            last = ' ';
        } else {
            code.push(first);
            last = first;
        }
        rest = rest_of_text;
    }
    code
}

/// The length of the comment that begins here.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let here = &text[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// The length of the string or character, without a prefix, that begins here; a lifetime is
/// neither.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut inner = text.char_indices().skip(1);
    if quote == '\'' {
        // `'a'` and `'\…'` are characters, `'a` and `'static` are not.
        let (_, first) = inner.next()?;
        let (next_at, next) = inner.next()?;
        if first != '\\' {
            return (next == '\'').then_some(next_at + 1);
        }
        // The escaped character may itself be a quote; it has been taken as `next`.
        return inner.find(|&(_, c)| c == '\'').map(|(at, _)| at + 1);
    }
    while let Some((at, c)) = inner.next() {
        match c {
            '"' => return Some(at + 1),
            '\\' => drop(inner.next()),
            _ => {}
        }
    }
    Some(text.len())
}

/// The length of the literal with a prefix, `b"…"`, `c"…"`, `b'…'`, `r#"…"#` and so on, that
/// begins here.
fn prefixed(text: &str) -> Option<usize> {
    for prefix in ["b", "c"] {
        if let Some(length) = text.strip_prefix(prefix).and_then(quoted) {
            return Some(prefix.len() + length);
        }
    }
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        let rest = text.strip_prefix(prefix).map(|rest| rest.trim_start_matches('#'));
        rest.is_some_and(|rest| rest.starts_with('"'))
    })?;
    let hashes = text[prefix.len()..].find('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = prefix.len() + hashes + 1;
    Some(text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len()))
}

/// A function with a body.
#[derive(Debug, PartialEq)]
struct Function {
    name: String,
    /// The line of `fn`.
    line: usize,
    /// How many lines it has, from there to the last brace.
    lines: usize,
}

fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = find_word(&code[at..], "fn") {
        let begin = at + offset;
        at = begin + 2;
        let name: String = code[at..].trim_start().chars().take_while(|&c| is_word(c)).collect();
        // The type `fn(u8)` has no name, and a declaration has no body.
        let Some(length) = (!name.is_empty()).then(|| body_end(&code[begin..])).flatten() else {
            continue;
        };
        let line = code[..begin].matches('\n').count() + 1;
        let lines = code[begin..begin + length].matches('\n').count() + 1;
        found.push(Function { name, line, lines });
    }
    found
}

/// Where the body of the function that begins here ends.
fn body_end(code: &str) -> Option<usize> {
    // The depth of brackets, in which a `;` belongs to an array, and of the body's braces.
    let (mut brackets, mut braces) = (0, 0);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            '}' => braces -= 1,
            ';' if brackets == 0 && braces == 0 => return None,
            _ => {}
        }
        if c == '}' && braces == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// The lines on which something follows a statement's `;`.
fn second_statements(code: &str) -> Vec<usize> {
    let mut open = Vec::new();
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for (at, c) in line.char_indices() {
            match c {
                '(' | '[' | '{' => open.push(c),
                ')' | ']' | '}' => drop(open.pop()),
                // In brackets it comes before the length of an array.
                ';' if open.last() != Some(&'[') => {
                    let rest = line[at + 1..].trim_matches([' ', ')', ']', '}', ';', ',']);
                    if !rest.is_empty() {
                        found.push(index + 1);
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    found
}

// Tests of the parsing.

fn comments_and_literals_are_blanked() {
    // On the right, every run of blanks is written as one blank.
    let cases = [
        ("a // unsafe\nb", "a \nb"),
        ("a /* x /* y */ z */ b", "a b"),
        ("f(\"a \\\" // b\"); c", "f( ); c"),
        ("f('\"'); g('\\''); h", "f( ); g( ); h"),
        ("&'a str; 'b: loop", "&'a str; 'b: loop"),
        ("f::<'a>('a', b'\\\\', 'é')", "f::<'a>( , , )"),
        ("r#\"a \" b\"# c", " c"),
        ("br\"\\\" + \"#\"; d", " + ; d"),
        ("r#type b\"x\" c\"y\"", "r#type "),
        ("for\"x\\\\\" y", "for y"),
        ("\"a\n// b\n\" c", " \n \n c"),
        ("'\\u{7f}' c", " c"),
        ("// 'a\n\"// \" /* \" */ d", " \n d"),
    ];
    for (text, expected) in cases {
        let blanked = code(text);
        assert_eq!(blanked.chars().count(), text.chars().count(), "of {text:?}");
        let parts = blanked.split(' ').enumerate();
        let once = parts.filter(|(index, part)| *index == 0 || !part.is_empty());
        let mut once = once.map(|(_, part)| part).collect::<Vec<_>>().join(" ");
        if blanked.ends_with(' ') {
            once.push(' ');
        }
        assert_eq!(once, expected, "of {text:?}");
    }
}

fn words_are_found_whole() {
    assert!(has_word("unsafe { x }", "unsafe"));
    assert!(has_word("#[unsafe(no_mangle)]", "unsafe"));
    assert!(has_word("unsafe_code, unsafe", "unsafe"));
    assert!(!has_word("#![allow(unsafe_code)]", "unsafe"));
    assert!(!has_word("let not_unsafe = 1;", "unsafe"));
    assert!(has_word("State::Up", "State"));
    assert!(!has_word("StateOf", "State"));
}

fn functions_are_measured() {
    let text = "fn one() {}\n\nfn declared(a: [u8; 4]);\ntype F = fn(u8) -> u8;\n\
                const fn two(a: [u8; 2])\nwhere\n{\n    { a };\n}\n";
    let function = |name: &str, line, lines| Function { name: name.into(), line, lines };
    assert_eq!(functions(text), [function("one", 1, 1), function("two", 5, 5)]);
}

fn second_statements_are_seen() {
    assert_eq!(second_statements("a; b;\nc;\nif d { e; }\nf; }"), [1]);
    assert_eq!(second_statements("let a: [u8; 4] = [0; 4];\n&[f(|| { a; b })]"), [2]);
    assert_eq!(second_statements("{ a; }; b"), [1]);
}
