//! What gateways report.

use std::collections::HashSet;

use futures::future::join_all;
use uuid::Uuid;

use super::{Engine, EngineError, Result, now_ms};
use crate::session::machine::{Denied, Event, Ignored, Outcome};
use crate::session::{Session, State};
use crate::store::{Counters, CountersRow, GatewaySeen, Need, ReceiptRow, SessionRow, Who, Work};

/// A gateway's word about one session, checked and in plain types.
#[derive(Clone, Debug)]
pub enum GatewayEvent {
    Ack {
        /// Of the service that the gateway follows.
        revision: u64,
    },
    Nack {
        /// Of the service whose change is refused; 0: another instruction is.
        revision: u64,
        reason: String,
    },
    /// What a resynchronisation tells of the service that the gateway follows.
    ServiceHeld { revision: u64 },
    /// Details are absent when only a resynchronisation tells that the session is established.
    Established {
        terminal_mac: String,
        line: String,
        route: String,
    },
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Changed,
    Ignored(Ignored),
    Denied(Denied),
    UnknownSession,
    /// The table has it as refused, and yet the gateway holds it: it must be told to drop it, under
    /// this generation.
    MustDrop(u64),
}

impl From<Outcome> for Applied {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Changed(_) => Applied::Changed,
            Outcome::Ignored(why) => Applied::Ignored(why),
            Outcome::Denied(why) => Applied::Denied(why),
        }
    }
}

impl Engine {
    pub async fn gateway_event(
        &self,
        gateway: &str,
        session: Uuid,
        generation: u64,
        event: &GatewayEvent,
    ) -> Result<Applied> {
        let gateway = gateway.to_owned();
        let event = event.clone();
        self.store
            .change(move |work| {
                let Some(row) = work.session(session)? else {
                    return Ok(Applied::UnknownSession);
                };
                let gateway = gateway.as_str();
                let text;
                let decided = match &event {
                    GatewayEvent::Ack { revision } => Event::Ack {
                        gateway,
                        generation,
                        revision: *revision,
                    },
                    GatewayEvent::Nack { revision, reason } => Event::Nack {
                        gateway,
                        generation,
                        revision: *revision,
                        reason,
                    },
                    GatewayEvent::ServiceHeld { revision } => Event::ServiceHeld {
                        gateway,
                        generation,
                        revision: *revision,
                    },
                    GatewayEvent::Established { line, route, .. } => {
                        text = established_text(line, route);
                        Event::Established {
                            gateway,
                            generation,
                            detail: &text,
                        }
                    }
                };
                let outcome = Self::drive(work, &row.session, decided, Who::Gateway, now_ms())?;
                if outcome == Outcome::Ignored(Ignored::NotApplicable)
                    && row.session.state == State::Refused
                    && matches!(
                        event,
                        GatewayEvent::Ack { .. } | GatewayEvent::Established { .. }
                    )
                {
                    let raised = Self::raise(work, &row.session)?;
                    return Ok(raised.map_or(outcome.into(), Applied::MustDrop));
                }
                if let GatewayEvent::Established {
                    terminal_mac,
                    line,
                    route,
                } = &event
                    && (matches!(outcome, Outcome::Changed(_))
                        || is_another_router(&row, &outcome, terminal_mac))
                {
                    work.set_established(session, terminal_mac, line, route)?;
                }
                Ok(outcome.into())
            })
            .await
    }

    /// Records a receipt, whatever it is about, and lets the session go on if it waits for it.
    /// Durable when it returns, so that it may be acknowledged.
    pub async fn receipt(&self, receipt: &ReceiptRow) -> Result<Applied> {
        let receipt = receipt.clone();
        self.store
            .change(move |work| {
                let row = work.session(receipt.session)?;
                work.record_receipt(&receipt);
                let Some(row) = row else {
                    return Ok(Applied::UnknownSession);
                };
                let event = Event::Receipt {
                    gateway: &receipt.gateway,
                    generation: receipt.generation,
                };
                let at_ms = receipt.recorded_ms;
                let outcome = Self::drive(work, &row.session, event, Who::Gateway, at_ms)?;
                // Nobody here has asked for this end.
                if matches!(outcome, Outcome::Changed(_)) && row.session.state.is_connected_side() {
                    work.audit(
                        Who::Gateway,
                        "replaced",
                        Some(row.session.subscriber),
                        Some(receipt.session),
                        &format!(
                            "the terminal on its line has accepted another session; receipt {} of {}, \
                             generation {}",
                            receipt.number, receipt.gateway, receipt.generation
                        ),
                        at_ms,
                    );
                }
                Ok(outcome.into())
            })
            .await
    }

    /// Writes reported counters, some hundred sessions in one unit. A gateway's word counts only
    /// about sessions that are its own; returns the others.
    pub async fn accounting(
        &self,
        gateway: &str,
        reports: &[(Uuid, u64, Counters)],
    ) -> Result<Vec<Uuid>> {
        let mut refused = Vec::new();
        let at_ms = now_ms();
        for chunk in reports.chunks(200) {
            let gateway = gateway.to_owned();
            let chunk = chunk.to_vec();
            let others = self
                .store
                .change(move |work| {
                    let mut others = Vec::new();
                    work.expect(chunk.iter().map(|(session, ..)| Need::Session(*session)))?;
                    for (session, generation, counters) in &chunk {
                        if let Some(row) = work.session(*session)?
                            && row.session.connection.gateway == gateway
                            && row.session.generation >= *generation
                            && row.session.state.is_live()
                        {
                            let told = (*session, *generation);
                            work.set_counters(CountersRow::told(told, &gateway, *counters, at_ms));
                        } else {
                            others.push(*session);
                        }
                    }
                    Ok::<_, EngineError>(others)
                })
                .await?;
            refused.extend(others);
        }
        Ok(refused)
    }

    /// A gateway is connected, or has been until now.
    pub async fn gateway_seen(
        &self,
        gateway: &str,
        software_version: &str,
        peer: &str,
        last_receipt: u64,
    ) -> Result<()> {
        let gateway = gateway.to_owned();
        let seen = GatewaySeen {
            software_version: software_version.to_owned(),
            peer: peer.to_owned(),
            seen_ms: now_ms(),
            last_receipt,
        };
        self.store
            .change(move |work| {
                work.gateway_seen(&gateway, seen.clone());
                Ok(())
            })
            .await
    }

    /// Gives a refused session, which a gateway holds all the same, a generation under which the
    /// gateway can be told to drop it.
    pub async fn raise_refused(&self, session: Uuid) -> Result<Option<u64>> {
        self.store
            .change(move |work| {
                let Some(row) = work.session(session)? else {
                    return Ok(None);
                };
                Self::raise(work, &row.session)
            })
            .await
    }

    fn raise(work: &mut Work<'_>, session: &Session) -> Result<Option<u64>> {
        if session.state != State::Refused {
            return Ok(None);
        }
        let generation = work.take_generations(session.subscriber, 1)?;
        let event = Event::HeldThoughRefused { generation };
        let outcome = Self::drive(work, session, event, Who::Server, now_ms())?;
        Ok(matches!(outcome, Outcome::Changed(_)).then_some(generation))
    }

    /// Has gateways told again what they have not answered since the last look, and what other
    /// servers may have told this one without being heard. Returns what waits now.
    pub async fn look_again(&self, before: &HashSet<Uuid>) -> Result<HashSet<Uuid>> {
        let waiting = self.store.waiting().await?;
        for (session, gateway) in &waiting {
            if before.contains(session) {
                self.hub.wake_gateway(gateway, *session);
            }
        }
        Ok(waiting.into_iter().map(|(session, _)| session).collect())
    }

    /// Marks sessions whose receipt is overdue; returns how many.
    pub async fn sweep(&self, at_ms: i64) -> Result<usize> {
        let patience = i64::try_from(self.config.unconfirmed_after.as_millis()).unwrap_or(i64::MAX);
        let before_ms = at_ms.saturating_sub(patience);
        let overdue = self.store.receipts_overdue(before_ms).await?;
        let marks = overdue.into_iter().map(|(session, gateway)| {
            let gateway_connected = self.hub.link(&gateway).is_some();
            self.store.change(move |work| {
                // It may have gone on since it was listed.
                match work.session(session)? {
                    Some(row) if row.since_ms <= before_ms => {
                        let event = Event::Unanswered { gateway_connected };
                        let outcome = Self::drive(work, &row.session, event, Who::Server, at_ms)?;
                        Ok(matches!(outcome, Outcome::Changed(_)))
                    }
                    _ => Ok::<bool, EngineError>(false),
                }
            })
        });
        let mut marked = 0;
        for done in join_all(marks).await {
            marked += usize::from(done?);
        }
        Ok(marked)
    }
}

/// Whether the gateway says no more than that another router has taken the session over.
fn is_another_router(row: &SessionRow, outcome: &Outcome, mac: &str) -> bool {
    *outcome == Outcome::Ignored(Ignored::NotApplicable)
        && row.session.state == State::Established
        && !mac.is_empty()
        && row.terminal_mac != mac
}

fn established_text(line: &str, route: &str) -> String {
    match (line.is_empty(), route.is_empty()) {
        (true, _) => "traffic flows".to_owned(),
        (false, true) => format!("traffic flows on line {line}"),
        (false, false) => format!("traffic flows on line {line}, route {route}"),
    }
}
