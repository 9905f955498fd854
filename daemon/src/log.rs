//! The log, on standard error.

use std::io::{IsTerminal as _, stderr};

use anyhow::anyhow;
use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Starts the log, once in a process. `RUST_LOG` says what is logged; otherwise all from `level` on.
pub fn start(format: LogFormat, level: Level) -> anyhow::Result<()> {
    let (filter, refused) = filter(std::env::var(EnvFilter::DEFAULT_ENV).ok(), level);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr);
    match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    }
    .map_err(|error| anyhow!("cannot start the log: {error}"))?;
    if let Some(error) = refused {
        tracing::warn!(%error, "RUST_LOG is not understood and is ignored");
    }
    Ok(())
}

/// What to log, and why `RUST_LOG` was not heeded where it was not.
fn filter(wanted: Option<String>, level: Level) -> (EnvFilter, Option<ParseError>) {
    let parse = |text: &str| {
        EnvFilter::builder()
            .with_default_directive(level.into())
            .parse(text)
    };
    match parse(&wanted.unwrap_or_default()) {
        Ok(filter) => (filter, None),
        Err(error) => (
            EnvFilter::default().add_directive(level.into()),
            Some(error),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged() {
        for (wanted, shown, heeded) in [
            (None, "info", true),
            (Some(""), "info", true),
            (Some("debug"), "debug", true),
            (Some("doorstep=trace"), "doorstep=trace", true),
            (Some("doorstep=loud"), "info", false),
        ] {
            let (filter, refused) = filter(wanted.map(str::to_owned), Level::INFO);
            assert_eq!(filter.to_string(), shown, "{wanted:?}");
            assert_eq!(refused.is_none(), heeded, "{wanted:?}");
        }
    }
}
