//! The folder that a package is made from.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    folder,
    process::{command, output, run_quietly, text},
};

/// Mode of folders and programs.
pub const PROGRAM: u32 = 0o755;
/// Mode of all else.
pub const FILE: u32 = 0o644;

/// A package's files as they will lie below `/`, and `DEBIAN` with what dpkg reads.
pub struct Stage(PathBuf);

impl Stage {
    /// An empty one.
    pub fn new(folder: PathBuf) -> Result<Self> {
        folder::make_anew(&folder)?;
        Ok(Self(folder))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a file of this name lies; the folders above it are made.
    pub fn place(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        let above = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(above)
            .with_context(|| format!("cannot make the folder {}", above.display()))?;
        Ok(path)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let path = self.place(name)?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        set_mode(&path, mode)
    }

    /// Copies a file.
    pub fn copy(&self, from: &Path, name: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(name, content, mode)
    }

    /// Copies a file, compressed without name and time; `.gz` is added to the name.
    pub fn compress(&self, from: &Path, name: &str) -> Result<()> {
        let content = output(command("gzip").args(["-9nc"]).arg(from))?;
        self.write(&format!("{name}.gz"), content, FILE)
    }

    /// Copies a program without what only debuggers read.
    pub fn program(&self, from: &Path, name: &str) -> Result<()> {
        let to = self.place(name)?;
        let mut strip = command("strip");
        run_quietly(strip.arg("--strip-unneeded").arg("-o").arg(&to).arg(from))?;
        set_mode(&to, PROGRAM)
    }

    /// The names of all files so far, in order, without those of `DEBIAN`.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        walk(&self.0, &mut |path, is_folder| {
            let name = path.strip_prefix(&self.0)?.to_string_lossy().into_owned();
            if !is_folder && !name.starts_with("DEBIAN/") {
                files.push(name);
            }
            Ok(())
        })?;
        Ok(files)
    }

    /// The checksums that `dpkg --verify` looks at, of all but configuration.
    pub fn checksums(&self) -> Result<String> {
        let mut files = self.files()?;
        files.retain(|name| !name.starts_with("etc/"));
        text(command("md5sum").args(files).current_dir(&self.0))
    }

    /// KiB of disk that the files take, as Debian counts: each file's rounded up, one for a folder.
    pub fn kibibytes(&self) -> Result<u64> {
        let mut sum = 0;
        walk(&self.0, &mut |path, is_folder| {
            sum += if is_folder {
                1
            } else {
                fs::metadata(path)?.len().div_ceil(1024)
            };
            Ok(())
        })?;
        Ok(sum)
    }

    /// Gives all folders the mode of folders, whatever umask they were made with.
    pub fn settle(&self) -> Result<()> {
        set_mode(&self.0, PROGRAM)?;
        walk(&self.0, &mut |path, is_folder| {
            if is_folder {
                set_mode(path, PROGRAM)?;
            }
            Ok(())
        })
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

/// Visits what is in a folder and below, in the order of names.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, bool) -> Result<()>) -> Result<()> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("cannot list the folder {}", folder.display()))?;
    let mut paths: Vec<_> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let is_folder = path.is_dir();
        visit(&path, is_folder)?;
        if is_folder {
            walk(&path, visit)?;
        }
    }
    Ok(())
}
