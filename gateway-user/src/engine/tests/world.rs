//! Models of what is around the engine, with the promises that must hold at every step.

mod fast_path;
mod given;
mod promises;
mod routers;
mod terminals;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorstep_establish::ProbeKey;
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Slot};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::config::Config;
use crate::engine::message::{ChangeService, Connect, Instruction, Receipt, Refusal, Report};
use crate::engine::row::{Phase, SessionRef, Snapshot};
use crate::engine::{
    Action, BlockRefusal, Engine, Event, LinePort, LineView, Now, Recovered, Recovery, SessionList,
    SessionView, Settings, Traced,
};
use crate::inventory::Inventory;
use crate::plan::{Plan, Tables};
use crate::session::{Counters, Service};

pub use given::*;
pub use routers::*;
pub use terminals::*;

pub struct World {
    pub engine: Engine,
    /// What the journal has made durable.
    pub journal: Snapshot,
    pub maps: Tables,
    /// What has been said of lines since the start.
    pub lines: HashMap<LineKey, LineValue>,
    pub counters: HashMap<Slot, Counters>,
    /// For how long terminals have been silent, by slot.
    pub silent: HashMap<Slot, Duration>,
    /// What the fast path gives the session in a slot, with its generation.
    pub services: HashMap<Slot, (u64, Service)>,
    /// Orders to the fast path that it has not got to.
    pub orders: VecDeque<Action>,
    /// The fast path fails that many times.
    pub failures: u32,
    pub reports: Vec<(OperatorIndex, Report)>,
    pub frames: Vec<(u32, Vec<u8>)>,
    pub traced: Vec<Traced>,
    /// Who may ask whether its session is alive, by slot.
    pub expected: HashMap<Slot, (LineKey, ProbeKey)>,
    pub now: Now,
    pub inventory: Arc<Inventory>,
    pub receipts: HashMap<(OperatorIndex, u64), Receipt>,
}

impl World {
    /// All of the engine's.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.engine.sessions(&SessionList::default())
    }

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
            silent: HashMap::new(),
            services: HashMap::new(),
            orders: VecDeque::new(),
            failures: 0,
            reports: Vec::new(),
            frames: Vec::new(),
            traced: Vec::new(),
            now,
            inventory,
            receipts: HashMap::new(),
            expected: HashMap::new(),
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
        self.engine.assert_tallied();
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

    /// Blocks the line of a place, or takes that back; as a dry run says before.
    pub fn set_blocked(&mut self, place: u8, blocked: bool) -> Result<LineView, BlockRefusal> {
        let location = location(place).parse().expect("a location");
        let would_be = self.engine.would_be_blocked(&location, blocked, self.now);
        let set = self.engine.set_blocked(&location, blocked, self.now);
        assert_eq!(would_be, set.clone().map(|(view, _)| view));
        let (view, actions) = set?;
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
                Action::Trace(traced) => self.traced.push(traced),
                Action::ExpectProbes { slot, line, key } => {
                    self.expected.insert(slot, (line, key));
                }
                Action::Open { .. }
                | Action::Change { .. }
                | Action::Close { .. }
                | Action::Remove { .. }
                | Action::OpenLease { .. }
                | Action::CloseLease { .. }
                | Action::ReadCounters { .. } => {
                    self.orders.push_back(action);
                }
                Action::Transmit { ifindex, frame } => {
                    self.check_frame(&frame);
                    self.frames.push((ifindex, frame));
                }
                Action::Report { operator, report } => {
                    self.check_report(operator, &report);
                    self.reports.push((operator, report));
                }
            }
        }
        self.check();
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
            is_traced: true,
        },
        snapshot,
        actual: maps,
        port: &ports,
        rng: StdRng::seed_from_u64(7),
        now,
    })
}
