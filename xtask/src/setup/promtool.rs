//! Prometheus' `promtool`, unpacked into the target folder: Debian's package, once installed, runs a
//! Prometheus on the host.

use std::path::PathBuf;

use anyhow::Result;
use doorstep_ebpf_build::{find_in_path, target_dir};

use super::apt;
use crate::folder::put_in_place;

pub const PACKAGE: &str = "prometheus";
const PROGRAM: &str = "promtool";

/// Where the tests look for it, below the target folder.
fn folder() -> PathBuf {
    target_dir().join("tools").join(PACKAGE)
}

pub fn is_there() -> bool {
    find_in_path(PROGRAM).is_some() || folder().join("usr/bin").join(PROGRAM).is_file()
}

/// Downloads the package and unpacks it.
pub fn prepare() -> Result<()> {
    let (folder, partial) = (folder(), folder().with_extension("partial"));
    println!("setup: unpacking {PACKAGE} into {}", folder.display());
    apt::unpack(PACKAGE, &partial)?;
    put_in_place(&partial, &folder)
}
