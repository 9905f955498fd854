//! Which sessions and lines are asked for.

use std::fmt::Display;

use doorstep_proto::v1;
use tonic::Status;
use uuid::Uuid;

use crate::config::Config;
use crate::engine::row::SessionRef;
use crate::engine::{LineList, PHASES, SessionList};

/// None: it was not given.
fn given<'a, T>(
    text: &'a str,
    read: impl FnOnce(&'a str) -> Result<T, Status>,
) -> Result<Option<T>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    read(text).map(Some)
}

fn wrong(field: &str, text: &str, why: impl Display) -> Status {
    Status::invalid_argument(format!("{field} '{text}': {why}"))
}

fn limit(limit: u32) -> Option<usize> {
    (limit > 0).then_some(limit as usize)
}

pub fn sessions(
    config: &Config,
    request: v1::GatewaySessionsRequest,
) -> Result<SessionList, Status> {
    let operator = |name: &str| {
        let mut operators = config.operators.iter();
        let found = operators.find(|operator| operator.name == name);
        found.map(|operator| operator.index).ok_or_else(|| {
            let names: Vec<_> = config.operators.iter().map(|own| &*own.name).collect();
            Status::not_found(format!(
                "operator '{name}': must be one of {}",
                names.join(", ")
            ))
        })
    };
    let after = |text| {
        const FORM: &str = "must be OPERATOR/SESSION_ID of the last row of the page before";
        let (name, id) = text_parts(text).ok_or_else(|| wrong("after", text, FORM))?;
        Ok(SessionRef {
            operator: operator(name)?,
            session: id,
        })
    };
    if let Some(phase) = request
        .phases
        .iter()
        .find(|name| !PHASES.contains(&&***name))
    {
        let why = format!("must be one of {}", PHASES.join(", "));
        return Err(wrong("state", phase, why));
    }
    Ok(SessionList {
        operator: given(&request.operator, operator)?,
        location: given(&request.location_prefix, |text| {
            text.parse().map_err(|error| wrong("location", text, error))
        })?,
        since_ms: Some(request.since_unix_ms).filter(|since_ms| *since_ms != 0),
        after: given(&request.after, after)?,
        limit: limit(request.limit),
        phases: request.phases,
    })
}

fn text_parts(text: &str) -> Option<(&str, Uuid)> {
    let (name, id) = text.split_once('/')?;
    Some((name, id.parse().ok()?))
}

pub fn lines(request: &v1::GatewayLinesRequest) -> Result<LineList, Status> {
    Ok(LineList {
        blocked_only: request.blocked_only,
        location: given(&request.location_prefix, |text| {
            text.parse().map_err(|error| wrong("location", text, error))
        })?,
        after: given(&request.after, |text| {
            text.parse().map_err(|error| wrong("after", text, error))
        })?,
        limit: limit(request.limit),
    })
}
