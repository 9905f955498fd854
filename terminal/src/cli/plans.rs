//! `plans`: what an operator has to choose from.

use std::path::Path;
use std::process::ExitCode;

use doorstep_daemon::client::refused;
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::rate;
use doorstep_daemon::say;
use doorstep_proto::v1 as pb;

use super::{client, views};

pub(super) async fn execute(
    socket: &Path,
    operator: Option<String>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let request = pb::TerminalPlansRequest {
        operator: operator.unwrap_or_default(),
    };
    let answer = client::connect(socket).await?.plans(request).await;
    let answer = answer.map_err(refused)?.into_inner();
    match output {
        Output::Json => output::json(&views::Plans::from(&answer))?,
        Output::Table if answer.plans.is_empty() => {
            say!("operator {} offers no plan to choose", answer.operator)?;
        }
        Output::Table => {
            let head = ["PLAN", "TITLE", "PRICE", "UP", "DOWN", "OWN"];
            let rows: Vec<_> = answer.plans.iter().map(row).collect();
            output::print(&output::table(&head, &rows))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(plan: &pb::OfferedPlan) -> [String; 6] {
    [
        plan.name.clone(),
        plan.title.clone(),
        plan.price.clone(),
        rate::show(plan.upstream_bps),
        rate::show(plan.downstream_bps),
        if plan.own { "yes" } else { "" }.to_owned(),
    ]
}
