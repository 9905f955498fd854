//! The file: a gzipped tar archive that only its owner may read.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Writes files into a new archive, in one folder.
pub fn write(out: &Path, folder: &str, files: &[(String, Vec<u8>)]) -> Result<()> {
    let written = || format!("cannot write {}", out.display());
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .with_context(|| {
            format!(
                "cannot make {}; name a file with --out that is not there yet",
                out.display()
            )
        })?;
    let result = fill(file, folder, files).with_context(written);
    if result.is_err() {
        // Half an archive is of no use; that it stays is no worse than why it was not written.
        let _ = std::fs::remove_file(out);
    }
    result
}

fn fill(file: std::fs::File, folder: &str, files: &[(String, Vec<u8>)]) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(content.len())?);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("{folder}/{name}"), &content[..])?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()?;
    Ok(())
}
