//! The Debian packages that `cargo xtask dist` makes of the daemons.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::daemon::bin_dir;
use doorstep_tests::lab::netns::run;
use doorstep_tests::suite::CaseResult;
use tempfile::TempDir;

const NAMES: [&str; 3] = ["doorstep-server", "doorstep-gateway", "doorstep-terminal"];
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// What a unit may reach of 100, as systemd-analyze counts.
const EXPOSURE: &str = "20";

/// Packages of the daemons that these tests run with.
struct Made {
    folder: TempDir,
}

impl Made {
    fn new(umask: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let bin_dir = bin_dir()?;
        let mut make = Command::new("sh");
        make.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")])
            .arg(bin_dir.join("xtask"))
            .args(["dist", "--uncompressed", "--revision", "7", "--bin-dir"])
            .arg(&bin_dir)
            .arg("--out")
            .arg(folder.path())
            .env("SOURCE_DATE_EPOCH", "1700000000");
        run(&mut make)?;
        Ok(Self { folder })
    }

    fn package(&self, name: &str) -> Result<PathBuf> {
        let begin = format!("{name}_{}-7_", env!("CARGO_PKG_VERSION"));
        let mut entries = std::fs::read_dir(self.folder.path())?.flatten();
        let found = entries.find(|entry| entry.file_name().to_string_lossy().starts_with(&begin));
        Ok(found.with_context(|| format!("no {begin}*.deb"))?.path())
    }
}

fn dpkg_deb(words: &[&str], package: &Path) -> Result<String> {
    let (option, rest) = words.split_first().context("an option")?;
    let mut command = Command::new("dpkg-deb");
    run(command.arg(option).arg(package).args(rest))
}

/// All but man pages that are installed, besides folders.
fn expected(name: &str) -> BTreeSet<String> {
    let mut files: BTreeSet<String> = [
        format!("usr/bin/{name}"),
        format!("usr/lib/systemd/system/{name}.service"),
        format!("usr/lib/sysusers.d/{name}.conf"),
        format!("usr/share/bash-completion/completions/{name}"),
        format!("usr/share/zsh/vendor-completions/_{name}"),
        format!("usr/share/fish/vendor_completions.d/{name}.fish"),
    ]
    .into();
    let documents = [
        "changelog.Debian.gz",
        "changelog.gz",
        "copyright",
        "reference/cli.md",
        "reference/configuration.md",
        "reference/metrics.md",
        "third-party.gz",
    ];
    let documents = documents.map(|file| format!("usr/share/doc/{name}/{file}"));
    files.extend(documents);
    files.extend(conffiles(name).into_iter().map(|file| file[1..].to_owned()));
    if name == "doorstep-gateway" {
        files.insert(format!("usr/share/doc/{name}/reference/reasons.md"));
    }
    if name != "doorstep-terminal" {
        let pages = [
            "README",
            "certificates",
            "plan",
            "postgresql",
            "several-operators",
            "trouble",
            "two-gateways",
            "upgrade",
        ];
        files.extend(pages.map(|page| format!("usr/share/doc/{name}/guide/{page}.md")));
    }
    files
}

fn conffiles(name: &str) -> Vec<String> {
    let daemon = name.trim_start_matches("doorstep-");
    let mut files = vec![format!("/etc/doorstep/{daemon}.toml")];
    if daemon == "gateway" {
        files.push("/etc/doorstep/inventory.csv".to_owned());
    }
    files
}

/// Mode and owner of each file and folder, by its name.
fn listed(package: &Path) -> Result<BTreeMap<String, (String, String)>> {
    let text = dpkg_deb(&["--contents"], package)?;
    let entries = text.lines().map(|line| {
        let mut words = line.split_whitespace();
        let mode = words.next()?.to_owned();
        let owner = words.next()?.to_owned();
        let name = words.last()?.trim_start_matches("./").to_owned();
        Some((name, (mode, owner)))
    });
    let entries: Option<_> = entries.collect();
    entries.with_context(|| format!("not understood: {text}"))
}

pub fn contents() -> CaseResult {
    let (made, again) = (Made::new("022")?, Made::new("077")?);
    for name in NAMES {
        let package = made.package(name)?;
        let same = std::fs::read(&package)? == std::fs::read(again.package(name)?)?;
        ensure!(same, "{name}: made twice, it is not the same");
        files(name, &package).with_context(|| name.to_owned())?;
        told(name, &package).with_context(|| name.to_owned())?;
    }
    let left = std::fs::read_dir(made.folder.path())?.count();
    ensure!(left == NAMES.len(), "{left} files are left");
    Ok(())
}

fn files(name: &str, package: &Path) -> Result<()> {
    let mut found = BTreeSet::new();
    let mut pages = BTreeSet::new();
    for (file, (mode, owner)) in listed(package)? {
        ensure!(owner == "root/root", "{file}: {owner}");
        let is_program = file.starts_with("usr/bin/");
        let expected = match file.ends_with('/') || file.is_empty() {
            true => "drwxr-xr-x",
            false if is_program => "-rwxr-xr-x",
            false => "-rw-r--r--",
        };
        ensure!(mode == expected, "{file}: {mode}");
        if let Some(page) = file.strip_prefix("usr/share/man/man8/")
            && !page.is_empty()
        {
            pages.insert(page.to_owned());
        } else if !file.is_empty() && !file.ends_with('/') {
            found.insert(file);
        }
    }
    ensure!(found == expected(name), "{found:?}");
    for page in [format!("{name}.8.gz"), format!("{name}-run.8.gz")] {
        ensure!(pages.contains(&page), "no {page} among {pages:?}");
    }

    let folder = tempfile::tempdir()?;
    let root = folder.path();
    let root_name = root.to_str().context("a name")?;
    dpkg_deb(&["--extract", root_name], package)?;
    for page in &pages {
        let path = root.join("usr/share/man/man8").join(page);
        let text = run(Command::new("gzip").arg("-dc").arg(path))?;
        ensure!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    let unit = format!("usr/lib/systemd/system/{name}.service");
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--no-pager", "--offline=true"]);
    analyze.arg(format!("--threshold={EXPOSURE}"));
    run(analyze.arg(root.join(unit)))?;
    let version = run(Command::new(root.join("usr/bin").join(name)).arg("--version"))?;
    ensure!(
        version.trim() == format!("{name} {}", env!("CARGO_PKG_VERSION")),
        "{version}"
    );
    let third = format!("usr/share/doc/{name}/third-party.gz");
    let third = run(Command::new("gzip").arg("-dc").arg(root.join(third)))?;
    for crate_of_others in ["tokio ", "rustls ", "clap "] {
        let begin = format!("\n{crate_of_others}");
        ensure!(third.contains(&begin), "no {crate_of_others}");
    }
    ensure!(third.contains("Permission is hereby granted"));
    ensure!(!third.contains("\ndoorstep"), "our own are none of others");
    Ok(())
}

/// What dpkg is told.
fn told(name: &str, package: &Path) -> Result<()> {
    let field = |field: &str| {
        let text = dpkg_deb(&["--field", field], package)?;
        anyhow::Ok(text.trim().to_owned())
    };
    ensure!(field("Package")? == name);
    let depends = field("Depends")?;
    ensure!(depends.starts_with("libc6 (>= "), "{depends}");
    ensure!(depends.contains("systemd"), "{depends}");
    ensure!(field("Installed-Size")?.parse::<u64>()? > 1000);

    let folder = tempfile::tempdir()?;
    let (root, about) = (folder.path().join("root"), folder.path().join("about"));
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a name");
    dpkg_deb(&["--extract", &text(&root)?], package)?;
    dpkg_deb(&["--control", &text(&about)?], package)?;
    let marked = std::fs::read_to_string(about.join("conffiles"))?;
    ensure!(marked.lines().eq(conffiles(name)), "{marked}");
    run(Command::new("md5sum")
        .args(["--check", "--strict", "--quiet"])
        .arg(about.join("md5sums"))
        .current_dir(&root))?;
    for script in SCRIPTS {
        let path = about.join(script);
        let mode = std::fs::metadata(&path)?.permissions().mode();
        ensure!(mode & 0o777 == 0o755, "{script}: {mode:o}");
        let text = std::fs::read_to_string(&path)?;
        ensure!(!text.contains('@'), "{script} is not filled in: {text}");
        run(Command::new("sh").arg("-n").arg(&path))?;
    }
    Ok(())
}
