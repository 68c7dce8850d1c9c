//! Which services are meant: names, patterns, and `all`.

use crate::output;
use crate::status::Service;
use fast_glob::glob_match;

/// Everything.
pub const ALL: &str = "all";
/// The command of going's command line. It is no file: it cannot be started anew, and going ends
/// with it.
pub const MAIN: &str = "(main)";

/// What `words` mean among `services`, each once, by name; and whether every word means something.
pub fn select<'a>(services: &'a [Service], words: &[String]) -> (Vec<&'a Service>, bool) {
    let mut is_complete = true;
    for word in words {
        if word != ALL && !services.iter().any(|service| is_meant(&service.name, word)) {
            output::warn(format!("no such service: {word}"));
            is_complete = false;
        }
    }
    (services.iter().filter(|service| is_chosen(&service.name, words)).collect(), is_complete)
}

/// Whether one of the words means this name; no words mean all.
pub fn is_chosen(name: &str, words: &[String]) -> bool {
    words.is_empty() || words.iter().any(|word| is_meant(name, word))
}

/// Whether the word means this name.
pub fn is_meant(name: &str, word: &str) -> bool {
    word == ALL || word == name || !word.starts_with('!') && glob_match(word, name)
}
