//! A CONFDIR in FUSE, whose names may be far longer than those of other file systems. The file
//! system is served here, and is mounted for going only.

use crate::harness::Going;
use crate::namespace::Namespace;
use crate::needs::scenario;
use libtest_mimic::Trial;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use temp_dir::TempDir;

pub fn tests() -> Vec<Trial> {
    vec![scenario!(the_longest_name_is_read, Fuse)]
}

/// /dev/fuse, or the same device elsewhere if /dev does not have it.
pub fn device() -> Option<File> {
    let open = |path: &Path| File::options().read(true).write(true).open(path).ok();
    open(Path::new("/dev/fuse")).or_else(|| {
        let directory = TempDir::new().ok()?;
        let path = directory.child("fuse");
        mknod(&path, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(10, 229)).ok()?;
        open(&path)
    })
}

/// Linux allows 1024 bytes, and since 6.14 almost as many as a path may have. An inotify event that
/// does not fit into the buffer stays there, and would keep going busy for ever.
fn the_longest_name_is_read() {
    let mut going = Going::new();
    let fuse = device().expect("it is needed");
    let options = format!("fd={},rootmode=40755,user_id=0,group_id=0", fuse.as_raw_fd());
    let confdir = going.path("going.d");
    let namespace = Namespace::new(&confdir, move |path| {
        mount(None::<&Path>, path, Some(c"fuse"), MsFlags::empty(), Some(options.as_str()))
    });
    // Only now, because a file system that is not mounted cannot be served.
    thread::spawn(move || serve(fuse));
    going.start_with(|command| namespace.enter(command));
    going.wait_for("RUNDIR/down, which is read after it", || going.path("run/down").is_dir());
    going.wait_quiet();

    let make = |len| {
        let path = namespace.view(&confdir).join("n".repeat(len));
        mknod(&path, SFlag::S_IFREG, Mode::S_IRUSR, 0)
    };
    // The whole path has to fit, too.
    let made = make(4000).or_else(|errno| match errno {
        Errno::ENAMETOOLONG => make(1024),
        _ => Err(errno),
    });
    made.expect("a new file");
    going.wait_log(": nnnn");
    going.wait_quiet();
    going.terminate();
}

/// Answers the kernel for a file system with one directory, in which files can be made. Ends when
/// it is unmounted. See fuse(4) and linux/fuse.h.
fn serve(mut fuse: File) {
    let mut names = Vec::new();
    let mut request = vec![0; 2 << 20];
    while let Ok(len) = fuse.read(&mut request) {
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four"));
        let (opcode, offset) = (word(4), word(48));
        let answer = match opcode {
            // FORGET, INTERRUPT and BATCH_FORGET are not answered.
            2 | 36 | 42 => continue,
            // LOOKUP
            1 => Err(Errno::ENOENT),
            // GETATTR
            3 => Ok(words(&[&[0; 4], &attributes(1, 0o040_755)])),
            // MKNOD
            8 => {
                names.push(request[56..len - 1].to_vec());
                let number = 1 + u32::try_from(names.len()).expect("a few");
                let times = [number, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                Ok(words(&[&times, &attributes(number, 0o100_400)]))
            }
            // INIT: version 7.31; BIG_WRITES and MAX_PAGES, without which names are shorter.
            26 => Ok(words(&[&[7, 31, 0, 1 << 5 | 1 << 22, 0, 1 << 20, 1, 256], &[0; 8]])),
            // OPENDIR
            27 => Ok(words(&[&[0; 4]])),
            // READDIR
            28 if offset == 0 => Ok(names.iter().zip(1..).flat_map(entry).collect()),
            // READDIR at its end, and RELEASEDIR
            28 | 29 => Ok(Vec::new()),
            _ => Err(Errno::ENOSYS),
        };
        let error = answer.as_ref().err().map_or(0, |errno| -(*errno as i32));
        let body = answer.unwrap_or_default();
        let len = u32::try_from(16 + body.len()).expect("a short answer");
        let head = words(&[&[len, error.cast_unsigned(), word(8), word(12)]]);
        // It may have been unmounted meanwhile.
        let _ = fuse.write(&[head, body].concat());
    }
}

/// A struct `fuse_attr`.
fn attributes(number: u32, mode: u32) -> [u32; 22] {
    let mut attributes = [0; 22];
    (attributes[0], attributes[15], attributes[16]) = (number, mode, 1);
    attributes
}

/// A struct `fuse_dirent` with its name.
fn entry((name, place): (&Vec<u8>, u32)) -> Vec<u8> {
    let len = u32::try_from(name.len()).expect("a short name");
    let mut entry = words(&[&[1 + place, 0, place, 0, len, 8]]);
    entry.extend(name);
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}

fn words(parts: &[&[u32]]) -> Vec<u8> {
    parts.concat().into_iter().flat_map(u32::to_ne_bytes).collect()
}
