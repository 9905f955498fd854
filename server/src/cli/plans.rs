//! `plans`: what the running server lets subscribers be put on.

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;
use doorstep_daemon::client::refused;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::output::{Output, fields, json, print, table};
use doorstep_proto::v1 as pb;
use doorstep_server::config::Offer;

use super::{client, tables, views};

#[derive(Debug, Subcommand)]
pub enum Action {
    /// All of them (the default)
    List,
    /// Read the configuration again and take up its plans. Sessions on one that has changed follow
    /// while they go on (audited). On several servers: on each. Other changes of the file are named
    /// and need a restart
    Reload {
        #[command(flatten)]
        dry_run: DryRun,
    },
}

pub async fn plans(socket: &Path, action: Option<Action>, output: Output) -> Result<()> {
    match action.unwrap_or(Action::List) {
        Action::List => list(socket, output).await,
        Action::Reload { dry_run } => reload(socket, dry_run, output).await,
    }
}

async fn list(socket: &Path, output: Output) -> Result<()> {
    let mut client = client::connect(socket).await?;
    let listed = client.list_plans(pb::ListPlansRequest {}).await;
    let plans = listed.map_err(refused)?.into_inner().plans;
    if output == Output::Json {
        let plans: Vec<_> = plans.into_iter().map(views::Plan::from).collect();
        return json(&plans);
    }
    let row = |plan: &pb::PlanView| {
        let yes = |is: bool| if is { "yes" } else { "" }.to_owned();
        [
            plan.name.clone(),
            tables::service(&plan.service.unwrap_or_default()),
            yes(plan.is_default),
            yes(plan.offered),
            plan.title.clone(),
            plan.price.clone(),
        ]
    };
    let rows: Vec<_> = plans.iter().map(row).collect();
    let head = ["PLAN", "SERVICE", "DEFAULT", "OFFERED", "TITLE", "PRICE"];
    print(&table(&head, &rows))
}

async fn reload(socket: &Path, dry_run: DryRun, output: Output) -> Result<()> {
    let mut client = client::connect(socket).await?;
    let reloaded = client
        .reload_plans(pb::ReloadPlansRequest {
            dry_run: dry_run.dry_run,
        })
        .await;
    let reloaded = reloaded.map_err(refused)?.into_inner();
    dry_run.tell();
    if output == Output::Json {
        return json(&dry_run.with(views::ReloadedPlans::from(reloaded)));
    }
    let service = |service: Option<pb::Service>, absent: &str| {
        service.map_or_else(|| absent.to_owned(), |service| tables::service(&service))
    };
    let rows: Vec<_> = reloaded
        .changes
        .into_iter()
        .map(|change| {
            [
                change.name,
                service(change.before, "new"),
                service(change.after, "gone"),
            ]
        })
        .collect();
    let offers = reloaded.offers.into_iter().map(|change| {
        let offer = Offer {
            offered: change.offered,
            title: change.title,
            price: change.price,
        };
        format!("{}: {offer}", change.name)
    });
    let offers: Vec<_> = offers.collect();
    if rows.is_empty() {
        print("no plan's service has changed\n")?;
    } else {
        print(&table(&["PLAN", "BEFORE", "NOW"], &rows))?;
    }
    let default = reloaded.default_plan.map(|name| match name.as_str() {
        "" => "none".to_owned(),
        _ => name,
    });
    print(&fields(&[
        ("offered otherwise", offers.join("; ")),
        ("default plan", default.unwrap_or_default()),
        ("needs a restart", reloaded.needs_restart.join(", ")),
        ("in use, but gone", reloaded.missing.join(", ")),
    ]))
}
