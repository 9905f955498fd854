//! The real daemons, as processes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cleanup::Guard;
use super::netns::{Netns, run};

/// Where the daemons' executables are.
pub fn bin_dir() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("DOORSTEP_BIN_DIR") {
        return Ok(folder.into());
    }
    let own = std::env::current_exe()?;
    let folder = own
        .ancestors()
        .skip(1)
        .find(|path| path.join("doorstep-server").exists());
    folder.map(Path::to_owned).context(
        "no doorstep-server beside this program; DOORSTEP_BIN_DIR names the daemons' folder",
    )
}

/// How long a daemon may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running daemon, and the client that its binary also is.
pub struct Daemon {
    binary: &'static str,
    netns: String,
    socket: PathBuf,
    log: PathBuf,
    child: Arc<Mutex<Child>>,
    _guard: Guard,
}

impl Daemon {
    /// Starts `BINARY run --config FILE` in a namespace and waits for its admin socket.
    pub fn start(
        binary: &'static str,
        netns: &Netns,
        config: &Path,
        socket: &Path,
    ) -> Result<Self> {
        Self::start_logging(binary, netns, config, socket, "info,doorstep=debug")
    }

    /// As [`Daemon::start`], with a log that is filtered in this way unless `RUST_LOG` says
    /// otherwise.
    pub fn start_logging(
        binary: &'static str,
        netns: &Netns,
        config: &Path,
        socket: &Path,
        filter: &str,
    ) -> Result<Self> {
        let log = config.with_extension("log");
        let out = File::options().create(true).append(true).open(&log)?;
        let mut command = netns.command(bin_dir()?.join(binary))?;
        command.arg("run").arg("--config").arg(config);
        command
            .stdin(std::process::Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", filter);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {binary}"))?;
        let child = Arc::new(Mutex::new(child));
        let doomed = Arc::clone(&child);
        let guard = Guard::new(move || {
            let mut child = doomed.lock().expect("not poisoned");
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        });
        let daemon = Self {
            binary,
            netns: netns.name().to_owned(),
            socket: socket.to_owned(),
            log,
            child,
            _guard: guard,
        };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            let ended = self.child.lock().expect("not poisoned").try_wait()?;
            if let Some(status) = ended {
                bail!(
                    "{} ended with {status}; its log:\n{}",
                    self.name(),
                    self.log_tail()
                );
            }
            ensure!(
                Instant::now() < end,
                "{} does not answer:\n{}",
                self.name(),
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("{} in {}", self.binary, self.netns)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The log's end, for error messages.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 25;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// The client, with these words.
    pub fn client(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(bin_dir()?.join(self.binary));
        command.args(words).arg("--socket").arg(&self.socket);
        Ok(command)
    }

    /// Runs the client; its standard output.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        run(&mut self.client(words)?)
            .with_context(|| format!("{}; its daemon's log:\n{}", self.name(), self.log_tail()))
    }

    /// Runs the client with `-o json` and reads what it prints, which is as its schema says.
    pub fn ask_json<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T> {
        let text = self.ask(&[words, &["-o", "json"]].concat())?;
        let printed: Value =
            serde_json::from_str(&text).with_context(|| format!("{words:?} printed {text:?}"))?;
        if doorstep_test_schemas::are_here(self.binary) {
            doorstep_test_schemas::assert_valid(self.binary, words, &printed);
        }
        serde_json::from_value(printed).with_context(|| format!("{words:?} printed {text:?}"))
    }

    /// Runs the client, which must fail; what it says.
    pub fn refuse(&self, words: &[&str]) -> Result<String> {
        let output = self.client(words)?.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            matches!(output.status.code(), Some(1..=8)),
            "{words:?}: {} {said}",
            output.status
        );
        ensure!(said.starts_with("error: "), "{words:?} said {said:?}");
        Ok(said)
    }

    /// A line of its `/proc/PID/status` that is in KiB, such as `VmRSS`.
    pub fn memory_kib(&self, line: &str) -> Result<u64> {
        let id = self.child.lock().expect("not poisoned").id();
        let path = format!("/proc/{id}/status");
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let value = status
            .lines()
            .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
        value
            .and_then(|value| value.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("{path} tells no {line}"))
    }

    /// Has the kernel stop its running, or go on with it.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let child = self.child.lock().expect("not poisoned");
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        Ok(kill(Pid::from_raw(child.id() as i32), signal)?)
    }

    /// Ends it without warning.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.child.lock().expect("not poisoned");
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to end and waits; fails if it did not end well.
    pub fn stop(&self) -> Result<()> {
        let mut child = self.child.lock().expect("not poisoned");
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "{} ended with {status}", self.name());
                return Ok(());
            }
            ensure!(Instant::now() < end, "{} does not end", self.name());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
