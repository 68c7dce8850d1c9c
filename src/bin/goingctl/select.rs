//! Which services are meant: names, patterns, and `all`.

use crate::output;
use crate::status::Service;
use fast_glob::glob_match;

/// The word that means every service.
pub const ALL: &str = "all";
/// The main command. It has no file: it cannot be restarted, and going ends when it ends.
pub const MAIN: &str = "(main)";

/// The services that `words` mean, each once and sorted by name; and whether every word but `all`
/// means at least one.
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

/// Whether one of the words means this name. No words mean all services.
pub fn is_chosen(name: &str, words: &[String]) -> bool {
    words.is_empty() || words.iter().any(|word| is_meant(name, word))
}

/// Whether the word means this name.
pub fn is_meant(name: &str, word: &str) -> bool {
    word == ALL || word == name || !word.starts_with('!') && glob_match(word, name)
}
