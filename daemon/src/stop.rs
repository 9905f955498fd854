//! The token that ends a daemon.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::supervisor;

/// A token that SIGTERM and SIGINT cancel. Called within a runtime.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "stopping");
        supervisor::stopping();
        token.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn both_signals_stop() {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let stop = on_signal().unwrap();
            tokio::task::yield_now().await;
            assert!(!stop.is_cancelled(), "before {signal}");
            raise(signal).unwrap();
            let stopped = timeout(Duration::from_secs(5), stop.cancelled()).await;
            assert!(stopped.is_ok(), "{signal}");
        }
    }
}
