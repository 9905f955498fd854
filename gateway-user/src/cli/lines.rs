//! Commands on lines.

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;
use doorstep_daemon::client::refused;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::output::{self, Output, table};
use doorstep_proto::v1;

use super::json;
use super::show::{connect, tell_more};

#[derive(Subcommand)]
pub enum Action {
    /// The lines of the inventory, and what else is blocked (the default)
    List {
        /// Only those that are blocked
        #[arg(long)]
        blocked: bool,
        /// Only those at a place and below it, by whole components: 1101, 110103-xinjingjiayuan
        #[arg(long, value_name = "PREFIX")]
        location: Option<String>,
        /// At most so many; where there may be more, what to type for them is told on standard error
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Only those behind this location, the last of the page before
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Let nothing pass a line until it is unblocked; its sessions stay
    Block {
        /// Location id of the line
        #[arg(long, value_name = "ID")]
        location: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Let a line that was blocked by hand pass its packets again
    Unblock {
        /// Location id of the line
        #[arg(long, value_name = "ID")]
        location: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
}

pub async fn lines(socket: &Path, action: Option<Action>, output: Output) -> Result<()> {
    let Some(action) = action else {
        return list(socket, v1::GatewayLinesRequest::default(), output).await;
    };
    match action {
        Action::List {
            blocked,
            location,
            limit,
            after,
        } => {
            let request = v1::GatewayLinesRequest {
                blocked_only: blocked,
                location_prefix: location.unwrap_or_default(),
                after: after.unwrap_or_default(),
                limit: limit.unwrap_or_default(),
            };
            list(socket, request, output).await
        }
        Action::Block { location, dry_run } => set(socket, location, true, dry_run, output).await,
        Action::Unblock { location, dry_run } => {
            set(socket, location, false, dry_run, output).await
        }
    }
}

async fn list(socket: &Path, request: v1::GatewayLinesRequest, output: Output) -> Result<()> {
    let limit = Some(request.limit).filter(|limit| *limit > 0);
    let answer = connect(socket).await?.lines(request).await;
    let mut parts = answer.map_err(refused)?.into_inner();
    let mut lines = Vec::new();
    while let Some(part) = parts.message().await.map_err(refused)? {
        lines.extend(part.lines);
    }
    let last = lines
        .last()
        .map(|last: &v1::GatewayLine| &*last.location_id);
    tell_more(lines.len(), limit, last);
    if output == Output::Json {
        return output::json(&lines.iter().map(json::line).collect::<Vec<_>>());
    }
    let rows: Vec<_> = lines.iter().map(row).collect();
    let header = ["LOCATION", "LINE", "BLOCKED", "SESSIONS"];
    output::print(&table(&header, &rows))
}

async fn set(
    socket: &Path,
    location_id: String,
    blocked: bool,
    dry_run: DryRun,
    output: Output,
) -> Result<()> {
    let request = v1::GatewaySetLineBlockedRequest {
        location_id,
        blocked,
        dry_run: dry_run.dry_run,
    };
    let answer = connect(socket).await?.set_line_blocked(request).await;
    let line = answer.map_err(refused)?.into_inner();
    dry_run.tell();
    if output == Output::Json {
        return output::json(&dry_run.with(json::line(&line)));
    }
    let state = match blocked_by(&line) {
        "" => "is not blocked".to_owned(),
        by => format!("is blocked by {by}"),
    };
    output::print(&format!("{} {state}\n", line.location_id))
}

fn row(line: &v1::GatewayLine) -> Vec<String> {
    vec![
        line.location_id.clone(),
        line.line.clone(),
        match blocked_by(line) {
            "" => String::new(),
            by => format!("by {by}"),
        },
        line.sessions.to_string(),
    ]
}

fn blocked_by(line: &v1::GatewayLine) -> &'static str {
    match (line.blocked_by_inventory, line.blocked_by_hand) {
        (false, false) => "",
        (true, false) => "the inventory",
        (false, true) => "hand",
        (true, true) => "hand and the inventory",
    }
}
