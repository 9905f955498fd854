//! Finds `bpf-linker`, which turns LLVM bitcode into one BPF object.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::paths::{cargo_home, find_in_path};

/// Finds `bpf-linker` on `PATH` or where `cargo install` puts it.
pub fn find_linker() -> Result<PathBuf> {
    find_in_path("bpf-linker")
        .or_else(|| {
            let installed = cargo_home()?.join("bin/bpf-linker");
            installed.is_file().then_some(installed)
        })
        .context(
            "no bpf-linker on PATH or in cargo's bin folder: run `cargo xtask setup`, which \
             installs it",
        )
}
