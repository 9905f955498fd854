//! `run`: the daemon.

use std::path::Path;

use anyhow::{Context, Result};
use doorstep_daemon::log::LogFormat;
use doorstep_daemon::{log, secrets, stop};
use doorstep_server::config::Config;
use doorstep_server::serve;

pub fn run(config: &Path, log_format: LogFormat) -> Result<()> {
    secrets::keep()?;
    log::start(log_format, tracing::Level::INFO)?;
    let config = Config::load(config)?;
    tracing::info!(config = %serde_json::to_string(&config)?, "configuration");
    tokio::runtime::Runtime::new()
        .context("cannot start the runtime")?
        .block_on(async { serve::start(config, stop::on_signal()?).await?.wait().await })
}
