//! Models of what is around the engine, with the promises that must hold at every step.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorstep_establish::{
    Body, Direction, Former, Mac, Message, SessionKey, frame, open, seal, session_of,
};
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Slot};
use ipnet::Ipv6Net;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::config::Config;
use crate::engine::message::{ChangeService, Connect, Instruction, Receipt, Refusal, Report};
use crate::engine::row::{Phase, SessionRef, Snapshot};
use crate::engine::{
    Action, BlockRefusal, Engine, Event, LinePort, LineView, Now, Recovered, Recovery, Settings,
};
use crate::inventory::Inventory;
use crate::plan::{self, Plan, Tables};
use crate::session::{Counters, Service, SessionEntry};

pub const NORTH: OperatorIndex = 1;
pub const SOUTH: OperatorIndex = 2;
/// Has room for full packets with two tags, and no more.
pub const PORT_MTU: u32 = 1504;
pub const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

pub const CONFIG: &str = r#"
id = "gw1"
max_sessions = 8
line_prefixes = true
[[access_port]]
name = "access0"
[[operator]]
name = "north-net"
uplink = "uplink0"
next_hops = ["192.0.2.1"]
subscriber_prefixes = ["100.64.1.0/24", "2001:db8:1000::/40"]
gateway_addresses = ["100.64.1.1", "2001:db8:1000::1"]
[operator.server]
url = "https://198.51.100.1:7443"
ca = "ca.pem"
cert = "gw1.pem"
key = "gw1.key"
[[operator]]
name = "south-net"
uplink = "uplink1"
subscriber_prefixes = ["100.64.2.0/24", "2001:db8:2000::/40"]
[operator.server]
url = "https://198.51.100.2:7443"
ca = "ca.pem"
cert = "gw1.pem"
key = "gw1.key"
"#;

pub const INVENTORY: &str = "location,port,s_vlan,c_vlan\n\
    110103-xinjing-001-002-000,access0,,\n\
    110103-xinjing-001-002-001,access0,,1001\n\
    110103-xinjing-001-002-002,access0,101,1002\n\
    110103-xinjing-001-002-003,access0,101,1003\n";

pub fn location(number: u8) -> String {
    format!("110103-xinjing-001-002-{number:03}")
}

pub fn ports(name: &str) -> Option<u32> {
    (name == "access0").then_some(7)
}

pub fn id(number: u8) -> Uuid {
    Uuid::from_u128(0x0190_f3e8_0000_7000_8000_0000_0000_0000 + u128::from(number))
}

pub fn session(operator: OperatorIndex, number: u8) -> SessionRef {
    SessionRef {
        operator,
        session: id(number),
    }
}

/// Each session has an address of its own, whatever its generation.
pub fn address(operator: OperatorIndex, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, operator as u8, 10 + number)
}

pub fn line_prefix(operator: OperatorIndex, number: u8) -> Ipv6Net {
    let (pool, number) = (operator * 0x1000, u16::from(number) + 1);
    format!("2001:db8:{pool:x}:ff{number:02x}::/64")
        .parse()
        .expect("a prefix")
}

pub fn prefix(operator: OperatorIndex, number: u8) -> Ipv6Net {
    let text = format!("2001:db8:{operator}000:{:x}00::/56", number + 1);
    text.parse().expect("a prefix")
}

/// The key of a session's generation, as the server would hand it to both ends.
pub fn key(operator: OperatorIndex, number: u8, generation: u64) -> SessionKey {
    let mut bytes = [number; 32];
    bytes[0] = operator as u8;
    bytes[1..9].copy_from_slice(&generation.to_be_bytes());
    SessionKey::from_slice(&bytes).expect("32 bytes")
}

pub fn connect(operator: OperatorIndex, number: u8, generation: u64, place: u8) -> Connect {
    Connect {
        session: id(number),
        generation,
        location: location(place).parse().expect("a location"),
        key: key(operator, number, generation),
        ipv4: Some(address(operator, number)),
        ipv6: Some(prefix(operator, number)),
        // Some homes have one.
        ipv6_line: (number % 2 == 1).then(|| line_prefix(operator, number)),
        ipv4_gateway: None,
        dns: vec![[192, 0, 2, 53].into()],
        mtu: 1500,
        service: Service::default(),
        service_revision: 0,
    }
}

/// What the servers mean by a revision; none of two is the same.
pub fn service(revision: u64) -> Service {
    match revision {
        0 => Service::default(),
        _ => Service {
            upstream_bps: 1_000_000 * revision,
            downstream_bps: 3_000_000 * revision,
            shape_downstream: revision.is_multiple_of(2),
            priority: (revision % 8) as u8,
            time_to_live_s: 0,
        },
    }
}

/// A Connect whose service is that of a revision.
pub fn served(connect: Connect, revision: u64) -> Connect {
    Connect {
        service: service(revision),
        service_revision: revision,
        ..connect
    }
}

pub struct World {
    pub engine: Engine,
    /// What the journal has made durable.
    pub journal: Snapshot,
    pub maps: Tables,
    /// What has been said of lines since the start.
    pub lines: HashMap<LineKey, LineValue>,
    pub counters: HashMap<Slot, Counters>,
    /// What the fast path gives the session in a slot, with its generation.
    pub services: HashMap<Slot, (u64, Service)>,
    /// Orders to the fast path that it has not got to.
    pub orders: VecDeque<Action>,
    /// The fast path fails that many times.
    pub failures: u32,
    pub reports: Vec<(OperatorIndex, Report)>,
    pub frames: Vec<(u32, Vec<u8>)>,
    pub now: Now,
    pub inventory: Arc<Inventory>,
    pub receipts: HashMap<(OperatorIndex, u64), Receipt>,
}

impl World {
    pub fn new() -> Self {
        let now = Now {
            at: Instant::now(),
            unix_ms: 1_000,
        };
        let inventory = Inventory::parse(Path::new("inventory.csv"), INVENTORY, ports);
        let inventory = Arc::new(inventory.expect("valid"));
        let recovered = recover(
            Snapshot::default(),
            &Tables::default(),
            inventory.clone(),
            now,
        );
        Self {
            engine: recovered.engine,
            journal: Snapshot::default(),
            maps: Tables::default(),
            lines: HashMap::new(),
            counters: HashMap::new(),
            services: HashMap::new(),
            orders: VecDeque::new(),
            failures: 0,
            reports: Vec::new(),
            frames: Vec::new(),
            now,
            inventory,
            receipts: HashMap::new(),
        }
    }

    /// With streams to both servers.
    pub fn connected() -> Self {
        let mut world = Self::new();
        world.feed(Event::StreamUp { operator: NORTH });
        world.feed(Event::StreamUp { operator: SOUTH });
        world.reports.clear();
        world
    }

    /// The daemon dies and starts again; the maps and the journal are what is left.
    pub fn crash(&mut self) {
        self.orders.clear();
        self.lines.clear();
        self.reports.clear();
        self.frames.clear();
        let recovered = recover(
            self.journal.clone(),
            &self.maps,
            self.inventory.clone(),
            self.now,
        );
        self.engine = recovered.engine;
        for change in Plan::diff(&recovered.tables, &self.maps).changes {
            self.maps.apply(&change);
        }
        assert_eq!(self.maps, recovered.tables);
        // The services of established sessions are as their rows say.
        for row in self.journal.sessions.values() {
            if matches!(row.phase, Phase::Established(_)) {
                let connect = &row.connect;
                let served = (connect.generation, connect.service);
                self.services.insert(row.slot, served);
            }
        }
        self.carry_out(recovered.actions);
    }

    /// The state directory is lost as well; the maps are all that is left.
    pub fn lose_state(&mut self) {
        self.journal = Snapshot::default();
        self.receipts.clear();
        self.crash();
    }

    pub fn feed(&mut self, event: Event) {
        let actions = self.engine.handle(event, self.now);
        self.carry_out(actions);
    }

    pub fn instruct(&mut self, operator: OperatorIndex, instruction: Instruction) {
        self.feed(Event::Instruction {
            operator,
            instruction,
        });
    }

    pub fn connect(&mut self, operator: OperatorIndex, connect: Connect) {
        self.instruct(operator, Instruction::Connect(connect));
    }

    pub fn disconnect(&mut self, operator: OperatorIndex, number: u8, generation: u64) {
        let instruction = Instruction::Disconnect {
            session: id(number),
            generation,
        };
        self.instruct(operator, instruction);
    }

    /// Blocks the line of a place, or takes that back.
    pub fn set_blocked(&mut self, place: u8, blocked: bool) -> Result<LineView, BlockRefusal> {
        let location = location(place).parse().expect("a location");
        let (view, actions) = self.engine.set_blocked(&location, blocked, self.now)?;
        self.carry_out(actions);
        Ok(view)
    }

    /// The service that a revision means.
    pub fn change_service(
        &mut self,
        operator: OperatorIndex,
        number: u8,
        generation: u64,
        revision: u64,
    ) {
        let change = ChangeService {
            session: id(number),
            generation,
            revision,
            service: service(revision),
        };
        self.instruct(operator, Instruction::ChangeService(change));
    }

    /// What the fast path gives a session of the journal.
    pub fn service_of(&self, session: SessionRef) -> Option<Service> {
        let row = self.journal.sessions.get(&session)?;
        let (generation, service) = self.services.get(&row.slot)?;
        (*generation == row.connect.generation).then_some(*service)
    }

    pub fn advance(&mut self, pause: Duration) {
        self.now.at += pause;
        self.now.unix_ms += pause.as_millis() as i64;
        self.feed(Event::Tick);
    }

    /// In the daemon's order: all that is persisted, then the rest.
    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in &actions {
            if let Action::Persist(write) = action {
                self.journal.apply(write);
            }
        }
        for action in actions {
            match action {
                Action::Persist(_) => {}
                Action::SetLine { key, value } => drop(self.lines.insert(key, value)),
                Action::Open { .. }
                | Action::Change { .. }
                | Action::Close { .. }
                | Action::Remove { .. }
                | Action::OpenLease { .. }
                | Action::CloseLease { .. }
                | Action::ReadCounters { .. } => {
                    self.orders.push_back(action);
                }
                Action::Transmit { ifindex, frame } => self.frames.push((ifindex, frame)),
                Action::Report { operator, report } => {
                    self.check_report(operator, &report);
                    self.reports.push((operator, report));
                }
            }
        }
        self.check();
    }

    /// Carries one order out, as the fast path's thread does.
    pub fn order(&mut self) -> Option<Event> {
        let order = self.orders.pop_front()?;
        let fails = self.failures > 0;
        self.failures = self.failures.saturating_sub(1);
        let failure = || "no space".to_owned();
        let event = match order {
            Action::Open {
                session,
                entry,
                displaced,
            } => Event::Opened {
                session,
                generation: entry.generation,
                result: if fails {
                    // Half done, as a real failure may leave it.
                    let rows = plan::rows(&entry);
                    self.maps.downstream_v4.extend(rows.downstream_v4);
                    Err(failure())
                } else {
                    displaced.changes.iter().for_each(|c| self.maps.apply(c));
                    self.open(&entry);
                    Ok(())
                },
            },
            Action::Change { session, entry } => Event::Changed {
                session,
                generation: entry.generation,
                result: if fails {
                    Err(failure())
                } else {
                    let held = self.services.get(&entry.slot).map(|held| held.0);
                    assert_eq!(held, Some(entry.generation), "changed while it was open");
                    self.put(&entry);
                    Ok(())
                },
            },
            Action::Close { session, entry } => Event::Closed {
                session,
                generation: entry.generation,
                result: if fails {
                    Err(failure())
                } else {
                    Ok(self.close(&entry))
                },
            },
            Action::Remove { operator, plan } => Event::Removed {
                operator,
                result: if fails {
                    Err(failure())
                } else {
                    plan.changes.iter().for_each(|c| self.maps.apply(c));
                    Ok(())
                },
            },
            Action::ReadCounters { operator, slots } => Event::CountersRead {
                operator,
                readings: slots
                    .iter()
                    .map(|(id, generation, slot)| (*id, *generation, self.counters[slot]))
                    .collect(),
            },
            other => panic!("not an order: {other:?}"),
        };
        Some(event)
    }

    fn put(&mut self, entry: &SessionEntry) {
        for change in Plan::diff(&Tables::of([entry]), &Tables::default()).changes {
            self.maps.apply(&change);
        }
        let rates = crate::plan::Rates::of(&entry.service, entry.shaper);
        self.maps.set_rates(entry.slot, rates);
        self.services
            .insert(entry.slot, (entry.generation, entry.service));
    }

    fn open(&mut self, entry: &SessionEntry) {
        self.put(entry);
        let counted = Counters {
            upstream_packets: entry.generation,
            ..Counters::default()
        };
        self.counters.insert(entry.slot, counted);
    }

    /// Removes only what is this generation's, as the real one does.
    fn close(&mut self, entry: &SessionEntry) -> Counters {
        let own = Tables::of([entry]);
        let generation = entry.generation;
        self.maps
            .upstream_v4
            .retain(|key, row| !own.upstream_v4.contains_key(key) || row.generation != generation);
        self.maps
            .upstream_v6
            .retain(|key, row| !own.upstream_v6.contains_key(key) || row.generation != generation);
        self.maps.downstream_v4.retain(|key, row| {
            !own.downstream_v4.contains_key(key) || row.generation != generation
        });
        self.maps.downstream_v6.retain(|key, row| {
            !own.downstream_v6.contains_key(key) || row.generation != generation
        });
        if self.services.get(&entry.slot).map(|held| held.0) == Some(generation) {
            self.services.remove(&entry.slot);
        }
        let slots = self.maps.slots();
        self.maps.rates.retain(|slot, _| slots.contains(slot));
        self.counters.get(&entry.slot).copied().unwrap_or_default()
    }

    /// Has the fast path finish all its orders.
    pub fn settle(&mut self) {
        while let Some(event) = self.order() {
            self.feed(event);
        }
    }

    /// All terminals accept what has been asked so far. Returns how many.
    pub fn terminals_accept(&mut self) -> usize {
        let frames = std::mem::take(&mut self.frames);
        let mut accepted = 0;
        for (ifindex, bytes) in frames {
            let Some((event, _)) = accept(ifindex, &bytes) else {
                continue;
            };
            accepted += 1;
            self.feed(event);
        }
        accepted
    }

    /// As [`Self::terminals_accept`], and each names another session on its line as the one that ends.
    pub fn terminals_replace(&mut self) -> usize {
        let frames = std::mem::take(&mut self.frames);
        let mut accepted = 0;
        for (ifindex, bytes) in frames {
            let Some((event, _)) = replace(&self.journal, ifindex, &bytes) else {
                continue;
            };
            accepted += 1;
            self.feed(event);
        }
        accepted
    }

    /// What gateways have said to terminals since the last look.
    pub fn said(&mut self) -> Vec<Message> {
        let frames = std::mem::take(&mut self.frames);
        let said = frames.iter().filter_map(|(_, bytes)| read(bytes));
        said.map(|(_, _, body)| body.message).collect()
    }

    pub fn take_reports(&mut self) -> Vec<Report> {
        let reports = std::mem::take(&mut self.reports);
        reports.into_iter().map(|(_, report)| report).collect()
    }

    pub fn refusals(&mut self) -> Vec<Refusal> {
        let reports = self.take_reports().into_iter();
        let refusals = reports.filter_map(|report| match report {
            Report::Nack(refusal) => Some(refusal),
            _ => None,
        });
        refusals.collect()
    }

    /// Promises about what is told to servers.
    fn check_report(&mut self, operator: OperatorIndex, report: &Report) {
        match report {
            Report::Ack {
                session,
                generation,
                revision,
            } => {
                let session = SessionRef {
                    operator,
                    session: *session,
                };
                let fence = self.journal.fences.get(&session);
                assert!(
                    fence.is_some_and(|fence| fence.generation >= *generation),
                    "acknowledged what is not durable"
                );
                self.check_revision(session, *generation, *revision);
            }
            Report::Established {
                session,
                generation,
                ..
            } => {
                let found = self.maps.upstream_v4.iter().any(|(key, row)| {
                    row.operator == operator
                        && row.generation == *generation
                        && (0..8).any(|n| {
                            id(n) == *session && address(operator, n).octets() == key.source_be
                        })
                });
                assert!(found, "reported a session that does not flow");
            }
            Report::Receipt(receipt) => self.check_receipt(operator, receipt),
            _ => {}
        }
    }

    /// A revision is acknowledged once it is durable, and in the fast path if the session flows.
    fn check_revision(&self, session: SessionRef, generation: u64, revision: u64) {
        let Some(row) = self.journal.sessions.get(&session) else {
            return assert_eq!(revision, 0, "acknowledged a service of nobody");
        };
        let connect = match &row.phase {
            Phase::Closing { then, .. } => then.connect.as_deref(),
            Phase::Establishing | Phase::Established(_) => Some(&row.connect),
        };
        let Some(connect) = connect.filter(|connect| connect.generation == generation) else {
            return assert_eq!(revision, 0, "acknowledged a service of what ends");
        };
        assert!(connect.service_revision >= revision, "not durable");
        if matches!(row.phase, Phase::Established(_)) {
            assert_eq!(
                self.service_of(session),
                Some(service(revision)),
                "acknowledged a service that is not in force"
            );
        }
    }

    fn check_receipt(&mut self, operator: OperatorIndex, receipt: &Receipt) {
        let known = self
            .receipts
            .insert((operator, receipt.number), receipt.clone());
        if let Some(known) = known {
            assert_eq!(known, *receipt, "a number stands for one receipt");
        }
        for number in 1..=receipt.number {
            let held = self.journal.last_numbers.get(&operator);
            assert!(held.is_some_and(|last| *last >= number), "a gap in numbers");
        }
        let number = (0..8).find(|n| id(*n) == receipt.session);
        let Some(number) = number else { return };
        let source = address(operator, number).octets();
        let forwards = self
            .maps
            .upstream_v4
            .iter()
            .map(|(key, row)| (key.source_be, row.operator, row.generation))
            .chain(
                self.maps
                    .downstream_v4
                    .iter()
                    .map(|(key, row)| (key.destination_be, key.operator, row.generation)),
            )
            .any(|(address, of, generation)| {
                address == source && of == operator && generation <= receipt.generation
            });
        assert!(!forwards, "a receipt for a session that still forwards");
    }

    /// Promises about the fast path and the journal.
    fn check(&self) {
        let mut addresses = BTreeSet::new();
        for (key, row) in &self.maps.upstream_v4 {
            assert!(
                addresses.insert((row.operator, key.source_be)),
                "two rows for one address"
            );
        }
        let mut slots = BTreeSet::new();
        for row in self.journal.sessions.values() {
            assert!(slots.insert(row.slot), "two sessions in one slot");
        }
        for operator in [NORTH, SOUTH] {
            let last = self.journal.last_numbers.get(&operator).copied();
            let last = last.unwrap_or_default();
            let issued = self.receipts.keys().filter(|(of, _)| *of == operator);
            assert!(issued.count() as u64 <= last);
        }
    }
}

fn recover(snapshot: Snapshot, maps: &Tables, inventory: Arc<Inventory>, now: Now) -> Recovered {
    let config = Config::parse(Path::new("gateway.toml"), CONFIG).expect("valid");
    Engine::recover(Recovery {
        settings: Settings {
            gateway_id: config.id.clone(),
            gateway_mac: GATEWAY_MAC,
            delegated_prefix_len: config.delegated_prefix_len,
            line_prefixes: config.line_prefixes,
            max_sessions: config.max_sessions,
            accounting_interval: Duration::from_secs(10),
            operators: config.operators,
            inventory,
            garden: config.garden,
            ports: HashMap::from([(
                7,
                LinePort {
                    mtu: PORT_MTU,
                    shaper: true,
                },
            )]),
        },
        snapshot,
        actual: maps,
        port: &ports,
        rng: StdRng::seed_from_u64(7),
        now,
    })
}

/// A terminal's MAC address, different in each home.
pub fn terminal_mac(line: LineKey) -> Mac {
    let [s, t] = line.s_vid.to_be_bytes();
    let [c, d] = line.c_vid.to_be_bytes();
    Mac([2, 1, s, t, c, d])
}

/// Whose message a frame is, and what it says; as a terminal with every key would read it.
pub fn read(bytes: &[u8]) -> Option<(LineKey, SessionKey, Body)> {
    let parsed = frame::parse(bytes).expect("the gateway's frames can be parsed");
    assert_eq!(parsed.envelope.src_mac, GATEWAY_MAC);
    let (s_vid, c_vid) = match parsed.envelope.tags.as_slice() {
        [] => (0, 0),
        [c] => (0, c.vid),
        [s, c, ..] => (s.vid, c.vid),
    };
    let line = LineKey {
        ifindex: 7,
        s_vid,
        c_vid,
    };
    let session = session_of(parsed.payload)?;
    let number = (0..8).find(|n| id(*n) == session)?;
    [NORTH, SOUTH]
        .into_iter()
        .flat_map(|operator| (1..200).map(move |generation| key(operator, number, generation)))
        .find_map(|key| {
            let offered = key.clone();
            let (_, body) = open(parsed.payload, Direction::FromGateway, |_| Some(offered)).ok()?;
            Some((line, key, body))
        })
}

/// What a terminal answers to a frame, if it is a request.
pub fn accept(ifindex: u32, bytes: &[u8]) -> Option<(Event, Body)> {
    let (line, key, body) = read(bytes)?;
    assert_eq!(line.ifindex, ifindex);
    if !matches!(body.message, Message::Request(_)) {
        return None;
    }
    let mac = terminal_mac(line);
    let answer = Body {
        message: Message::Accept {
            terminal_mac: mac,
            replaces: None,
        },
        ..body
    };
    let session = session_of(frame::parse(bytes).ok()?.payload)?;
    Some((answer_from(line, mac, session, &key, &answer), answer))
}

/// What a terminal answers that has another session on the line, and wants that one to end.
pub fn replace(journal: &Snapshot, ifindex: u32, bytes: &[u8]) -> Option<(Event, Body)> {
    let (_, answer) = accept(ifindex, bytes)?;
    let (line, key, _) = read(bytes)?;
    let id = session_of(frame::parse(bytes).ok()?.payload)?;
    let tags = frame::parse(bytes).ok()?.envelope.tags;
    let mut others: Vec<_> = journal
        .sessions
        .iter()
        .filter(|(_, row)| row.place.tags == tags && row.connect.key != key)
        .collect();
    others.sort_unstable_by_key(|(session, _)| **session);
    let former = others.first().map(|(_, row)| Former {
        session: row.connect.session,
        generation: row.connect.generation,
        key: row.connect.key.clone(),
    });
    let mac = terminal_mac(line);
    let replaces = former.map(|former| former.replaced_by(id, answer.generation, answer.nonce));
    let answer = Body {
        message: Message::Accept {
            terminal_mac: mac,
            replaces,
        },
        ..answer
    };
    Some((answer_from(line, mac, id, &key, &answer), answer))
}

/// An answer as it comes from a line.
pub fn answer_from(line: LineKey, mac: Mac, session: Uuid, key: &SessionKey, body: &Body) -> Event {
    let envelope = frame::Envelope::to_gateway(mac, GATEWAY_MAC, doorstep_establish::Tags::NONE);
    Event::Frame {
        line,
        frame: frame::build(&envelope, &seal(key, session, body)),
    }
}
