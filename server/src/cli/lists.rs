//! Lists in pages.

use anyhow::Result;
use clap::Args;
use doorstep_daemon::client::refused;
use doorstep_daemon::moment::since;
use doorstep_daemon::output::{Output, json, print};
use doorstep_location::LocationPrefix;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::operator_client::OperatorClient;
use doorstep_server::service::convert;
use doorstep_server::session::State;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{tables, views};

/// Rows of a page.
const LIMIT: u32 = 500;
const MAX_LIMIT: u32 = 1000;

#[derive(Debug, Args)]
pub struct Paging {
    /// Rows of a page
    #[arg(long, value_name = "NUMBER", default_value_t = LIMIT, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LIMIT)))]
    limit: u32,
    /// Go on where a page ended: its `next_page_token`, with the same options otherwise
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
    /// All pages, one after the other
    #[arg(long, conflicts_with = "limit")]
    all_pages: bool,
}

impl Default for Paging {
    fn default() -> Self {
        Paging {
            limit: LIMIT,
            page_token: None,
            all_pages: false,
        }
    }
}

#[derive(Debug, Default, Args)]
pub struct SubscriberList {
    /// Only those registered since then: a time such as 2026-03-01T12:00:00Z, or so long ago, such as
    /// 30m, 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Default, Args)]
pub struct SessionList {
    /// Released ones too
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// Only those at locations that begin so, by whole components: `110103`, `110103-xinjingjiayuan-001`
    #[arg(long, value_name = "PREFIX")]
    location: Option<LocationPrefix>,
    /// Only those at this gateway
    #[arg(long, value_name = "ID")]
    gateway: Option<String>,
    /// Only those of this subscriber
    #[arg(long, value_name = "ID")]
    subscriber: Option<Uuid>,
    /// Only those in this state; may be given several times
    #[arg(long, value_name = "STATE", value_parser = clap::builder::PossibleValuesParser::new(State::ALL.map(State::name)))]
    state: Vec<String>,
    /// Only those in their states since then or later: a time such as 2026-03-01T12:00:00Z, or so long
    /// ago, such as 30m, 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    #[command(flatten)]
    paging: Paging,
}

/// Rows of one page or of all, and the token of the next one.
async fn pages<R, F>(
    paging: &Paging,
    mut ask: impl FnMut(String, u32) -> F,
) -> Result<(Vec<R>, Option<String>)>
where
    F: Future<Output = Result<(Vec<R>, String), tonic::Status>>,
{
    let mut rows = Vec::new();
    let mut token = paging.page_token.clone().unwrap_or_default();
    loop {
        let wanted = if paging.all_pages {
            MAX_LIMIT
        } else {
            // The server may have ended a page before it was full.
            paging.limit - u32::try_from(rows.len()).unwrap_or(paging.limit)
        };
        let (more, next) = ask(token, wanted).await.map_err(refused)?;
        rows.extend(more);
        let is_full = !paging.all_pages && rows.len() >= paging.limit as usize;
        if next.is_empty() || is_full {
            return Ok((rows, Some(next).filter(|next| !next.is_empty())));
        }
        token = next;
    }
}

pub async fn subscribers(
    client: OperatorClient<Channel>,
    list: &SubscriberList,
    output: Output,
) -> Result<()> {
    let (rows, next_page_token) = pages(&list.paging, |page_token, limit| {
        let mut client = client.clone();
        let request = pb::ListSubscribersRequest {
            limit,
            page_token,
            since_unix_ms: list.since.unwrap_or_default(),
        };
        async move {
            let page = client.list_subscribers(request).await?.into_inner();
            Ok((page.subscribers, page.next_page_token))
        }
    })
    .await?;
    if output == Output::Json {
        return json(&views::Subscribers {
            subscribers: rows.into_iter().map(views::Subscriber::from).collect(),
            next_page_token,
        });
    }
    print(&tables::subscribers(rows))?;
    tell_next(next_page_token.as_deref());
    Ok(())
}

pub async fn sessions(
    client: OperatorClient<Channel>,
    list: SessionList,
    output: Output,
) -> Result<()> {
    let states = list.state.iter().filter_map(|name| State::from_name(name));
    let request = pb::ListSessionsRequest {
        subscriber_id: list.subscriber.map(|id| id.to_string()).unwrap_or_default(),
        include_released: list.all,
        location_prefix: list
            .location
            .map(|prefix| prefix.to_string())
            .unwrap_or_default(),
        gateway_id: list.gateway.unwrap_or_default(),
        states: states.map(|state| convert::state(state).into()).collect(),
        since_unix_ms: list.since.unwrap_or_default(),
        ..pb::ListSessionsRequest::default()
    };
    let (rows, next_page_token) = session_pages(&client, &request, &list.paging).await?;
    if output == Output::Json {
        return json(&views::Sessions {
            sessions: rows.into_iter().map(views::Session::from).collect(),
            next_page_token,
        });
    }
    print(&tables::sessions(rows))?;
    tell_next(next_page_token.as_deref());
    Ok(())
}

/// All of a subscriber's, released ones too.
pub async fn sessions_of(
    client: &OperatorClient<Channel>,
    subscriber: &str,
) -> Result<Vec<pb::SessionView>> {
    let request = pb::ListSessionsRequest {
        subscriber_id: subscriber.to_owned(),
        include_released: true,
        ..pb::ListSessionsRequest::default()
    };
    let paging = Paging {
        all_pages: true,
        ..Paging::default()
    };
    Ok(session_pages(client, &request, &paging).await?.0)
}

async fn session_pages(
    client: &OperatorClient<Channel>,
    request: &pb::ListSessionsRequest,
    paging: &Paging,
) -> Result<(Vec<pb::SessionView>, Option<String>)> {
    pages(paging, |page_token, limit| {
        let mut client = client.clone();
        let request = pb::ListSessionsRequest {
            limit,
            page_token,
            ..request.clone()
        };
        async move {
            let page = client.list_sessions(request).await?.into_inner();
            Ok((page.sessions, page.next_page_token))
        }
    })
    .await
}

/// Says beside the table what to type for the next page.
fn tell_next(token: Option<&str>) {
    if let Some(token) = token {
        eprintln!("more: {}", next_command(std::env::args(), token));
    }
}

/// The same command with another token.
fn next_command(words: impl Iterator<Item = String>, token: &str) -> String {
    let mut next: Vec<String> = Vec::new();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        if word == "--page-token" {
            words.next();
        } else if !word.starts_with("--page-token=") {
            next.push(quoted(word));
        }
    }
    // Without a subcommand a list is meant, but only the subcommand has options.
    if !next.iter().any(|word| word == "list") {
        next.push("list".to_owned());
    }
    next.extend(["--page-token".to_owned(), token.to_owned()]);
    next.join(" ")
}

/// As a shell takes it for one word.
fn quoted(word: String) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word;
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_asked_for_by_the_same_command() {
        for (words, expected) in [
            ("s sessions", "s sessions list --page-token T"),
            (
                "s -o table sessions list --page-token old --state refused",
                "s -o table sessions list --state refused --page-token T",
            ),
            (
                "s subscribers list --page-token=old --since it's",
                r"s subscribers list --since 'it'\''s' --page-token T",
            ),
        ] {
            let words = words.split(' ').map(str::to_owned);
            assert_eq!(next_command(words, "T"), expected);
        }
    }
}
