//! WIDE's DHCPv6 client, unpacked into the target folder: Debian's package, once installed, runs it
//! on the host's own links.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use doorstep_ebpf_build::{find_in_path, target_dir};

use super::apt;
use crate::process::{command, run_quietly};

pub const PACKAGE: &str = "wide-dhcpv6-client";
const PROGRAM: &str = "dhcp6c";

/// Where the tests look for it, below the target folder.
fn folder() -> PathBuf {
    target_dir().join("tools").join(PACKAGE)
}

pub fn is_there() -> bool {
    find_in_path(PROGRAM).is_some() || folder().join("usr/sbin").join(PROGRAM).is_file()
}

/// Downloads the package and unpacks it.
pub fn prepare() -> Result<()> {
    let (folder, partial) = (folder(), folder().with_extension("partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial)
        .with_context(|| format!("cannot make the folder {}", partial.display()))?;
    println!("setup: unpacking {PACKAGE} into {}", folder.display());
    apt::download(PACKAGE, &partial)?;
    let mut files = fs::read_dir(&partial)?;
    let archive = files.next().context("apt has downloaded no file")??.path();
    run_quietly(
        command("dpkg-deb")
            .arg("--extract")
            .arg(&archive)
            .arg(&partial),
    )?;
    fs::remove_file(&archive)?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&partial, &folder).with_context(|| format!("cannot make {}", folder.display()))
}
