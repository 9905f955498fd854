//! `why`: how far a connection holds.

use std::io::stdin;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args};
use doorstep_daemon::client::refused;
use doorstep_daemon::exit::Exit;
use doorstep_daemon::output::{Output, fields, json, print, table};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::why_request::Subject;
use doorstep_server::service::convert::state_name;
use serde::Serialize;

use super::tables::when;
use super::{Socket, client};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("subject").required(true).args(["phone", "location", "session"])))]
pub struct WhyArgs {
    /// The subscriber with this phone number; `-` reads it from standard input, where neither `ps` nor
    /// the shell's history shows it
    #[arg(long, value_name = "NUMBER|-", allow_hyphen_values = true)]
    phone: Option<String>,
    /// Whoever is, or is to be, at this location (not sealed)
    #[arg(long, value_name = "LOCATION")]
    location: Option<String>,
    /// This session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Without a packet for so many seconds an established session counts as broken
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(1..))]
    quiet_after: u32,
    #[command(flatten)]
    socket: Socket,
}

/// The JSON form: field names are part of the interface.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Connection {
    /// Null: nobody, or not known.
    subscriber_id: Option<String>,
    /// Null: there is no session.
    session_id: Option<String>,
    location_id: Option<String>,
    gateway_id: Option<String>,
    state: Option<&'static str>,
    links: Vec<Link>,
    /// Null: every link holds.
    broken: Option<Break>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Link {
    link: String,
    holds: String,
    /// Null: not known.
    at_unix_ms: Option<i64>,
    detail: String,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Break {
    link: String,
    kind: String,
    since_unix_ms: Option<i64>,
    cause: String,
    next: Next,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Next {
    host: String,
    command: String,
}

impl From<pb::WhyConnection> for Connection {
    fn from(given: pb::WhyConnection) -> Self {
        let text = |text: String| (!text.is_empty()).then_some(text);
        let time = |unix_ms: i64| (unix_ms != 0).then_some(unix_ms);
        let there_is_one = !given.session_id.is_empty();
        Connection {
            subscriber_id: text(given.subscriber_id),
            session_id: text(given.session_id),
            location_id: text(given.location_id),
            gateway_id: text(given.gateway_id),
            state: there_is_one.then(|| state_name(given.state)),
            links: given
                .links
                .into_iter()
                .map(|link| Link {
                    link: link.link,
                    holds: link.holds,
                    at_unix_ms: time(link.at_unix_ms),
                    detail: link.detail,
                })
                .collect(),
            broken: given.broken.map(|broken| Break {
                link: broken.link,
                kind: broken.kind,
                since_unix_ms: time(broken.since_unix_ms),
                cause: broken.cause,
                next: Next {
                    host: broken.host,
                    command: broken.command,
                },
            }),
        }
    }
}

pub fn why(given: &WhyArgs, output: Output) -> Result<ExitCode> {
    let request = pb::WhyRequest {
        subject: Some(subject(given)?),
        quiet_after_s: given.quiet_after,
    };
    let mut all_hold = true;
    client::block_on(async {
        let mut client = client::connect(&given.socket.socket).await?;
        let answer = client.why(request).await.map_err(refused)?.into_inner();
        let connections: Vec<_> = answer
            .connections
            .into_iter()
            .map(Connection::from)
            .collect();
        all_hold = connections.iter().all(|one| one.broken.is_none());
        if output == Output::Json {
            return json(&connections);
        }
        let texts: Vec<_> = connections.iter().map(show).collect();
        print(&texts.join("\n"))
    })?;
    Ok(if all_hold {
        ExitCode::SUCCESS
    } else {
        Exit::Finding.into()
    })
}

fn subject(given: &WhyArgs) -> Result<Subject> {
    let one = (&given.phone, &given.location, &given.session);
    Ok(match one {
        (Some(phone), _, _) if phone == "-" => {
            let mut line = String::new();
            stdin()
                .read_line(&mut line)
                .context("cannot read the phone number from standard input")?;
            Subject::Phone(line.trim().to_owned())
        }
        (Some(phone), _, _) => Subject::Phone(phone.clone()),
        (_, Some(location), _) => Subject::LocationId(location.clone()),
        (_, _, session) => Subject::SessionId(session.clone().unwrap_or_default()),
    })
}

fn show(connection: &Connection) -> String {
    let known = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut text = fields(&[
        ("subscriber", known(&connection.subscriber_id)),
        ("session", known(&connection.session_id)),
        ("location", known(&connection.location_id)),
        ("gateway", known(&connection.gateway_id)),
        ("state", connection.state.unwrap_or_default().to_owned()),
    ]);
    let rows: Vec<_> = connection
        .links
        .iter()
        .map(|link| {
            let holds = match link.holds.as_str() {
                "unknown" => "-",
                holds => holds,
            };
            let at = when(link.at_unix_ms.unwrap_or(0));
            [link.link.clone(), holds.to_owned(), at, link.detail.clone()]
        })
        .collect();
    if !text.is_empty() {
        text += "\n";
    }
    text += &table(&["LINK", "HOLDS", "SINCE", "DETAIL"], &rows);
    text += "\n";
    text += &match &connection.broken {
        None => "every link holds\n".to_owned(),
        Some(broken) => fields(&[
            ("broken", broken.link.clone()),
            ("since", when(broken.since_unix_ms.unwrap_or(0))),
            ("cause", broken.cause.clone()),
            (
                "next",
                format!("{}   (on the {})", broken.next.command, broken.next.host),
            ),
        ]),
    };
    text
}
