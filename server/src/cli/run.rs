//! `run`: the daemon.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::{Context, Result};
use doorstep_server::config::Config;
use doorstep_server::serve;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::LogFormat;

pub fn run(config: &Path, log_format: LogFormat) -> Result<()> {
    start_log(log_format);
    let config = Config::load(config)?;
    tracing::info!(config = %serde_json::to_string(&config)?, "configuration");
    tokio::runtime::Runtime::new()
        .context("cannot start the runtime")?
        .block_on(async {
            let shutdown = CancellationToken::new();
            let mut terminate =
                signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
            let mut interrupt =
                signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
            let running = serve::start(config, shutdown.clone()).await?;
            tokio::spawn(async move {
                tokio::select! {
                    _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
                    _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
                }
                shutdown.cancel();
            });
            running.wait().await
        })
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
