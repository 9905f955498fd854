//! Traces of requests across terminal, server and gateway, for collectors that speak OpenTelemetry's
//! protocol.
//!
//! Nothing about them goes with any message: what is done for a session under one generation is one
//! [`Trace`], whose id all daemons work out by themselves. Spans are told once something has come to
//! its end, from the times that are on record anyway; so a trace survives whatever the session
//! survives, and what is not collected costs nothing.

mod export;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use export::Traces;

/// `[traces]` of a daemon's configuration. Without it nothing is told to anybody.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A collector of OTLP over gRPC: `http://127.0.0.1:4317`, or `https://`.
    pub endpoint: String,
    /// Certificates that sign the collector's, as PEM: for `https://`.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// What is done for a session under one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    pub session: Uuid,
    pub generation: u64,
}

/// Of which a trace has one, that all others are below: the request, as its server has seen it.
pub const ROOT: &str = "request";

impl Config {
    /// Paths are relative to the folder of the configuration.
    #[must_use]
    pub fn below(mut self, folder: &Path) -> Self {
        self.ca = self.ca.map(|ca| folder.join(ca));
        self
    }
}

impl Trace {
    fn digest(self, what: &str) -> [u8; 32] {
        let digest = Sha256::new()
            .chain_update(self.session.as_bytes())
            .chain_update(self.generation.to_be_bytes())
            .chain_update(what);
        digest.finalize().into()
    }

    /// 16 bytes, as W3C's Trace Context has them.
    #[must_use]
    pub fn id(self) -> Vec<u8> {
        self.digest("trace")[..16].to_vec()
    }

    /// 8 bytes.
    fn span(self, part: &str) -> Vec<u8> {
        self.digest(&format!("span {part}"))[..8].to_vec()
    }
}

/// A part of a trace that took its time.
#[derive(Clone, Debug)]
pub struct Span {
    /// What no other span of the trace has: its place in it.
    pub part: String,
    /// The one that it is a part of; none: the trace's root.
    pub within: Option<String>,
    pub name: Cow<'static, str>,
    pub began_unix_ms: i64,
    pub ended_unix_ms: i64,
    pub attributes: Vec<(&'static str, String)>,
    /// Why it came to nothing.
    pub failed: Option<String>,
    /// Generations of the session whose traces have more of it.
    pub links: Vec<u64>,
}

impl Span {
    #[must_use]
    pub fn new(part: &str, name: impl Into<Cow<'static, str>>, (from, to): (i64, i64)) -> Self {
        Span {
            part: part.to_owned(),
            within: Some(ROOT.to_owned()),
            name: name.into(),
            began_unix_ms: from,
            ended_unix_ms: to,
            attributes: Vec::new(),
            failed: None,
            links: Vec::new(),
        }
    }

    /// What somebody did, from the first of these steps to the last, and each stretch between two by
    /// the name of the one that it began with. `who` may come back to the same trace later.
    #[must_use]
    pub fn passage(
        who: &str,
        name: &'static str,
        steps: &[(&'static str, i64)],
        attributes: Vec<(&'static str, String)>,
    ) -> Vec<Span> {
        let ([(_, first), ..], [.., (_, last)]) = (steps, steps) else {
            return Vec::new();
        };
        let part = format!("{who} {first}");
        let whole = Span {
            attributes,
            ..Span::new(&part, name, (*first, *last))
        };
        let stretches = steps.windows(2).enumerate().map(|(at, pair)| Span {
            within: Some(part.clone()),
            ..Span::new(&format!("{part} {at}"), pair[0].0, (pair[0].1, pair[1].1))
        });
        std::iter::once(whole).chain(stretches).collect()
    }

    fn told(self, trace: Trace) -> otlp::Span {
        let nanos = |ms: i64| u64::try_from(ms).unwrap_or(0) * 1_000_000;
        let session = ("doorstep.session", trace.session.to_string());
        let mut attributes: Vec<KeyValue> = self
            .attributes
            .into_iter()
            .chain([session])
            .map(text)
            .collect();
        attributes.push(KeyValue {
            key: "doorstep.generation".to_owned(),
            value: Some(AnyValue {
                value: Some(Value::IntValue(trace.generation.cast_signed())),
            }),
            ..KeyValue::default()
        });
        let links = self.links.into_iter().map(|generation| {
            let other = Trace {
                generation,
                ..trace
            };
            otlp::span::Link {
                trace_id: other.id(),
                span_id: other.span(ROOT),
                ..otlp::span::Link::default()
            }
        });
        let status = self.failed.map(|message| otlp::Status {
            message,
            code: otlp::status::StatusCode::Error.into(),
        });
        otlp::Span {
            trace_id: trace.id(),
            span_id: trace.span(&self.part),
            parent_span_id: self
                .within
                .map(|part| trace.span(&part))
                .unwrap_or_default(),
            name: self.name.into_owned(),
            kind: otlp::span::SpanKind::Internal.into(),
            start_time_unix_nano: nanos(self.began_unix_ms),
            end_time_unix_nano: nanos(self.ended_unix_ms.max(self.began_unix_ms)),
            attributes,
            links: links.collect(),
            status,
            ..otlp::Span::default()
        }
    }
}

fn text((key, value): (&'static str, String)) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value)),
        }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: Trace = Trace {
        session: Uuid::from_u128(7),
        generation: 3,
    };

    #[test]
    fn a_trace_is_known_by_session_and_generation() {
        assert_eq!(TRACE.id(), TRACE.id());
        assert_eq!((TRACE.id().len(), TRACE.span(ROOT).len()), (16, 8));
        let others = [
            Trace {
                generation: 4,
                ..TRACE
            },
            Trace {
                session: Uuid::from_u128(8),
                ..TRACE
            },
        ];
        for other in others {
            assert_ne!(TRACE.id(), other.id());
            assert_ne!(TRACE.span(ROOT), other.span(ROOT));
        }
        assert_ne!(TRACE.span("a"), TRACE.span("b"));
    }

    #[test]
    fn a_span_is_told_with_its_place_times_and_links() {
        let span = Span {
            attributes: vec![("doorstep.gateway", "gw1".to_owned())],
            failed: Some("no".to_owned()),
            links: vec![2],
            ..Span::new("part", "name", (1_000, 900))
        };
        let told = span.told(TRACE);
        assert_eq!(told.trace_id, TRACE.id());
        assert_eq!(told.parent_span_id, TRACE.span(ROOT));
        // A clock that was set back makes no time run backwards.
        assert_eq!(
            (told.start_time_unix_nano, told.end_time_unix_nano),
            (1_000_000_000, 1_000_000_000)
        );
        let keys: Vec<&str> = told.attributes.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "doorstep.gateway",
                "doorstep.session",
                "doorstep.generation"
            ]
        );
        assert_eq!(told.status.expect("a status").message, "no");
        let other = Trace {
            generation: 2,
            ..TRACE
        };
        assert_eq!(told.links[0].trace_id, other.id());
        let root = Span {
            within: None,
            ..Span::new(ROOT, "connect", (1, 2))
        };
        assert!(root.told(TRACE).parent_span_id.is_empty());
    }

    #[test]
    fn a_passage_has_its_stretches() {
        let steps = [("asked", 1), ("answered", 4), ("done", 9)];
        let spans = Span::passage("who", "whole", &steps, Vec::new());
        let told: Vec<_> = spans
            .iter()
            .map(|span| (&*span.name, span.began_unix_ms, span.ended_unix_ms))
            .collect();
        assert_eq!(told, [("whole", 1, 9), ("asked", 1, 4), ("answered", 4, 9)]);
        assert_eq!(spans[0].within.as_deref(), Some(ROOT));
        assert_eq!(spans[2].within.as_deref(), Some(&*spans[0].part));
        assert!(Span::passage("who", "whole", &[], Vec::new()).is_empty());
    }
}
