//! Small private files: never readable by others, and new or replaced as a whole.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zeroize::Zeroizing;

pub fn create_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// Writes a file that must not exist yet, mode 0600, down to the disk.
pub fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow::anyhow!(
                "{} exists already and is not overwritten; move it away first",
                path.display()
            ),
            _ => anyhow::Error::new(error).context(format!("cannot create {}", path.display())),
        })?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Puts a file, mode `mode`, in the place of whatever is there, in one step and down to the disk:
/// after a crash it is the old one or the new one.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // Left behind by a crash; absent otherwise.
    let _ = std::fs::remove_file(&temporary);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(error).with_context(|| format!("cannot replace {}", path.display()));
    }
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Reads a secret; refuses a file that others may read.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>> {
    let mode = std::fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .mode();
    if mode & 0o077 != 0 {
        bail!(
            "{} may be read by others (mode {:03o}); run `chmod 600` on it, and think of who may \
             have read it",
            path.display(),
            mode & 0o777
        );
    }
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .with_context(|| format!("cannot read {}", path.display()))
}

/// Makes new directory entries durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("cannot sync {}", path.display()))
}

pub fn to_hex(bytes: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    Zeroizing::new(text)
}

pub fn from_hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    // The standard library's parser would take a sign for a digit.
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn hexadecimal_digits_and_nothing_else() {
        let good = to_hex(&[0x5a; 32]);
        assert_eq!(from_hex(&good).as_deref(), Some(&[0x5a; 32]));
        assert_eq!(from_hex(&good.to_uppercase()).as_deref(), Some(&[0x5a; 32]));
        assert_eq!(from_hex(&good[1..]), None);
        for bad in ["+a", "5g", "é"] {
            let text = format!("{bad}{}", &good[bad.len()..]);
            assert_eq!(from_hex(&text), None, "{bad}");
        }
    }

    #[test]
    fn replaced_as_a_whole_and_new_ones_never_overwritten() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("gw1.pem");
        write_new(&path, b"one").expect("writes");
        let error = write_new(&path, b"two").expect_err("is there").to_string();
        assert!(error.contains("not overwritten"), "{error}");
        std::fs::write(dir.path().join("gw1.pem.new"), "half of ano").expect("writes");
        replace(&path, b"two", 0o600).expect("replaces");
        assert_eq!(read_private(&path).expect("reads").as_str(), "two");
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("sets");
        assert!(read_private(&path).is_err(), "others may read it");
        let error = replace(&dir.path().join("absent/x"), b"", 0o600).expect_err("no folder");
        assert!(error.to_string().contains("absent/x"), "{error}");
    }
}
