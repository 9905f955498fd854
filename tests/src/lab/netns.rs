//! Network namespaces, one for each host of a lab.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};

use super::cleanup::{self, Guard};

/// Where `ip netns` keeps the names.
const FOLDER: &str = "/run/netns";
/// Begins every name, followed by the process id of its maker.
const PREFIX: &str = "ds";

/// A network namespace that goes with this value.
#[derive(Debug)]
pub struct Netns {
    name: String,
    /// None of one that is a mere name for another.
    _guard: Option<Guard>,
}

impl Netns {
    /// Makes a namespace with its loopback up.
    pub fn new(host: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{host}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let doomed = name.clone();
        let guard = Guard::new(move || {
            // It is too late to do anything about an error.
            let _ = Command::new("ip").args(["netns", "del", &doomed]).output();
        });
        let netns = Self {
            name,
            _guard: Some(guard),
        };
        netns.ip("link set lo up")?;
        // Hosts of a real street have been up for longer than duplicate address detection takes.
        netns.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        Ok(netns)
    }

    /// The same namespace, which does not go with the new value.
    pub fn another(&self) -> Self {
        Self {
            name: self.name.clone(),
            _guard: None,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// `ip` with these words, inside.
    pub fn ip(&self, words: &str) -> Result<String> {
        let mut command = Command::new("ip");
        command
            .args(["-n", &self.name])
            .args(words.split_whitespace());
        run(&mut command)
    }

    /// Switches offloads of a link off or on: `ethtool -K`.
    pub fn offload(&self, link: &str, words: &str) -> Result<()> {
        let mut command = self.command("ethtool")?;
        command.arg("-K").arg(link).args(words.split_whitespace());
        run(&mut command).map(drop)
    }

    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{name}");
        let value = value.to_owned();
        self.run(move || std::fs::write(&path, value).with_context(|| path.clone()))?
    }

    /// A command that will run inside.
    ///
    /// It ends with the thread that starts it, at the latest.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let netns = File::open(self.path()).with_context(|| self.name.clone())?;
        let mut command = Command::new(program);
        let enter = move || {
            setns(&netns, CloneFlags::CLONE_NEWNET)?;
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            cleanup::unblock_signals()
        };
        // SAFETY: only system calls, on a descriptor that the closure owns.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Moves the calling thread inside, for good or until it enters another.
    pub fn enter(&self) -> Result<()> {
        let netns = File::open(self.path()).with_context(|| self.name.clone())?;
        setns(&netns, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", self.name))
    }

    /// Runs a function inside, on a thread of its own.
    pub fn spawn<T: Send + 'static>(
        &self,
        inside: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        let netns = File::open(self.path()).with_context(|| self.name.clone())?;
        let (entered, waiting) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let result = setns(&netns, CloneFlags::CLONE_NEWNET);
            let failed = result.is_err();
            let _ = entered.send(result);
            if failed {
                // The maker sees the error and never joins.
                std::thread::park();
            }
            inside()
        });
        waiting
            .recv()?
            .with_context(|| format!("entering {}", self.name))?;
        Ok(thread)
    }

    /// Runs a function inside and waits for it.
    pub fn run<T: Send + 'static>(&self, inside: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.spawn(inside)?
            .join()
            .map_err(|_| anyhow::anyhow!("a thread in {} panicked", self.name))
    }
}

/// Removes namespaces whose maker was killed before it could.
pub fn sweep() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'));
        let Some(Ok(pid)) = maker.map(|(pid, _)| pid.parse::<u32>()) else {
            continue;
        };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// Connects two hosts with a cable.
pub fn cable(a: (&Netns, &str), b: (&Netns, &str)) -> Result<()> {
    run(Command::new("ip")
        .args(["link", "add", a.1, "netns", a.0.name()])
        .args(["type", "veth", "peer", "name", b.1, "netns", b.0.name()]))?;
    a.0.ip(&format!("link set {} up", a.1))?;
    b.0.ip(&format!("link set {} up", b.1))?;
    Ok(())
}

/// Runs a command to its end; its standard output, or an error with all that it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        stdout.trim()
    );
    Ok(stdout)
}
