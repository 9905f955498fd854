//! Replicas of the server and gateways in every order of events, bounded.
//!
//! The code that decides is the daemons' own: [`doorstep_server::session`] for rows and
//! instructions, [`doorstep_gateway::engine`] for gateways. Modelled is what is around it, and
//! always as worse than it is:
//!
//! * **Network**: what has been said may arrive at any time, any number of times, in any order, at
//!   any replica, or never. So a replica that still believes that it holds a gateway's stream, or
//!   that pushes a row that it read long ago, is among what is tried. Only what answers a Hello
//!   arrives in order and on its own stream, if it arrives.
//! * **Replica**: reads a row, decides, and commits later, or never, if the row is still as it was
//!   read. A crash loses what was decided. Nothing else is kept in memory.
//! * **Gateway**: its journal and its maps outlive a crash; orders to the fast path may have been
//!   done or not.
//!
//! Where sessions have a time to live, ticks of time count beside, see [`time`].
//!
//! [`State::settle`] lets all of that behave for a while: from every state the system must come to
//! rest where the table and all gateways agree.

mod gateway;
pub mod message;
mod settle;
mod table;
mod time;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use doorstep_server::session;
use settle::Settled;
use stateright::{Model, Property};
use uuid::Uuid;

pub use gateway::{Gateway, Site};
use message::{Place, ToGateway, ToServer, Who};
pub use table::{Input, Pending, Promise, Request, Row, Table};
pub use time::TimeToLive;

pub const GATEWAYS: Place = 2;
const REPLICAS: usize = 2;

pub(crate) fn session_id(who: Who) -> Uuid {
    Uuid::from_u128(0x0190_f3e8_0000_7000_8000_0000_0000_0000 + u128::from(who))
}

pub(crate) fn who(session: Uuid) -> Who {
    (session.as_u128() & 0xff) as Who
}

pub(crate) fn gateway(place: Place) -> &'static str {
    ["gateway-0", "gateway-1"][usize::from(place)]
}

pub(crate) fn place(gateway: &str) -> Place {
    u8::from(gateway == "gateway-1")
}

/// A mistake that is not in the code, built in on purpose: the properties must find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// The target of a move is told to connect before the former gateway's receipt.
    TargetToldBeforeReceipt,
    /// A replica writes what it decided on an old read.
    NoCompareAndSet,
    /// A receipt is acknowledged before it is durable.
    ReceiptAcknowledgedEarly,
    /// A gateway carries out older generations than it has seen.
    GatewayTakesOlder,
    /// A gateway's fences are not durable.
    FencesAreLost,
    /// A server counts a time to live from the last written contact, and nothing for what comes
    /// between that and the end of forwarding.
    NoMargin,
    /// When a gateway was last in contact is not durable.
    ContactIsLost,
    /// Streams go on whose contact cannot be written down.
    UnwrittenGoOn,
    /// No server looks whose time to live is over.
    NobodyLooks,
}

/// How much may happen.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub sessions: Who,
    /// Begun in this order, at any time.
    pub requests: Vec<Request>,
    /// So many of them have come to their end before anything else happens.
    pub past: usize,
    pub gateway_crashes: u8,
    pub replica_crashes: u8,
    /// Streams that break by themselves.
    pub breaks: u8,
    /// Orders that the fast path cannot carry out.
    pub failures: u8,
    pub ticks: u8,
    /// Of every session, if any.
    pub time_to_live: Option<TimeToLive>,
    pub fault: Fault,
}

pub struct ControlPlane {
    bounds: Bounds,
    site: Arc<Site>,
    settled: Settled,
    /// The same of states that go on without the first gateway.
    ended: Settled,
}

impl ControlPlane {
    pub fn new(bounds: Bounds) -> Self {
        let time_to_live_s = bounds.time_to_live.map_or(0, TimeToLive::seconds);
        Self {
            bounds,
            site: Site::new(time_to_live_s),
            settled: Settled::default(),
            ended: Settled::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A replica reads and decides.
    Begin(Input),
    Commit(usize),
    /// A replica answers a Hello.
    Answer(ToServer),
    Deliver(Place, ToGateway),
    /// All that answers the Hello of the present stream.
    DeliverAnswer(Place),
    StreamUp(Place),
    StreamDown(Place),
    Work(Place),
    WorkFails(Place),
    TerminalAccepts(Place, Who),
    Tick(Place),
    GatewayCrashes(Place, bool),
    ReplicaCrashes(usize),
    /// A tick of the time that times to live count.
    Pass {
        written: bool,
    },
}

/// What may still happen.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Budget {
    request: usize,
    gateway_crashes: u8,
    replica_crashes: u8,
    breaks: u8,
    failures: u8,
    ticks: u8,
    passes: u8,
}

/// A gateway with what is on its way to it.
#[derive(Clone)]
struct At {
    gateway: Arc<Gateway>,
    digest: u64,
    inbound: BTreeSet<ToGateway>,
    /// What answers the Hello of a stream.
    answer: Option<(message::Stream, Vec<ToGateway>)>,
}

#[derive(Clone)]
pub struct State {
    table: Table,
    pending: [Option<Pending>; REPLICAS],
    gateways: Vec<At>,
    /// From gateways.
    outbound: BTreeSet<ToServer>,
    budget: Budget,
    /// Where sessions have a time to live.
    contacts: Option<time::Contacts>,
    /// A rule about steps that has been broken.
    broken: Option<&'static str>,
    fault: Fault,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for row in &self.table.rows {
            if let Some(session) = &row.session {
                let target = session.target.as_ref();
                writeln!(
                    f,
                    "{} {} at {} → {:?}; {:?}",
                    session.state,
                    session.generation,
                    session.connection.gateway,
                    target.map(|target| target.generation),
                    row.promise,
                )?;
            }
        }
        writeln!(f, "pending {:?}", self.pending)?;
        for (place, at) in self.gateways.iter().enumerate() {
            let forwards: Vec<Vec<_>> = (0..2)
                .map(|who| at.gateway.forwards(who).collect())
                .collect();
            writeln!(
                f,
                "{place}: forwards {forwards:?}, fence {}, in {:?}",
                at.gateway.fence(0),
                at.inbound
            )?;
        }
        writeln!(f, "out {:?}", self.outbound)
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.table.hash(state);
        self.pending.hash(state);
        for at in &self.gateways {
            (at.digest, &at.inbound, &at.answer).hash(state);
        }
        (&self.outbound, self.budget, self.broken).hash(state);
        self.contacts.hash(state);
    }
}

/// The checker tells states apart by their hashes.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl State {
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn new(bounds: &Bounds, site: &Arc<Site>) -> Self {
        let gateways = (0..GATEWAYS).map(|place| {
            let mut gateway = Gateway::new(site, place, bounds.fault);
            let hello = gateway.connect();
            let at = At {
                digest: gateway.digest(),
                gateway: Arc::new(gateway),
                inbound: BTreeSet::new(),
                answer: None,
            };
            (at, hello)
        });
        let (gateways, hello): (Vec<_>, Vec<_>) = gateways.unzip();
        let mut state = Self {
            table: Table::new(
                bounds.sessions,
                bounds.time_to_live.map_or(0, TimeToLive::seconds),
            ),
            pending: [None, None],
            gateways,
            outbound: BTreeSet::new(),
            budget: Budget {
                request: 0,
                gateway_crashes: bounds.gateway_crashes,
                replica_crashes: bounds.replica_crashes,
                breaks: bounds.breaks,
                failures: bounds.failures,
                ticks: bounds.ticks,
                passes: bounds.time_to_live.map_or(0, |time| time.passes),
            },
            contacts: bounds.time_to_live.map(time::Contacts::new),
            broken: None,
            fault: bounds.fault,
        };
        hello.iter().flatten().for_each(|hello| state.answer(hello));
        (0..GATEWAYS).for_each(|place| state.deliver_answer(place));
        match &bounds.requests[..bounds.past] {
            [] => state,
            past => state.after(past),
        }
    }

    fn at(&self, place: Place) -> &At {
        &self.gateways[usize::from(place)]
    }

    /// Something happens at a gateway.
    fn gateway(&mut self, place: Place, happens: impl FnOnce(&mut Gateway) -> Vec<ToServer>) {
        let at = &mut self.gateways[usize::from(place)];
        let gateway = Arc::make_mut(&mut at.gateway);
        let sessions = 0..self.table.rows.len() as Who;
        let before: Vec<_> = sessions.clone().map(|who| gateway.fence(who)).collect();
        let reports = happens(gateway);
        at.digest = gateway.digest();
        if sessions
            .clone()
            .any(|who| gateway.fence(who) < before[usize::from(who)])
        {
            self.broken = Some("a gateway's generation has fallen");
        }
        // One Hello to a stream: an older one is of no use any more.
        if reports
            .iter()
            .any(|report| matches!(report, ToServer::Hello(..)))
        {
            self.outbound
                .retain(|report| !matches!(report, ToServer::Hello(of, ..) if *of == place));
            at.answer = None;
        }
        self.outbound.extend(reports);
    }

    /// None: there is nothing to write.
    fn begin(&mut self, input: Input) -> Option<()> {
        let free = self.pending.iter().position(Option::is_none)?;
        let pending = self.table.decide(&input)?;
        if self.fault == Fault::ReceiptAcknowledgedEarly
            && let Input::Report(ToServer::Receipt(place, _, _, number)) = input
        {
            self.send(vec![(place, ToGateway::ReceiptAck(number))]);
        }
        self.pending[free] = Some(pending);
        self.order_replicas();
        Some(())
    }

    fn commit(&mut self, replica: usize) -> Option<()> {
        let pending = self.pending[replica].take()?;
        let who = pending.input.who();
        let before = self.table.row(who).clone();
        match self.table.commit(&pending, self.fault) {
            Some(send) => {
                let row = self.table.row(who);
                let generation = |row: &Row| row.session.as_ref().map_or(0, |row| row.generation);
                if row.generation < before.generation || generation(row) < generation(&before) {
                    self.broken = Some("a generation has fallen in the table");
                }
                for other in self.pending.iter_mut().flatten() {
                    other.stale |= other.input.who() == who;
                }
                self.send(send);
            }
            // A conflict: read and decide again.
            None => self.pending[replica] = self.table.decide(&pending.input),
        }
        self.order_replicas();
        Some(())
    }

    fn answer(&mut self, hello: &ToServer) {
        self.outbound.remove(hello);
        if let ToServer::Hello(place, stream, held) = hello {
            self.contacts.iter_mut().for_each(|all| all.write(*place));
            let (send, told) = self.table.hello(*place, held);
            let at = &mut self.gateways[usize::from(*place)];
            at.answer = Some((*stream, send));
            self.outbound.extend(told);
        }
    }

    fn deliver_answer(&mut self, place: Place) {
        let at = &mut self.gateways[usize::from(place)];
        let Some((stream, answer)) = at.answer.take() else {
            return;
        };
        if stream != at.gateway.stream() {
            return;
        }
        self.gateway(place, |gateway| {
            let said = answer.iter().flat_map(|message| gateway.deliver(message));
            said.collect()
        });
    }

    fn send(&mut self, messages: Vec<(Place, ToGateway)>) {
        for (place, message) in messages {
            self.gateways[usize::from(place)].inbound.insert(message);
        }
    }

    /// Replicas are alike: which is which does not matter.
    fn order_replicas(&mut self) {
        self.pending.sort_by(|a, b| {
            let key = |pending: &Option<Pending>| {
                pending
                    .as_ref()
                    .map(|pending| (pending.input.clone(), pending.stale))
            };
            key(a).cmp(&key(b))
        });
    }

    /// Gateways that forward for a session.
    fn forwarding(&self, who: Who) -> usize {
        let forwards = |at: &&At| at.gateway.forwards(who).next().is_some();
        self.gateways.iter().filter(forwards).count()
    }

    fn sessions(&self) -> impl Iterator<Item = Who> + use<> {
        0..self.table.rows.len() as Who
    }

    /// Each state must say why, if something is waited for.
    fn says_why(&self) -> bool {
        self.table
            .rows
            .iter()
            .flat_map(|row| &row.session)
            .all(|row| {
                let waits = row.state != session::State::Established
                    && row.state != session::State::Released;
                !waits || !row.detail.is_empty()
            })
    }

    /// What a gateway has forgotten of its receipts is in the table.
    fn receipts_are_durable(&self) -> bool {
        self.gateways.iter().zip(0..).all(|(at, place)| {
            at.gateway.acknowledged_receipts().all(|number| {
                let mut receipts = self.table.receipts.iter();
                receipts.any(|(of, known, ..)| (*of, *known) == (place, number))
            })
        })
    }
}

impl Model for ControlPlane {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.bounds, &self.site)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.time_actions(actions);
        if let Some(request) = self.bounds.requests.get(state.budget.request) {
            actions.push(Action::Begin(Input::Request(*request)));
        }
        for report in &state.outbound {
            actions.push(match report {
                ToServer::Hello(..) => Action::Answer(report.clone()),
                _ => Action::Begin(Input::Report(report.clone())),
            });
        }
        for replica in 0..REPLICAS {
            if state.pending[replica].is_some() {
                actions.push(Action::Commit(replica));
                if state.budget.replica_crashes > 0 {
                    actions.push(Action::ReplicaCrashes(replica));
                }
            }
        }
        for place in 0..GATEWAYS {
            let at = state.at(place);
            if at.gateway.is_connected() {
                let inbound = at.inbound.iter();
                actions.extend(inbound.map(|message| Action::Deliver(place, *message)));
                if at.answer.is_some() {
                    actions.push(Action::DeliverAnswer(place));
                }
                if state.budget.breaks > 0 {
                    actions.push(Action::StreamDown(place));
                }
            } else {
                actions.push(Action::StreamUp(place));
            }
            if at.gateway.has_orders() {
                actions.push(Action::Work(place));
                if state.budget.failures > 0 {
                    actions.push(Action::WorkFails(place));
                }
            }
            for who in state.sessions() {
                if at.gateway.can_accept(who) {
                    actions.push(Action::TerminalAccepts(place, who));
                }
            }
            if state.budget.ticks > 0 {
                actions.push(Action::Tick(place));
            }
            if state.budget.gateway_crashes > 0 {
                actions.push(Action::GatewayCrashes(place, false));
                if at.gateway.has_orders() {
                    actions.push(Action::GatewayCrashes(place, true));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        match action {
            Action::Begin(input) => {
                if matches!(input, Input::Request(_)) {
                    next.budget.request += 1;
                    // Denied, it has been answered.
                    if next.begin(input).is_none() && last.pending.iter().all(Option::is_some) {
                        return None;
                    }
                } else {
                    next.begin(input)?;
                }
            }
            Action::Commit(replica) => next.commit(replica)?,
            Action::Answer(hello) => next.answer(&hello),
            Action::Deliver(place, message) => {
                next.gateway(place, |gateway| gateway.deliver(&message));
            }
            Action::DeliverAnswer(place) => next.deliver_answer(place),
            Action::StreamUp(place) => next.gateway(place, Gateway::connect),
            Action::StreamDown(place) => {
                next.budget.breaks -= 1;
                next.gateway(place, |gateway| {
                    gateway.disconnect();
                    Vec::new()
                });
            }
            Action::Work(place) => next.gateway(place, |gateway| gateway.work(true)),
            Action::WorkFails(place) => {
                next.budget.failures -= 1;
                next.gateway(place, |gateway| gateway.work(false));
            }
            Action::TerminalAccepts(place, who) => {
                next.gateway(place, |gateway| gateway.accept(who));
            }
            Action::Tick(place) => {
                next.budget.ticks -= 1;
                next.gateway(place, Gateway::tick);
            }
            Action::GatewayCrashes(place, orders_are_done) => {
                next.budget.gateway_crashes -= 1;
                next.gateway(place, |gateway| gateway.crash(orders_are_done));
            }
            Action::ReplicaCrashes(replica) => {
                next.budget.replica_crashes -= 1;
                next.pending[replica] = None;
                next.order_replicas();
            }
            Action::Pass { written } => {
                next.budget.passes -= 1;
                next.pass(written);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never two gateways forward", |_, state: &State| {
                state
                    .sessions()
                    .all(|who| state.table.row(who).forced || state.forwarding(who) <= 1)
            }),
            Property::always("generations only rise", |_, state: &State| {
                state.broken.is_none()
            }),
            Property::always("an acknowledged receipt is durable", |_, state: &State| {
                state.receipts_are_durable()
            }),
            Property::always("no acknowledged change is lost", |_, state: &State| {
                state.table.rows.iter().all(Row::keeps_its_promise)
            }),
            Property::always("what waits says why", |_, state: &State| state.says_why()),
            Property::always(
                "all comes to rest where it agrees",
                |model: &Self, state: &State| state.clone().settle(&model.settled),
            ),
            Property::always(
                "nothing waits for ever for who agreed to a time to live",
                |model: &Self, state: &State| state.clone().ends_without(0, &model.ended),
            ),
            Property::sometimes("a session moves", |_, state: &State| {
                state.gateways[1].gateway.forwards(0).next().is_some()
            }),
        ]
    }
}
