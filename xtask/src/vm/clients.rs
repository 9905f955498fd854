//! DHCP clients in the guest, as Debian's packages have them on this host: programs, scripts and what
//! these read.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use doorstep_ebpf_build::find_in_path;

use super::initramfs::Root;
use crate::setup::dhcp6c;

/// Programs, and the script that one of them starts by its place in `/sbin`.
const PROGRAMS: &[&str] = &["dhclient", "dhclient-script", "dhcpcd"];

/// Folders with configurations and hooks, at the same place in the guest.
const FOLDERS: &[&str] = &["/etc/dhcp", "/usr/lib/dhcpcd"];

/// A file and when it was changed, for the list of what the cached part was made of.
type Ingredient = (PathBuf, Option<SystemTime>);

/// Where the programs lie on this host, as far as they are there.
fn programs() -> impl Iterator<Item = (&'static str, Option<PathBuf>)> {
    let on_path = PROGRAMS.iter().map(|name| (*name, find_in_path(name)));
    on_path.chain([(dhcp6c::PROGRAM, dhcp6c::find())])
}

/// What is shipped.
pub fn ingredients() -> Vec<Ingredient> {
    let programs = programs().filter_map(|(_, path)| path);
    let folders = FOLDERS.iter().flat_map(|folder| files(Path::new(folder)));
    let modified = |path: &Path| fs::metadata(path).ok()?.modified().ok();
    programs
        .chain(folders)
        .map(|path| (path.clone(), modified(&path)))
        .collect()
}

/// Ships them.
pub fn add<W: Write>(root: &mut Root<W>) -> Result<()> {
    for (name, path) in programs() {
        let path = path.with_context(|| format!("no {name} here: run `cargo xtask setup`"))?;
        root.host_file(&path, &format!("usr/sbin/{name}"))?;
    }
    for file in FOLDERS.iter().flat_map(|folder| files(Path::new(folder))) {
        root.host_file(&file, &file.to_string_lossy())?;
    }
    Ok(())
}

/// The files in a folder and those below, in the order of their names; links count as what they lead to.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let found = paths.into_iter().flat_map(|path| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    });
    found.collect()
}
