//! `Why`: the question and its answer in protobuf.

use std::time::Duration;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::why_request::Subject as Asked;
use tonic::Status;

use super::convert::{self, Violations};
use crate::engine::{Explained, Subject};
use crate::identity::Phone;
use crate::why::{Break, Link};

/// Homes are seldom silent for so long: devices in them ask for the time, for updates, for news.
const QUIET_AFTER: Duration = Duration::from_secs(300);

pub fn asked(
    request: pb::WhyRequest,
    country_code: Option<&str>,
) -> Result<(Subject, Duration), Status> {
    let mut violations = Violations::default();
    let subject = match &request.subject {
        Some(Asked::Phone(phone)) => violations
            .check("phone", Phone::parse(phone, country_code))
            .map(Subject::Phone),
        Some(Asked::LocationId(text)) => violations
            .check("location_id", text.parse())
            .map(Subject::Location),
        Some(Asked::SessionId(text)) => violations
            .check("session_id", convert::uuid(text))
            .map(Subject::Session),
        None => {
            violations.add(
                "subject",
                "one of phone, location_id and session_id is needed",
            );
            None
        }
    };
    let quiet_after = match request.quiet_after_s {
        0 => QUIET_AFTER,
        seconds => Duration::from_secs(seconds.into()),
    };
    subject
        .map(|subject| (subject, quiet_after))
        .ok_or_else(|| violations.status())
}

pub fn answer(explained: Vec<Explained>) -> pb::WhyResponse {
    pb::WhyResponse {
        connections: explained.into_iter().map(connection).collect(),
    }
}

fn connection(explained: Explained) -> pb::WhyConnection {
    let session = explained.session.map(|row| row.session);
    let connection = session.as_ref().map(|session| &session.connection);
    pb::WhyConnection {
        subscriber_id: text(explained.subscriber),
        session_id: text(session.as_ref().map(|session| session.id)),
        location_id: text(connection.map(|connection| &connection.location)),
        gateway_id: text(connection.map(|connection| &connection.gateway)),
        state: session
            .as_ref()
            .map_or(pb::SessionState::Unspecified, |session| {
                convert::state(session.state)
            })
            .into(),
        links: explained.chain.links.into_iter().map(link).collect(),
        broken: explained.chain.broken.map(broken),
    }
}

fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn link(link: Link) -> pb::WhyLink {
    pb::WhyLink {
        link: link.stage.name().to_owned(),
        holds: link.holds.name().to_owned(),
        at_unix_ms: link.at_ms,
        detail: link.detail,
    }
}

fn broken(broken: Break) -> pb::WhyBreak {
    pb::WhyBreak {
        link: broken.stage.name().to_owned(),
        kind: broken.kind.name().to_owned(),
        since_unix_ms: broken.since_ms,
        cause: broken.cause,
        host: broken.host.to_string(),
        command: broken.command,
    }
}
