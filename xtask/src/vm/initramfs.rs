//! The virtual machine's root file system: a part that is cached and a part for each run.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use doorstep_ebpf_build::find_in_path;

use super::{
    clients,
    cpio::Archive,
    kernel::Unpacked,
    modules::{self, AVAILABLE, LOADED},
    systemd,
};
use crate::process::{command, describe, run_quietly, text};

const INIT: &str = include_str!("init.sh");
const SESSION: &str = include_str!("session.sh");

/// Where a run's own programs lie in the guest.
pub const BIN_DIR: &str = "/doorstep/bin";

/// The guest's first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A script, which ends soon after the command.
    Script,
    /// systemd, as on Debian; the command is a service.
    Systemd,
}

/// The script that init runs.
pub const COMMAND: &str = "/doorstep/command";

/// Programs of the host that the guest has too; busybox fills in for the rest.
const TOOLS: &[&str] = &[
    "bash",
    "bridge",
    "ethtool",
    "ip",
    "modprobe",
    "nft",
    "nsenter",
    "ping",
    "run-parts",
    "ss",
    "tc",
    "unshare",
];

/// Tools of which the guest can do without.
const OPTIONAL_TOOLS: &[&str] = &["curl", "iperf3", "openssl", "strace", "tcpdump"];

const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\n\
         dhcpcd:x:102:65534:DHCP Client Daemon:/usr/lib/dhcpcd:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/fstab", ""),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/hostname", "doorstep-vm\n"),
    ("etc/nsswitch.conf", "hosts: files\n"),
    ("etc/resolv.conf", ""),
];

/// The cached part for a kernel, made if it is not there or was made of other things.
pub fn base(kernel: &Unpacked) -> Result<PathBuf> {
    // Guests that begin at once share it.
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let image = kernel.folder.join("initramfs.cpio");
    let made_of = kernel.folder.join("initramfs.made-of");
    let ingredients = ingredients();
    if image.is_file() && fs::read_to_string(&made_of).is_ok_and(|old| old == ingredients) {
        return Ok(image);
    }
    println!("vm: making the initramfs for {}", kernel.release);
    let tree = kernel.folder.join("initramfs.tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    modules::stage(kernel, &tree)?;

    let partial = image.with_extension("partial");
    let mut root = Root::new(BufWriter::new(File::create(&partial)?))?;
    root.text("init", INIT)?;
    root.text("doorstep/session", SESSION)?;
    root.archive
        .file("etc/modules-loaded", LOADED.join("\n").as_bytes())?;
    for (path, content) in FILES {
        root.archive.file(path, content.as_bytes())?;
    }
    root.tools()?;
    clients::add(&mut root)?;
    root.tree(&tree, &tree)?;
    root.archive.finish()?;
    fs::remove_dir_all(&tree)?;
    fs::rename(&partial, &image)?;
    fs::write(&made_of, ingredients)?;
    Ok(image)
}

/// All that decides what the cached part holds, as text.
fn ingredients() -> String {
    let tools: Vec<_> = [&["busybox"], TOOLS, OPTIONAL_TOOLS]
        .concat()
        .into_iter()
        .map(|tool| {
            let path = find_in_path(tool);
            let modified = path
                .as_ref()
                .and_then(|path| fs::metadata(path).ok()?.modified().ok());
            (tool, path, modified)
        })
        .collect();
    let clients = clients::ingredients();
    format!("{INIT}{SESSION}{LOADED:?}{AVAILABLE:?}{FILES:?}{tools:?}{clients:?}")
}

/// Writes the whole root file system of one run: the cached part, then the run's own.
pub fn write(
    to: &Path,
    base: &Path,
    programs: &[PathBuf],
    script: &str,
    first: First,
) -> Result<()> {
    let mut file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    std::io::copy(&mut File::open(base)?, &mut file)?;
    let mut root = Root::appended(BufWriter::new(file));
    if first == First::Systemd {
        systemd::add(&mut root)?;
    }
    root.text(COMMAND, script)?;
    let scratch = to.with_extension("stripped");
    for program in programs {
        root.run_program(program, &scratch)?;
    }
    root.archive.finish()?;
    Ok(())
}

/// A root file system that is being written.
pub struct Root<W> {
    archive: Archive<W>,
    shipped: BTreeSet<PathBuf>,
}

impl<W: Write> Root<W> {
    /// A root file system where `/bin` and its like are links into `/usr`.
    fn new(to: W) -> Result<Self> {
        let mut root = Self::appended(to);
        for folder in ["bin", "sbin", "lib", "lib64"] {
            root.archive.folder(format!("usr/{folder}"))?;
            root.archive.symlink(folder, &format!("usr/{folder}"))?;
        }
        for folder in ["dev", "out", "proc", "root", "run", "sys", "tmp", "var/lib"] {
            root.archive.folder(folder)?;
        }
        root.archive.symlink("var/run", "/run")?;
        root.archive.symlink("var/tmp", "/tmp")?;
        Ok(root)
    }

    fn appended(to: W) -> Self {
        Self {
            archive: Archive::new(to),
            shipped: BTreeSet::new(),
        }
    }

    fn tools(&mut self) -> Result<()> {
        let busybox = found("busybox")?;
        self.host_file(&busybox, "usr/bin/busybox")?;
        let mut names = BTreeSet::new();
        for tool in TOOLS {
            let path = found(tool)?;
            self.host_file(&path, &format!("usr/bin/{tool}"))?;
            names.insert((*tool).to_owned());
        }
        for tool in OPTIONAL_TOOLS {
            if let Some(path) = find_in_path(tool) {
                self.host_file(&path, &format!("usr/bin/{tool}"))?;
                names.insert((*tool).to_owned());
            }
        }
        // The kernel itself looks for modprobe here.
        self.archive
            .symlink("usr/sbin/modprobe", "../bin/modprobe")?;
        for applet in text(command(&busybox).arg("--list"))?.lines() {
            if names.insert(applet.to_owned()) && applet != "busybox" {
                self.archive
                    .symlink(format!("usr/bin/{applet}"), "busybox")?;
            }
        }
        Ok(())
    }

    /// Writes a file.
    pub fn text(&mut self, path: &str, content: &str) -> Result<()> {
        Ok(self.archive.file(path, content.as_bytes())?)
    }

    /// Writes a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        Ok(self.archive.symlink(path, target)?)
    }

    /// Makes a folder and those above it.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        Ok(self.archive.folder(path)?)
    }

    /// Ships a file of the host, with the libraries it is linked to.
    pub fn host_file(&mut self, from: &Path, to: &str) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.archive.file(to, &content)?;
        self.libraries(from)
    }

    /// Ships a program of the run without the debug information that would fill the guest's memory.
    fn run_program(&mut self, from: &Path, scratch: &Path) -> Result<()> {
        let name = from
            .file_name()
            .with_context(|| format!("{} is no file", from.display()))?;
        let to = Path::new(BIN_DIR).join(name);
        let content = stripped(from, scratch)?;
        self.archive.file(to, &content)?;
        self.libraries(from)
    }

    fn libraries(&mut self, program: &Path) -> Result<()> {
        for library in libraries(program)? {
            if !self.shipped.insert(library.clone()) {
                continue;
            }
            let content = fs::read(&library)
                .with_context(|| format!("cannot read the library {}", library.display()))?;
            self.archive.file(in_usr(&library), &content)?;
        }
        Ok(())
    }

    fn tree(&mut self, folder: &Path, top: &Path) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.tree(&path, top)?;
            } else {
                let name = Path::new("usr").join(path.strip_prefix(top)?);
                self.archive.file(name, &fs::read(&path)?)?;
            }
        }
        Ok(())
    }
}

fn found(tool: &str) -> Result<PathBuf> {
    find_in_path(tool).with_context(|| format!("no {tool} here: run `cargo xtask setup`"))
}

fn stripped(program: &Path, scratch: &Path) -> Result<Vec<u8>> {
    const ELF_MAGIC: &[u8] = b"\x7fELF";
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let content = read(program)?;
    if !content.starts_with(ELF_MAGIC) {
        return Ok(content);
    }
    run_quietly(
        command("strip")
            .args(["--strip-debug", "-o"])
            .arg(scratch)
            .arg(program),
    )?;
    read(scratch)
}

/// The shared libraries of a program, by their paths on the host; none for scripts and static ones.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = command("ldd");
    ldd.arg(program);
    let answer = ldd
        .output()
        .with_context(|| format!("cannot run `{}`", describe(&ldd)))?;
    Ok(parse_ldd(&String::from_utf8_lossy(&answer.stdout)))
}

fn parse_ldd(answer: &str) -> Vec<PathBuf> {
    answer
        .lines()
        .filter_map(|line| {
            let path = line.split_once("=> ").map_or(line, |(_, path)| path);
            let path = path.split_whitespace().next()?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect()
}

/// The guest's `/lib` is a link, and an archive must not write through it.
fn in_usr(path: &Path) -> PathBuf {
    if path.starts_with("/usr") {
        path.to_owned()
    } else {
        Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_become_paths() {
        let answer = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            parse_ldd(answer),
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
            .map(PathBuf::from)
        );
        assert!(parse_ldd("\tnot a dynamic executable\n").is_empty());
        assert!(parse_ldd("\tstatically linked\n").is_empty());
    }

    #[test]
    fn libraries_go_where_the_links_point() {
        for (host, guest) in [
            ("/lib64/ld.so", "/usr/lib64/ld.so"),
            ("/usr/lib/libx.so", "/usr/lib/libx.so"),
        ] {
            assert_eq!(in_usr(Path::new(host)), Path::new(guest));
        }
    }
}
