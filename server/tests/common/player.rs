//! A gateway that plays by the rules all by itself: it has fences, gives receipts until they are
//! acknowledged, says in each hello what it holds, and dials whichever server answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::gateway_control_client::GatewayControlClient;
use doorstep_proto::v1::gateway_message::Body as FromGateway;
use doorstep_proto::v1::server_message::Body as ToGateway;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::{Gateway, held};

/// How long a server may take to take a stream.
const DIAL: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(20);

/// Which gateway forwards a session, over all players: two at once must never be.
#[derive(Default)]
pub struct Ledger {
    forwards: Mutex<HashMap<String, &'static str>>,
    doubled: Mutex<Vec<String>>,
}

impl Ledger {
    fn begins(&self, session: &str, gateway: &'static str) {
        let mut forwards = self.forwards.lock().unwrap();
        let former = forwards.insert(session.to_owned(), gateway);
        if let Some(former) = former.filter(|former| *former != gateway) {
            let what = format!("{session}: {gateway} began while {former} forwarded");
            self.doubled.lock().unwrap().push(what);
        }
    }

    fn ends(&self, session: &str, gateway: &'static str) {
        let mut forwards = self.forwards.lock().unwrap();
        if forwards.get(session) == Some(&gateway) {
            forwards.remove(session);
        }
    }

    pub fn forwards(&self, session: &str) -> Option<&'static str> {
        self.forwards.lock().unwrap().get(session).copied()
    }

    pub fn doubled(&self) -> Vec<String> {
        self.doubled.lock().unwrap().clone()
    }
}

/// The highest generation seen of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fence {
    Connect(u64),
    Disconnect(u64),
}

pub struct Player {
    name: &'static str,
    /// With a keepalive, so that a server that has stopped is noticed.
    servers: Vec<Endpoint>,
    ledger: Arc<Ledger>,
    /// Sessions that it forwards.
    held: HashMap<String, u64>,
    fences: HashMap<String, Fence>,
    receipts: BTreeMap<u64, (String, u64)>,
    last_receipt: u64,
}

impl Player {
    pub fn new(name: &'static str, servers: Vec<Endpoint>, ledger: Arc<Ledger>) -> Self {
        Player {
            name,
            servers,
            ledger,
            held: HashMap::new(),
            fences: HashMap::new(),
            receipts: BTreeMap::new(),
            last_receipt: 0,
        }
    }

    /// Plays until it is dropped.
    pub async fn run(mut self) {
        loop {
            for server in self.servers.clone() {
                if let Ok(Ok(channel)) = timeout(DIAL, server.connect()).await {
                    // However it ends, the next one begins with all that is held.
                    let _ = self.stream(channel).await;
                }
                sleep(AGAIN).await;
            }
        }
    }

    async fn stream(&mut self, channel: Channel) -> Result<(), Status> {
        let forwarded = self
            .held
            .iter()
            .map(|(session, generation)| held(session, *generation, pb::HeldPhase::Established));
        let receipted = self.receipts.values().map(|(session, generation)| {
            let phase = pb::HeldPhase::Disconnected;
            pb::HeldSession {
                service_revision: 0,
                ..held(session, *generation, phase)
            }
        });
        let hello = FromGateway::Hello(pb::Hello {
            protocol_version: 1,
            gateway_id: self.name.to_owned(),
            software_version: "test".to_owned(),
            held: forwarded.chain(receipted).collect(),
        });
        let mut client = GatewayControlClient::new(channel);
        let opened = timeout(DIAL, Gateway::open(&mut client, hello)).await;
        let mut gateway = opened.map_err(|_| Status::cancelled("no answer"))??;
        let again = self.receipts.iter();
        let mut answers: Vec<_> = again
            .map(|(number, (session, generation))| receipt(*number, session, *generation))
            .collect();
        loop {
            for answer in answers {
                let message = pb::GatewayMessage { body: Some(answer) };
                let sent = gateway.out.send(message).await;
                sent.map_err(|_| Status::cancelled("the stream broke"))?;
            }
            let message = gateway.inbound.message().await?;
            let body = message.and_then(|message| message.body);
            let body = body.ok_or_else(|| Status::cancelled("the stream ended"))?;
            answers = self.obey(body);
        }
    }

    /// Does as it is told; what it answers.
    fn obey(&mut self, told: ToGateway) -> Vec<FromGateway> {
        match told {
            ToGateway::Connect(connect) => {
                let (session, generation) = (connect.session_id, connect.generation);
                let stale = match self.fences.get(&session) {
                    Some(Fence::Connect(seen)) => generation < *seen,
                    Some(Fence::Disconnect(seen)) => generation <= *seen,
                    None => false,
                };
                if stale {
                    return vec![stale_generation(session, generation)];
                }
                let fence = Fence::Connect(generation);
                self.fences.insert(session.clone(), fence);
                self.ledger.begins(&session, self.name);
                self.held.insert(session.clone(), generation);
                vec![
                    ack(&session, generation, connect.service_revision),
                    FromGateway::Established(pb::Established {
                        session_id: session,
                        generation,
                        terminal_mac: vec![2, 0, 0, 0, 0, 7],
                        line: "access0".to_owned(),
                        route: "uplink0".to_owned(),
                        at_unix_ms: 42,
                    }),
                ]
            }
            ToGateway::Disconnect(disconnect) => {
                let (session, generation) = (disconnect.session_id, disconnect.generation);
                let fence = self.fences.get(&session).copied();
                let seen = match fence {
                    Some(Fence::Connect(seen) | Fence::Disconnect(seen)) => seen,
                    None => 0,
                };
                let repeated = fence == Some(Fence::Disconnect(generation));
                if generation <= seen && !repeated {
                    return vec![stale_generation(session, generation)];
                }
                self.held.remove(&session);
                self.ledger.ends(&session, self.name);
                self.fences
                    .insert(session.clone(), Fence::Disconnect(generation));
                // What is repeated was receipted before, and is again under another number.
                self.last_receipt += 1;
                let number = self.last_receipt;
                self.receipts.insert(number, (session.clone(), generation));
                vec![
                    ack(&session, generation, 0),
                    receipt(number, &session, generation),
                ]
            }
            ToGateway::ReceiptAck(ack) => {
                self.receipts.remove(&ack.number);
                Vec::new()
            }
            ToGateway::Welcome(_) | ToGateway::Synced(_) | ToGateway::ChangeService(_) => {
                Vec::new()
            }
        }
    }
}

fn ack(session: &str, generation: u64, revision: u64) -> FromGateway {
    FromGateway::Ack(pb::Ack {
        session_id: session.to_owned(),
        generation,
        revision,
    })
}

fn stale_generation(session_id: String, generation: u64) -> FromGateway {
    FromGateway::Nack(pb::Nack {
        session_id,
        generation,
        reason: pb::NackReason::StaleGeneration.into(),
        ..pb::Nack::default()
    })
}

fn receipt(number: u64, session: &str, generation: u64) -> FromGateway {
    FromGateway::Receipt(pb::Receipt {
        number,
        session_id: session.to_owned(),
        generation,
        r#final: Some(pb::Counters::default()),
        at_unix_ms: 42,
    })
}
