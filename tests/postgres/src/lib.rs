//! A real PostgreSQL for tests and benchmarks, in a temporary folder, reached by a socket in it.
//!
//! It ends with whoever holds it, and with this process however that ends.

mod programs;
mod shared;

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, User, chown};
use tempfile::TempDir;

pub use shared::shared;

use programs::program;

const USER: &str = "doorstep";
const PATIENCE: Duration = Duration::from_secs(30);

/// How it is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether a committed transaction outlives a power cut. Off, it starts and writes faster.
    pub fsync: bool,
    /// Like `shared_buffers = 1GB`.
    pub more: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            fsync: true,
            more: Vec::new(),
        }
    }
}

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    settings: Settings,
    owner: Option<(Uid, Gid)>,
    running: Option<Running>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start(settings: Settings) -> Result<Postgres> {
        let folder = tempfile::Builder::new()
            .prefix("doorstep-pg-")
            .tempdir()
            .context("cannot make a folder for PostgreSQL")?;
        let mut postgres = Postgres {
            owner: unprivileged()?,
            folder,
            settings,
            running: None,
        };
        if let Some((uid, gid)) = postgres.owner {
            chown(postgres.folder.path(), Some(uid), Some(gid))
                .context("cannot give the folder to PostgreSQL's user")?;
        }
        let mut initdb = postgres.command("initdb")?;
        initdb
            .args([
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "-U",
                USER,
                "-D",
            ])
            .arg(postgres.data());
        if !postgres.settings.fsync {
            initdb.arg("--no-sync");
        }
        let made = initdb.output().context("cannot run initdb")?;
        if !made.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        postgres.run()?;
        Ok(postgres)
    }

    /// Makes an empty database, and tells its URL.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\""))?;
        Ok(self.url(name))
    }

    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.path().display();
        format!("postgres://{USER}@localhost/{database}?host={folder}")
    }

    /// Runs statements in a database; returns what they print, a row a line.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String> {
        let said = self
            .command("psql")?
            .args([
                "-XqAt",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                USER,
                "-d",
                database,
                "-h",
            ])
            .arg(self.folder.path())
            .args(["-c", statements])
            .output()
            .context("cannot run psql")?;
        if !said.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&said.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// As after a crash: whatever is not on the disk is lost.
    pub fn crash(&mut self) {
        if let Some(running) = self.running.take() {
            running.end(Signal::SIGQUIT);
        }
    }

    /// Starts it again after a crash.
    pub fn restart(&mut self) -> Result<()> {
        self.crash();
        self.run()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// One of its programs, as its user, in its folder.
    fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(program(name)?);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((uid, gid)) = self.owner {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        Ok(command)
    }

    fn run(&mut self) -> Result<()> {
        let log = File::create(self.log()).context("cannot write PostgreSQL's log")?;
        let mut command = self.command("postgres")?;
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path());
        let onoff = if self.settings.fsync { "on" } else { "off" };
        let fixed = [
            "listen_addresses=".to_owned(),
            "max_connections=200".to_owned(),
            format!("fsync={onoff}"),
        ];
        for setting in fixed.iter().chain(&self.settings.more) {
            command.arg("-c").arg(setting);
        }
        command
            .stdout(log.try_clone().context("cannot write PostgreSQL's log")?)
            .stderr(log);
        let mut running = Running::start(command)?;
        let end = Instant::now() + PATIENCE;
        while self.sql("postgres", "SELECT 1").is_err() {
            if running.has_ended() || Instant::now() > end {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                running.end(Signal::SIGQUIT);
                bail!("PostgreSQL does not start; its log:\n{log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.running = Some(running);
        Ok(())
    }

    /// Where everything of it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Nothing of it is needed any more: no need to tidy up first.
            running.end(Signal::SIGQUIT);
        }
    }
}

/// PostgreSQL refuses to run as root.
fn unprivileged() -> Result<Option<(Uid, Gid)>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let nobody = User::from_name("nobody")
        .context("cannot look the user nobody up")?
        .context("there is no user nobody, whom PostgreSQL could run as")?;
    Ok(Some((nobody.uid, nobody.gid)))
}

/// The server process, with a thread that holds it: the kernel ends a process when the thread that
/// started it ends, and threads of tests come and go.
#[derive(Debug)]
struct Running {
    pid: Pid,
    stop: mpsc::Sender<Signal>,
    keeper: JoinHandle<()>,
}

impl Running {
    fn start(mut command: Command) -> Result<Running> {
        // SAFETY: prctl is async-signal-safe, and nothing else happens here.
        unsafe {
            command.pre_exec(|| {
                nix::sys::prctl::set_pdeathsig(Signal::SIGQUIT)?;
                Ok(())
            });
        }
        let (started, child) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let keeper = thread::spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let _ = started.send(Ok(child.id()));
            keep(&mut child, &stopped);
        });
        let id = child
            .recv()
            .context("the thread that starts PostgreSQL ended")?
            .context("cannot start PostgreSQL")?;
        let pid = Pid::from_raw(i32::try_from(id).context("a process id that is too large")?);
        Ok(Running { pid, stop, keeper })
    }

    fn has_ended(&mut self) -> bool {
        self.keeper.is_finished()
    }

    fn end(self, signal: Signal) {
        let _ = self.stop.send(signal);
        if self.keeper.join().is_err() {
            eprintln!("PostgreSQL (process {}) was not ended", self.pid);
        }
    }
}

/// Until it ends, or is to be ended.
fn keep(child: &mut Child, stopped: &mpsc::Receiver<Signal>) {
    loop {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        match stopped.recv_timeout(Duration::from_millis(100)) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            end => {
                let signal = end.unwrap_or(Signal::SIGQUIT);
                if let Ok(id) = i32::try_from(child.id()) {
                    let _ = nix::sys::signal::kill(Pid::from_raw(id), signal);
                }
                let _ = child.wait();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
