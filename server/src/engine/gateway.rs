//! What gateways report.

use uuid::Uuid;

use super::{Engine, Result, Wakes, now_ms};
use crate::session::machine::{Denied, Event, Ignored, Outcome};
use crate::store::{Counters, ReceiptRow, Who};

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
        let mut tx = self.store.begin().await?;
        let Some(row) = tx.session(session).await? else {
            return Ok(Applied::UnknownSession);
        };
        let text;
        let decided = match event {
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
        let mut wakes = Wakes::default();
        let outcome = self
            .drive(
                &mut tx,
                &mut wakes,
                &row.session,
                decided,
                Who::Gateway,
                now_ms(),
            )
            .await?;
        if !matches!(outcome, Outcome::Changed(_)) {
            return Ok(outcome.into());
        }
        if let GatewayEvent::Established {
            terminal_mac,
            line,
            route,
        } = event
        {
            tx.set_established(session, terminal_mac, line, route)
                .await?;
        }
        self.commit(tx, wakes).await?;
        Ok(outcome.into())
    }

    /// Records a receipt, whatever it is about, and lets the session go on if it waits for it.
    /// Durable when it returns, so that it may be acknowledged.
    pub async fn receipt(&self, receipt: &ReceiptRow) -> Result<Applied> {
        let mut tx = self.store.begin().await?;
        tx.record_receipt(receipt).await?;
        let mut wakes = Wakes::default();
        let applied = match tx.session(receipt.session).await? {
            None => Applied::UnknownSession,
            Some(row) => {
                let event = Event::Receipt {
                    gateway: &receipt.gateway,
                    generation: receipt.generation,
                };
                self.drive(
                    &mut tx,
                    &mut wakes,
                    &row.session,
                    event,
                    Who::Gateway,
                    receipt.recorded_ms,
                )
                .await?
                .into()
            }
        };
        self.commit(tx, wakes).await?;
        Ok(applied)
    }

    /// Writes reported counters, some hundred sessions in one transaction.
    pub async fn accounting(&self, gateway: &str, reports: &[(Uuid, u64, Counters)]) -> Result<()> {
        for chunk in reports.chunks(200) {
            let mut tx = self.store.begin().await?;
            for (session, generation, counters) in chunk {
                tx.set_counters(gateway, *session, *generation, counters)
                    .await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// A gateway has connected.
    pub async fn gateway_seen(
        &self,
        gateway: &str,
        software_version: &str,
        peer: &str,
    ) -> Result<()> {
        let mut tx = self.store.begin().await?;
        tx.gateway_seen(gateway, software_version, peer, now_ms())
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Gives a refused session, which a gateway holds all the same, a generation under which the
    /// gateway can be told to drop it.
    pub async fn raise_refused(&self, session: Uuid) -> Result<Option<u64>> {
        let mut tx = self.store.begin().await?;
        let Some(row) = tx.session(session).await? else {
            return Ok(None);
        };
        let generation = tx.take_generations(row.session.subscriber, 1).await?;
        let mut wakes = Wakes::default();
        let outcome = self
            .drive(
                &mut tx,
                &mut wakes,
                &row.session,
                Event::HeldThoughRefused { generation },
                Who::Server,
                now_ms(),
            )
            .await?;
        if !matches!(outcome, Outcome::Changed(_)) {
            return Ok(None);
        }
        self.commit(tx, wakes).await?;
        Ok(Some(generation))
    }

    /// Marks sessions whose receipt is overdue; returns how many.
    pub async fn sweep(&self, at_ms: i64) -> Result<usize> {
        let patience = i64::try_from(self.config.unconfirmed_after.as_millis()).unwrap_or(i64::MAX);
        let overdue = self
            .store
            .receipts_overdue(at_ms.saturating_sub(patience))
            .await?;
        let mut marked = 0;
        for (session, gateway) in overdue {
            let gateway_connected = self.hub.link(&gateway).is_some();
            let mut tx = self.store.begin().await?;
            let Some(row) = tx.session(session).await? else {
                continue;
            };
            // It may have gone on since it was listed.
            if row.since_ms > at_ms.saturating_sub(patience) {
                continue;
            }
            let mut wakes = Wakes::default();
            let outcome = self
                .drive(
                    &mut tx,
                    &mut wakes,
                    &row.session,
                    Event::Unanswered { gateway_connected },
                    Who::Server,
                    at_ms,
                )
                .await?;
            if matches!(outcome, Outcome::Changed(_)) {
                self.commit(tx, wakes).await?;
                marked += 1;
            }
        }
        Ok(marked)
    }
}

fn established_text(line: &str, route: &str) -> String {
    match (line.is_empty(), route.is_empty()) {
        (true, _) => "traffic flows".to_owned(),
        (false, true) => format!("traffic flows on line {line}"),
        (false, false) => format!("traffic flows on line {line}, route {route}"),
    }
}
