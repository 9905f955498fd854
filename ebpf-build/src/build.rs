//! Builds one eBPF program for the BPF target.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{Toolchain, find_linker, target_dir, workspace_root};

/// The package, and the binary in it, of the gateway's programs.
pub const GATEWAY_PACKAGE: &str = "doorstep-gateway-ebpf";

/// What to build.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The package, a member of this workspace.
    pub package: String,
    /// The package's binary.
    pub bin: String,
}

impl BuildRequest {
    /// Asks for one binary of one package.
    pub fn new(package: impl Into<String>, bin: impl Into<String>) -> Self {
        Self {
            package: package.into(),
            bin: bin.into(),
        }
    }

    /// Asks for the gateway's own programs.
    pub fn gateway() -> Self {
        Self::new(GATEWAY_PACKAGE, GATEWAY_PACKAGE)
    }

    pub(crate) fn object(&self) -> PathBuf {
        folder(Verb::Build)
            .join(bpf_target())
            .join("release")
            .join(&self.bin)
    }
}

/// The BPF target of this host's byte order.
pub const fn bpf_target() -> &'static str {
    if cfg!(target_endian = "big") {
        "bpfeb-unknown-none"
    } else {
        "bpfel-unknown-none"
    }
}

/// Builds the program and returns the path of the object file, which carries BTF.
///
/// The compiler's messages go to this process's standard error.
pub fn build(request: &BuildRequest) -> Result<PathBuf> {
    cargo(Verb::Build, request)?;
    let object = request.object();
    check_object(&object)?;
    Ok(object)
}

/// Looks at the program without building it: a warning, clippy's too if the toolchain has it, is an
/// error.
pub fn lint(request: &BuildRequest) -> Result<()> {
    cargo(Verb::Lint, request)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Build,
    Lint,
}

/// The target folder. It is not the outer cargo's, whose lock is held while its build scripts run.
fn folder(verb: Verb) -> PathBuf {
    target_dir().join(match verb {
        Verb::Build => "ebpf",
        Verb::Lint => "ebpf-lint",
    })
}

fn cargo(verb: Verb, request: &BuildRequest) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let linker = find_linker()?;
    let mut command = Command::new(&toolchain.cargo);
    clear_outer_cargo(&mut command);
    command
        .current_dir(workspace_root())
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&linker, verb)?)
        .arg(match verb {
            Verb::Build => "build",
            Verb::Lint => "check",
        })
        .args(["--release", "--package", &request.package])
        .args(["--bin", &request.bin, "--target", bpf_target()])
        .arg("--target-dir")
        .arg(folder(verb))
        // BTF is made from debug information, so the workspace's own settings must not apply.
        .args(["--config", "profile.release.debug=2"])
        .args(["--config", "profile.release.strip=false"])
        .args(["--config", "profile.release.opt-level=3"])
        .args(["--config", "profile.release.codegen-units=1"])
        .args(["--config", "profile.release.overflow-checks=false"])
        .args(["--config", "profile.release.panic=\"abort\""]);
    if toolchain.build_std {
        command.args(["-Z", "build-std=core"]);
    }
    if let (Verb::Lint, Some(clippy)) = (verb, &toolchain.clippy_driver) {
        command.env("RUSTC_WORKSPACE_WRAPPER", clippy);
    }
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", toolchain.cargo.display()))?;
    if !status.success() {
        let what = match verb {
            Verb::Build => "building",
            Verb::Lint => "the lints of",
        };
        bail!(
            "{what} {} for {} with {} failed ({status}); the compiler's messages are above",
            request.package,
            bpf_target(),
            toolchain.rustc.display()
        );
    }
    Ok(())
}

fn rustflags(linker: &Path, verb: Verb) -> Result<String> {
    let linker = linker
        .to_str()
        .with_context(|| format!("the path {} is not UTF-8", linker.display()))?;
    let mut flags = vec![
        "--cfg".to_owned(),
        format!("bpf_target_arch=\"{}\"", env::consts::ARCH),
        "--check-cfg=cfg(bpf_target_arch,values(any()))".to_owned(),
        format!("-Clinker={linker}"),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    if verb == Verb::Lint {
        flags.push("-Dwarnings".to_owned());
    }
    Ok(flags.join("\u{1f}"))
}

/// Removes what an outer cargo (this may run in a build script, under clippy, in a test) says
/// about its own compiler, flags and target.
fn clear_outer_cargo(command: &mut Command) {
    const NAMES: &[&str] = &[
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_TARGET_DIR",
        "CLIPPY_ARGS",
        "DEBUG",
        "HOST",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOC",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "TARGET",
    ];
    const PREFIXES: &[&str] = &[
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "DEP_",
    ];
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if NAMES.contains(&text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// Checks that the linker made a BPF object with type information, without which the loader
/// would fail later and less clearly.
fn check_object(object: &Path) -> Result<()> {
    const ELF_MAGIC: &[u8] = b"\x7fELF";
    // The table of names may share one with `.rel.BTF`, so nothing is asked of what comes before.
    const BTF_SECTION: &[u8] = b".BTF\0";
    let bytes =
        fs::read(object).with_context(|| format!("cannot read the object {}", object.display()))?;
    if !bytes.starts_with(ELF_MAGIC) {
        bail!(
            "{} is not an ELF object: check the linker's version",
            object.display()
        );
    }
    let has_btf = bytes
        .windows(BTF_SECTION.len())
        .any(|name| name == BTF_SECTION);
    if !has_btf {
        bail!(
            "{} carries no BTF: check that bpf-linker is 0.13 or newer (`cargo xtask setup`)",
            object.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_the_linker_and_ask_for_btf() {
        let flags = |verb| rustflags(Path::new("/opt/bin/bpf-linker"), verb).unwrap();
        let built = flags(Verb::Build);
        let built: Vec<&str> = built.split('\u{1f}').collect();
        assert!(built.contains(&"-Clinker=/opt/bin/bpf-linker"));
        assert!(built.contains(&"-Clink-arg=--btf"));
        assert!(!built.contains(&"-Dwarnings"));
        assert!(flags(Verb::Lint).contains("-Dwarnings"));
    }

    #[test]
    fn lints_and_builds_do_not_share_a_target_folder() {
        assert_ne!(folder(Verb::Build), folder(Verb::Lint));
    }
}
