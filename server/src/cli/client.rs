//! Commands that ask the running server.

use std::future::Future;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use doorstep_daemon::client::{self, refused};
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::output::{Output, fields, json, print, table};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::operator_client::OperatorClient;
use doorstep_server::engine::now_ms;
use doorstep_server::service::convert::state_name;
use tonic::transport::Channel;

use super::tables::when;
use super::{ServiceArgs, SessionAction, SubscriberAction, bulk, lists, tables, views};

pub fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(command)
}

pub(super) async fn connect(socket: &Path) -> Result<OperatorClient<Channel>> {
    let channel = client::connect(socket, "server").await?;
    Ok(OperatorClient::new(channel).max_decoding_message_size(64 * 1024 * 1024))
}

pub async fn status(socket: &Path, output: Output) -> Result<()> {
    let mut client = connect(socket).await?;
    let status = client
        .status(pb::OperatorStatusRequest {})
        .await
        .map_err(refused)?
        .into_inner();
    if output == Output::Json {
        return json(&views::Status::from(status));
    }
    let sessions: Vec<String> = status
        .sessions_by_state
        .iter()
        .map(|entry| format!("{} {}", entry.count, state_name(entry.state)))
        .collect();
    let counted = |what: String| counted(what, status.counted_unix_ms, now_ms());
    print(&fields(&[
        ("operator", status.operator),
        ("version", status.version),
        ("listens on", status.listen),
        ("running since", when(status.started_unix_ms)),
        (
            "gateways",
            format!(
                "{} of {} connected",
                status.gateways_connected, status.gateways_configured
            ),
        ),
        ("subscribers", status.subscribers.to_string()),
        (
            "sessions",
            if sessions.is_empty() {
                "none".to_owned()
            } else {
                sessions.join(", ")
            },
        ),
        (
            "silent",
            format!(
                "{} terminals, of the gateways connected here",
                status.silent
            ),
        ),
        ("receipts", counted(status.receipts.to_string())),
        ("watches", status.watches.to_string()),
        ("refused", refused_load(&status.refused)),
        (
            "legacy seal",
            format!(
                "{}, used {} times",
                if status.legacy_seal_enabled {
                    "on"
                } else {
                    "off"
                },
                status.legacy_seal_uses
            ),
        ),
        (
            "identity keys",
            counted(identity_keys(&status.identity_keys)),
        ),
    ]))
}

/// With how old it is, where that is more than a second.
fn counted(what: String, counted_unix_ms: i64, now_ms: i64) -> String {
    match (counted_unix_ms, (now_ms - counted_unix_ms) / 1000) {
        (0, _) => "being counted; ask again in a moment".to_owned(),
        (_, ..=1) => what,
        (_, seconds) => format!("{what}, as of {seconds} s ago"),
    }
}

/// Such as `2 current, 1 old (needed by 20 subscribers, 3 sessions, 7 answers)`.
fn identity_keys(keys: &[pb::IdentityKeyView]) -> String {
    let keys: Vec<String> = keys
        .iter()
        .map(|key| {
            let needed = [
                (key.subscribers, "subscribers"),
                (key.sessions, "sessions"),
                (key.answers, "answers"),
            ];
            let needed: Vec<String> = needed
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            if needed.is_empty() {
                format!("{} {}", key.key, key.state)
            } else {
                format!(
                    "{} {} (needed by {})",
                    key.key,
                    key.state,
                    needed.join(", ")
                )
            }
        })
        .collect();
    keys.join(", ")
}

/// Reasons that have occurred.
fn refused_load(counts: &[pb::RefusedCount]) -> String {
    let occurred: Vec<_> = counts
        .iter()
        .filter(|entry| entry.count > 0)
        .map(|entry| format!("{} {}", entry.count, entry.reason))
        .collect();
    if occurred.is_empty() {
        "nothing".to_owned()
    } else {
        occurred.join(", ")
    }
}

pub async fn gateways(socket: &Path, output: Output) -> Result<()> {
    let mut client = connect(socket).await?;
    let gateways = client
        .list_gateways(pb::ListGatewaysRequest {})
        .await
        .map_err(refused)?
        .into_inner()
        .gateways;
    if output == Output::Json {
        let views: Vec<_> = gateways.into_iter().map(views::Gateway::from).collect();
        return json(&views);
    }
    let rows: Vec<_> = gateways
        .into_iter()
        .map(|gateway| {
            vec![
                gateway.gateway_id,
                if gateway.connected {
                    "connected"
                } else {
                    "away"
                }
                .to_owned(),
                when(gateway.since_unix_ms),
                gateway.sessions.to_string(),
                gateway.last_receipt.to_string(),
                gateway.software_version,
                gateway.peer,
            ]
        })
        .collect();
    print(&table(
        &[
            "GATEWAY",
            "STATE",
            "SINCE",
            "SESSIONS",
            "LAST RECEIPT",
            "VERSION",
            "PEER",
        ],
        &rows,
    ))
}

pub async fn subscribers(
    socket: &Path,
    action: Option<SubscriberAction>,
    output: Output,
) -> Result<()> {
    let mut client = connect(socket).await?;
    match action.unwrap_or(SubscriberAction::List(lists::SubscriberList::default())) {
        SubscriberAction::Import(given) => bulk::import(client, given, output).await,
        SubscriberAction::List(list) => lists::subscribers(client, &list, output).await,
        SubscriberAction::Show { id } => {
            let view = client
                .show_subscriber(pb::ShowSubscriberRequest {
                    subscriber_id: id.clone(),
                })
                .await
                .map_err(refused)?
                .into_inner();
            let sessions = lists::sessions_of(&client, &id).await?;
            if output == Output::Json {
                let sessions = sessions.into_iter().map(views::Session::from);
                return json(&views::SubscriberDetail {
                    subscriber: view.into(),
                    session_list: sessions.collect(),
                });
            }
            print(&tables::subscribers(vec![view]))?;
            print("\n")?;
            print(&tables::sessions(sessions))
        }
        SubscriberAction::Plan {
            id, plan, dry_run, ..
        } => {
            let view = client
                .set_subscriber_plan(pb::SetSubscriberPlanRequest {
                    subscriber_id: id,
                    plan: plan.unwrap_or_default(),
                    dry_run: dry_run.dry_run,
                })
                .await
                .map_err(refused)?
                .into_inner();
            dry_run.tell();
            if output == Output::Json {
                return json(&dry_run.with(views::Subscriber::from(view)));
            }
            print(&tables::subscribers(vec![view]))
        }
        SubscriberAction::ResetSecret { id, dry_run } => {
            let credentials = client
                .reset_secret(pb::ResetSecretRequest {
                    subscriber_id: id,
                    dry_run: dry_run.dry_run,
                })
                .await
                .map_err(refused)?
                .into_inner();
            let secret = base64::engine::general_purpose::STANDARD.encode(&credentials.secret);
            dry_run.tell();
            if output == Output::Json {
                return json(&dry_run.with(views::NewSecret {
                    subscriber_id: credentials.subscriber_id,
                    secret: (!secret.is_empty()).then_some(secret),
                }));
            }
            let secret = match dry_run.dry_run {
                true => "another one".to_owned(),
                false => secret,
            };
            print(&fields(&[
                ("subscriber", credentials.subscriber_id),
                ("new secret", secret),
            ]))
        }
    }
}

pub async fn sessions(socket: &Path, action: Option<SessionAction>, output: Output) -> Result<()> {
    let mut client = connect(socket).await?;
    let (detail, dry_run) =
        match action.unwrap_or(SessionAction::List(lists::SessionList::default())) {
            SessionAction::List(list) => return lists::sessions(client, list, output).await,
            SessionAction::Connect(given) => return bulk::connect(client, given, output).await,
            SessionAction::Move {
                id,
                location,
                dry_run,
            } => {
                let request = pb::MoveSessionRequest {
                    session_id: id,
                    location_id: location,
                    dry_run: dry_run.dry_run,
                };
                (client.move_session(request).await, dry_run)
            }
            SessionAction::Show { id } => {
                let request = pb::ShowSessionRequest { session_id: id };
                (client.show_session(request).await, DryRun::default())
            }
            SessionAction::Force { id, dry_run } => {
                let request = pb::ForceSessionRequest {
                    session_id: id,
                    dry_run: dry_run.dry_run,
                };
                (client.force_session(request).await, dry_run)
            }
            SessionAction::Service(service) => {
                let dry_run = service.dry_run;
                let served = client.set_session_service(request(service)).await;
                (served, dry_run)
            }
            SessionAction::Disconnect { id, dry_run } => {
                let request = pb::DisconnectSessionRequest {
                    session_id: id,
                    dry_run: dry_run.dry_run,
                };
                (client.disconnect_session(request).await, dry_run)
            }
        };
    tables::detail(detail.map_err(refused)?.into_inner(), dry_run, output)
}

fn request(service: ServiceArgs) -> pb::SetSessionServiceRequest {
    pb::SetSessionServiceRequest {
        session_id: service.id,
        plan: service.plan.unwrap_or_default(),
        upstream_bps: service.up,
        downstream_bps: service.down,
        shape_downstream: (service.shape || service.police).then_some(service.shape),
        priority: service.priority,
        dry_run: service.dry_run.dry_run,
    }
}
