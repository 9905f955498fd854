//! Cargo, as these tasks call it.

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use doorstep_ebpf_build::{target_dir, workspace_root};
use serde::Deserialize;

use crate::process::{command, describe, text};

/// The daemons, each the binary of the package with the same name.
pub const DAEMONS: [&str; 3] = ["doorstep-gateway", SERVER, "doorstep-terminal"];

/// The server's package and binary.
pub const SERVER: &str = "doorstep-server";

/// The package of the tests that need real packets.
pub const TESTS: &str = "doorstep-tests";

/// The package and the binary of the benchmarks.
pub const BENCH: &str = "doorstep-bench";

/// Cargo, in the workspace's root.
pub fn cargo() -> Command {
    let mut cargo = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace_root());
    // What `cargo run` says about xtask itself must not reach other packages' builds.
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_"))
        {
            cargo.env_remove(name);
        }
    }
    cargo.env_remove("CARGO_MANIFEST_DIR");
    cargo.env_remove("CARGO_MANIFEST_PATH");
    cargo
}

/// A build profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    pub const fn from_flag(release: bool) -> Self {
        if release { Self::Release } else { Self::Dev }
    }

    /// Where cargo puts this profile's binaries.
    pub fn bin_dir(self) -> PathBuf {
        target_dir().join(match self {
            Self::Dev => "debug",
            Self::Release => "release",
        })
    }

    fn flag(self) -> Option<&'static str> {
        (self == Self::Release).then_some("--release")
    }
}

/// Builds binaries, each given as (package, binary), and returns the folder they are in.
pub fn build_binaries(profile: Profile, binaries: &[(&str, &str)]) -> Result<PathBuf> {
    let mut build = cargo();
    build.arg("build").args(profile.flag());
    for (package, bin) in binaries {
        build.args(["--package", package, "--bin", bin]);
    }
    crate::process::run(&mut build)?;
    Ok(profile.bin_dir())
}

/// What `cargo metadata` says about the workspace.
#[derive(Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
    workspace_default_members: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

impl Metadata {
    pub fn read() -> Result<Self> {
        let answer = text(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
        serde_json::from_str(&answer).context("cannot read what `cargo metadata` says")
    }

    /// The packages that `cargo build` builds.
    pub fn default_members(&self) -> impl Iterator<Item = &str> {
        self.packages
            .iter()
            .filter(|package| self.workspace_default_members.contains(&package.id))
            .map(|package| package.name.as_str())
    }

    /// The packages for the BPF target, each with its binaries.
    pub fn ebpf_programs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.packages
            .iter()
            .filter(|package| !self.workspace_default_members.contains(&package.id))
            .flat_map(|package| {
                package
                    .targets
                    .iter()
                    .filter(|target| target.kind.iter().any(|kind| kind == "bin"))
                    .map(|target| (package.name.as_str(), target.name.as_str()))
            })
    }

    /// Whether a package has a target of this kind (`lib`, `bin`, `test`) and name.
    pub fn has_target(&self, package: &str, kind: &str, name: Option<&str>) -> bool {
        self.packages
            .iter()
            .filter(|candidate| candidate.name == package)
            .flat_map(|package| &package.targets)
            .any(|target| {
                target.kind.iter().any(|candidate| candidate == kind)
                    && name.is_none_or(|name| target.name == name)
            })
    }
}

/// Builds all binaries and these test targets; returns the tests' executables by name.
///
/// One call for all, so that what they share is built once: features depend on what is selected.
pub fn build_tests(names: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut build = cargo();
    build
        .args(["build", "--bins"])
        .args(["--message-format", "json-render-diagnostics"]);
    for name in names {
        build.args(["--test", name]);
    }
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{}`", describe(&build)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", describe(&build), output.status);
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        target: Target,
        executable: Option<PathBuf>,
    }

    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter(|artifact| artifact.target.kind.iter().any(|kind| kind == "test"))
        .filter_map(|artifact| Some((artifact.target.name, artifact.executable?)))
        .collect()
}

/// The folder of a package that lies in the workspace's root under this name.
pub fn folder(name: &str) -> PathBuf {
    workspace_root().join(name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn executables_are_read_from_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"a"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"netns"},"executable":"/t/netns-1"}
{"reason":"build-finished","success":true}
"#;
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found["netns"], Path::new("/t/netns-1"));
    }
}
