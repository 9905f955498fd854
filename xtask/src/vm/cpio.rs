//! Writes initramfs archives (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! The kernel unpacks several archives one after the other, so a cached one can be followed by a
//! small one with what changes.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Component, Path},
};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;

/// An archive that is being written.
pub struct Archive<W> {
    to: W,
    written: u64,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub fn new(to: W) -> Self {
        Self {
            to,
            written: 0,
            inode: 1,
            directories: BTreeSet::new(),
        }
    }

    /// Adds a folder and those above it.
    pub fn folder(&mut self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut name = String::new();
        for part in path.as_ref().components() {
            let Component::Normal(part) = part else {
                continue;
            };
            if !name.is_empty() {
                name.push('/');
            }
            name.push_str(&part.to_string_lossy());
            if self.directories.insert(name.clone()) {
                self.entry(&name, DIRECTORY, b"")?;
            }
        }
        Ok(())
    }

    /// Adds an executable file, with the folders above it.
    pub fn file(&mut self, path: impl AsRef<Path>, content: &[u8]) -> io::Result<()> {
        self.leaf(path.as_ref(), FILE, content)
    }

    /// Adds a symbolic link, with the folders above it.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: &str) -> io::Result<()> {
        self.leaf(path.as_ref(), SYMLINK, target.as_bytes())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        const ALIGNMENT: u64 = 512;
        self.entry("TRAILER!!!", 0, b"")?;
        self.pad(ALIGNMENT)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn leaf(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            self.folder(folder)?;
        }
        let name = path.to_string_lossy();
        self.entry(name.trim_start_matches('/'), mode, content)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::other(format!("{name} is too large for an initramfs"));
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        let header = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.inode += 1;
        let mut text = String::from("070701");
        for field in header {
            text.push_str(&format!("{field:08x}"));
        }
        self.put(text.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(b"\0")?;
        self.pad(4)?;
        self.put(content)?;
        self.pad(4)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn pad(&mut self, alignment: u64) -> io::Result<()> {
        while !self.written.is_multiple_of(alignment) {
            self.put(b"\0")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_first_and_once() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/a/b/one", b"1").unwrap();
        archive.file("a/b/two", b"22").unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 5);
        assert!(text.find("a/b\0") < text.find("a/b/one\0"));
        assert_eq!(bytes.len() % 512, 0);
    }

    #[test]
    fn header_names_size_and_mode() {
        let mut archive = Archive::new(Vec::new());
        archive.file("f", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(&bytes[14..22], b"000081ed");
        assert_eq!(&bytes[54..62], b"00000005");
        assert_eq!(&bytes[110..112], b"f\0");
        assert_eq!(&bytes[112..117], b"hello");
    }
}
