//! Inputs in files: `fuzz/corpus/TARGET` is committed, `fuzz/artifacts/TARGET` holds what failed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::Target;

/// The folder of this crate.
#[must_use]
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Committed inputs of a target: valid ones, and ones that once failed.
#[must_use]
pub fn folder(target: &Target) -> PathBuf {
    home().join("corpus").join(target.name)
}

/// All inputs that a target begins with, always in the same order.
///
/// # Errors
/// If a file of the corpus cannot be read. A target without a folder has what its code makes.
pub fn load(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let mut inputs = (target.seeds)();
    for file in files(&folder(target))? {
        inputs.push(fs::read(file)?);
    }
    Ok(inputs)
}

/// The files of a folder by name; none where there is no folder.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// Writes the inputs that code makes into a folder, for a fuzzer that reads files.
///
/// # Errors
/// If a file cannot be written.
pub fn write_seeds(target: &Target, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for input in (target.seeds)() {
        fs::write(folder.join(name("seed", &input)), input)?;
    }
    Ok(())
}

/// Keeps an input that failed; returns its file.
///
/// # Errors
/// If it cannot be written.
pub fn keep(target: &Target, input: &[u8]) -> io::Result<PathBuf> {
    let folder = home().join("artifacts").join(target.name);
    fs::create_dir_all(&folder)?;
    let file = folder.join(name("crash", input));
    fs::write(&file, input)?;
    Ok(file)
}

/// The same input has the same name.
fn name(kind: &str, input: &[u8]) -> String {
    let digest = Sha256::digest(input);
    let hex: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{kind}-{hex}")
}
