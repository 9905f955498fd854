//! Folders that are made aside, and take the place of former ones once they are whole.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Removes a folder, if it is there, and makes it anew.
pub fn make_anew(folder: &Path) -> Result<()> {
    remove(folder)?;
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// Has a folder that is whole take the place of the former one.
pub fn put_in_place(made: &Path, folder: &Path) -> Result<()> {
    remove(folder)?;
    fs::rename(made, folder)
        .with_context(|| format!("cannot move {} to {}", made.display(), folder.display()))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove the old folder {}", folder.display()))?;
    }
    Ok(())
}
