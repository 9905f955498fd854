//! The real server, as a process.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::operator_client::OperatorClient;
use doorstep_server::config::Config;
use doorstep_server::keys;
use doorstep_tests::lab::cleanup::{self, Folder, Guard};
use doorstep_tests::lab::daemon::bin_dir;
use nix::sys::signal::Signal;
use tokio::time::sleep;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::database::Database;
use super::layout::{Layout, OPERATOR, parse};

/// How long it may take to start: tables of a million rows are looked through first.
const PATIENCE: Duration = Duration::from_secs(300);

/// A server with a folder, keys and a port of its own.
pub struct Server {
    pub config: Config,
    file: PathBuf,
    /// It is killed before the folder and the database go.
    _guard: Guard,
    child: Arc<Mutex<Option<Child>>>,
    pub database: Database,
    _folder: Folder,
}

impl Server {
    /// Makes everything that it needs, and starts it.
    pub async fn start(layout: Layout, database: Database) -> Result<Self> {
        let folder = Folder::new()?;
        let file = folder.path().join("server.toml");
        let text = layout.config(free_port()?, database.url.as_deref());
        std::fs::write(&file, &text).with_context(|| file.display().to_string())?;
        let config = parse(&text, &file)?;
        keys::init(&config)?;
        let child = Arc::new(Mutex::new(None));
        let doomed = Arc::clone(&child);
        let guard = Guard::new(move || end(&mut lock(&doomed)));
        let server = Self {
            config,
            file,
            _guard: guard,
            child,
            database,
            _folder: folder,
        };
        server.run().await?;
        Ok(server)
    }

    /// Starts the process, and waits until it answers.
    pub async fn run(&self) -> Result<()> {
        let log = self.file.with_extension("log");
        let out = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(bin_dir()?.join("doorstep-server"));
        command
            .args(["run", "--config"])
            .arg(&self.file)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        if std::env::var_os("RUST_LOG").is_none() {
            // Killed streams are what is measured, not what somebody should read of.
            command.env("RUST_LOG", "error");
        }
        let prepare = || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            cleanup::unblock_signals()
        };
        // SAFETY: only system calls.
        unsafe { command.pre_exec(prepare) };
        let started = command.spawn().context("cannot start doorstep-server")?;
        *lock(&self.child) = Some(started);
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(&self.config.admin_socket).is_err() {
            let ended = match lock(&self.child).as_mut() {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if ended.is_some() || Instant::now() > end {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("doorstep-server does not start ({ended:?}); its log:\n{said}");
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&self) {
        end(&mut lock(&self.child));
    }

    /// Has plans that give one rate give another one, while it runs.
    pub async fn change_rate(&self, before: &str, after: &str) -> Result<()> {
        let text = std::fs::read_to_string(&self.file)?;
        let text = text.replace(&format!("\"{before}\""), &format!("\"{after}\""));
        std::fs::write(&self.file, text)?;
        let request = pb::ReloadPlansRequest { dry_run: false };
        let reloaded = self.operator().await?.reload_plans(request).await?;
        ensure!(
            reloaded.get_ref().changes.len() == 1,
            "one plan should have changed: {reloaded:?}"
        );
        Ok(())
    }

    /// Main memory that it takes, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let id = lock(&self.child).as_ref().map(Child::id);
        let path = format!("/proc/{}/status", id.context("the server does not run")?);
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())
            .and_then(|kib| kib.parse().ok())
            .with_context(|| format!("{path} tells no VmRSS"))?;
        Ok(kib * 1024)
    }

    /// Where it listens for terminals and gateways.
    pub fn url(&self) -> String {
        format!("https://{}", self.config.listen)
    }

    /// What everybody who dials it believes.
    pub fn tls(&self) -> Result<ClientTlsConfig> {
        Ok(ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(keys::ca_pem(&self.config)?))
            .domain_name(OPERATOR))
    }

    /// A client of its administration socket.
    pub async fn operator(&self) -> Result<OperatorClient<Channel>> {
        let url = format!("unix://{}", self.config.admin_socket.display());
        Ok(OperatorClient::new(
            Endpoint::from_shared(url)?.connect().await?,
        ))
    }
}

fn lock(child: &Mutex<Option<Child>>) -> MutexGuard<'_, Option<Child>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// One that stays the same over restarts.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}
