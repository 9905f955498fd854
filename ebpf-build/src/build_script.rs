//! For build scripts: build a program, and tell cargo where it is and what it depends on.
#![expect(
    clippy::print_stdout,
    reason = "a build script speaks to cargo through standard output"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{BuildRequest, GATEWAY_PACKAGE, build, toolchain, workspace_root};

/// Builds `bin` of `package` and makes `env!(env_name)` the path of the object in the crate whose
/// build script calls this.
///
/// A prebuilt object is used instead when named in the environment: `DOORSTEP_EBPF_OBJECT` for the
/// gateway's programs, `DOORSTEP_EBPF_OBJECT_<BIN>` (upper case, `_` for `-`) for any other.
pub fn build_for_build_script(package: &str, bin: &str, env_name: &str) -> Result<()> {
    let prebuilt = prebuilt_variable(package, bin);
    if prebuilt == env_name {
        bail!("{env_name} names a prebuilt object: choose another name for the built one");
    }
    println!("cargo::rerun-if-env-changed={prebuilt}");
    println!("cargo::rerun-if-env-changed={}", toolchain::OVERRIDE);

    let object = if let Some(object) = env::var_os(&prebuilt) {
        let object = PathBuf::from(object);
        println!("cargo::rerun-if-changed={}", object.display());
        object
    } else {
        let request = BuildRequest::new(package, bin);
        let object = build(&request)?;
        for path in watched(&request)? {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        object
    };

    let out_dir = env::var_os("OUT_DIR").context("OUT_DIR is not set: call this in build.rs")?;
    let copy = Path::new(&out_dir).join(bin);
    copy_if_different(&object, &copy)?;
    println!("cargo::rustc-env={env_name}={}", copy.display());
    Ok(())
}

fn prebuilt_variable(package: &str, bin: &str) -> String {
    const GATEWAY: &str = "DOORSTEP_EBPF_OBJECT";
    if package == GATEWAY_PACKAGE {
        GATEWAY.to_owned()
    } else {
        format!("{GATEWAY}_{}", bin.to_uppercase().replace('-', "_"))
    }
}

/// An object that did not change keeps its time, so that its users are not compiled again.
fn copy_if_different(from: &Path, to: &Path) -> Result<()> {
    let new =
        fs::read(from).with_context(|| format!("cannot read the object {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))
}

/// What the object depends on, as far as it may be edited here: the sources and manifests of the
/// workspace's own packages, and the lock file.
fn watched(request: &BuildRequest) -> Result<BTreeSet<PathBuf>> {
    let dep_info = request.object().with_extension("d");
    let text = fs::read_to_string(&dep_info)
        .with_context(|| format!("cannot read cargo's dep-info {}", dep_info.display()))?;
    let mut watched = BTreeSet::from([workspace_root().join("Cargo.lock")]);
    for source in dep_info_sources(&text) {
        let manifest_dir = source
            .ancestors()
            .find(|folder| folder.join("Cargo.toml").is_file());
        match manifest_dir {
            Some(folder) => {
                watched.insert(folder.join("Cargo.toml"));
                watched.insert(folder.join("src"));
            }
            None => {
                watched.insert(source);
            }
        }
    }
    Ok(watched)
}

/// The prerequisites of the one rule in a dep-info file, where a space in a path is `\ `.
fn dep_info_sources(text: &str) -> Vec<PathBuf> {
    const SPACE: &str = "\u{1}";
    let Some((_, sources)) = text.lines().next().unwrap_or_default().split_once(": ") else {
        return Vec::new();
    };
    sources
        .replace("\\ ", SPACE)
        .split_whitespace()
        .map(|path| PathBuf::from(path.replace(SPACE, " ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dep_info_is_split_at_unescaped_spaces() {
        assert_eq!(
            dep_info_sources("/t/bin: /a/src/main.rs /with\\ space/lib.rs\n\n/a/src/main.rs:\n"),
            ["/a/src/main.rs", "/with space/lib.rs"].map(PathBuf::from)
        );
        assert!(dep_info_sources("").is_empty());
    }

    #[test]
    fn prebuilt_objects_are_named_per_program() {
        for (package, bin, expected) in [
            (GATEWAY_PACKAGE, GATEWAY_PACKAGE, "DOORSTEP_EBPF_OBJECT"),
            (
                "doorstep-tests-ebpf",
                "access-switch",
                "DOORSTEP_EBPF_OBJECT_ACCESS_SWITCH",
            ),
        ] {
            assert_eq!(prebuilt_variable(package, bin), expected);
        }
    }
}
