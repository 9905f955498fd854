//! The machine that packages are installed on: dpkg, systemd, files.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::daemon::bin_dir;
use doorstep_tests::lab::netns::{Netns, run};

pub const SERVER: &str = "doorstep-server";
pub const GATEWAY: &str = "doorstep-gateway";
pub const TERMINAL: &str = "doorstep-terminal";
pub const NAMES: [&str; 3] = [SERVER, GATEWAY, TERMINAL];

/// In software emulation the kernel takes its time to verify programs.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub const BPFFS: &str = "/sys/fs/bpf";

/// Whether this is such a machine, and nobody else's.
pub fn is_there() -> bool {
    std::env::var_os("DOORSTEP_IN_VM").is_some()
        && fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "systemd")
}

/// A package's file of a revision.
pub fn package(name: &str, revision: u32) -> Result<PathBuf> {
    let begin = format!("{name}_{}-{revision}_", env!("CARGO_PKG_VERSION"));
    let folder = bin_dir()?;
    let found = fs::read_dir(&folder)?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&begin));
    Ok(found
        .with_context(|| format!("no {begin}*.deb in {}", folder.display()))?
        .path())
}

/// What a program says, which must succeed.
pub fn say(words: &[&str]) -> Result<String> {
    run(Command::new(words[0]).args(&words[1..]))
}

/// A property of a unit.
pub fn property(unit: &str, name: &str) -> Result<String> {
    let text = say(&["systemctl", "show", "--value", "--property", name, unit])?;
    Ok(text.trim().to_owned())
}

/// Starts a unit; the command ends once the daemon has said that it is ready.
pub fn start(unit: &str) -> Result<()> {
    say(&["systemctl", "enable", "--now", unit])
        .map(drop)
        .with_context(|| log(unit))
}

/// What a unit's daemon has said at last.
pub fn log(unit: &str) -> String {
    const LINES: usize = 40;
    let log = fs::read_to_string(log_file(unit)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn log_file(unit: &str) -> String {
    format!("/run/{unit}.log")
}

/// Has a unit work on a host, with its log in a file: the machine has no journal.
pub fn place(unit: &str, host: &Netns, more: &str) -> Result<()> {
    let folder = PathBuf::from(format!("/etc/systemd/system/{unit}.service.d"));
    fs::create_dir_all(&folder)?;
    let text = format!(
        "[Service]\nNetworkNamespacePath=/run/netns/{}\nStandardError=append:{}\n{more}",
        host.name(),
        log_file(unit)
    );
    fs::write(folder.join("place.conf"), text)?;
    say(&["systemctl", "daemon-reload"]).map(drop)
}

/// Takes that back, as whoever had written it would.
pub fn displace(unit: &str) -> Result<()> {
    fs::remove_dir_all(format!("/etc/systemd/system/{unit}.service.d"))?;
    say(&["systemctl", "daemon-reload"]).map(drop)
}

/// A line of the status of a unit's main process, such as `CapEff`.
pub fn process(unit: &str, line: &str) -> Result<String> {
    let path = format!("/proc/{}/status", property(unit, "MainPID")?);
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let value = status
        .lines()
        .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    Ok(value
        .with_context(|| format!("no {line}"))?
        .trim()
        .to_owned())
}

/// Whether a program of this name runs.
pub fn runs(program: &str) -> Result<bool> {
    let processes = fs::read_dir("/proc")?.flatten();
    let mut names = processes.filter_map(|entry| {
        // Not each is a process, and those may end meanwhile.
        fs::read_to_string(entry.path().join("comm")).ok()
    });
    Ok(names.any(|name| name.trim() == program))
}

/// Waits until something is so.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// All files and folders that stay when a machine is switched off, but for those that the system itself
/// writes as packages and users come, and this suite's own.
pub fn files() -> Result<BTreeSet<String>> {
    let words = [
        "find", "/etc", "/usr", "/var", "/root", "/opt", "/home", "/srv", "-xdev",
    ];
    // Some of them are not there.
    let found = Command::new(words[0]).args(&words[1..]).output()?;
    let text = String::from_utf8(found.stdout)?;
    let of_the_system = [
        "/etc/.pwd.lock",
        "/etc/group",
        "/etc/gshadow",
        "/etc/passwd",
        "/etc/shadow",
        "/var/lib/dpkg/",
        "/var/lib/systemd",
        "/var/log/",
        "/var/tmp/",
    ];
    let own = |file: &str| of_the_system.iter().any(|begin| file.starts_with(begin));
    let files = text.lines().filter(|file| !own(file));
    Ok(files.map(str::to_owned).collect())
}

/// What is pinned, besides the kernel's own iterators, and who may enter.
pub fn pins() -> Result<(BTreeSet<String>, String)> {
    let found = say(&["find", BPFFS, "-mindepth", "1", "-not", "-name", "*.debug"])?;
    let found = found.lines().map(str::to_owned).collect();
    let mode = say(&["stat", "-c", "%a %U:%G", BPFFS])?;
    Ok((found, mode.trim().to_owned()))
}
