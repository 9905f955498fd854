//! `cargo xtask vm`: runs a program on a distribution's kernel, in a virtual machine in software
//! emulation. It needs neither root nor `/dev/kvm`.

mod clients;
mod cpio;
mod initramfs;
pub mod kernel;
mod modules;
mod qemu;
mod systemd;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

use crate::{
    process::{command, run_quietly},
    setup,
};
use kernel::Kernel;
use qemu::{Boot, End};

pub use initramfs::{BIN_DIR, First};

/// Run programs on a distribution's kernel, in a virtual machine.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Boot, run one program, and exit with its code.
    Run(RunArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// The kernel to boot.
    #[arg(long, value_enum, default_value_t)]
    kernel: Kernel,
    /// Another program to ship to the guest's /doorstep/bin.
    #[arg(long = "with", value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Where to put the files that the guest leaves in its /out.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Seconds after which the guest is taken for hung.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
    /// Have systemd start it, as a service.
    #[arg(long)]
    systemd: bool,
    /// Use /dev/kvm, which must work.
    #[arg(long)]
    kvm: bool,
    /// A program of this host, which is shipped, or of the guest; and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM"
    )]
    command: Vec<String>,
}

impl RunArgs {
    fn first(&self) -> First {
        if self.systemd {
            First::Systemd
        } else {
            First::Script
        }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let Action::Run(args) = &args.action;
    setup::ensure(&[args.kernel])?;
    let mut programs = args.with.clone();
    let mut words = args.command.clone();
    let program = PathBuf::from(&words[0]);
    if program.is_file() {
        words[0] = in_guest(&program)?;
        programs.push(program);
    }
    let finished = run_guest(&Guest {
        label: None,
        kernel: args.kernel,
        programs: &programs,
        script: &line(&words),
        first: args.first(),
        timeout: Duration::from_secs(args.timeout),
        kvm: args.kvm,
    })?;
    if let Some(folder) = &args.out {
        finished.copy_files(folder)?;
    }
    Ok(ExitCode::from(finished.code))
}

/// Where a program of the host lies in the guest.
pub fn in_guest(program: &Path) -> Result<String> {
    let name = program
        .file_name()
        .with_context(|| format!("{} is no file", program.display()))?;
    Ok(format!("{BIN_DIR}/{}", name.to_string_lossy()))
}

/// A line of a shell script that runs exactly these words.
pub fn line(words: &[String]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect();
    quoted.join(" ") + "\n"
}

/// What to run in a guest.
pub struct Guest<'a> {
    /// What each line that it prints begins with: where several guests run at once.
    pub label: Option<&'a str>,
    pub kernel: Kernel,
    /// Programs to ship to [`BIN_DIR`].
    pub programs: &'a [PathBuf],
    /// A bash script; its exit code is the guest's.
    pub script: &'a str,
    pub first: First,
    pub timeout: Duration,
    pub kvm: bool,
}

/// What a guest left.
pub struct Finished {
    /// The script's exit code.
    pub code: u8,
    run: RunFolder,
}

impl Finished {
    /// A file that the guest wrote to its `/out`.
    pub fn file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.run.files().join(name);
        fs::read(path).with_context(|| format!("the guest wrote no /out/{name}"))
    }

    fn copy_files(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to)
            .with_context(|| format!("cannot make the folder {}", to.display()))?;
        run_quietly(
            command("cp")
                .arg("-r")
                .arg(self.run.files().join("."))
                .arg(to),
        )
    }
}

/// Boots a guest, runs the script in it and brings its files back.
pub fn run_guest(guest: &Guest<'_>) -> Result<Finished> {
    let kernel = kernel::unpacked(guest.kernel)?;
    let base = initramfs::base(&kernel)?;
    let run = RunFolder::new()?;
    let script = format!(
        "export DOORSTEP_BIN_DIR={BIN_DIR} DOORSTEP_IN_VM=1\ncd /root\n{}",
        guest.script
    );
    let (programs, first) = (guest.programs, guest.first);
    initramfs::write(&run.initramfs(), &base, programs, &script, first)?;
    let end = qemu::boot(&Boot {
        label: guest.label,
        image: &kernel.image,
        initramfs: &run.initramfs(),
        kernel_log: &run.kernel_log(),
        output_disk: &run.disk(),
        memory_mib: match guest.first {
            First::Script => 1024,
            // What is installed lies in memory, too.
            First::Systemd => 2048,
        },
        timeout: guest.timeout,
        kvm: guest.kvm,
    })?;
    if !matches!(end, End::Off) {
        bail!("{end}{}", run.keep_log()?);
    }
    match run.unpack() {
        Ok(code) => Ok(Finished { code, run }),
        Err(error) => bail!(
            "the guest shut down without leaving its files: {error:#}{}",
            run.keep_log()?
        ),
    }
}

/// A folder for one run, removed at its end.
struct RunFolder(PathBuf);

impl RunFolder {
    const PREFIX: &str = "run-";

    fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Self::remove_abandoned()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-{number}", Self::PREFIX, std::process::id());
        let folder = kernel::cache().join(name);
        fs::create_dir_all(folder.join("out"))
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// Removes the folders of runs that were interrupted.
    fn remove_abandoned() -> Result<()> {
        for entry in fs::read_dir(kernel::cache())? {
            let entry = entry?;
            let name = entry.file_name();
            let process = name
                .to_str()
                .and_then(|name| name.strip_prefix(Self::PREFIX)?.split('-').next());
            if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn initramfs(&self) -> PathBuf {
        self.0.join("initramfs.cpio")
    }

    fn kernel_log(&self) -> PathBuf {
        self.0.join("kernel.log")
    }

    fn disk(&self) -> PathBuf {
        self.0.join("out.tar")
    }

    fn files(&self) -> PathBuf {
        self.0.join("out")
    }

    /// Unpacks what the guest wrote to its disk and returns its exit code.
    fn unpack(&self) -> Result<u8> {
        run_quietly(
            command("tar")
                .args(["--no-same-owner", "-xf"])
                .arg(self.disk())
                .arg("-C")
                .arg(self.files()),
        )?;
        let code = fs::read_to_string(self.files().join("exit-code"))?;
        Ok(code.trim().parse()?)
    }

    /// Puts the kernel's log where it outlives this run; returns its tail, to be shown.
    fn keep_log(&self) -> Result<String> {
        const TAIL: usize = 40;
        let log = String::from_utf8_lossy(&fs::read(self.kernel_log())?).into_owned();
        let kept = kernel::cache().join("failed-kernel.log");
        fs::write(&kept, &log)?;
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        Ok(format!(
            "\nthe kernel's log ends with (all of it is in {}):\n{tail}",
            kept.display()
        ))
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // Left-overs only take space, and the next run removes them.
        fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        let words = ["a b", "it's", "$HOME"].map(str::to_owned);
        assert_eq!(line(&words), "'a b' 'it'\\''s' '$HOME'\n");
    }
}
