//! `cargo xtask dist`: Debian packages of the three daemons.

mod about;
mod package;
mod stage;
mod third_party;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use doorstep_ebpf_build::{target_dir, workspace_root};

use crate::{
    cargo::{DAEMONS, Profile, build_binaries},
    folder,
    process::{command, run_quietly},
    setup,
};
use about::{Release, deploy};
use package::{PACKAGES, Package};
use stage::{FILE, PROGRAM, Stage};
use third_party::Crates;

/// Make Debian packages of the daemons, optimized.
#[derive(clap::Args)]
pub struct Args {
    /// Where the packages go; target/dist unless given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Number of the packages' revision; a higher one upgrades packages of the same version.
    #[arg(long, value_name = "N", default_value_t = 1)]
    revision: u32,
    /// Take the daemons that are in this folder, instead of building them.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Leave the packages uncompressed, for a quick try.
    #[arg(long)]
    uncompressed: bool,
    /// Only these packages.
    #[arg(value_name = "DAEMON", value_parser = DAEMONS)]
    only: Vec<String>,
}

/// Which packages to make, and of what.
pub struct Making<'a> {
    /// Where the daemons are.
    pub bin_dir: &'a Path,
    /// Where the packages go.
    pub out: &'a Path,
    pub revision: u32,
    pub uncompressed: bool,
    /// By name; all of them if it is empty.
    pub only: &'a [String],
}

pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[])?;
    let bin_dir = match &args.bin_dir {
        Some(folder) => folder.clone(),
        None => build_binaries(Profile::Release, &DAEMONS.map(|name| (name, name)))?,
    };
    let out = args.out.clone().unwrap_or(target_dir().join("dist"));
    fs::create_dir_all(&out)
        .with_context(|| format!("cannot make the folder {}", out.display()))?;
    let made = make(&Making {
        bin_dir: &bin_dir,
        out: &out,
        revision: args.revision,
        uncompressed: args.uncompressed,
        only: &args.only,
    })?;
    for package in made {
        println!("{}", package.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes packages; returns their files.
pub fn make(making: &Making<'_>) -> Result<Vec<PathBuf>> {
    let release = Release::new(making.revision)?;
    let crates = Crates::read()?;
    let scratch = making.out.join(format!(".making-{}", std::process::id()));
    let wanted = |package: &&Package| {
        making.only.is_empty() || making.only.iter().any(|name| name == package.name)
    };
    let made = PACKAGES.iter().filter(wanted).map(|package| {
        let stage = Stage::new(scratch.join(package.name))?;
        fill(&stage, package, &release, &crates, making.bin_dir, &scratch)?;
        let file = making.out.join(release.file(package));
        let mut build = command("dpkg-deb");
        build.args(["--root-owner-group", "--build"]);
        build.arg(if making.uncompressed {
            "-Znone"
        } else {
            "-Zxz"
        });
        build.env("SOURCE_DATE_EPOCH", &release.epoch);
        run_quietly(build.arg(stage.path()).arg(&file))?;
        Ok(file)
    });
    let made = made.collect();
    fs::remove_dir_all(&scratch).ok();
    made
}

/// Puts all of a package's files in their places.
fn fill(
    stage: &Stage,
    package: &Package,
    release: &Release,
    crates: &Crates,
    bin_dir: &Path,
    scratch: &Path,
) -> Result<()> {
    let name = package.name;
    let binary = bin_dir.join(name);
    let program = format!("usr/bin/{name}");
    stage.program(&binary, &program)?;
    stage.copy(
        &deploy(&format!("systemd/{name}.service")),
        &format!("usr/lib/systemd/system/{name}.service"),
        FILE,
    )?;
    stage.copy(
        &deploy(&format!("sysusers.d/{name}.conf")),
        &format!("usr/lib/sysusers.d/{name}.conf"),
        FILE,
    )?;
    for file in package.configuration {
        let file = format!("etc/doorstep/{file}");
        stage.copy(&deploy(&file), &file, FILE)?;
    }
    manual(stage, name, &binary, &scratch.join("manual"))?;
    documents(stage, package, release, crates, scratch)?;

    let configuration = package.configuration.iter();
    let conffiles = configuration.map(|file| format!("/etc/doorstep/{file}\n"));
    stage.write("DEBIAN/conffiles", conffiles.collect::<String>(), FILE)?;
    stage.write("DEBIAN/md5sums", stage.checksums()?, FILE)?;
    for script in ["postinst", "prerm", "postrm"] {
        let text = about::script(script, package)?;
        stage.write(&format!("DEBIAN/{script}"), text, PROGRAM)?;
    }
    let depends = about::libraries(stage, &program, &scratch.join("libraries"))?;
    let control = release.control(package, &depends, stage.kibibytes()?);
    stage.write("DEBIAN/control", control, FILE)?;
    stage.settle()
}

/// Man pages and completions, as the daemon makes them.
fn manual(stage: &Stage, name: &str, binary: &Path, made: &Path) -> Result<()> {
    folder::make_anew(made)?;
    run_quietly(command(binary).arg("manual").arg("--out").arg(made))?;
    for page in fs::read_dir(made.join("man8"))? {
        let page = page?;
        let title = page.file_name();
        let title = format!("usr/share/man/man8/{}", title.to_string_lossy());
        stage.compress(&page.path(), &title)?;
    }
    for (from, to) in [
        (
            format!("bash/{name}.bash"),
            format!("bash-completion/completions/{name}"),
        ),
        (
            format!("zsh/_{name}"),
            format!("zsh/vendor-completions/_{name}"),
        ),
        (
            format!("fish/{name}.fish"),
            format!("fish/vendor_completions.d/{name}.fish"),
        ),
    ] {
        stage.copy(&made.join(from), &format!("usr/share/{to}"), FILE)?;
    }
    Ok(())
}

/// What lies in `/usr/share/doc`.
fn documents(
    stage: &Stage,
    package: &Package,
    release: &Release,
    crates: &Crates,
    scratch: &Path,
) -> Result<()> {
    let folder = format!("usr/share/doc/{}", package.name);
    stage.copy(
        &deploy("debian/copyright"),
        &format!("{folder}/copyright"),
        FILE,
    )?;
    for file in package.reference {
        let from = workspace_root().join("docs/reference").join(file);
        stage.copy(&from, &format!("{folder}/reference/{file}"), FILE)?;
    }
    if package.has_guide {
        let guide = workspace_root().join("docs/guide");
        let pages = fs::read_dir(&guide)
            .with_context(|| format!("cannot list the folder {}", guide.display()))?;
        for page in pages {
            let page = page?;
            let name = page.file_name().to_string_lossy().into_owned();
            stage.copy(&page.path(), &format!("{folder}/guide/{name}"), FILE)?;
        }
    }
    let changes = workspace_root().join("CHANGELOG.md");
    stage.compress(&changes, &format!("{folder}/changelog"))?;
    let written = scratch.join("written");
    for (name, text) in [
        ("changelog.Debian", release.changelog()?),
        ("third-party", crates.of(package.linked)?),
    ] {
        fs::write(&written, text)?;
        stage.compress(&written, &format!("{folder}/{name}"))?;
    }
    Ok(())
}
