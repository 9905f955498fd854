//! Boots a guest and watches it.

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::process::command;

const POLL: Duration = Duration::from_millis(50);

/// How long a guest in trouble may go on, so that the kernel's whole report is in its log.
const LAST_WORDS: Duration = Duration::from_secs(3);

const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 oops=panic mitigations=off \
    random.trust_cpu=on tsc=reliable no_timer_check net.ifnames=0 softlockup_panic=1";

/// Lines of the kernel's log that say that nothing good will come of this boot.
const TROUBLE: &[&str] = &[
    "Kernel panic",
    "soft lockup",
    "self-detected stall",
    "detected stalls",
    "BUG: ",
    "Oops: ",
];

/// What to boot.
pub struct Boot<'a> {
    /// What each line that the guest prints begins with, where several run at once. Without it, what
    /// it prints is passed on as it comes.
    pub label: Option<&'a str>,
    pub image: &'a Path,
    pub initramfs: &'a Path,
    /// The kernel's messages go here.
    pub kernel_log: &'a Path,
    /// A disk that the guest writes its files to, as a tar archive.
    pub output_disk: &'a Path,
    pub memory_mib: u32,
    pub timeout: Duration,
    pub kvm: bool,
}

/// How the guest ended.
#[derive(Debug)]
pub enum End {
    /// It shut itself down.
    Off,
    /// The kernel reported trouble.
    Trouble(String),
    /// It went on for too long.
    Timeout(Duration),
    /// QEMU itself failed.
    Qemu(ExitStatus),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("the guest shut down"),
            Self::Trouble(line) => write!(f, "the guest's kernel failed: {line}"),
            Self::Timeout(after) => {
                write!(f, "the guest did not end within {} s", after.as_secs())
            }
            Self::Qemu(status) => write!(f, "QEMU failed: {status}"),
        }
    }
}

/// Boots the guest, copies what it prints to standard output, and waits for its end.
pub fn boot(boot: &Boot<'_>) -> Result<End> {
    const OUTPUT_DISK_BYTES: u64 = 64 << 20;
    File::create(boot.output_disk)?.set_len(OUTPUT_DISK_BYTES)?;
    File::create(boot.kernel_log)?;

    let mut child = qemu(boot)
        .spawn()
        .context("cannot run qemu-system-x86_64: run `cargo xtask setup`")?;
    let output = child.stdout.take().context("QEMU's output is piped")?;
    let label = boot.label.map(str::to_owned);
    let relay = thread::spawn(move || match label {
        // Whoever reads this may have gone; the guest's result still counts.
        Some(label) => relay_lines(output, &label).unwrap_or_default(),
        None => relay(output).unwrap_or_default(),
    });
    let end = watch(&mut child, boot);
    if matches!(end, Ok(End::Trouble(_) | End::Timeout(_)) | Err(_)) {
        // It may have ended by itself in between.
        child.kill().ok();
        child.wait()?;
    }
    relay.join().ok();
    end
}

fn relay(mut output: impl io::Read) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while let length @ 1.. = output.read(&mut buffer)? {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&buffer[..length])?;
        stdout.flush()?;
    }
    Ok(())
}

fn relay_lines(output: impl io::Read, label: &str) -> io::Result<()> {
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(io::stdout(), "{label}: {}", line.trim_end())?;
    }
    Ok(())
}

fn qemu(boot: &Boot<'_>) -> std::process::Command {
    let mut qemu = command("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-no-reboot", "-machine", "q35", "-smp", "2"])
        .args(["-m", &boot.memory_mib.to_string()]);
    if boot.kvm {
        qemu.args(["-accel", "kvm", "-cpu", "host"]);
    } else {
        // Both CPUs on one thread: with a thread each, a CPU may run an old translation of code
        // that the other one has just patched, and the guest dies of a breakpoint in a static key.
        qemu.args(["-accel", "tcg,thread=single", "-cpu", "qemu64"]);
    }
    qemu.arg("-serial")
        .arg(format!("file:{}", boot.kernel_log.display()))
        .args(["-serial", "stdio"])
        .arg("-drive")
        .arg(format!(
            "file={},format=raw,if=virtio,cache=unsafe",
            boot.output_disk.display()
        ))
        .arg("-kernel")
        .arg(boot.image)
        .arg("-initrd")
        .arg(boot.initramfs)
        .args(["-append", KERNEL_ARGUMENTS])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    qemu
}

fn watch(child: &mut Child, boot: &Boot<'_>) -> Result<End> {
    let start = Instant::now();
    let mut trouble: Option<(Instant, String)> = None;
    loop {
        let ended = child.try_wait()?;
        if trouble.is_none() {
            let log = fs::read(boot.kernel_log)?;
            trouble = find_trouble(&String::from_utf8_lossy(&log))
                .map(|line| (Instant::now(), line.to_owned()));
        }
        match (ended, &trouble) {
            (Some(_), Some((_, line))) => return Ok(End::Trouble(line.clone())),
            (Some(status), None) if status.success() => return Ok(End::Off),
            (Some(status), None) => return Ok(End::Qemu(status)),
            (None, Some((since, line))) if since.elapsed() > LAST_WORDS => {
                return Ok(End::Trouble(line.clone()));
            }
            (None, _) => {}
        }
        if start.elapsed() > boot.timeout {
            return Ok(End::Timeout(boot.timeout));
        }
        thread::sleep(POLL);
    }
}

fn find_trouble(log: &str) -> Option<&str> {
    log.lines()
        .find(|line| TROUBLE.iter().any(|sign| line.contains(sign)))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_found_in_the_log() {
        for (log, trouble) in [
            ("[    0.1] Linux version\n[    1.0] veth: loaded\n", None),
            (
                "[    1.0] x\r\n[    2.0] Kernel panic - not syncing: y\r\n",
                Some("[    2.0] Kernel panic - not syncing: y"),
            ),
            (
                "watchdog: BUG: soft lockup - CPU#1 stuck for 22s!\n",
                Some("watchdog: BUG: soft lockup - CPU#1 stuck for 22s!"),
            ),
        ] {
            assert_eq!(find_trouble(log), trouble);
        }
    }
}
