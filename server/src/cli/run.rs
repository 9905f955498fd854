//! `run`: the daemon.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use doorstep_daemon::log::LogFormat;
use doorstep_daemon::{log, secrets, stop, supervisor};
use doorstep_server::config::Config;
use doorstep_server::serve;
use tokio_util::task::AbortOnDropHandle;

pub fn run(config: &Path, log_format: LogFormat) -> Result<()> {
    secrets::keep()?;
    log::start(log_format, tracing::Level::INFO)?;
    let config = Config::load(config)?;
    tracing::info!(config = %serde_json::to_string(&config)?, "configuration");
    tokio::runtime::Runtime::new()
        .context("cannot start the runtime")?
        .block_on(serve(config))
}

async fn serve(config: Config) -> Result<()> {
    let stop = stop::on_signal()?;
    let running = serve::start(config, stop.clone()).await?;
    let engine = Arc::clone(&running.engine);
    let alive = move || {
        let engine = Arc::clone(&engine);
        async move { engine.is_alive().await }
    };
    let _told = AbortOnDropHandle::new(tokio::spawn(supervisor::follow(alive, stop)));
    running.wait().await
}
