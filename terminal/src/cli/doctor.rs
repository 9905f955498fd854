//! `doctor`: looks at everything between the rooms and the world, and says what is wrong and what to
//! do about it.

mod finding;
mod probe;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use doorstep_daemon::exit::Exit;
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::say;
use doorstep_proto::v1 as pb;
pub(super) use finding::Finding;
use finding::findings;
use probe::{Answer, dns, tcp};
use tokio::task::JoinSet;

use super::{client, views};
use crate::daemon::look;

pub(super) async fn execute(socket: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let status = client::status(socket).await?;
    let all = look_at(&status).await?;
    let healthy = all.iter().all(|finding| finding.advice.is_none());
    match output {
        Output::Json => output::json(&views::Health {
            healthy,
            findings: all,
        })?,
        Output::Table => {
            for finding in &all {
                say!("{finding}")?;
            }
        }
    }
    Ok(match healthy {
        true => ExitCode::SUCCESS,
        false => Exit::Finding.into(),
    })
}

/// Everything, from the cable to the world.
pub(super) async fn look_at(status: &pb::TerminalStatus) -> anyhow::Result<Vec<Finding>> {
    let actual = look().await.context("cannot read the kernel's links")?;
    let mut all = findings(status, &actual);

    // Whatever does not answer takes its time, but all at once.
    let mut asked: JoinSet<(usize, Finding)> = JoinSet::new();
    for operator in &status.operators {
        let (number, name, url) = (asked.len(), operator.name.clone(), operator.url.clone());
        let advice = finding::way_to_server(status);
        asked.spawn(async move {
            let answer = tcp(&url).await;
            (number, finding::server(&name, &url, &answer, &advice))
        });
    }
    let online = status.sessions.iter().filter(|s| s.state == "established");
    for session in online {
        for server in session.dns.iter().filter_map(|text| text.parse().ok()) {
            let number = asked.len();
            asked.spawn(async move {
                let answer: Answer = dns(server).await;
                (number, finding::resolver(server, &answer))
            });
        }
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    all.extend(answers.into_iter().map(|(_, finding)| finding));
    Ok(all)
}
