//! The pure parts of goinglog: which lines go into which file, stamps, sizes and priorities.

use going::model::lines::{HEAD_MAX, OUT_MAX, Room, size};
use going::model::priority;
use going::model::stamp::{STAMP_MAX, rfc3339, tai64n};
use heapless::Vec as Fixed;
use libtest_mimic::Trial;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::time::Duration;

pub fn tests() -> Vec<Trial> {
    let table: [(&str, fn()); 8] = [
        ("files_are_whole_and_bounded", files_are_whole_and_bounded),
        ("whole_lines_fill_a_file", whole_lines_fill_a_file),
        ("a_line_of_any_length_goes_on", a_line_of_any_length_goes_on),
        ("short_lines_with_stamps_are_all_there", short_lines_with_stamps_are_all_there),
        ("dates_are_those_of_a_calendar", dates_are_those_of_a_calendar),
        ("stamps_are_of_one_length", stamps_are_of_one_length),
        ("sizes", sizes),
        ("priorities", priorities),
    ];
    // With this name they run on every machine that the model is tested on.
    let trial = |(name, test): (&str, fn())| {
        Trial::test(format!("model::lines::{name}"), move || {
            test();
            Ok(())
        })
    };
    table.into_iter().map(trial).collect()
}

fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })
}

/// A log with its older files, the oldest first, which is filled from a pipe as the program does
/// it.
struct Files {
    limit: usize,
    stamp: &'static [u8],
    done: Vec<Vec<u8>>,
    file: Vec<u8>,
}

impl Files {
    /// Moves what is in the pipe, of which no more than `head_max` bytes are seen at once.
    fn take(&mut self, mut pipe: &[u8], head_max: usize) {
        while !pipe.is_empty() {
            let is_fresh = self.file.last().is_none_or(|&byte| byte == b'\n');
            let room = Room { size: self.file.len(), limit: self.limit, is_fresh };
            if self.stamp.is_empty() && room.unseen() > 0 {
                let len = pipe.len().min(room.unseen());
                self.file.extend_from_slice(&pipe[..len]);
                pipe = &pipe[len..];
                continue;
            }
            let head = &pipe[..pipe.len().min(head_max)];
            let mut out = Fixed::<u8, OUT_MAX>::new();
            if let Some(taken) = room.pack(head, self.stamp, &mut out) {
                assert!((1..=head.len()).contains(&taken), "{taken} of {}", head.len());
                self.file.extend_from_slice(&out);
                pipe = &pipe[taken..];
            } else {
                assert!(is_fresh && !self.file.is_empty(), "rotated within a line, or for nothing");
                self.done.push(std::mem::take(&mut self.file));
            }
        }
    }
}

/// Whatever comes in whatever pieces, all of it is there, in order. Files end with a whole line,
/// and none is larger than the limit, unless its last line is longer than the room that is kept
/// free for one.
fn files_are_whole_and_bounded() {
    let line = prop_oneof![8 => 0..60_usize, 1 => 0..700_usize];
    let lines = prop::collection::vec((line, any::<u8>()), 1..120);
    let cuts = prop::collection::vec(1..2000_usize, 1..40);
    let input = (lines, cuts, 40..3000_usize, 1..3000_usize, any::<bool>());
    let property = |(lines, cuts, limit, head_max, with_stamp): Case| {
        let stamp: &[u8] = if with_stamp { b"2026-11-23T16:09:00Z " } else { b"" };
        let text = |(len, byte): &(usize, u8)| {
            let mut line = vec![byte.saturating_add(u8::from(*byte == b'\n')); *len];
            line.push(b'\n');
            line
        };
        let lines: Vec<_> = lines.iter().map(text).collect();
        let longest = lines.iter().map(Vec::len).max().unwrap() + stamp.len();
        let all = lines.concat();
        let mut files = Files { limit, stamp, done: Vec::new(), file: Vec::new() };
        let (mut rest, mut cuts) = (&all[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            files.take(piece, head_max);
            rest = later;
        }
        files.done.push(files.file);
        let reserve = HEAD_MAX.min(limit / 2);
        for file in &files.done {
            assert!(file.ends_with(b"\n"));
            let last = file.split_inclusive(|&byte| byte == b'\n').next_back().unwrap();
            let is_bounded = file.len() <= limit || last.len() > reserve;
            assert!(is_bounded, "{} bytes, longest line {longest}", file.len());
        }
        let expected: Vec<_> = lines.iter().map(|line| [stamp, line].concat()).collect();
        assert!(files.done.concat() == expected.concat(), "not what came");
        Ok(())
    };
    runner().run(&input, property).unwrap();
}

type Case = (Vec<(usize, u8)>, Vec<usize>, usize, usize, bool);

/// When whole lines are seen, a file is filled as far as they allow.
fn whole_lines_fill_a_file() {
    let mut files = Files { limit: 1000, stamp: b"", done: Vec::new(), file: Vec::new() };
    files.take(&b"a line of twenty ch\n".repeat(100), HEAD_MAX);
    assert_eq!(files.done.iter().map(Vec::len).collect::<Vec<_>>(), [1000]);
    assert_eq!(files.file.len(), 1000);
}

fn a_line_of_any_length_goes_on() {
    let mut files = Files { limit: 100, stamp: b"@ ", done: Vec::new(), file: Vec::new() };
    files.take(b"short\n", 64);
    files.take(&b"x".repeat(1000), 64);
    files.take(b"\nshort\n", 64);
    let lens: Vec<_> = files.done.iter().map(Vec::len).collect();
    // Its end could not be foreseen when it began, and no line goes into two files.
    assert_eq!((lens, files.file.len()), (vec![1011], 8));
}

/// With their stamps these lines are longer than all that can be written at once.
fn short_lines_with_stamps_are_all_there() {
    let mut files = Files { limit: 1 << 20, stamp: b"@ ", done: Vec::new(), file: Vec::new() };
    files.take(&b"\n".repeat(HEAD_MAX), HEAD_MAX);
    assert_eq!(files.file.len(), 3 * HEAD_MAX);
}

fn dates_are_those_of_a_calendar() {
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100);
    let is_leap = |year: u64| is_leap(year) || year.is_multiple_of(400);
    let (mut year, mut month, mut day) = (1970, 1, 1);
    for days in 0..500_000_u64 {
        let text = rfc3339(Duration::new(days * 86_400 + 86_399, 999_999_999));
        assert_eq!(text, *format!("{year:04}-{month:02}-{day:02}T23:59:59.999999Z "));
        let february = if is_leap(year) { 29 } else { 28 };
        let lens = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        day += 1;
        if day > lens[month - 1] {
            (month, day) = (month + 1, 1);
        }
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
    }
}

fn stamps_are_of_one_length() {
    let year_9999 = 253_402_300_799_u64;
    let property = |(seconds, nanos): (u64, u32)| {
        let time = Duration::new(seconds, nanos);
        assert_eq!(rfc3339(time).len(), STAMP_MAX);
        let text = tai64n(time);
        assert_eq!(text.len(), 26);
        let number = u64::from_str_radix(&text[1..17], 16).unwrap();
        assert_eq!(number - (1 << 62) - 10, seconds);
        assert_eq!(u32::from_str_radix(&text[17..25], 16).unwrap(), nanos);
        Ok(())
    };
    runner().run(&(0..=year_9999, 0..1_000_000_000_u32), property).unwrap();
    // A clock that is set to nonsense.
    assert_eq!(rfc3339(Duration::MAX), "");
    assert_eq!(tai64n(Duration::MAX).len(), 26);
}

fn sizes() {
    let good = [("1", 1), ("4096", 4096), ("64K", 65_536), ("3M", 3 << 20), ("2G", 2 << 30)];
    for (text, bytes) in good {
        assert_eq!(size(text), Some(bytes), "{text}");
    }
    assert_eq!(size("0"), Some(usize::MAX));
    let bad = ["", "K", "1k", "1KK", "1KB", "+1", "-1", "1.5M", " 1", "99999999999G", "1T"];
    for text in bad {
        assert_eq!(size(text), None, "{text}");
    }
    let property = |text: String| {
        let _any = size(&text);
        Ok(())
    };
    runner().run(&".*", property).unwrap();
}

fn priorities() {
    let good = [("kern.emerg", 0), ("user.notice", 13), ("daemon.info", 30), ("local7.debug", 191)];
    for (text, number) in good {
        assert_eq!(priority::parse(text), Some(number), "{text}");
    }
    for text in
        ["", ".", "daemon", "daemon.", ".info", "info.daemon", "daemon.info.x", "a.b", " . "]
    {
        assert_eq!(priority::parse(text), None, "{text}");
    }
}
