//! WIDE's DHCPv6 client, unpacked into the target folder: Debian's package, once installed, runs it
//! on the host's own links.

use std::path::PathBuf;

use anyhow::Result;
use doorstep_ebpf_build::{find_in_path, target_dir};

use super::apt;
use crate::folder::put_in_place;

pub const PACKAGE: &str = "wide-dhcpv6-client";
/// What it has for the tests.
pub const PROGRAM: &str = "dhcp6c";

/// Where the tests look for it, below the target folder.
fn folder() -> PathBuf {
    target_dir().join("tools").join(PACKAGE)
}

/// The program, on this host or unpacked.
pub fn find() -> Option<PathBuf> {
    let unpacked = || Some(folder().join("usr/sbin").join(PROGRAM)).filter(|file| file.is_file());
    find_in_path(PROGRAM).or_else(unpacked)
}

pub fn is_there() -> bool {
    find().is_some()
}

/// Downloads the package and unpacks it.
pub fn prepare() -> Result<()> {
    let (folder, partial) = (folder(), folder().with_extension("partial"));
    println!("setup: unpacking {PACKAGE} into {}", folder.display());
    apt::unpack(PACKAGE, &partial)?;
    put_in_place(&partial, &folder)
}
