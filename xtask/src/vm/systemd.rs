//! A guest whose first process is systemd, and that Debian packages are installed in, with the programs
//! of this host.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use doorstep_ebpf_build::find_in_path;

use super::initramfs::Root;
use crate::process::{command, text};

const INIT: &str = include_str!("init-systemd.sh");

/// What packages, their scripts and the daemons call, where busybox would do it in its own way.
const PROGRAMS: &[&str] = &[
    "chgrp",
    "chmod",
    "chown",
    "deb-systemd-invoke",
    "dnsmasq",
    "dpkg",
    "dpkg-deb",
    "dpkg-query",
    "dpkg-split",
    "find",
    "install",
    "ldconfig",
    "ls",
    "perl",
    "rm",
    "sed",
    "setpriv",
    "sh",
    "start-stop-daemon",
    "stat",
    "systemctl",
    "systemd-analyze",
    "systemd-sysusers",
    "tar",
];

const SYSTEMD: &str = "/usr/lib/systemd";

/// Debian packages that are there as far as dpkg knows.
const INSTALLED: &[&str] = &["libc6", "libgcc-s1", "systemd"];

const FILES: &[(&str, &str)] = &[
    // Without it this would be its first boot ever, which enables all units.
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    (
        "etc/systemd/system/doorstep-command.service",
        "[Unit]\n\
         Description=What this machine was started for\n\
         [Service]\n\
         Type=oneshot\n\
         Environment=PATH=/doorstep/bin:/usr/sbin:/usr/bin HOME=/root LANG=C TERM=dumb NO_COLOR=1\n\
         ExecStart=/usr/bin/bash /doorstep/session\n\
         TimeoutStartSec=infinity\n",
    ),
];

/// Ships all of it over what the other guests have.
pub fn add<W: Write>(root: &mut Root<W>) -> Result<()> {
    root.text("init", INIT)?;
    for (path, content) in FILES {
        root.text(path, content)?;
    }
    let wanted = "etc/systemd/system/multi-user.target.wants/doorstep-command.service";
    root.link(wanted, "../doorstep-command.service")?;
    root.link(
        "etc/systemd/system/default.target",
        "/usr/lib/systemd/system/multi-user.target",
    )?;
    for folder in [
        "var/log",
        "var/tmp",
        "var/lib/dpkg/info",
        "var/lib/dpkg/updates",
    ] {
        root.folder(folder)?;
    }
    let status = text(command("dpkg").arg("--status").args(INSTALLED))?;
    root.text("var/lib/dpkg/status", &status)?;

    for name in PROGRAMS {
        let path = find_in_path(name)
            .with_context(|| format!("no {name} here: run `cargo xtask setup`"))?;
        root.host_file(&path, &format!("usr/bin/{name}"))?;
    }
    let systemd = Path::new(SYSTEMD).join("systemd");
    root.host_file(&systemd, &systemd.to_string_lossy())?;
    for path in targets()?.into_iter().chain(perl()?) {
        root.host_file(&path, &path.to_string_lossy())?;
    }
    Ok(())
}

/// Its targets, and none of its services: those are for hosts with devices, logs and users.
fn targets() -> Result<Vec<PathBuf>> {
    let folder = Path::new(SYSTEMD).join("system");
    let entries = folder
        .read_dir()
        .with_context(|| format!("no units in {}", folder.display()))?;
    let mut targets: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.is_file() && name.ends_with(".target")
        })
        .collect();
    targets.sort();
    Ok(targets)
}

/// What perl's scripts need of Debian's smallest perl.
fn perl() -> Result<Vec<PathBuf>> {
    let listed = text(command("dpkg").args(["--listfiles", "perl-base"]))?;
    let files = listed.lines().filter(|line| line.contains("/perl-base/"));
    let files = files.map(PathBuf::from).filter(|path| path.is_file());
    Ok(files.collect())
}
