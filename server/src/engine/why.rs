//! Collects the facts of connections that somebody asks about.

use std::time::Duration;

use doorstep_location::LocationId;
use uuid::Uuid;

use super::{Engine, EngineError, Result, now_ms};
use crate::hub::Liveness;
use crate::identity::Phone;
use crate::session::State;
use crate::store::{Database, GatewayRow, SessionRow};
use crate::why::{Asked, Chain, Facts, GatewayFacts, SessionFacts, Step, Traffic, examine};

/// Whose connection is asked about.
pub enum Subject {
    Phone(Phone),
    Location(LocationId),
    Session(Uuid),
}

/// One connection, and how far it holds.
#[derive(Debug)]
pub struct Explained {
    pub subscriber: Option<Uuid>,
    pub session: Option<SessionRow>,
    pub chain: Chain,
}

impl Engine {
    /// The connections of a subject: all that are not released, or else the last one, or else what is
    /// known without any. Nothing is changed.
    pub async fn why(&self, subject: Subject, quiet_after: Duration) -> Result<Vec<Explained>> {
        let (asked, subscriber, rows) = match subject {
            Subject::Phone(phone) => {
                let subscriber = self.subscriber_by_phone(&phone).await?;
                let rows = match subscriber {
                    Some(id) => self.store.all_sessions_of(id).await?,
                    None => Vec::new(),
                };
                (Asked::Subscriber, subscriber, rows)
            }
            Subject::Location(location) => {
                let text = location.to_string();
                let rows = self.store.sessions_at(&text).await?;
                let gateway = self.config.gateway_for(&location);
                let asked = Asked::Location {
                    location: text,
                    gateway: gateway.map(|gateway| gateway.id.clone()),
                };
                (asked, None, rows)
            }
            Subject::Session(id) => {
                let row = self.store.session(id).await?;
                let row = row.ok_or(EngineError::NotFound(
                    "session_id: there is no such session; `doorstep-server sessions` has them all",
                ))?;
                (Asked::Session, None, vec![row])
            }
        };
        let rows = those_that_matter(rows);
        let facts = Facts {
            now_ms: now_ms(),
            quiet_after_ms: i64::try_from(quiet_after.as_millis()).unwrap_or(i64::MAX),
            asked,
            registered_ms: None,
            refusal: None,
            session: None,
        };
        if rows.is_empty() {
            return Ok(vec![self.explain(facts, subscriber, None).await?]);
        }
        let mut explained = Vec::with_capacity(rows.len());
        for row in rows {
            let subscriber = row.session.subscriber;
            let facts = facts.clone();
            explained.push(self.explain(facts, Some(subscriber), Some(row)).await?);
        }
        Ok(explained)
    }

    async fn explain(
        &self,
        mut facts: Facts,
        subscriber: Option<Uuid>,
        row: Option<SessionRow>,
    ) -> Result<Explained> {
        if let Some(id) = subscriber {
            let known = self.store.subscriber(id).await?;
            facts.registered_ms = known.map(|known| known.subscriber.created_ms);
            facts.refusal = self.refused_requests.of(id);
        }
        if let Some(row) = &row {
            facts.session = Some(self.session_facts(row).await?);
        }
        Ok(Explained {
            subscriber,
            session: row,
            chain: examine(&facts),
        })
    }

    async fn session_facts(&self, row: &SessionRow) -> Result<SessionFacts> {
        let session = &row.session;
        let id = session.id;
        let steps = self.store.steps(id, None).await?;
        let counted = self.store.counters_of(&[id]).await?;
        let counted = counted.first().filter(|row| row.belong_to(session));
        let gateway = &session.connection.gateway;
        let seen = self.store.gateways().await?;
        Ok(SessionFacts {
            id: id.to_string(),
            location: session.connection.location.to_string(),
            state: session.state,
            generation: session.generation,
            establishment: session.establishment,
            created_ms: row.created_ms,
            since_ms: row.since_ms,
            detail: session.detail.clone(),
            target_gateway: session
                .target
                .as_ref()
                .map(|target| target.connection.gateway.clone()),
            steps: steps
                .into_iter()
                .map(|step| Step {
                    state: step.state,
                    at_ms: step.at_ms,
                    detail: step.detail,
                    who: step.who,
                })
                .collect(),
            gateway: self.gateway_facts(gateway, seen.get(gateway)),
            silent_since_ms: match self.hub.liveness(session) {
                Liveness::SilentSince(since_ms) => Some(since_ms),
                Liveness::NotSilent | Liveness::Unknown => None,
            },
            blocked: self.hub.is_blocked(session),
            traffic: counted.map(|row| Traffic {
                upstream_packets: row.counters.upstream_packets,
                downstream_packets: row.counters.downstream_packets,
                moved_ms: row.moved_ms,
                returned_ms: row.returned_ms,
            }),
        })
    }

    fn gateway_facts(&self, id: &str, seen: Option<&GatewayRow>) -> GatewayFacts {
        GatewayFacts {
            id: id.to_owned(),
            configured: self.config.gateway(id).is_some(),
            connected_ms: self.hub.link(id).map(|link| link.since_ms),
            seen_ms: seen.map_or(0, |seen| seen.seen_ms),
            shared: matches!(self.config.database, Database::Postgres(_)),
            uplink_problem: self
                .hub
                .link(id)
                .map(|link| link.uplink_problem())
                .unwrap_or_default(),
        }
    }
}

/// All that are not released; if all are, the newest. The oldest first.
fn those_that_matter(mut rows: Vec<SessionRow>) -> Vec<SessionRow> {
    rows.sort_by_key(|row| (row.created_ms, row.session.id));
    let last = rows.last().cloned();
    rows.retain(|row| row.session.state != State::Released);
    if rows.is_empty() {
        rows.extend(last);
    }
    rows
}
