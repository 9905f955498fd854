//! A gateway without wires: what it holds, and what it answers. Sans-IO.
//!
//! It answers as the real one does (`engine::connect`, `engine::close`, `engine::stream` of the
//! gateway), with terminals that answer at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use doorstep_proto::PROTOCOL_VERSION;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::gateway_message::Body as Up;
use doorstep_proto::v1::server_message::Body as Down;
use uuid::Uuid;

use super::ledger::Ledger;

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Of the newest instruction.
    pub generation: u64,
    /// Whether traffic flows; otherwise it was disconnected.
    pub forwards: bool,
    revision: u64,
    /// Number of the receipt, if it was disconnected.
    receipt: u64,
}

/// One gateway.
#[derive(Debug)]
pub struct Gateway {
    number: u32,
    name: String,
    sessions: HashMap<Uuid, Held>,
    /// Not acknowledged yet, by number.
    receipts: BTreeMap<u64, pb::Receipt>,
    last_receipt: u64,
    ledger: Arc<Ledger>,
}

impl Gateway {
    pub fn new(number: u32, name: String, ledger: Arc<Ledger>) -> Self {
        Self {
            number,
            name,
            sessions: HashMap::new(),
            receipts: BTreeMap::new(),
            last_receipt: 0,
            ledger,
        }
    }

    pub fn held(&self, session: Uuid) -> Option<Held> {
        self.sessions.get(&session).copied()
    }

    /// The first messages of a stream.
    pub fn open(&self) -> Vec<Up> {
        let held = |(session, held): (&Uuid, &Held)| {
            held.forwards.then(|| pb::HeldSession {
                session_id: session.to_string(),
                generation: held.generation,
                phase: pb::HeldPhase::Established.into(),
                service_revision: held.revision,
            })
        };
        let waiting = |receipt: &pb::Receipt| pb::HeldSession {
            session_id: receipt.session_id.clone(),
            generation: receipt.generation,
            phase: pb::HeldPhase::Disconnected.into(),
            service_revision: 0,
        };
        let mut all: HashMap<String, pb::HeldSession> = HashMap::new();
        // A session is named once: by what it is now.
        let newest = self.receipts.values().map(waiting);
        for item in newest.chain(self.sessions.iter().filter_map(held)) {
            all.insert(item.session_id.clone(), item);
        }
        let hello = Up::Hello(pb::Hello {
            protocol_version: PROTOCOL_VERSION,
            gateway_id: self.name.clone(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            held: all.into_values().collect(),
        });
        let receipts = self.receipts.values().cloned().map(Up::Receipt);
        std::iter::once(hello).chain(receipts).collect()
    }

    /// What is answered to a message.
    pub fn on(&mut self, message: Down) -> Vec<Up> {
        match message {
            Down::Welcome(_) | Down::Synced(_) => Vec::new(),
            Down::Connect(connect) => match connect.session_id.parse() {
                Ok(session) => self.connect(session, connect.generation, connect.service_revision),
                Err(_) => vec![nack(
                    connect.session_id,
                    connect.generation,
                    0,
                    pb::NackReason::Malformed,
                )],
            },
            Down::Disconnect(disconnect) => match disconnect.session_id.parse() {
                Ok(session) => self.disconnect(session, disconnect.generation),
                Err(_) => vec![nack(
                    disconnect.session_id,
                    disconnect.generation,
                    0,
                    pb::NackReason::Malformed,
                )],
            },
            Down::ChangeService(change) => self.change(change),
            Down::ReceiptAck(ack) => {
                self.receipts.remove(&ack.number);
                Vec::new()
            }
        }
    }

    fn connect(&mut self, session: Uuid, generation: u64, revision: u64) -> Vec<Up> {
        let known = self.sessions.get(&session).copied();
        let stale = known.is_some_and(|held| {
            if held.forwards {
                generation < held.generation
            } else {
                generation <= held.generation
            }
        });
        if stale {
            return vec![stale_nack(session, generation, 0)];
        }
        let repeated = known.filter(|held| held.generation == generation);
        let revision = repeated.map_or(revision, |held| held.revision.max(revision));
        self.sessions.insert(
            session,
            Held {
                generation,
                forwards: true,
                revision,
                receipt: 0,
            },
        );
        self.ledger.begins(session, self.number);
        vec![
            ack(session, generation, revision),
            established(session, generation),
        ]
    }

    fn disconnect(&mut self, session: Uuid, generation: u64) -> Vec<Up> {
        let number = match self.sessions.get(&session) {
            Some(held) if !held.forwards && held.generation == generation => held.receipt,
            Some(held) if held.generation >= generation => {
                return vec![stale_nack(session, generation, 0)];
            }
            _ => {
                self.last_receipt += 1;
                self.last_receipt
            }
        };
        self.ledger.ends(session, self.number);
        let held = Held {
            generation,
            forwards: false,
            revision: 0,
            receipt: number,
        };
        self.sessions.insert(session, held);
        let receipt = pb::Receipt {
            number,
            session_id: session.to_string(),
            generation,
            r#final: Some(pb::Counters::default()),
            at_unix_ms: 1,
        };
        self.receipts.insert(number, receipt.clone());
        vec![ack(session, generation, 0), Up::Receipt(receipt)]
    }

    fn change(&mut self, change: pb::ChangeService) -> Vec<Up> {
        let (generation, revision) = (change.generation, change.revision);
        let session: Option<Uuid> = change.session_id.parse().ok();
        let held = session.and_then(|session| self.sessions.get_mut(&session));
        let (Some(session), Some(held)) = (session, held) else {
            let reason = pb::NackReason::NotHeld;
            return vec![nack(change.session_id, generation, revision, reason)];
        };
        if held.generation > generation {
            return vec![stale_nack(session, generation, revision)];
        }
        if !held.forwards || held.generation != generation {
            let reason = pb::NackReason::NotHeld;
            return vec![nack(change.session_id, generation, revision, reason)];
        }
        held.revision = held.revision.max(revision);
        vec![ack(session, generation, held.revision)]
    }
}

fn ack(session: Uuid, generation: u64, revision: u64) -> Up {
    Up::Ack(pb::Ack {
        session_id: session.to_string(),
        generation,
        revision,
    })
}

fn established(session: Uuid, generation: u64) -> Up {
    let mut terminal_mac = session.as_bytes()[10..].to_vec();
    // A unicast address, locally administered.
    terminal_mac[0] = 2;
    Up::Established(pb::Established {
        session_id: session.to_string(),
        generation,
        terminal_mac,
        line: "access0/101.1004".to_owned(),
        route: "uplink0 via 192.0.2.1".to_owned(),
        at_unix_ms: 1,
    })
}

fn stale_nack(session: Uuid, generation: u64, revision: u64) -> Up {
    let reason = pb::NackReason::StaleGeneration;
    nack(session.to_string(), generation, revision, reason)
}

fn nack(session_id: String, generation: u64, revision: u64, reason: pb::NackReason) -> Up {
    Up::Nack(pb::Nack {
        session_id,
        generation,
        reason: reason.into(),
        detail: String::new(),
        revision,
    })
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
