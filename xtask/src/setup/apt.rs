//! Debian packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::postgres;
use crate::{
    folder,
    process::{command, run_quietly, text},
};

/// Whether packages can be had from apt here.
pub fn is_there() -> bool {
    Path::new("/usr/bin/apt-get").is_file()
}

/// Installs packages without what they merely recommend, and without removing any other.
pub fn install(packages: &[&str]) -> Result<()> {
    if !packages.iter().all(|package| candidate(package).is_some()) {
        update()?;
    }
    let mut names: Vec<String> = packages.iter().copied().map(str::to_owned).collect();
    names.extend(siblings(&names)?);
    if packages.contains(&postgres::PACKAGE) {
        postgres::without_a_cluster()?;
    }
    println!("setup: apt-get install {}", names.join(" "));
    let result = run_quietly(install_command().args(&names));
    if result.is_ok() {
        return Ok(());
    }
    // Lists that have aged name files that are gone.
    update()?;
    run_quietly(install_command().args(&names))
        .with_context(|| format!("could not install {}", names.join(" ")))
}

/// Packages that apt would remove because they are of another version (from backports, say) than
/// the one of the same software that is to be installed; with the version that goes with it.
fn siblings(packages: &[String]) -> Result<Vec<String>> {
    let plan = text(
        command("apt-get")
            .args(["install", "--simulate", "--no-install-recommends"])
            .args(packages),
    )?;
    Ok(removed(&plan)
        .filter_map(|removed| {
            let (software, _) = removed.split_once('-')?;
            let installed = packages
                .iter()
                .find(|package| package.split('-').next() == Some(software))?;
            let version = candidate(installed)?;
            println!("setup: {removed} becomes {version}, the version that goes with {installed}");
            Some(format!("{removed}={version}"))
        })
        .collect())
}

fn removed(plan: &str) -> impl Iterator<Item = &str> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Remv ")?.split_whitespace().next())
}

/// Downloads a package and unpacks it into a folder, which holds nothing else then. Nothing is
/// installed.
pub fn unpack(package: &str, into: &Path) -> Result<()> {
    folder::make_anew(into)?;
    download(package, into)?;
    let archive = only_package(into)?;
    run_quietly(command("dpkg-deb").arg("--extract").arg(&archive).arg(into))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
}

fn only_package(folder: &Path) -> Result<PathBuf> {
    fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download left no package in {}", folder.display()))
}

/// The file's name is apt's choice.
fn download(package: &str, folder: &Path) -> Result<()> {
    let fetch = || {
        run_quietly(
            command("apt-get")
                .current_dir(folder)
                .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
                .arg(package),
        )
    };
    if fetch().is_ok() {
        return Ok(());
    }
    update()?;
    fetch().with_context(|| format!("could not download the package {package}"))
}

/// The package that a metapackage stands for: its first dependency with the given prefix.
pub fn resolve(metapackage: &str, prefix: &str) -> Result<String> {
    if candidate(metapackage).is_none() {
        update()?;
    }
    let answer = text(command("apt-cache").args(["depends", "--important", metapackage]))?;
    match first_dependency(&answer, prefix) {
        Some(package) => Ok(package.to_owned()),
        None => bail!(
            "apt knows no package that {metapackage} depends on: does this Debian release have it?"
        ),
    }
}

fn first_dependency<'a>(answer: &'a str, prefix: &str) -> Option<&'a str> {
    answer
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with(prefix))
}

/// The version that apt would install.
fn candidate(package: &str) -> Option<String> {
    let policy = text(command("apt-cache").args(["policy", package])).ok()?;
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
}

fn update() -> Result<()> {
    println!("setup: apt-get update");
    run_quietly(command("apt-get").args(["update", "-qq"]))
        .context("apt's package lists could not be fetched: check the network and apt's sources")
}

fn install_command() -> Command {
    let mut install = command("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-qq", "--yes", "--no-install-recommends"])
        .args(["--no-remove", "--allow-downgrades"])
        .args(["-o", "DPkg::Lock::Timeout=300"]);
    install
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metapackage_resolves_to_the_real_kernel() {
        let answer = "linux-image-6.12-cloud-amd64\n  Depends: linux-base\n  \
                      Depends: linux-image-6.12.117+deb12-cloud-amd64\n";
        assert_eq!(
            first_dependency(answer, "linux-image-"),
            Some("linux-image-6.12.117+deb12-cloud-amd64")
        );
        assert_eq!(first_dependency("x\n", "linux-image-"), None);
    }

    #[test]
    fn removals_are_read_from_the_plan() {
        let plan = "Reading...\nRemv qemu-utils [1:10.0.2]\nInst qemu-system-x86 (1:7.2)\n";
        assert_eq!(removed(plan).collect::<Vec<_>>(), ["qemu-utils"]);
    }
}
