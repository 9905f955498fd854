//! Finds a compiler that can build for the BPF target.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    bpf_target,
    paths::{find_in_path, rustup_home},
};

/// The compiler's version, `1.N`, that the workspace's `rust-version` asks for.
const OLDEST_MINOR: u32 = 95;

/// The compiler of distributions that ship `core` for BPF.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// Names a compiler to use instead of looking for one.
pub(crate) const OVERRIDE: &str = "DOORSTEP_BPF_RUSTC";

/// A compiler that can build for the BPF target, and the cargo to drive it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The cargo to run.
    pub cargo: PathBuf,
    /// The compiler that cargo shall use.
    pub rustc: PathBuf,
    /// Whether `core` must be built from `rust-src` (`-Z build-std=core`).
    pub build_std: bool,
    /// The lints that belong to the compiler, if installed.
    pub clippy_driver: Option<PathBuf>,
}

impl Toolchain {
    /// Finds a BPF-capable toolchain: the compiler named by `DOORSTEP_BPF_RUSTC`, else rustup's
    /// nightly with `rust-src`, else a system compiler that ships `core` for BPF.
    pub fn find() -> Result<Self> {
        if let Some(rustc) = env::var_os(OVERRIDE) {
            let rustc = PathBuf::from(rustc);
            return Self::at(&rustc)
                .with_context(|| format!("{OVERRIDE}={} cannot build for BPF", rustc.display()));
        }
        let mut refused = Vec::new();
        for rustc in candidates() {
            match Self::at(&rustc) {
                Ok(toolchain) => return Ok(toolchain),
                Err(error) => refused.push(format!("  {}: {error:#}", rustc.display())),
            }
        }
        if refused.is_empty() {
            refused.push("  no rustup nightly, and no system compiler".to_owned());
        }
        bail!(
            "no Rust compiler that can build for {target}. Looked at:\n{refused}\n\
             Run `cargo xtask setup`, or install one of\n  \
             rustup's nightly with its sources: rustup toolchain install nightly --component rust-src\n  \
             a system compiler with core for BPF: apt-get install rustc-web libstd-rust-web-dev-bpf\n\
             or name a compiler in {OVERRIDE}.",
            target = bpf_target(),
            refused = refused.join("\n"),
        )
    }

    /// Checks that one compiler can build for BPF.
    fn at(rustc: &Path) -> Result<Self> {
        let minor = minor_version(&ask(rustc, "--version")?)?;
        if minor < OLDEST_MINOR {
            bail!("it is Rust 1.{minor}, and the workspace needs 1.{OLDEST_MINOR} or newer");
        }
        let sysroot = PathBuf::from(ask(rustc, "--print=sysroot")?.trim_end());
        let rustlib = sysroot.join("lib/rustlib");
        let build_std = if has_core(&rustlib.join(bpf_target()).join("lib")) {
            false
        } else if rustlib.join("src/rust/library/core/Cargo.toml").is_file() {
            true
        } else {
            bail!("it has neither core for {} nor rust-src", bpf_target());
        };
        // build-std needs the cargo that belongs to the compiler; otherwise any will do.
        let own_cargo = sysroot.join("bin/cargo");
        let cargo = if build_std && own_cargo.is_file() {
            own_cargo
        } else {
            env::var_os("CARGO")
                .map(PathBuf::from)
                .or_else(|| find_in_path("cargo"))
                .context("no cargo on PATH")?
        };
        Ok(Self {
            cargo,
            rustc: rustc.to_owned(),
            build_std,
            clippy_driver: Some(rustc.with_file_name("clippy-driver"))
                .filter(|driver| driver.is_file()),
        })
    }

    /// Whether the compiler is the distribution's, not rustup's.
    pub fn is_system(&self) -> bool {
        self.rustc == Path::new(SYSTEM_RUSTC)
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut found = nightlies();
    found.push(PathBuf::from(SYSTEM_RUSTC));
    found.retain(|rustc| rustc.is_file());
    found
}

/// The compilers of rustup's nightly toolchains, the undated one first, then the newest.
fn nightlies() -> Vec<PathBuf> {
    let Some(toolchains) = rustup_home().map(|home| home.join("toolchains")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = fs::read_dir(&toolchains)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("nightly"))
        .collect();
    sort_nightlies(&mut names);
    names
        .iter()
        .map(|name| toolchains.join(name).join("bin/rustc"))
        .collect()
}

fn sort_nightlies(names: &mut [String]) {
    let dated = |name: &str| {
        name.trim_start_matches("nightly-")
            .starts_with(|c: char| c.is_ascii_digit())
    };
    names.sort_by(|a, b| dated(a).cmp(&dated(b)).then_with(|| b.cmp(a)));
}

fn has_core(lib: &Path) -> bool {
    fs::read_dir(lib)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| is_core(&entry.file_name()))
}

fn is_core(file_name: &OsStr) -> bool {
    file_name
        .to_str()
        .is_some_and(|name| name.starts_with("libcore-") && name.ends_with(".rlib"))
}

fn ask(rustc: &Path, question: &str) -> Result<String> {
    let output = Command::new(rustc)
        .arg(question)
        .output()
        .with_context(|| format!("cannot run {}", rustc.display()))?;
    if !output.status.success() {
        bail!(
            "`{} {question}` failed: {}",
            rustc.display(),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    String::from_utf8(output.stdout).context("rustc's answer is not UTF-8")
}

fn minor_version(answer: &str) -> Result<u32> {
    answer
        .strip_prefix("rustc 1.")
        .and_then(|rest| rest.split('.').next())
        .and_then(|minor| minor.parse().ok())
        .ok_or_else(|| anyhow!("`rustc --version` said {:?}", answer.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_from_all_channels() {
        for (answer, minor) in [
            ("rustc 1.95.0 (59807616e 2026-04-14)\n", Some(95)),
            ("rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\n", Some(97)),
            ("rustc 1.96.0 (built from a source tarball)\n", Some(96)),
            ("rustc 1.\n", None),
            ("clang 19\n", None),
            ("", None),
        ] {
            assert_eq!(minor_version(answer).ok(), minor, "{answer:?}");
        }
    }

    #[test]
    fn undated_nightly_comes_first_then_the_newest() {
        let mut names = [
            "nightly-2026-01-01-x86_64-unknown-linux-gnu",
            "nightly-2026-05-01-x86_64-unknown-linux-gnu",
            "nightly-x86_64-unknown-linux-gnu",
        ]
        .map(str::to_owned);
        sort_nightlies(&mut names);
        assert_eq!(names[0], "nightly-x86_64-unknown-linux-gnu");
        assert_eq!(names[1], "nightly-2026-05-01-x86_64-unknown-linux-gnu");
    }

    #[test]
    fn core_is_known_by_its_file_name() {
        assert!(is_core(OsStr::new("libcore-0123abcd.rlib")));
        assert!(!is_core(OsStr::new("libcore-0123abcd.rmeta")));
        assert!(!is_core(OsStr::new("liballoc-0123abcd.rlib")));
    }
}
