//! The log, on standard error, or in the system's journal where that is where standard error leads.

use std::io::{IsTerminal as _, stderr};

use anyhow::anyhow;
use clap::ValueEnum;
use nix::sys::stat::fstat;
use tracing::{Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// Where systemd says which stream is the journal's: device and inode, such as `8:31337`.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// To the journal with its fields where standard error leads there, otherwise text
    #[default]
    Auto,
    Text,
    Json,
}

/// Starts the log, once in a process. `RUST_LOG` says what is logged; otherwise all from `level` on.
pub fn start(format: LogFormat, level: Level) -> anyhow::Result<()> {
    let (filter, refused) = filter(std::env::var(EnvFilter::DEFAULT_ENV).ok(), level);
    let (journal, unreachable) = match format {
        LogFormat::Auto if leads_to_journal() => match journal() {
            Ok(journal) => (Some(journal), None),
            Err(error) => (None, Some(error)),
        },
        _ => (None, None),
    };
    let lines = match (&journal, format) {
        (Some(_), _) => None,
        (None, LogFormat::Json) => Some(lines().json().boxed()),
        (None, _) => Some(lines().boxed()),
    };
    Registry::default()
        .with(filter)
        .with(journal)
        .with(lines)
        .try_init()
        .map_err(|error| anyhow!("cannot start the log: {error}"))?;
    if let Some(error) = refused {
        tracing::warn!(%error, "RUST_LOG is not understood and is ignored");
    }
    if let Some(error) = unreachable {
        tracing::warn!(%error, "the journal's socket cannot be used; it gets lines of text instead");
    }
    Ok(())
}

/// Lines on standard error.
fn lines<S: Subscriber + for<'a> LookupSpan<'a>>()
-> fmt::Layer<S, fmt::format::DefaultFields, fmt::format::Format, fn() -> std::io::Stderr> {
    fmt::layer()
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr as fn() -> std::io::Stderr)
}

/// Events with their fields: `F_SESSION` and so on. Priorities are those of syslog.
fn journal() -> std::io::Result<tracing_journald::Layer> {
    Ok(
        tracing_journald::layer()?.with_priority_mappings(PriorityMappings {
            error: Priority::Error,
            warn: Priority::Warning,
            info: Priority::Informational,
            debug: Priority::Debug,
            trace: Priority::Debug,
        }),
    )
}

/// Whether what this process writes to standard error gets into the journal as it is. A process that
/// another one has started with its standard error elsewhere has the variable, too.
fn leads_to_journal() -> bool {
    let told = std::env::var(JOURNAL_STREAM).ok();
    let own = fstat(stderr()).ok();
    is_stream(told.as_deref(), own.map(|own| (own.st_dev, own.st_ino)))
}

fn is_stream(told: Option<&str>, own: Option<(u64, u64)>) -> bool {
    let told = told.and_then(|told| told.split_once(':'));
    let told = told.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    told.is_some() && told == own
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

    #[test]
    fn the_journal_is_where_standard_error_leads_to_it() {
        let own = Some((8, 31_337));
        for (told, own, expected) in [
            (Some("8:31337"), own, true),
            (Some("8:31338"), own, false),
            (Some("9:31337"), own, false),
            (Some("8:31337"), None, false),
            (Some("31337"), own, false),
            (Some("8:"), own, false),
            (Some(""), own, false),
            (None, own, false),
            (None, None, false),
        ] {
            assert_eq!(is_stream(told, own), expected, "{told:?} {own:?}");
        }
    }
}
