//! A service file of any bytes. It is rejected for a line that it has, or its normalised text is
//! its own normal form, and its command can be split.
#![no_main]

use going::model::config::{Text, parse, split_words, value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| {
    let (mut text, mut again) = (Text::new(), Text::new());
    match parse(raw, &mut text) {
        Ok(()) => {
            assert_eq!(parse(&text, &mut again), Ok(()));
            assert_eq!(text, again);
            let cmd = value(&text, b"cmd").expect("it is required");
            let mut words = Text::new();
            assert!(split_words(cmd, |byte| words.push(byte).ok()).is_some());
        }
        Err((line, _)) => assert!(line as usize <= raw.split(|&byte| byte == b'\n').count()),
    }
});
