//! BPF file systems, for pins that go with the lab.

use std::path::Path;

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, umount2};

use super::cleanup::Guard;

/// Makes a folder and mounts a BPF file system on it.
pub fn mount(folder: &Path) -> Result<Guard> {
    std::fs::create_dir(folder)?;
    nix::mount::mount(
        Some("bpf"),
        folder,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .context("mounting a BPF file system")?;
    let doomed = folder.to_owned();
    Ok(Guard::new(move || {
        // It goes with the machine at the latest.
        let _ = umount2(&doomed, MntFlags::MNT_DETACH);
    }))
}
