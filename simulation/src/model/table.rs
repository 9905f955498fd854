//! The table, and what a replica of the server does with it: read, decide, commit if what was read
//! is still so.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use doorstep_server::session::instruct::{self, Kind};
use doorstep_server::session::machine::{self, Change, Event, Outcome};
use doorstep_server::session::service::{Grant, Service};
use doorstep_server::session::{
    Addresses, Connection, Establishment, SealedSecret, Session, State, Target,
};
use uuid::Uuid;

use super::message::{Generation, Held, Number, Place, ToGateway, ToServer, Who};
use super::{Fault, gateway, session_id, who};

/// What an operator or a subscriber asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    Connect(Who, Place),
    Move(Who, Place),
    Release(Who),
    Force(Who),
    /// The server's own: the receipt is overdue.
    Unanswered(Who),
}

impl Request {
    pub fn who(self) -> Who {
        match self {
            Request::Connect(who, _)
            | Request::Move(who, _)
            | Request::Release(who)
            | Request::Force(who)
            | Request::Unanswered(who) => who,
        }
    }
}

/// What a replica works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Input {
    Request(Request),
    Report(ToServer),
    /// The time to live of what is to end in this generation is over.
    Outlived(Who, Generation),
}

impl Input {
    fn promises(&self) -> bool {
        matches!(
            self,
            Input::Request(Request::Connect(..) | Request::Move(..) | Request::Release(_))
        )
    }

    pub fn who(&self) -> Who {
        match self {
            Input::Request(request) => request.who(),
            Input::Outlived(who, _) => *who,
            Input::Report(
                ToServer::Ack(_, who, ..)
                | ToServer::Nack(_, who, ..)
                | ToServer::Established(_, who, ..)
                | ToServer::Receipt(_, who, ..)
                | ToServer::ServiceHeld(_, who, ..)
                | ToServer::HeldThoughRefused(_, who),
            ) => *who,
            Input::Report(ToServer::Hello(..)) => unreachable!("a Hello writes nothing"),
        }
    }
}

/// What has been promised to who asked: durable, and not taken back but by a later request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    At(Place, Generation),
    Ended,
}

/// A row, with what belongs to it.
#[derive(Clone, Debug)]
pub struct Row {
    pub session: Option<Session>,
    /// The last generation given out.
    pub generation: Generation,
    /// An operator has gone on without a receipt.
    pub forced: bool,
    pub promise: Option<Promise>,
}

impl Hash for Row {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.generation, self.forced, self.promise).hash(state);
        if let Some(row) = &self.session {
            (
                row.state,
                row.generation,
                &row.connection.gateway,
                &row.detail,
            )
                .hash(state);
            (row.service.revision, row.service.acknowledged).hash(state);
            let target = row.target.as_ref();
            target
                .map(|target| (target.generation, &target.connection.gateway))
                .hash(state);
        }
    }
}

/// What a replica has read and decided, and not yet written.
#[derive(Clone, Debug)]
pub struct Pending {
    pub input: Input,
    /// Somebody has written what was read.
    pub stale: bool,
    decision: Decision,
}

impl Hash for Pending {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, self.stale).hash(state);
        // What was decided follows from the present row, unless that is another one now. Then it
        // counts only where stale decisions are written.
        if self.stale {
            self.decision.row.hash(state);
        }
    }
}

#[derive(Clone, Debug)]
struct Decision {
    row: Row,
    receipt: Option<(Place, Number, Who, Generation)>,
    /// What to send when it is durable, beside what the row asks for.
    send: Option<(Place, ToGateway)>,
}

#[derive(Clone, Debug, Hash)]
pub struct Table {
    pub rows: Vec<Row>,
    time_to_live_s: u32,
    pub receipts: BTreeSet<(Place, Number, Who, Generation)>,
}

impl Table {
    pub fn new(sessions: Who, time_to_live_s: u32) -> Self {
        Self {
            time_to_live_s,
            rows: (0..sessions)
                .map(|_| Row {
                    session: None,
                    generation: 0,
                    forced: false,
                    promise: None,
                })
                .collect(),
            receipts: BTreeSet::new(),
        }
    }

    pub fn row(&self, who: Who) -> &Row {
        &self.rows[usize::from(who)]
    }

    /// Reads and decides. None: there is nothing to write.
    pub fn decide(&self, input: &Input) -> Option<Pending> {
        let who = input.who();
        let row = self.row(who);
        let decision = match input {
            Input::Request(request) => row.request(*request, self.time_to_live_s),
            Input::Outlived(_, generation) => row.outlived(*generation),
            Input::Report(report) => self.report(row, report),
        };
        decision.map(|decision| Pending {
            input: input.clone(),
            stale: false,
            decision,
        })
    }

    fn report(&self, row: &Row, report: &ToServer) -> Option<Decision> {
        let session = row.session.as_ref()?;
        let decided = |event| row.after(machine::apply(session, event));
        match *report {
            ToServer::Hello(..) => None,
            ToServer::Ack(place, _, generation, revision) => decided(Event::Ack {
                gateway: gateway(place),
                generation,
                revision,
            }),
            ToServer::Nack(place, _, generation, revision) => decided(Event::Nack {
                gateway: gateway(place),
                generation,
                revision,
                reason: "refused",
            }),
            ToServer::Established(place, _, generation) => decided(Event::Established {
                gateway: gateway(place),
                generation,
                detail: "on its line",
            }),
            ToServer::ServiceHeld(place, _, generation, revision) => decided(Event::ServiceHeld {
                gateway: gateway(place),
                generation,
                revision,
            }),
            ToServer::Receipt(place, who, generation, number) => {
                let receipt = (place, number, who, generation);
                let after = decided(Event::Receipt {
                    gateway: gateway(place),
                    generation,
                });
                Some(Decision {
                    row: after.map_or_else(|| row.clone(), |decision| decision.row),
                    receipt: Some(receipt),
                    send: Some((place, ToGateway::ReceiptAck(number))),
                })
            }
            ToServer::HeldThoughRefused(place, who) => {
                let generation = row.generation + 1;
                let mut decision = decided(Event::HeldThoughRefused { generation })?;
                decision.row.generation = generation;
                decision.send = Some((place, ToGateway::Disconnect(who, generation)));
                Some(decision)
            }
        }
    }

    /// Compares and sets: writes what was decided, if what was read is still so. Returns whether it
    /// has, and what is to be sent now that it is durable.
    pub fn commit(&mut self, pending: &Pending, fault: Fault) -> Option<Vec<(Place, ToGateway)>> {
        if pending.stale && fault != Fault::NoCompareAndSet {
            return None;
        }
        let who = pending.input.who();
        let decision = &pending.decision;
        let row = &mut self.rows[usize::from(who)];
        let (promise, forced) = (row.promise, row.forced);
        *row = decision.row.clone();
        // What has been promised to others stays promised, whatever is written.
        row.forced |= forced;
        if !pending.input.promises() {
            row.promise = promise;
        }
        self.receipts.extend(decision.receipt);
        let mut send: Vec<_> = decision.send.into_iter().collect();
        if let Some(session) = &decision.row.session {
            send.extend(due(session, fault));
        }
        Some(send)
    }

    /// What answers a Hello: what is sent, and what it tells beside.
    pub fn hello(&self, place: Place, held: &[Held]) -> (Vec<ToGateway>, Vec<ToServer>) {
        let held: Vec<_> = held
            .iter()
            .map(|held| instruct::Held {
                session: session_id(held.who),
                generation: held.generation,
                phase: held.phase,
                revision: held.revision,
            })
            .collect();
        let rows: Vec<Session> = self
            .rows
            .iter()
            .filter_map(|row| row.session.clone())
            .filter(|row| {
                row.connection.gateway == gateway(place) && row.state.is_live()
                    || held.iter().any(|held| held.session == row.id)
            })
            .collect();
        let diff = instruct::diff(gateway(place), &held, &rows);
        let mut send: Vec<_> = diff
            .send
            .iter()
            .map(|wanted| message(*wanted, self.revision(wanted.session)))
            .collect();
        send.push(ToGateway::Synced);
        let acked = diff
            .acked
            .iter()
            .map(|held| ToServer::Ack(place, who(held.session), held.generation, held.revision));
        let established = diff
            .established
            .iter()
            .map(|held| ToServer::Established(place, who(held.session), held.generation));
        let services = diff.services.iter().map(|held| {
            ToServer::ServiceHeld(place, who(held.session), held.generation, held.revision)
        });
        let refused = diff.held_though_refused.iter();
        let refused = refused.map(|held| ToServer::HeldThoughRefused(place, who(held.session)));
        let told = acked.chain(established).chain(services).chain(refused);
        (send, told.collect())
    }

    fn revision(&self, session: Uuid) -> u64 {
        let row = self.row(who(session)).session.as_ref();
        row.map_or(0, |row| row.service.revision)
    }
}

impl Row {
    fn outlived(&self, generation: Generation) -> Option<Decision> {
        let session = self.session.as_ref()?;
        (session.generation == generation)
            .then(|| self.after(machine::apply(session, Event::Outlived)))?
    }

    fn request(&self, request: Request, time_to_live_s: u32) -> Option<Decision> {
        let who = request.who();
        let Some(session) = &self.session else {
            let Request::Connect(_, place) = request else {
                return None;
            };
            let generation = self.generation + 1;
            return Some(Decision {
                row: Row {
                    session: Some(Session {
                        id: session_id(who),
                        subscriber: session_id(who),
                        generation,
                        state: State::Connecting,
                        establishment: Establishment::Terminal,
                        connection: connection(who, place),
                        target: None,
                        service: Grant::new(Some((
                            "all",
                            Service {
                                time_to_live_s,
                                ..Service::default()
                            },
                        ))),
                        detail: "asked for".to_owned(),
                    }),
                    generation,
                    promise: Some(Promise::At(place, generation)),
                    ..self.clone()
                },
                receipt: None,
                send: None,
            });
        };
        let fresh = self.generation + 1;
        let event = match request {
            Request::Connect(..) => return None,
            Request::Move(_, place) => Event::Move {
                disconnect_generation: fresh,
                target: Target {
                    generation: fresh + 1,
                    connection: connection(who, place),
                },
            },
            Request::Release(_) => Event::Release { generation: fresh },
            Request::Force(_) => Event::Force,
            Request::Unanswered(_) => Event::Unanswered {
                gateway_connected: false,
            },
        };
        let mut decision = self.after(machine::apply(session, event))?;
        let row = &mut decision.row;
        match request {
            Request::Move(_, place) => {
                row.generation = fresh + 1;
                row.promise = Some(Promise::At(place, fresh + 1));
            }
            Request::Release(_) => {
                row.generation = fresh;
                row.promise = Some(Promise::Ended);
            }
            Request::Force(_) => row.forced = true,
            Request::Connect(..) | Request::Unanswered(_) => {}
        }
        Some(decision)
    }

    fn after(&self, outcome: Outcome) -> Option<Decision> {
        let Outcome::Changed(change) = outcome else {
            return None;
        };
        let Change { session, .. } = *change;
        Some(Decision {
            row: Row {
                session: Some(session),
                ..self.clone()
            },
            receipt: None,
            send: None,
        })
    }

    /// Whether what was promised is what the row says.
    pub fn keeps_its_promise(&self) -> bool {
        let Some(promise) = self.promise else {
            return true;
        };
        let Some(row) = &self.session else {
            return false;
        };
        match promise {
            Promise::Ended => row.target.is_none() && !row.state.is_connected_side(),
            Promise::At(place, generation) => match &row.target {
                Some(target) => {
                    target.generation == generation && target.connection.gateway == gateway(place)
                }
                None if row.connection.gateway != gateway(place) => false,
                // Refused, its generation may have been raised to take it from its gateway.
                None if row.state == State::Refused => row.generation >= generation,
                None => row.generation == generation && row.state.is_connected_side(),
            },
        }
    }
}

/// What a row asks for of its gateway.
fn due(session: &Session, fault: Fault) -> Vec<(Place, ToGateway)> {
    let place = super::place(&session.connection.gateway);
    let revision = session.service.revision;
    let wanted = instruct::due(session, &session.connection.gateway);
    let mut due: Vec<_> = wanted
        .map(|wanted| (place, message(wanted, revision)))
        .into_iter()
        .collect();
    if fault == Fault::TargetToldBeforeReceipt
        && let Some(target) = &session.target
    {
        let connect = ToGateway::Connect(who(session.id), target.generation, revision);
        due.push((super::place(&target.connection.gateway), connect));
    }
    due
}

fn message(wanted: instruct::Instruction, revision: u64) -> ToGateway {
    let who = who(wanted.session);
    match wanted.kind {
        Kind::Connect => ToGateway::Connect(who, wanted.generation, revision),
        Kind::Disconnect => ToGateway::Disconnect(who, wanted.generation),
        Kind::ChangeService => ToGateway::ChangeService(who, wanted.generation, revision),
    }
}

fn connection(who: Who, place: Place) -> Connection {
    Connection {
        location: super::gateway::location(who).parse().expect("a location"),
        gateway: gateway(place).to_owned(),
        addresses: Addresses::default(),
        key: SealedSecret::default(),
    }
}
