//! One gateway's stream once it has said Hello: what it is told, and what it reports.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::gateway_message::Body as FromGateway;
use doorstep_proto::v1::server_message::Body as ToGateway;
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryStreamExt as _, poll};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::control::Outgoing;
use super::convert;
use crate::engine::{Applied, Engine, EngineError, GatewayEvent, now_ms};
use crate::hub::Link;
use crate::limits::Reason;
use crate::session::instruct::{self, Held, Instruction, Kind, Standing as _};
use crate::session::machine::Ignored;
use crate::session::{Establishment, Session};
use crate::store::{ReceiptRow, StoreError};

/// Rows that are read together, to be sent to a gateway that has come back.
const SENT_TOGETHER: usize = 256;
/// Messages of one gateway that are being recorded.
const UNDER_WAY: usize = 256;

/// A gateway that has said who it is.
pub struct GatewayStream<'a> {
    pub engine: &'a Arc<Engine>,
    pub gateway: &'a str,
    pub link: &'a Link,
    pub sender: &'a mpsc::Sender<Outgoing>,
}

impl GatewayStream<'_> {
    async fn send(&self, body: ToGateway) -> Result<(), Status> {
        self.sender
            .send(Ok(Box::new(pb::ServerMessage { body: Some(body) })))
            .await
            .map_err(|_| Status::cancelled("the gateway hung up"))
    }

    /// What differs from what the gateway holds, then changes as they come.
    pub async fn push(&self, held: &[Held]) -> Result<(), Status> {
        self.send(ToGateway::Welcome(pb::Welcome {
            operator: self.engine.config.operator.clone(),
        }))
        .await?;
        // On the heap, and gone when it is done: the stream lasts for months.
        Box::pin(self.resynchronise(held))
            .await
            .map_err(|error| convert::status(&error))?;
        self.send(ToGateway::Synced(pb::Synced {})).await?;
        loop {
            for (id, fresh) in self.link.changed().await {
                let row = match fresh {
                    Some(row) => Some(row),
                    None => {
                        let read = Box::pin(self.engine.store.session(id)).await;
                        read.map_err(failed)?.map(Arc::new)
                    }
                };
                if let Some(row) = row {
                    self.instruct(&row.session).await?;
                }
            }
        }
    }

    async fn resynchronise(&self, held: &[Held]) -> Result<(), EngineError> {
        let store = &self.engine.store;
        let mut rows = store.standings_at(self.gateway).await?;
        let known: HashSet<_> = rows.iter().map(|row| row.id()).collect();
        let unknown: Vec<_> = held
            .iter()
            .map(|item| item.session)
            .filter(|session| !known.contains(session))
            .collect();
        rows.extend(store.standings_of(&unknown).await?);
        let diff = instruct::diff(self.gateway, held, &rows);
        for item in &diff.unknown {
            tracing::warn!(
                session = %item.session,
                generation = item.generation,
                "the gateway holds a session that this server does not know in that generation; left alone"
            );
        }
        let lost = diff
            .acked
            .iter()
            .map(|item| {
                let revision = item.revision;
                (item, GatewayEvent::Ack { revision })
            })
            .chain(diff.established.iter().map(|item| {
                (
                    item,
                    GatewayEvent::Established {
                        terminal_mac: String::new(),
                        line: String::new(),
                        route: String::new(),
                    },
                )
            }));
        for (item, event) in lost {
            self.engine
                .gateway_event(self.gateway, item.session, item.generation, &event)
                .await?;
        }
        for wanted in diff.send.chunks(SENT_TOGETHER) {
            if self.send_wanted(wanted).await?.is_err() {
                // The stream's end is noticed by whoever reads it.
                return Ok(());
            }
        }
        for item in &diff.services {
            self.catch_up(item).await?;
        }
        for item in &diff.held_though_refused {
            if let Some(generation) = self.engine.raise_refused(item.session).await? {
                let _ = self
                    .send(ToGateway::Disconnect(pb::Disconnect {
                        session_id: item.session.to_string(),
                        generation,
                    }))
                    .await;
            }
        }
        Ok(())
    }

    /// Sends what these rows ask for by now.
    async fn send_wanted(&self, wanted: &[Instruction]) -> Result<Result<(), Status>, EngineError> {
        let ids: Vec<_> = wanted.iter().map(|wanted| wanted.session).collect();
        let rows = self.engine.store.sessions_with(&ids).await?;
        let by_id: HashMap<_, _> = rows.iter().map(|row| (row.session.id, row)).collect();
        for wanted in wanted {
            let Some(row) = by_id.get(&wanted.session) else {
                continue;
            };
            let now = match instruct::derive(&row.session, self.gateway) {
                Some(now) => now,
                // No row asks for it: it tells that the session has ended here.
                None if wanted.kind == Kind::Disconnect => *wanted,
                // Gone elsewhere since, as the change itself tells this stream.
                None => continue,
            };
            let message = self.message(&row.session, now)?;
            if let Err(ended) = self.send(message).await {
                return Ok(Err(ended));
            }
        }
        Ok(Ok(()))
    }

    /// Notes which service a gateway follows, and tells it the newest one.
    async fn catch_up(&self, item: &Held) -> Result<(), EngineError> {
        let event = GatewayEvent::ServiceHeld {
            revision: item.revision,
        };
        self.engine
            .gateway_event(self.gateway, item.session, item.generation, &event)
            .await?;
        let row = self.engine.store.session(item.session).await?;
        let Some(row) = row.map(|row| row.session) else {
            return Ok(());
        };
        if let Some(wanted) = instruct::due(&row, self.gateway)
            && wanted.kind == Kind::ChangeService
        {
            // The stream's end is noticed by whoever reads it.
            let _ = self.send(self.message(&row, wanted)?).await;
        }
        Ok(())
    }

    async fn instruct(&self, session: &Session) -> Result<(), Status> {
        let Some(wanted) = instruct::due(session, self.gateway) else {
            return Ok(());
        };
        match self.message(session, wanted) {
            Ok(message) => self.send(message).await,
            Err(error) => {
                // One unreadable row must not stop the others.
                tracing::error!(session = %session.id, %error, "cannot make the instruction");
                Ok(())
            }
        }
    }

    fn message(&self, session: &Session, wanted: Instruction) -> Result<ToGateway, EngineError> {
        let session_id = wanted.session.to_string();
        let generation = wanted.generation;
        let (service, revision) = (session.service.service, session.service.revision);
        match wanted.kind {
            Kind::Disconnect => {
                return Ok(ToGateway::Disconnect(pb::Disconnect {
                    session_id,
                    generation,
                }));
            }
            Kind::ChangeService => {
                return Ok(ToGateway::ChangeService(pb::ChangeService {
                    session_id,
                    generation,
                    revision,
                    service: Some(convert::service(service)),
                }));
            }
            Kind::Connect => {}
        }
        let connection = &session.connection;
        let key = self
            .engine
            .open_session_key(session.id, generation, &connection.key)?;
        let configured = self.engine.config.gateway(self.gateway);
        let addresses = connection.addresses;
        Ok(ToGateway::Connect(pb::Connect {
            session_id,
            generation,
            location_id: connection.location.to_string(),
            session_key: key.as_bytes().to_vec(),
            ipv4_address: addresses.ipv4.map(|a| a.to_string()).unwrap_or_default(),
            ipv6_prefix: addresses.ipv6.map(|a| a.to_string()).unwrap_or_default(),
            ipv4_gateway: configured
                .and_then(|gateway| gateway.ipv4)
                .filter(|_| addresses.ipv4.is_some())
                .map(|ipv4| ipv4.gateway.to_string())
                .unwrap_or_default(),
            dns: configured
                .map(|gateway| gateway.dns.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            mtu: configured.map_or(0, |gateway| u32::from(gateway.mtu)),
            service: Some(convert::service(service)),
            service_revision: revision,
            ipv6_line_prefix: addresses
                .ipv6_line
                .map(|a| a.to_string())
                .unwrap_or_default(),
            dhcp: (session.establishment == Establishment::Dhcp)
                .then(|| convert::dhcp(self.engine.config.dhcp)),
        }))
    }

    pub async fn read(&self, inbound: &mut Streaming<pb::GatewayMessage>) -> Result<(), Status> {
        let guard = &self.engine.guard;
        let bucket = guard.gateway_messages();
        // Recorded side by side, many in one transaction; in order as far as one session is concerned.
        let mut under_way = FuturesUnordered::new();
        loop {
            let message = tokio::select! {
                Some(handled) = under_way.next() => {
                    handled?;
                    continue;
                }
                message = inbound.message(), if under_way.len() < UNDER_WAY => message?,
            };
            let Some(message) = message else { break };
            // What is not read waits at the gateway, by the flow control of HTTP/2: nothing is lost.
            while let Err(wait) = bucket.take() {
                guard.refusals.count(Reason::GatewayMessages);
                tokio::time::sleep(wait).await;
            }
            let mut handling = Box::pin(self.handle(message));
            // The first poll takes its place behind what was said of the same session before.
            match poll!(&mut handling) {
                Poll::Ready(handled) => handled?,
                Poll::Pending => under_way.push(handling),
            }
        }
        under_way.try_collect().await
    }

    async fn handle(&self, message: pb::GatewayMessage) -> Result<(), Status> {
        match message.body {
            Some(FromGateway::Ack(ack)) => {
                let event = GatewayEvent::Ack {
                    revision: ack.revision,
                };
                self.event("Ack", &ack.session_id, ack.generation, &event)
                    .await
            }
            Some(FromGateway::Nack(nack)) => {
                let event = GatewayEvent::Nack {
                    revision: nack.revision,
                    reason: convert::nack_reason(&nack),
                };
                self.event("Nack", &nack.session_id, nack.generation, &event)
                    .await
            }
            Some(FromGateway::Established(established)) => {
                let Some(terminal_mac) = convert::mac(&established.terminal_mac) else {
                    tracing::warn!("Established: terminal_mac: must be 6 bytes; ignored");
                    return Ok(());
                };
                let event = GatewayEvent::Established {
                    terminal_mac,
                    line: convert::tidy(&established.line),
                    route: convert::tidy(&established.route),
                };
                self.event(
                    "Established",
                    &established.session_id,
                    established.generation,
                    &event,
                )
                .await
            }
            Some(FromGateway::Receipt(receipt)) => self.receipt(receipt).await,
            Some(FromGateway::Accounting(accounting)) => self.accounting(accounting).await,
            Some(FromGateway::Hello(_)) => Err(Status::invalid_argument(
                "Hello comes once, at the beginning",
            )),
            // A newer gateway may say what this server does not know.
            None => {
                tracing::warn!("a message of unknown kind; ignored");
                Ok(())
            }
        }
    }

    async fn event(
        &self,
        name: &str,
        session_id: &str,
        generation: u64,
        event: &GatewayEvent,
    ) -> Result<(), Status> {
        let session = match convert::uuid(session_id) {
            Ok(session) => session,
            Err(error) => {
                tracing::warn!(event = name, %error, "ignored: no such session_id");
                return Ok(());
            }
        };
        match self
            .engine
            .gateway_event(self.gateway, session, generation, event)
            .await
        {
            // An Ack of a Disconnect changes nothing: the receipt does.
            Ok(Applied::Changed | Applied::Ignored(Ignored::NotApplicable)) => {}
            Ok(Applied::MustDrop(generation)) => {
                return self
                    .send(ToGateway::Disconnect(pb::Disconnect {
                        session_id: session.to_string(),
                        generation,
                    }))
                    .await;
            }
            Ok(applied) => {
                tracing::info!(event = name, %session, generation, ?applied, "ignored");
            }
            Err(error) => {
                tracing::error!(event = name, %session, generation, %error, "not recorded");
            }
        }
        Ok(())
    }

    async fn receipt(&self, receipt: pb::Receipt) -> Result<(), Status> {
        let session = match convert::uuid(&receipt.session_id) {
            Ok(session) => session,
            Err(error) => {
                tracing::warn!(number = receipt.number, %error, "receipt ignored: no such session_id");
                return Ok(());
            }
        };
        self.link.silence.forget(std::iter::once(session));
        let traffic = &self.engine.hub.traffic;
        traffic.forget(self.gateway, std::iter::once(session));
        let row = ReceiptRow {
            gateway: self.gateway.to_owned(),
            number: receipt.number,
            session,
            generation: receipt.generation,
            counters: convert::plain_counters(receipt.r#final),
            at_ms: receipt.at_unix_ms,
            recorded_ms: now_ms(),
        };
        match self.engine.receipt(&row).await {
            Ok(Applied::Changed) => {}
            Ok(applied) => tracing::warn!(
                %session,
                number = row.number,
                generation = row.generation,
                ?applied,
                "receipt recorded, but no session waits for it"
            ),
            Err(error) => {
                // Not acknowledged: the gateway sends it again.
                tracing::error!(%session, number = row.number, %error, "receipt not recorded");
                return Ok(());
            }
        }
        self.link
            .last_receipt
            .fetch_max(row.number, Ordering::Relaxed);
        self.send(ToGateway::ReceiptAck(pb::ReceiptAck { number: row.number }))
            .await
    }

    async fn accounting(&self, accounting: pb::Accounting) -> Result<(), Status> {
        let (said, reports): (Vec<_>, Vec<_>) = accounting
            .sessions
            .into_iter()
            .filter_map(convert::account)
            .unzip();
        self.link.say_of_uplink(accounting.uplink_problem);
        // Before anything is waited for: a receipt that comes next is to find it.
        self.link.silence.take(said.into_iter());
        let traffic = &self.engine.hub.traffic;
        traffic.take(self.gateway, &reports, now_ms());
        self.engine.hub.note_change();
        match self.engine.accounting(self.gateway, &reports).await {
            Ok(refused) => {
                traffic.forget(self.gateway, refused.iter().copied());
                self.link.silence.forget(refused.into_iter());
            }
            Err(error) => {
                let unknown = reports.iter().map(|(session, ..)| *session);
                self.link.silence.forget(unknown);
                tracing::error!(%error, "counters not recorded");
            }
        }
        Ok(())
    }
}

fn failed(error: StoreError) -> Status {
    convert::status(&EngineError::from(error))
}
