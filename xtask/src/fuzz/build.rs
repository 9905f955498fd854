//! Builds what runs the targets.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use doorstep_ebpf_build::{find_in_path, target_dir};

use crate::cargo::{Profile, build_binaries, cargo};
use crate::process::{run, text};

const PACKAGE: &str = "doorstep-fuzz";
const GUIDED: &str = "doorstep-libfuzzer";
/// Of the workspace's manifest.
const PROFILE: &str = "fuzz";

/// What makes the compiler count which ways through the code are taken, and tell what is compared
/// with what, for libFuzzer. All of it is stable; no sanitizer is used, because nearly all of the code
/// forbids `unsafe`.
const INSTRUMENTED: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Whether libFuzzer, which is C++, can be built.
pub fn has_cpp() -> bool {
    env::var_os("CXX").is_some() || find_in_path("c++").is_some() || find_in_path("g++").is_some()
}

/// The loop that the tests use, as a program.
pub fn plain() -> Result<PathBuf> {
    let folder = build_binaries(Profile::Dev, &[(PACKAGE, PACKAGE)])?;
    Ok(folder.join(PACKAGE))
}

/// The targets with libFuzzer.
pub fn guided() -> Result<PathBuf> {
    let host = host()?;
    let folder = target_dir().join("fuzz");
    println!("fuzz: building with coverage instrumentation (some minutes the first time)");
    run(cargo()
        .args(["build", "--package", PACKAGE, "--bin", GUIDED])
        .args(["--features", "libfuzzer", "--profile", PROFILE])
        // With a target named, the flags are not for build scripts.
        .args(["--target", &host, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", INSTRUMENTED.join(" "))
        .env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    Ok(folder.join(host).join(PROFILE).join(GUIDED))
}

/// The target that the compiler runs on.
fn host() -> Result<String> {
    let mut rustc = crate::process::command(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let version = text(rustc.arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}
