//! `apply` and `confirm`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Args;
use doorstep_daemon::client::refused;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::say;
use doorstep_proto::v1 as pb;

use super::{Client, client, duration, millis, views};

#[derive(Debug, Args)]
pub(super) struct Apply {
    /// A whole configuration, of which `[wan]` and `[home]` are taken up; by default the one that the
    /// daemon was started with.
    file: Option<PathBuf>,
    #[command(flatten)]
    dry_run: DryRun,
    /// Put the former links back unless `confirm` comes within this time, such as 60s.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "dry_run")]
    confirm: Option<Duration>,
    #[command(flatten)]
    client: Client,
}

#[derive(Debug, Args)]
pub(super) struct Confirm {
    /// Put the former links back at once instead.
    #[arg(long)]
    refuse: bool,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    client: Client,
}

pub(super) async fn apply(args: Apply) -> anyhow::Result<ExitCode> {
    let (path, text) = match &args.file {
        None => (String::new(), String::new()),
        Some(file) => {
            let named = || format!("configuration {}", file.display());
            let text = std::fs::read_to_string(file).with_context(named)?;
            let path = std::path::absolute(file).with_context(named)?;
            let path = path.to_str().context("the path is not UTF-8")?;
            (path.to_owned(), text)
        }
    };
    let request = pb::TerminalApplyRequest {
        path,
        text,
        dry_run: args.dry_run.dry_run,
        confirm_ms: args.confirm.map_or(0, millis),
    };
    let mut daemon = client::connect(&args.client.socket).await?;
    let answer = daemon.apply(request).await.map_err(refused)?.into_inner();
    print(args.client.output, &answer, args.dry_run)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn confirm(args: Confirm) -> anyhow::Result<ExitCode> {
    let request = pb::TerminalConfirmRequest {
        refuse: args.refuse,
        dry_run: args.dry_run.dry_run,
    };
    let mut daemon = client::connect(&args.client.socket).await?;
    daemon.confirm(request).await.map_err(refused)?;
    args.dry_run.tell();
    match args.client.output {
        Output::Json => {
            let confirmed = !args.refuse;
            output::json(&args.dry_run.with(views::Confirmed { confirmed }))?;
        }
        Output::Table if args.refuse => say!("refused: the former links come back")?,
        Output::Table => say!("confirmed: the links stay")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn name(change: &pb::TerminalLinkChange) -> (&'static str, char) {
    match change.kind() {
        pb::TerminalChangeKind::Added => ("added", '+'),
        pb::TerminalChangeKind::Removed => ("removed", '-'),
        pb::TerminalChangeKind::Changed | pb::TerminalChangeKind::Unspecified => ("changed", '~'),
    }
}

fn print(output: Output, told: &pb::TerminalApplyResponse, given: DryRun) -> anyhow::Result<()> {
    let DryRun { dry_run } = given;
    let by = told.confirm_by_unix_ms;
    if output == Output::Json {
        let applied = views::Applied::new(told, |change| name(change).0, !dry_run);
        return output::json(&given.with(applied));
    }
    let absent = |text: &str| if text.is_empty() { "none" } else { text }.to_owned();
    for setting in &told.settings {
        let (former, value) = (absent(&setting.former), absent(&setting.value));
        say!("{}: {former} -> {value}", setting.key)?;
    }
    for change in &told.links {
        let was = match change.former.as_str() {
            "" => String::new(),
            former => format!("  (was: {former})"),
        };
        say!("{} {}{was}", name(change).1, change.what)?;
    }
    for note in &told.notes {
        say!("note: {note}")?;
    }
    let outcome = match (told.links.is_empty(), dry_run) {
        (true, true) => "no link would change".to_owned(),
        (true, false) => "applied; no link has changed".to_owned(),
        (false, true) => format!("{} changes; nothing has been done", told.links.len()),
        (false, false) => format!("applied: {} changes", told.links.len()),
    };
    say!("{outcome}")?;
    if by > 0 {
        let left = seconds_left(by);
        say!("run `doorstep-terminal confirm` within {left} s, or the former links come back")?;
    }
    Ok(())
}

/// Until then, rounded.
pub(super) fn seconds_left(unix_ms: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
    unix_ms.saturating_sub(now).max(0).saturating_add(500) / 1000
}
