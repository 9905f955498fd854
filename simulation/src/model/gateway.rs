//! One gateway: the real engine between a journal, a fast path and terminals.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorstep_establish::{
    Body, Direction, Mac, Message, SessionKey, Tags, frame, open, seal, session_of,
};
use doorstep_gateway::config::Config;
use doorstep_gateway::engine::message::{ChangeService, Connect, HeldPhase, Instruction, Report};
use doorstep_gateway::engine::row::{Fence, FenceKind, Phase, SessionRef, Snapshot, Write};
use doorstep_gateway::engine::{
    Action, Engine, Event, LinePort, Now, Recovered, Recovery, SessionList, Settings,
};
use doorstep_gateway::inventory::Inventory;
use doorstep_gateway::plan::{Plan, Tables};
use doorstep_gateway::session::{Counters, Service};
use doorstep_gateway_common::{LineKey, OperatorIndex};
use doorstep_server::session::instruct;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::message::{Generation, Held, Number, Place, Stream, ToGateway, ToServer, Who};
use super::time::{TICK, TICK_MS};
use super::{Fault, session_id};

const OPERATOR: OperatorIndex = 1;
const PORT: u32 = 7;
const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const TERMINAL_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

const CONFIG: &str = r#"
id = "gateway"
max_sessions = 64
[[access_port]]
name = "access0"
[[operator]]
name = "north-net"
uplink = "uplink0"
next_hops = ["192.0.2.1"]
subscriber_prefixes = ["100.64.0.0/24"]
gateway_addresses = ["100.64.0.1"]
[operator.server]
url = "https://198.51.100.1:7443"
ca = "ca.pem"
cert = "gw.pem"
key = "gw.key"
"#;

const INVENTORY: &str = "location,port,s_vlan,c_vlan\n\
    110103-xinjing-001-002-000,access0,,1000\n\
    110103-xinjing-001-002-001,access0,,1001\n";

/// The home of a session, which each gateway has a line to.
pub fn location(who: Who) -> String {
    format!("110103-xinjing-001-002-{who:03}")
}

/// What does not change.
pub struct Site {
    settings: Settings,
    began: Instant,
    /// Of every session.
    service: Service,
}

impl Site {
    pub fn new(time_to_live_s: u32) -> Arc<Self> {
        let port = |name: &str| (name == "access0").then_some(PORT);
        let config = Config::parse(Path::new("gateway.toml"), CONFIG).expect("valid");
        let inventory = Inventory::parse(Path::new("inventory.csv"), INVENTORY, port);
        Arc::new(Self {
            settings: Settings {
                gateway_id: config.id.clone(),
                gateway_mac: GATEWAY_MAC,
                delegated_prefix_len: config.delegated_prefix_len,
                line_prefixes: config.line_prefixes,
                max_sessions: config.max_sessions,
                accounting_interval: Duration::from_secs(10),
                operators: config.operators,
                inventory: Arc::new(inventory.expect("valid")),
                garden: config.garden,
                ports: HashMap::from([(
                    PORT,
                    LinePort {
                        mtu: 1600,
                        shaper: true,
                    },
                )]),
                is_traced: false,
            },
            began: Instant::now(),
            service: Service {
                time_to_live_s,
                ..Service::default()
            },
        })
    }
}

#[derive(Clone)]
pub struct Gateway {
    site: Arc<Site>,
    place: Place,
    fault: Fault,
    engine: Engine,
    /// Durable.
    journal: Snapshot,
    /// The kernel's: outlives the daemon.
    maps: Tables,
    /// To the fast path, not carried out yet.
    orders: VecDeque<Action>,
    /// The last request to a terminal.
    asked: BTreeMap<Who, Vec<u8>>,
    /// Streams opened so far.
    stream: Stream,
    /// A server has told it everything since it started.
    synced: bool,
    ticks: u32,
    /// How often [`TICK`] has passed where times to live count.
    passed: u32,
}

impl Gateway {
    pub fn new(site: &Arc<Site>, place: Place, fault: Fault) -> Self {
        let recovered = recover(
            site,
            Snapshot::default(),
            &Tables::default(),
            now(site, 0, 0),
        );
        Self {
            site: site.clone(),
            place,
            fault,
            engine: recovered.engine,
            journal: Snapshot::default(),
            maps: Tables::default(),
            orders: VecDeque::new(),
            asked: BTreeMap::new(),
            stream: 0,
            synced: false,
            ticks: 0,
            passed: 0,
        }
    }

    pub fn is_connected(&self) -> bool {
        self.engine.is_connected(OPERATOR)
    }

    pub fn connect(&mut self) -> Vec<ToServer> {
        self.stream += 1;
        self.feed(Event::StreamUp { operator: OPERATOR })
    }

    /// Takes no part in what may happen when nothing breaks any more.
    pub fn forget_the_count_of_streams(&mut self) {
        self.stream = 0;
    }

    pub fn stream(&self) -> Stream {
        self.stream
    }

    pub fn disconnect(&mut self) {
        self.feed(Event::StreamDown { operator: OPERATOR });
    }

    /// Time passes until everything that waits for a time has had it.
    pub fn tick(&mut self) -> Vec<ToServer> {
        self.ticks += 1;
        self.feed(Event::Tick)
    }

    /// Time passes at a gateway whose timers are served.
    pub fn pass(&mut self) -> Vec<ToServer> {
        self.passed += 1;
        self.feed(Event::Tick)
    }

    /// How often time has passed since it was last in contact with a server; none where no time to
    /// live has ever depended on it.
    pub fn ticks_without_contact(&self) -> Option<u32> {
        let contact = self.engine.contact(OPERATOR)?;
        let since = self.now().at.saturating_duration_since(contact);
        u32::try_from(since.as_secs() / TICK.as_secs()).ok()
    }

    pub fn deliver(&mut self, message: &ToGateway) -> Vec<ToServer> {
        let known = match self.fault {
            Fault::GatewayTakesOlder => self.forget_fences(),
            _ => HashMap::new(),
        };
        let instruction = match *message {
            ToGateway::Connect(who, generation, revision) => Instruction::Connect(Connect {
                session: session_id(who),
                generation,
                location: location(who).parse().expect("a location"),
                key: key(who, generation),
                ipv4: Some([100, 64, 0, 10 + who].into()),
                ipv6: None,
                ipv6_line: None,
                ipv4_gateway: None,
                dns: Vec::new(),
                mtu: 1500,
                service: self.site.service,
                service_revision: revision,
                dhcp: None,
            }),
            ToGateway::Disconnect(who, generation) => Instruction::Disconnect {
                session: session_id(who),
                generation,
            },
            ToGateway::ChangeService(who, generation, revision) => {
                Instruction::ChangeService(ChangeService {
                    session: session_id(who),
                    generation,
                    revision,
                    service: self.site.service,
                })
            }
            ToGateway::ReceiptAck(number) => Instruction::ReceiptAck { number },
            ToGateway::Synced => Instruction::Synced,
        };
        self.synced |= *message == ToGateway::Synced;
        let reports = self.feed(Event::Instruction {
            operator: OPERATOR,
            instruction,
        });
        for (session, fence) in known {
            self.journal.fences.entry(session).or_insert(fence);
        }
        reports
    }

    pub fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    pub fn is_next_order_an_open(&self) -> bool {
        matches!(self.orders.front(), Some(Action::Open { .. }))
    }

    /// The fast path carries one order out, or cannot.
    pub fn work(&mut self, succeeds: bool) -> Vec<ToServer> {
        let Some(order) = self.orders.pop_front() else {
            return Vec::new();
        };
        if succeeds {
            self.carry_out(&order);
        }
        fn result<T>(succeeds: bool, value: T) -> Result<T, String> {
            succeeds
                .then_some(value)
                .ok_or_else(|| "no space".to_owned())
        }
        let event = match order {
            Action::Open { session, entry, .. } => Event::Opened {
                session,
                generation: entry.generation,
                result: result(succeeds, ()),
            },
            Action::Change { session, entry } => Event::Changed {
                session,
                generation: entry.generation,
                result: result(succeeds, ()),
            },
            Action::Close { session, entry } => Event::Closed {
                session,
                generation: entry.generation,
                result: result(succeeds, Counters::default()),
            },
            Action::Remove { operator, .. } => Event::Removed {
                operator,
                result: result(succeeds, ()),
            },
            other => unreachable!("not an order: {other:?}"),
        };
        self.feed(event)
    }

    pub fn can_accept(&self, who: Who) -> bool {
        self.asked.contains_key(&who) && self.phase(who) == Some("establishing")
    }

    /// The session's terminal answers the last request.
    pub fn accept(&mut self, who: Who) -> Vec<ToServer> {
        let Some(event) = self
            .asked
            .remove(&who)
            .and_then(|bytes| self.answer(&bytes))
        else {
            return Vec::new();
        };
        self.feed(event)
    }

    /// The daemon dies and starts again. What it had ordered may have been done.
    pub fn crash(&mut self, orders_are_done: bool) -> Vec<ToServer> {
        for order in std::mem::take(&mut self.orders) {
            if orders_are_done {
                self.carry_out(&order);
            }
        }
        self.asked.clear();
        self.synced = false;
        let recovered = recover(&self.site, self.journal.clone(), &self.maps, self.now());
        self.engine = recovered.engine;
        self.maps = recovered.tables;
        self.take(recovered.actions)
    }

    /// Generations under which the fast path forwards for a session, either way.
    pub fn forwards(&self, who: Who) -> impl Iterator<Item = Generation> {
        let address = [100, 64, 0, 10 + who];
        let up = self.maps.upstream_v4.iter();
        let up =
            up.filter_map(move |(key, row)| (key.source_be == address).then_some(row.generation));
        let down = self.maps.downstream_v4.iter();
        up.chain(down.filter_map(move |(key, row)| {
            (key.destination_be == address).then_some(row.generation)
        }))
    }

    /// The highest generation that it has seen of a session.
    pub fn fence(&self, who: Who) -> Generation {
        let fence = self.journal.fences.get(&of(who));
        fence.map_or(0, |fence| fence.generation)
    }

    /// Receipts that were issued and are not kept any more.
    pub fn acknowledged_receipts(&self) -> impl Iterator<Item = Number> {
        let last = self.journal.last_numbers.get(&OPERATOR).copied();
        (1..=last.unwrap_or_default())
            .filter(|number| !self.journal.receipts.contains_key(&(OPERATOR, *number)))
    }

    pub fn unacknowledged_receipts(&self) -> usize {
        self.journal.receipts.len()
    }

    fn phase(&self, who: Who) -> Option<&'static str> {
        let sessions = self.engine.sessions(&SessionList::default());
        let held = sessions
            .iter()
            .find(|held| held.connect.session == session_id(who));
        held.map(|held| held.phase)
    }

    /// All that decides what it does next, without clocks and nonces.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.is_connected(), self.stream, self.synced).hash(&mut hasher);
        for held in self.engine.sessions(&SessionList::default()) {
            (held.connect.session, held.phase).hash(&mut hasher);
            held.connect.service_revision.hash(&mut hasher);
        }
        let mut rows: Vec<_> = self.journal.sessions.iter().collect();
        rows.sort_unstable_by_key(|(session, _)| **session);
        for (session, row) in rows {
            (session, row.connect.generation).hash(&mut hasher);
            match &row.phase {
                Phase::Establishing => 0u8.hash(&mut hasher),
                Phase::Established(_) => 1u8.hash(&mut hasher),
                Phase::Closing { opened, then } => {
                    let next = then.connect.as_ref().map(|connect| connect.generation);
                    (2u8, opened.is_some(), then.receipt, next).hash(&mut hasher);
                }
            }
        }
        let mut fences: Vec<_> = self.journal.fences.iter().collect();
        fences.sort_unstable_by_key(|(session, _)| **session);
        for (session, fence) in fences {
            let receipt = fence.receipt.as_ref().map(|receipt| receipt.number);
            let kind = fence.kind == FenceKind::Connect;
            (session, fence.generation, kind, receipt).hash(&mut hasher);
        }
        for (key, receipt) in &self.journal.receipts {
            (key, receipt.session, receipt.generation).hash(&mut hasher);
        }
        self.journal.last_numbers.get(&OPERATOR).hash(&mut hasher);
        for order in &self.orders {
            match order {
                Action::Open { session, entry, .. } => (0u8, Some(session), entry.generation),
                Action::Change { session, entry } => (1, Some(session), entry.generation),
                Action::Close { session, entry } => (2, Some(session), entry.generation),
                Action::Remove { plan, .. } => (3, None, plan.changes.len() as u64),
                other => unreachable!("not an order: {other:?}"),
            }
            .hash(&mut hasher);
        }
        if self.site.service.time_to_live_s > 0 {
            let longest = super::time::LONGEST.into();
            let age = self.ticks_without_contact().map(|age| age.min(longest));
            // What a crash leaves of it.
            (age, self.journal.contacts.is_empty()).hash(&mut hasher);
            for contact in self.journal.contacts.values() {
                let age_ms = self.now().unix_ms - contact;
                age_ms.min(i64::from(longest) * TICK_MS).hash(&mut hasher);
            }
        }
        for who in 0..2 {
            (self.can_accept(who), self.forwards(who).collect::<Vec<_>>()).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn now(&self) -> Now {
        now(&self.site, self.ticks, self.passed)
    }

    fn feed(&mut self, event: Event) -> Vec<ToServer> {
        let now = self.now();
        let actions = self.engine.handle(event, now);
        self.take(actions)
    }

    fn take(&mut self, actions: Vec<Action>) -> Vec<ToServer> {
        let mut reports = Vec::new();
        for action in actions {
            match action {
                Action::Persist(Write::PutFence(..)) if self.fault == Fault::FencesAreLost => {}
                Action::Persist(Write::PutContact(..)) if self.fault == Fault::ContactIsLost => {}
                Action::Persist(write) => self.journal.apply(&write),
                Action::Open { .. }
                | Action::Change { .. }
                | Action::Close { .. }
                | Action::Remove { .. } => {
                    self.orders.push_back(action);
                }
                Action::Transmit { frame, .. } => self.note_request(frame),
                Action::Report { report, .. } => reports.extend(self.report(report)),
                Action::SetLine { .. }
                | Action::ExpectProbes { .. }
                | Action::OpenLease { .. }
                | Action::CloseLease { .. }
                | Action::ReadCounters { .. }
                | Action::Trace(_) => {}
            }
        }
        reports
    }

    fn report(&self, report: Report) -> Option<ToServer> {
        let at = self.place;
        Some(match report {
            Report::Hello { held } => {
                let held = held.into_iter().map(|held| Held {
                    who: super::who(held.session),
                    generation: held.generation,
                    phase: match held.phase {
                        HeldPhase::Establishing => instruct::Phase::Establishing,
                        HeldPhase::Established => instruct::Phase::Established,
                        HeldPhase::Disconnected => instruct::Phase::Disconnected,
                    },
                    revision: held.revision,
                });
                ToServer::Hello(at, self.stream, held.collect())
            }
            Report::Ack {
                session,
                generation,
                revision,
            } => ToServer::Ack(at, super::who(session), generation, revision),
            Report::Nack(refusal) => {
                let session = refusal.session.parse().expect("a session's id");
                ToServer::Nack(
                    at,
                    super::who(session),
                    refusal.generation,
                    refusal.revision,
                )
            }
            Report::Established {
                session,
                generation,
                ..
            } => ToServer::Established(at, super::who(session), generation),
            Report::Receipt(receipt) => ToServer::Receipt(
                at,
                super::who(receipt.session),
                receipt.generation,
                receipt.number,
            ),
            Report::Accounting(_) => return None,
        })
    }

    fn carry_out(&mut self, order: &Action) {
        match order {
            Action::Open {
                entry, displaced, ..
            } => {
                displaced
                    .changes
                    .iter()
                    .for_each(|change| self.maps.apply(change));
                let plan = Plan::diff(&Tables::of([entry]), &Tables::default());
                plan.changes
                    .iter()
                    .for_each(|change| self.maps.apply(change));
            }
            // Only what is this generation's, as the real one does.
            Action::Close { entry, .. } => {
                let own = Tables::of([entry]);
                let generation = entry.generation;
                self.maps.upstream_v4.retain(|key, row| {
                    !own.upstream_v4.contains_key(key) || row.generation != generation
                });
                self.maps.downstream_v4.retain(|key, row| {
                    !own.downstream_v4.contains_key(key) || row.generation != generation
                });
            }
            Action::Remove { plan, .. } => {
                plan.changes
                    .iter()
                    .for_each(|change| self.maps.apply(change));
            }
            _ => {}
        }
    }

    fn note_request(&mut self, bytes: Vec<u8>) {
        let Ok(parsed) = frame::parse(&bytes) else {
            return;
        };
        let Some(session) = session_of(parsed.payload) else {
            return;
        };
        let who = super::who(session);
        if self.read(&bytes).is_some() {
            self.asked.insert(who, bytes);
        } else {
            // A Confirm or a Release: there is nothing more to answer.
            self.asked.remove(&who);
        }
    }

    /// What a frame asks of a terminal that has the key of the session's present generation.
    fn read(&self, bytes: &[u8]) -> Option<(LineKey, SessionKey, Body)> {
        let parsed = frame::parse(bytes).ok()?;
        let session = session_of(parsed.payload)?;
        let sessions = self.engine.sessions(&SessionList::default());
        let held = sessions
            .iter()
            .find(|held| held.connect.session == session)?;
        let key = held.connect.key.clone();
        let offered = key.clone();
        let (_, body) = open(parsed.payload, Direction::FromGateway, |_| Some(offered)).ok()?;
        let line = match parsed.envelope.tags.as_slice() {
            [c] => (0, c.vid),
            _ => return None,
        };
        let line = LineKey {
            ifindex: PORT,
            s_vid: line.0,
            c_vid: line.1,
        };
        matches!(body.message, Message::Request(_)).then_some((line, key, body))
    }

    fn answer(&self, bytes: &[u8]) -> Option<Event> {
        let (line, key, body) = self.read(bytes)?;
        let session = session_of(frame::parse(bytes).ok()?.payload)?;
        let answer = Body {
            message: Message::Accept {
                terminal_mac: TERMINAL_MAC,
                replaces: None,
            },
            ..body
        };
        let envelope = frame::Envelope::to_gateway(TERMINAL_MAC, GATEWAY_MAC, Tags::NONE);
        Some(Event::Frame {
            line,
            frame: frame::build(&envelope, &seal(&key, session, &answer)),
        })
    }

    /// As a gateway would be that takes whatever comes.
    fn forget_fences(&mut self) -> HashMap<SessionRef, Fence> {
        let connected = self.is_connected();
        let known = std::mem::take(&mut self.journal.fences);
        let recovered = recover(&self.site, self.journal.clone(), &self.maps, self.now());
        self.engine = recovered.engine;
        if connected {
            let now = self.now();
            self.engine
                .handle(Event::StreamUp { operator: OPERATOR }, now);
        }
        known
    }
}

fn of(who: Who) -> SessionRef {
    SessionRef {
        operator: OPERATOR,
        session: session_id(who),
    }
}

/// A session's key in a generation.
fn key(who: Who, generation: Generation) -> SessionKey {
    let mut bytes = [who; SessionKey::LEN];
    bytes[1..9].copy_from_slice(&generation.to_be_bytes());
    SessionKey::from_slice(&bytes).expect("of the right length")
}

fn now(site: &Site, ticks: u32, passed: u32) -> Now {
    Now {
        at: site.began + Duration::from_secs(3600) * ticks + TICK * passed,
        unix_ms: 1_000 + i64::from(passed) * TICK_MS,
    }
}

fn recover(site: &Site, snapshot: Snapshot, maps: &Tables, now: Now) -> Recovered {
    Engine::recover(Recovery {
        settings: site.settings.clone(),
        snapshot,
        actual: maps,
        port: &|name| (name == "access0").then_some(PORT),
        rng: StdRng::seed_from_u64(7),
        now,
    })
}
