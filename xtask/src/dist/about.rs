//! What dpkg is told of a package.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use doorstep_ebpf_build::workspace_root;

use super::{package::Package, stage::Stage};
use crate::{
    folder,
    process::{command, text},
};

/// What all packages of one run have in common.
pub struct Release {
    /// `0.1.0-1`: the workspace's version and the revision of its packages.
    pub version: String,
    /// dpkg's name of the machine.
    pub architecture: String,
    maintainer: String,
    /// Of all files, in seconds since 1970.
    pub epoch: String,
}

impl Release {
    pub fn new(revision: u32) -> Result<Self> {
        // As dpkg orders them, `0.2.0~rc.1` comes before `0.2.0`.
        let version = env!("CARGO_PKG_VERSION").replacen('-', "~", 1);
        Ok(Self {
            version: format!("{version}-{revision}"),
            architecture: line(command("dpkg").arg("--print-architecture"))?,
            maintainer: maintainer(),
            epoch: epoch()?,
        })
    }

    /// The name of a package's file.
    pub fn file(&self, package: &Package) -> String {
        let (name, version, machine) = (package.name, &self.version, &self.architecture);
        format!("{name}_{version}_{machine}.deb")
    }

    /// `DEBIAN/control`.
    pub fn control(&self, package: &Package, depends: &str, kibibytes: u64) -> String {
        let recommends = package.recommends;
        let recommends = recommends.map_or(String::new(), |names| format!("Recommends: {names}\n"));
        let description = package.description.iter().map(|line| format!(" {line}\n"));
        format!(
            "Package: {}\n\
             Version: {}\n\
             Architecture: {}\n\
             Maintainer: {}\n\
             Installed-Size: {kibibytes}\n\
             Depends: {depends}, systemd | systemd-standalone-sysusers | systemd-sysusers\n\
             {recommends}\
             Section: net\n\
             Priority: optional\n\
             Description: {}\n{}",
            package.name,
            self.version,
            self.architecture,
            self.maintainer,
            package.summary,
            description.collect::<String>()
        )
    }

    /// `changelog.Debian`.
    pub fn changelog(&self) -> Result<String> {
        let date = line(command("date").args(["-u", "-R", "-d", &format!("@{}", self.epoch)]))?;
        Ok(format!(
            "doorstep ({}) unstable; urgency=medium\n\n  \
             * What has changed is in changelog.gz.\n\n \
             -- {}  {date}\n",
            self.version, self.maintainer
        ))
    }
}

/// What a program of a package is linked with, as packages of this host.
pub fn libraries(stage: &Stage, program: &str, scratch: &Path) -> Result<String> {
    folder::make_anew(&scratch.join("debian"))?;
    // It reads no more of it than that there is a package.
    let control = "Source: doorstep\n\nPackage: doorstep\nArchitecture: any\n";
    fs::write(scratch.join("debian/control"), control)?;
    let program = stage.path().join(program);
    let mut look = command("dpkg-shlibdeps");
    let answer = text(look.arg("-O").arg(program).current_dir(scratch))?;
    let packages = answer.lines().find_map(|line| line.split_once('='));
    let (_, packages) = packages.context("dpkg-shlibdeps names no packages")?;
    Ok(packages.trim().to_owned())
}

/// The maintainer scripts' text: those of `deploy/debian`, about one package.
pub fn script(name: &str, package: &Package) -> Result<String> {
    let read = |name: &str| {
        let path = deploy(&format!("debian/{name}"));
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let take_down = if package.takes_down {
        read(&format!("prerm.{}", package.name))?
    } else {
        String::new()
    };
    let text = read(name)?.replace("@TAKE_DOWN@", &take_down);
    Ok(text.replace("@NAME@", package.name))
}

/// A file of `deploy`.
pub fn deploy(name: &str) -> PathBuf {
    workspace_root().join("deploy").join(name)
}

/// Whoever makes packages maintains them: as Debian's tools take it from the environment.
fn maintainer() -> String {
    let name = env::var("DEBFULLNAME").unwrap_or_else(|_| "The Doorstep developers".to_owned());
    let address = env::var("DEBEMAIL").unwrap_or_else(|_| "packages@doorstep.invalid".to_owned());
    format!("{name} <{address}>")
}

/// `SOURCE_DATE_EPOCH`, or when what is built here was committed.
fn epoch() -> Result<String> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut git = command("git");
    git.args(["log", "-1", "--format=%ct"]);
    line(git.current_dir(workspace_root()))
        .context("no commit that tells the files' time: give it as SOURCE_DATE_EPOCH")
}

fn line(command: &mut std::process::Command) -> Result<String> {
    text(command).map(|text| text.trim().to_owned())
}
