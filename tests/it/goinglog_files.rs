//! What goinglog writes to its file: every byte, rotated, with or without stamps; and the signals.

use crate::goinglog::{Log, assert_same, numbered, unstamped, with_stamps};
use crate::needs::scenario;
use going::model::stamp::{Stamp, rfc3339, tai64n};
use libtest_mimic::Trial;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::ptr;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(every_byte_goes_to_the_file),
        scenario!(lines_without_stamps_are_moved_unread),
        scenario!(what_is_there_is_continued),
        scenario!(files_are_rotated_and_bounded),
        scenario!(a_line_that_has_begun_is_no_reason_to_rotate),
        scenario!(long_lines_do_not_make_a_file_too_large),
        scenario!(files_have_a_size_and_a_number_unless_told_otherwise),
        scenario!(only_so_many_files_are_kept),
        scenario!(a_gap_in_the_numbers_is_filled),
        scenario!(stamps_stand_before_each_line),
        scenario!(stamps_tell_the_time),
        scenario!(a_rude_writer_harms_no_other),
        scenario!(term_ends_it_though_a_rude_writer_has_lost_something),
        scenario!(a_line_of_100_mb),
        scenario!(hup_rotates_at_the_end_of_the_line),
        scenario!(usr1_reopens_at_the_end_of_the_line),
        scenario!(hup_counts_for_more_than_usr1),
        scenario!(a_renamed_file_is_not_missed),
        scenario!(a_deleted_file_comes_back),
        scenario!(term_drains_the_pipe),
        scenario!(any_signal_at_any_time_loses_nothing),
        scenario!(kill_between_stamped_lines_loses_nothing),
        scenario!(kill_amid_stamped_lines_leaves_none_out),
    ]
}

/// NUL bytes, bytes that are not UTF-8, empty lines, and no newline at the end.
fn every_byte_goes_to_the_file() {
    let all: Vec<u8> = (0..=255).cycle().take(5000).collect();
    for options in [&[][..], &["-s", "0"]] {
        let mut log = Log::new();
        log.start(options);
        log.write(b"\n\n\0\0\n");
        log.write(&all);
        log.finish();
        assert_same(&log.content(), &[b"\n\n\0\0\n", &all[..]].concat());
        assert_eq!(log.scene.log(), "");
        let mode = log.file().metadata().expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}

/// Lines without stamps are moved by splice(2) until the file is nearly full. To stamp lines,
/// goinglog has to read them, because it needs to see where each one begins.
fn lines_without_stamps_are_moved_unread() {
    let read_by = |options: &[&str]| {
        let mut log = Log::new();
        let lines = numbered(0..100_000);
        log.start(options);
        log.write(&lines);
        log.wait_empty();
        let text = fs::read_to_string(format!("/proc/{}/io", log.pid())).expect("it runs");
        let read = text.lines().find_map(|line| line.strip_prefix("rchar: "));
        let read = read.and_then(|read| read.parse::<usize>().ok()).expect("a number");
        log.finish();
        (read, lines.len())
    };
    let (read, all) = read_by(&["-s", "0"]);
    assert!(read < 20_000, "{read} of {all} bytes");
    // The last 32 KiB of each megabyte are read: once to look at them, and once to take them.
    let (read, all) = read_by(&["-s", "1M"]);
    assert!(read < all / 4, "{read} of {all} bytes");
    let (read, all) = read_by(&["-s", "0", "-t"]);
    assert!(read > all, "{read} of {all} bytes");
}

/// A line that has not ended yet is continued too.
fn what_is_there_is_continued() {
    let mut log = Log::new();
    log.start(&[]);
    log.write("one\ntwo");
    log.finish();
    let (reader, writer) = io::pipe().expect("a pipe");
    (log.reader, log.writer) = (reader, Some(writer));
    log.start(&["-t"]);
    log.write(" and a half\nthree\n");
    log.finish();
    let content = log.content();
    let (first, last) = content.split_at(b"one\ntwo and a half\n".len());
    assert_same(first, b"one\ntwo and a half\n");
    assert_same(&unstamped(last), b"three\n");
}

fn files_are_rotated_and_bounded() {
    // Small files get fewer lines, because there are many of them and each is renamed at every
    // rotation.
    let sizes = [
        (4096, "4K", 10_000),
        (10_000, "10000", 20_000),
        (65_536, "64K", 40_000),
        (1 << 20, "1M", 40_000),
    ];
    for (limit, words, count) in sizes {
        for is_stamped in [false, true] {
            let mut log = Log::new();
            let lines = numbered(0..count);
            // The later lines are written in pieces that do not end where the lines do.
            let (first, rest) = lines.split_at(lines.len() / 3);
            log.start(&with_stamps(&["-s", words, "-n", "1999"], is_stamped));
            for line in first.split_inclusive(|&byte| byte == b'\n') {
                log.write(line);
            }
            for piece in rest.chunks(4093) {
                log.write(piece);
            }
            log.finish();
            let files = log.files();
            let (last, full) = files.split_last().expect("one at least");
            for file in full {
                assert!(file.len() <= limit && file.len() > limit / 4, "{} bytes", file.len());
                assert!(file.ends_with(b"\n"), "a torn line");
            }
            assert!(last.len() <= limit);
            let all = files.concat();
            let all = if is_stamped { unstamped(&all) } else { all };
            assert_same(&all, &lines);
        }
    }
}

/// As documented: 1M, and 10 older files.
fn files_have_a_size_and_a_number_unless_told_otherwise() {
    let mut log = Log::new();
    log.start(&[]);
    (0..13).for_each(|_| log.write(("x".repeat(1023) + "\n").repeat(1024)));
    log.finish();
    let lens: Vec<_> = log.files().iter().map(Vec::len).collect();
    assert_eq!(lens, [1 << 20; 11]);
}

/// The lines are long, but not too long for the limit, and come in pieces.
fn long_lines_do_not_make_a_file_too_large() {
    for (limit, len) in [(1 << 20, 31_999), (10_000, 3_499)] {
        for is_stamped in [false, true] {
            let mut log = Log::new();
            log.start(&with_stamps(&["-n", "1999", "-s", &limit.to_string()], is_stamped));
            let lines = ("x".repeat(len) + "\n").repeat(100).into_bytes();
            lines.chunks(3001).for_each(|piece| log.write(piece));
            log.finish();
            let files = log.files();
            assert!(files.iter().all(|file| file.len() <= limit), "too large");
            let all = files.concat();
            assert_same(&if is_stamped { unstamped(&all) } else { all }, &lines);
        }
    }
}

/// It does not rotate before it knows that the line is too long.
fn a_line_that_has_begun_is_no_reason_to_rotate() {
    let mut log = Log::new();
    log.start(&["-s", "4K"]);
    log.write("one\n");
    log.wait_content("one\n");
    log.write("tw");
    log.wait_content("one\ntw");
    log.finish();
}

fn only_so_many_files_are_kept() {
    let mut log = Log::new();
    let lines = numbered(0..2000);
    fs::write(log.older(4), "older than we keep\n").expect("our own file");
    log.start(&["-s", "4K", "-n", "3"]);
    log.write(&lines);
    log.finish();
    fs::remove_file(log.older(4)).expect("left alone");
    let files = log.files();
    assert_eq!(files.len(), 4);
    let all = files.concat();
    assert_same(&all, &lines[lines.len() - all.len()..]);
}

/// A goinglog that is killed while it rotates leaves such a gap. The next rotation loses no file
/// because of it.
fn a_gap_in_the_numbers_is_filled() {
    let mut log = Log::new();
    for number in [1, 3, 4] {
        fs::write(log.older(number), number.to_string()).expect("our own file");
    }
    log.start(&["-n", "4"]);
    log.write("now\n");
    log.wait_content("now\n");
    log.signal(Signal::SIGHUP);
    log.wait_content("");
    log.finish();
    assert_eq!(log.files(), [&b"4"[..], b"3", b"1", b"now\n", b""]);
}

fn stamps_stand_before_each_line() {
    let mut log = Log::new();
    log.start(&["-T"]);
    log.write("one\n\n");
    log.write("two");
    log.finish();
    let text = String::from_utf8(log.content()).expect("plain text");
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, rest) in lines.iter().zip(["one\n", "\n", "two"]) {
        let (stamp, found) = line.split_once(' ').expect("a stamp");
        assert!(stamp.starts_with("@400000006") && stamp.len() == 25, "{line}");
        assert_eq!(found, rest);
    }
}

/// The stamp is that of today; other dates are checked by the tests of the model.
fn stamps_tell_the_time() {
    let stamps: [(&str, Stamp); 2] = [("-t", rfc3339), ("-T", tai64n)];
    for (option, stamp) in stamps {
        let now = || stamp(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970"));
        let mut log = Log::new();
        log.start(&[option]);
        let before = now();
        log.write("one\n");
        log.finish();
        let after = now();
        let text = String::from_utf8(log.content()).expect("plain text");
        let found = text.strip_suffix("one\n").expect("the line");
        assert!(before.as_str() <= found && found <= after.as_str(), "{before}{found}{after}");
    }
}

/// One writer writes in packet mode, and from a bad address, which before Linux 6.15 leaves a piece
/// without bytes in the pipe. The writers that share the pipe lose no line, and wait for nothing.
fn a_rude_writer_harms_no_other() {
    for limit in ["1M", "64"] {
        let mut log = Log::new();
        fcntl(&log.reader, FcntlArg::F_SETPIPE_SZ(1 << 20)).expect("a size for everybody");
        let writer = log.writer.as_ref().expect("it is open");
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let mut rude = OpenOptions::new().write(true).open(path).expect("a descriptor of its own");
        fcntl(&rude, FcntlArg::F_SETFL(OFlag::O_DIRECT | OFlag::O_NONBLOCK)).expect("valid flags");
        // These come first, because what can be appended to a piece of another writer is not a
        // packet.
        for number in 0..5 {
            rude.write_all(format!("rude {number}\n").as_bytes()).expect("there is room");
        }
        // More pieces without bytes than tee(2) can look past.
        for len in [100, 4096].repeat(10) {
            // SAFETY: the kernel finds nothing to read at a null pointer, which is the point here.
            let written = unsafe { libc::write(rude.as_raw_fd(), ptr::null(), len) };
            assert_eq!(written, -1);
        }
        log.write("amid\n");
        log.start(&["-t", "-s", limit, "-n", "99"]);
        log.wait_empty();
        let mut expected = Vec::new();
        (0..5).for_each(|number| writeln!(expected, "rude {number}").expect("memory"));
        expected.extend_from_slice(b"amid\n");
        for number in 0..20 {
            let line = format!("good {number}\n");
            log.write(&line);
            expected.extend_from_slice(line.as_bytes());
            log.wait_empty();
        }
        drop(rude);
        log.finish();
        assert_same(&unstamped(&log.files().concat()), &expected);
    }
}

/// What follows a line in the same packet is lost, but it counted as still to be moved when TERM
/// came.
fn term_ends_it_though_a_rude_writer_has_lost_something() {
    let mut log = Log::new();
    log.start(&["-t", "-s", "64"]);
    log.signal(Signal::SIGSTOP);
    let mut writer = log.writer.as_ref().expect("it is open");
    fcntl(writer, FcntlArg::F_SETFL(OFlag::O_DIRECT)).expect("a valid flag");
    for _ in 0..3 {
        writer.write_all(format!("{}\n", "x".repeat(30)).repeat(2).as_bytes()).expect("room");
    }
    log.signal(Signal::SIGTERM);
    log.signal(Signal::SIGCONT);
    assert_eq!(log.wait_exit(), Some(0), "{}", log.scene.report());
}

fn a_line_of_100_mb() {
    for is_stamped in [false, true] {
        let mut log = Log::new();
        log.start(&with_stamps(&["-s", "1M"], is_stamped));
        log.write("before\n");
        let part = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            log.write(&part);
        }
        log.write("\nafter\n");
        log.finish();
        let all = log.files().concat();
        let all = if is_stamped { unstamped(&all) } else { all };
        assert_eq!(all.len(), 7 + (100 << 20) + 7);
        assert!(all.starts_with(b"before\nx") && all.ends_with(b"x\nafter\n"));
        assert!(all[7..7 + (100 << 20)].iter().all(|&byte| byte == b'x'));
        assert_eq!(log.content().len(), if is_stamped { 34 } else { 6 });
    }
}

fn hup_rotates_at_the_end_of_the_line() {
    for is_stamped in [false, true] {
        let mut log = Log::new();
        log.start(&with_stamps(&[], is_stamped));
        // Nothing there yet, so nothing to rotate.
        log.signal(Signal::SIGHUP);
        log.write("one\ntw");
        log.wait_empty();
        log.scene.wait_for("the beginning", || log.content().ends_with(b"tw"));
        log.signal(Signal::SIGHUP);
        log.write("o");
        log.scene.wait_for("more of it", || log.content().ends_with(b"two"));
        log.write("!\nthree\n");
        log.scene.wait_for("the rest", || log.content().ends_with(b"three\n"));
        // Between two lines it rotates at once.
        log.signal(Signal::SIGHUP);
        log.scene.wait_for("an empty file", || log.content().is_empty());
        log.finish();
        let mut files = log.files();
        if is_stamped {
            files = files.iter().map(|file| unstamped(file)).collect();
        }
        assert_eq!(files, [&b"one\ntwo!\n"[..], b"three\n", b""]);
    }
}

fn usr1_reopens_at_the_end_of_the_line() {
    let mut log = Log::new();
    log.start(&[]);
    log.write("one\ntw");
    log.wait_content("one\ntw");
    let moved = log.scene.path("moved");
    fs::rename(log.file(), &moved).expect("our own file");
    log.signal(Signal::SIGUSR1);
    log.write("o\nthree\n");
    log.wait_content("three\n");
    assert_eq!(fs::read(&moved).expect("it is there"), b"one\ntwo\n");
    // Between two lines it reopens at once.
    fs::rename(log.file(), &moved).expect("our own file");
    log.signal(Signal::SIGUSR1);
    log.scene.wait_for("a new file", || log.file().exists());
    log.finish();
}

/// Whichever comes first: the sender of HUP expects FILE.1.
fn hup_counts_for_more_than_usr1() {
    for signals in [[Signal::SIGHUP, Signal::SIGUSR1], [Signal::SIGUSR1, Signal::SIGHUP]] {
        let mut log = Log::new();
        log.start(&[]);
        log.write("on");
        log.wait_content("on");
        for signal in signals {
            log.signal(signal);
            log.wait_idle();
        }
        log.write("e\ntwo\n");
        log.wait_content("two\n");
        log.finish();
        assert_eq!(log.files(), [b"one\n", b"two\n"]);
    }
}

/// A program that renames FILE may also send HUP, as newsyslog(8) does, or nothing.
fn a_renamed_file_is_not_missed() {
    for signal in [Some(Signal::SIGHUP), None] {
        let mut log = Log::new();
        log.start(&["-d", "-s", "8"]);
        log.write("one\ntwo\n");
        log.wait_content("one\ntwo\n");
        fs::rename(log.file(), log.scene.path("moved")).expect("our own file");
        if let Some(signal) = signal {
            log.signal(signal);
            log.wait_content("");
        }
        log.write("three\n");
        log.wait_content("three\n");
        log.finish();
        assert_eq!(fs::read(log.scene.path("moved")).expect("it is there"), b"one\ntwo\n");
        assert_eq!(log.scene.log(), "");
    }
}

fn a_deleted_file_comes_back() {
    let mut log = Log::new();
    log.start(&[]);
    log.write("one\n");
    log.wait_content("one\n");
    fs::remove_file(log.file()).expect("our own file");
    log.write("two\n");
    log.wait_content("two\n");
    // After a truncation by somebody else there is no hole.
    File::create(log.file()).expect("our own file");
    log.write("three\n");
    log.wait_content("three\n");
    log.finish();
}

/// All that is in the pipe is written, and nothing that comes after it.
fn term_drains_the_pipe() {
    for is_stamped in [false, true] {
        let mut log = Log::new();
        let lines = numbered(0..700);
        log.start(&with_stamps(&["-s", "16K"], is_stamped));
        log.signal(Signal::SIGSTOP);
        log.write(&lines);
        log.signal(Signal::SIGTERM);
        log.signal(Signal::SIGCONT);
        assert_eq!(log.wait_exit(), Some(0), "{}", log.scene.report());
        let all = log.files().concat();
        assert_same(&if is_stamped { unstamped(&all) } else { all }, &lines);
        // The same with an empty pipe.
        log.start(&[]);
        log.signal(Signal::SIGTERM);
        assert_eq!(log.wait_exit(), Some(0));
    }
}

/// Seeded anew in each run. The seed is printed, and `SEED=N cargo test -- goinglog` uses it again.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0) | 1);
        eprintln!("SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 8).expect("64 bits") % end
    }
}

/// Writes lines in pieces of any size, and sends signals between them. When a signal has ended
/// goinglog, another one follows at once on the same pipe. Returns the lines and the files.
fn storm(is_stamped: bool, before_kill: impl Fn(&Log)) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut random = Random::new();
    let mut log = Log::new();
    let lines = numbered(0..200_000);
    let limit = 300_000;
    let options = with_stamps(&["-s", "300000", "-n", "1999"], is_stamped);
    log.start(&options);
    let mut rest = &lines[..];
    while !rest.is_empty() {
        let most = [100, 5_000, 200_000][random.below(3)];
        let (piece, later) = rest.split_at(rest.len().min(1 + random.below(most)));
        log.write(piece);
        rest = later;
        match random.below(10) {
            0 => log.signal(Signal::SIGHUP),
            1 => log.signal(Signal::SIGUSR1),
            2 => {
                log.signal(Signal::SIGTERM);
                assert_eq!(log.wait_exit(), Some(0), "{}", log.scene.report());
                log.start(&options);
            }
            3 => {
                before_kill(&log);
                log.signal(Signal::SIGKILL);
                assert_eq!(log.wait_exit(), None);
                log.start(&options);
            }
            _ => {}
        }
    }
    log.finish();
    let files = log.files();
    for file in &files {
        assert!(file.len() <= limit, "{} bytes", file.len());
        assert!(file.is_empty() || file.ends_with(b"\n"), "a torn line");
    }
    assert_eq!(log.scene.log(), "");
    (lines, files)
}

/// No line is lost, duplicated or torn, and the order is kept: what is spliced is never in two
/// places.
fn any_signal_at_any_time_loses_nothing() {
    let (lines, files) = storm(false, |_| {});
    assert_same(&files.concat(), &lines);
}

/// KILL comes when everything is written. In the middle of a write it would leave lines to be
/// written again.
fn kill_between_stamped_lines_loses_nothing() {
    let (lines, files) = storm(true, Log::wait_empty);
    assert_same(&unstamped(&files.concat()), &lines);
}

/// After KILL in the middle of a write, lines may be there twice, and one of them may follow a torn
/// line.
fn kill_amid_stamped_lines_leaves_none_out() {
    let (lines, files) = storm(true, |_| {});
    let all = String::from_utf8(files.concat()).expect("plain text");
    // Each line up to its end, whatever stands before it.
    let ends = all.split("line ").filter_map(|text| Some(text.split_once('\n')?.0));
    let found: HashSet<_> = ends.collect();
    let lines = String::from_utf8(lines).expect("plain text");
    for line in lines.lines() {
        let rest = line.strip_prefix("line ").expect("a number");
        assert!(found.contains(rest), "{line}");
    }
}
