//! Debian's kernels: downloaded, unpacked beside the build output, never installed.

use std::{
    fmt,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use doorstep_ebpf_build::target_dir;

use crate::{
    folder::put_in_place,
    process::{command, run_quietly},
    setup::apt,
};

/// A kernel series of the distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// The newest that Debian 12 offers.
    #[default]
    #[value(name = "6.12")]
    V6_12,
    /// The one that Debian 12 installs.
    #[value(name = "6.1")]
    V6_1,
}

impl Kernel {
    pub const ALL: [Self; 2] = [Self::V6_12, Self::V6_1];

    /// The name of the tests on it.
    pub const fn layer(self) -> &'static str {
        match self {
            Self::V6_12 => "vm 6.12",
            Self::V6_1 => "vm 6.1",
        }
    }

    /// What it is among those that are tested, as suites call it.
    pub const fn place(self) -> &'static str {
        match self {
            Self::V6_12 => "newer",
            Self::V6_1 => "oldest",
        }
    }

    const fn metapackage(self) -> &'static str {
        match self {
            Self::V6_12 => "linux-image-6.12-cloud-amd64",
            Self::V6_1 => "linux-image-cloud-amd64",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_12 => "6.12",
            Self::V6_1 => "6.1",
        })
    }
}

/// A kernel that is ready to boot.
pub struct Unpacked {
    /// `uname -r`.
    pub release: String,
    /// What QEMU boots.
    pub image: PathBuf,
    /// Its folder; modules lie in `lib/modules/RELEASE` below.
    pub folder: PathBuf,
}

/// Where everything about the virtual machines is kept.
pub fn cache() -> PathBuf {
    target_dir().join("vm")
}

/// Whether [`prepare`] has nothing left to do.
pub fn is_ready(kernel: Kernel) -> bool {
    folder(kernel).join(RELEASE_FILE).is_file()
}

/// The kernel's files; [`prepare`] made them.
pub fn unpacked(kernel: Kernel) -> Result<Unpacked> {
    let folder = folder(kernel);
    let file = folder.join(RELEASE_FILE);
    let release = fs::read_to_string(&file).with_context(|| {
        format!(
            "cannot read {}: run `cargo xtask setup --kernel {kernel}`",
            file.display()
        )
    })?;
    Ok(Unpacked {
        release,
        image: folder.join(IMAGE_FILE),
        folder,
    })
}

/// Downloads and unpacks the kernel's package.
pub fn prepare(kernel: Kernel) -> Result<()> {
    if !apt::is_there() {
        bail!(
            "the virtual machine boots Debian's kernels, fetched with apt-get, which is not here: \
             run the `vm` layer on a Debian system"
        );
    }
    let package = apt::resolve(kernel.metapackage(), "linux-image-")?;
    println!("setup: downloading and unpacking {package}");
    let partial = cache().join(format!("{kernel}.partial"));
    apt::unpack(&package, &partial)?;
    let modules_in_usr = partial.join("usr/lib/modules");
    if modules_in_usr.is_dir() {
        fs::create_dir_all(partial.join("lib"))?;
        fs::rename(modules_in_usr, partial.join("lib/modules"))?;
    }
    let release = release_of(&partial)?;
    let depmod = doorstep_ebpf_build::find_in_path("depmod").context("no depmod: package kmod")?;
    run_quietly(command(depmod).arg("-b").arg(&partial).arg(&release))?;
    let vmlinuz = partial.join("boot").join(format!("vmlinuz-{release}"));
    decompress(&vmlinuz, &partial.join(IMAGE_FILE))?;
    fs::write(partial.join(RELEASE_FILE), release)?;

    put_in_place(&partial, &folder(kernel))
}

const RELEASE_FILE: &str = "release";
const IMAGE_FILE: &str = "vmlinux";

fn folder(kernel: Kernel) -> PathBuf {
    cache().join(kernel.to_string())
}

fn release_of(tree: &Path) -> Result<String> {
    fs::read_dir(tree.join("lib/modules"))?
        .flatten()
        .find_map(|entry| entry.file_name().into_string().ok())
        .context("the kernel package holds no modules")
}

/// The compressed kernel inside a bzImage.
#[derive(Debug, PartialEq, Eq)]
struct Payload {
    offset: u64,
    length: u64,
}

/// Reads the setup header (Linux `Documentation/arch/x86/boot.rst`, fields `setup_sects`,
/// `payload_offset` and `payload_length`).
fn payload(header: &[u8]) -> Option<Payload> {
    const SETUP_SECTS: usize = 0x1f1;
    const MAGIC: usize = 0x202;
    const PAYLOAD_OFFSET: usize = 0x248;
    const PAYLOAD_LENGTH: usize = 0x24c;
    const SECTOR: u64 = 512;

    if header.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let word = |at: usize| {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(bytes)))
    };
    let setup_sectors = match header[SETUP_SECTS] {
        0 => 4,
        sectors => u64::from(sectors),
    };
    Some(Payload {
        offset: (setup_sectors + 1) * SECTOR + word(PAYLOAD_OFFSET)?,
        length: word(PAYLOAD_LENGTH)?,
    })
}

/// Writes the kernel as ELF, which boots without decompressing itself in emulation.
fn decompress(vmlinuz: &Path, image: &Path) -> Result<()> {
    const UNCOMPRESSED_SIZE: u64 = 4;
    const HEADER: usize = 1024;

    let mut file =
        File::open(vmlinuz).with_context(|| format!("cannot open {}", vmlinuz.display()))?;
    let mut header = [0; HEADER];
    file.read_exact(&mut header)
        .with_context(|| format!("{} is too short for a kernel", vmlinuz.display()))?;
    let payload = payload(&header)
        .with_context(|| format!("{} has no Linux setup header", vmlinuz.display()))?;
    let mut compressed = Vec::new();
    file.seek(SeekFrom::Start(payload.offset))?;
    file.take(payload.length.saturating_sub(UNCOMPRESSED_SIZE))
        .read_to_end(&mut compressed)?;

    let Some(program) = decompressor(&compressed) else {
        // Booting the compressed kernel is only slower.
        fs::copy(vmlinuz, image)?;
        return Ok(());
    };
    pipe(program, &compressed, image)
        .with_context(|| format!("cannot decompress {}", vmlinuz.display()))
}

fn decompressor(compressed: &[u8]) -> Option<&'static str> {
    const MAGICS: [(&[u8], &str); 3] = [
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x1f\x8b", "gzip"),
    ];
    MAGICS
        .into_iter()
        .find(|(magic, _)| compressed.starts_with(magic))
        .map(|(_, program)| program)
}

fn pipe(program: &str, input: &[u8], output: &Path) -> Result<()> {
    use std::io::Write as _;

    let mut child = command(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(File::create(output)?)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    child
        .stdin
        .take()
        .context("no pipe to the decompressor")?
        .write_all(input)?;
    let status = child.wait()?;
    if !status.success() {
        bail!("{program} failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_is_found_through_the_setup_header() {
        let mut header = vec![0; 1024];
        header[0x1f1] = 39;
        header[0x202..0x206].copy_from_slice(b"HdrS");
        header[0x248..0x24c].copy_from_slice(&0x2c4_u32.to_le_bytes());
        header[0x24c..0x250].copy_from_slice(&1_000_000_u32.to_le_bytes());
        let expected = Payload {
            offset: 40 * 512 + 0x2c4,
            length: 1_000_000,
        };
        assert_eq!(payload(&header), Some(expected));
        header[0x202] = 0;
        assert_eq!(payload(&header), None);
        assert_eq!(payload(b"short"), None);
    }

    #[test]
    fn compression_is_known_by_its_magic() {
        assert_eq!(decompressor(b"\x28\xb5\x2f\xfd...."), Some("zstd"));
        assert_eq!(decompressor(b"\x1f\x8b\x08"), Some("gzip"));
        assert_eq!(decompressor(b"\x7fELF"), None);
    }
}
