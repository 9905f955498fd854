//! Debian packages.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::process::{command, run_quietly, text};

/// Whether packages can be had from apt here.
pub fn is_there() -> bool {
    Path::new("/usr/bin/apt-get").is_file()
}

/// Installs packages without what they merely recommend, and without removing any other.
pub fn install(packages: &[&str]) -> Result<()> {
    if !packages.iter().all(|package| has_candidate(package)) {
        update()?;
    }
    println!("setup: apt-get install {}", packages.join(" "));
    let result = run_quietly(install_command().args(packages));
    if result.is_ok() {
        return Ok(());
    }
    // Lists that have aged name files that are gone.
    update()?;
    run_quietly(install_command().args(packages))
        .with_context(|| format!("could not install {}", packages.join(" ")))
}

/// Downloads a package into a folder; the file's name is apt's choice.
pub fn download(package: &str, folder: &Path) -> Result<()> {
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
    if !has_candidate(metapackage) {
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

fn has_candidate(package: &str) -> bool {
    text(command("apt-cache").args(["policy", package])).is_ok_and(|policy| {
        policy
            .lines()
            .any(|line| line.trim().starts_with("Candidate:") && !line.contains("(none)"))
    })
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
        .arg("--no-remove");
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
}
