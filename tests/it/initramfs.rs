//! `Initramfs`: the files that a kernel finds at boot, as an archive in cpio's format newc.
//!
//! See Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const REGULAR: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const DIRECTORY: u32 = 0o040_755;
const SYMLINK: u32 = 0o120_777;

/// Paths are given without the first slash, as the format has them.
#[derive(Default)]
pub struct Initramfs {
    archive: Vec<u8>,
    directories: BTreeSet<String>,
    entries: usize,
}

impl Initramfs {
    pub fn directory(&mut self, path: &str) {
        if self.directories.insert(path.to_owned()) {
            self.parent_of(path);
            self.entry(path, DIRECTORY, b"");
        }
    }

    pub fn file(&mut self, path: &str, content: &str) {
        self.parent_of(path);
        self.entry(path, REGULAR, content.as_bytes());
    }

    /// For what is executed; an ELF file without its debug information.
    pub fn program(&mut self, path: &str, content: &[u8]) {
        self.parent_of(path);
        self.entry(path, PROGRAM, &loadable(content));
    }

    pub fn symlink(&mut self, path: &str, target: &str) {
        self.parent_of(path);
        self.entry(path, SYMLINK, target.as_bytes());
    }

    /// Everything below a directory of this machine.
    pub fn tree(&mut self, root: &Path) {
        let mut left = vec![root.to_owned()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory).expect("a readable directory").flatten() {
                let path = entry.path();
                let inside = path.strip_prefix(root).expect("below it").display().to_string();
                let kind = entry.file_type().expect("a kind that the directory tells");
                if kind.is_dir() {
                    left.push(path);
                } else if kind.is_symlink() {
                    let target = fs::read_link(&path).expect("a symlink");
                    self.symlink(&inside, &target.display().to_string());
                } else {
                    self.program(&inside, &fs::read(&path).expect("a readable file"));
                }
            }
        }
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.archive
    }

    /// Adds the parent directory, because the kernel makes none by itself.
    fn parent_of(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        // Magic; inode number, mode, owner, group, links, time, size; the device, and that of a
        // special file, as two numbers each; length of the path with its NUL; checksum, which is
        // not used.
        let header = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:032x}{:08x}{:08x}",
            self.entries,
            0,
            0,
            1,
            0,
            content.len(),
            0,
            path.len() + 1,
            0,
        );
        self.archive.extend_from_slice(header.as_bytes());
        self.archive.extend_from_slice(path.as_bytes());
        self.archive.push(0);
        self.pad();
        self.archive.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}

/// What is mapped of a 64-bit ELF file when it is executed: everything up to the end of the last
/// segment. What follows is for debuggers, and is ten times as large. Any other file is left as it
/// is.
pub fn loadable(file: &[u8]) -> Vec<u8> {
    let number = |at: usize, length: usize| {
        let bytes = file[at..at + length].iter().rev();
        bytes.fold(0, |sum: usize, &byte| sum << 8 | usize::from(byte))
    };
    if !file.starts_with(b"\x7fELF\x02") {
        return file.to_owned();
    }
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let ends = (0..count).map(|index| {
        let segment = table + index * size;
        number(segment + 8, 8) + number(segment + 32, 8)
    });
    let end = ends.max().unwrap_or(0).max(table + count * size);
    let mut kept = file[..end].to_owned();
    // No section headers are left.
    kept[40..48].fill(0);
    kept[60..64].fill(0);
    kept
}
