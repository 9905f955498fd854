//! What happens to sessions, decided without doing any of it.
//!
//! ```text
//!            Connect                 Accept               Opened
//!  (nothing) ───────▶ Establishing ─────────▶ (opening) ─────────▶ Established
//!      ▲                   │                      │                     │
//!      │      Disconnect, a newer Connect, or the fast path refused it  │
//!      │                   └──────────────▶ Closing ◀───────────────────┘
//!      └──────── Closed: receipt, or the newer Connect begins ──┘
//! ```
//!
//! [`Engine::handle`] takes an [`Event`] and returns [`Action`]s. All that a crash must not lose is
//! an [`Action::Persist`]; an engine rebuilt by [`Engine::recover`] from what was persisted goes on
//! where the other ended. Everything is keyed by operator: a server reaches its own sessions only.

mod aged;
mod blocked;
mod close;
mod connect;
mod dhcp;
mod establish;
mod flood;
mod garden;
mod io;
mod lapse;
mod line6;
mod list;
pub mod message;
pub(crate) mod mtu;
mod recover;
mod replaced;
pub mod row;
mod service;
mod slots;
mod stream;
mod tally;
#[cfg(test)]
mod tests;
mod timers;
mod told;
mod unclaimed;
mod view;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorstep_establish::{Body, Initiator, Mac, Offer, frame, seal};
use doorstep_gateway_common::{LineKey, OperatorIndex};
use ipnet::{IpNet, Ipv6Net};
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::config::Operator;
use crate::config::garden::Limits;
use crate::inventory::Inventory;
use crate::session::{Line, SessionEntry};

use aged::Aged;
pub use blocked::{BlockRefusal, LineView};
use flood::Flood;
pub use garden::LeaseView;
use garden::Leases;
pub use io::{Action, Event, Now, Traced};
pub use list::{LineList, PHASES, SessionList};
use message::{Connect, Instruction, Receipt, Refusal, RefusalReason, Report};
pub use recover::{Recovered, Recovery};
use row::{Blocks, Fence, Opened, Phase, SessionRef, SessionRow, Step, StepName, Write};
pub use slots::Slots;
pub use tally::OperatorTally;
use tally::Tally;
use timers::{Timer, Timers};
use unclaimed::Unclaimed;
pub use view::{SessionView, Summary};

/// Timers that are looked at between two events, and with an event. When a hundred thousand
/// terminals are to be asked again, that holds up nothing that a server or the fast path says; what
/// is left over is due at the next tick.
const TIMERS_OF_A_TICK: usize = 1024;
const TIMERS_OF_AN_EVENT: usize = 1;
/// How long they wait at most while Connects flood in.
const LONGEST_PUT_OFF: Duration = Duration::from_secs(1);

/// What the engine must know of the gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    pub gateway_id: String,
    pub gateway_mac: Mac,
    pub delegated_prefix_len: u8,
    /// There is room for prefixes of the lines' own.
    pub line_prefixes: bool,
    pub max_sessions: u32,
    pub accounting_interval: Duration,
    pub operators: Vec<Operator>,
    pub inventory: Arc<Inventory>,
    /// What the garden's leases have in common.
    pub garden: Limits,
    /// The access ports by their interface indexes. A port that is not among them bounds nothing.
    pub ports: HashMap<u32, LinePort>,
    /// Somebody collects traces.
    pub is_traced: bool,
}

/// What the engine must know of a port toward the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinePort {
    pub mtu: u32,
    /// Whether rates to its lines can be shaped.
    pub shaper: bool,
}

#[derive(Clone)]
pub struct Engine {
    settings: Settings,
    rng: StdRng,
    /// Boxed: the table moves what it holds when it grows.
    sessions: HashMap<SessionRef, Box<Session>>,
    fences: HashMap<SessionRef, Fence>,
    /// Those that may be forgotten after a time.
    aged: Aged,
    operators: BTreeMap<OperatorIndex, OperatorState>,
    /// Which session has an address, or is to have it.
    addresses: BTreeMap<(OperatorIndex, IpNet), SessionRef>,
    /// Whose sessions on a line go by an id.
    on_line: HashMap<(LineKey, Uuid), Vec<OperatorIndex>>,
    slots: Slots,
    unclaimed: BTreeMap<OperatorIndex, Unclaimed>,
    /// Lines that somebody has blocked, besides those that the inventory blocks.
    blocks: Blocks,
    leases: Leases,
    tally: Tally,
    dhcp: dhcp::Lines,
    /// Ports that it has been said of that their MTU is too small.
    narrow_ports: HashSet<u32>,
    timers: Timers,
    flood: Flood,
    out: Vec<Action>,
}

#[derive(Clone)]
struct Session {
    row: SessionRow,
    line: Line,
    /// Largest IP packet on the line, in bytes.
    mtu: u16,
    /// Whether the rate to the line can be shaped.
    shaper: bool,
    /// Bits of [`doorstep_gateway_common::flag`] that do not come from the service.
    flags: u16,
    initiator: Initiator,
    /// The terminal has accepted and the fast path is being opened.
    opening: Option<Opened>,
    /// What ends once it is open, with its generation.
    replacing: Option<(SessionRef, u64)>,
    claims: Vec<IpNet>,
    /// What stands in the way, for people.
    detail: Option<String>,
    /// Orders to the fast path that have failed, one after another.
    failures: u32,
    /// Revision of the service that the fast path has, or is to be opened with.
    in_force: u64,
    /// The flags that it has, or is to be opened with.
    flags_in_force: u16,
    /// Whose packets it forwards, once it is open.
    mac_in_force: Option<Mac>,
    /// Revision, flags and MAC address of the change that the fast path has been ordered to make.
    changing: Option<(u64, u16, Mac)>,
    /// Of a session that comes up by DHCP.
    client: dhcp::Client,
    client6: line6::Client6,
    /// That it is established has been said on a stream, as it is now.
    told: bool,
    /// Bytes up and down when its counters were read last; none: they are older than this daemon.
    carried: Option<[u64; 2]>,
}

#[derive(Clone, Default)]
struct OperatorState {
    connected: bool,
    /// On this stream the server has told all differences.
    synced: bool,
    /// When the server was last in contact; none before the first time.
    contact: Option<Instant>,
    /// The journal has this contact, or has been told to have it.
    recorded: bool,
    /// Not acknowledged yet, by number.
    receipts: BTreeMap<u64, Receipt>,
    last_number: u64,
}

impl Engine {
    /// Decides what an event leads to.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Action> {
        let timers = match event {
            Event::Tick => TIMERS_OF_A_TICK,
            _ => TIMERS_OF_AN_EVENT,
        };
        match event {
            Event::StreamUp { operator } => self.on_stream_up(operator, now),
            Event::StreamDown { operator } => self.on_stream_down(operator, now),
            Event::Instruction {
                operator,
                instruction,
            } => self.on_instruction(operator, instruction, now),
            Event::Frame { line, frame } => self.on_frame(line, &frame, now),
            Event::Opened {
                session,
                generation,
                result,
            } => self.on_opened(session, generation, result, now),
            Event::Changed {
                session,
                generation,
                result,
            } => self.on_changed(session, generation, result, now),
            Event::Closed {
                session,
                generation,
                result,
            } => self.on_closed(session, generation, result, now),
            Event::Removed { operator, result } => self.on_removed(operator, result, now),
            Event::LeaseOpened { line, result } => self.on_lease_opened(line, result, now),
            Event::LeaseClosed { line, result } => self.on_lease_closed(line, result, now),
            Event::CountersRead { operator, readings } => {
                self.on_counters_read(operator, &readings, now);
            }
            Event::Tick => {}
        }
        let timers = if self.connects_first(now.at) {
            0
        } else {
            timers
        };
        for _ in 0..timers {
            let Some(timer) = self.timers.pop_due(now.at) else {
                break;
            };
            match timer {
                Timer::Session(session) => self.on_session_timer(session, now),
                Timer::Receipts(operator) => self.send_receipts(operator, now),
                Timer::Accounting(operator) => self.on_accounting_timer(operator, now),
                Timer::Lapse(operator) => self.on_lapse_timer(operator, now),
                Timer::Unclaimed(operator) => self.sweep(operator, now),
                Timer::Lease(line) => self.on_lease_timer(line, now),
                Timer::Advertise(session) => self.advertise(session, now),
                Timer::Fences => self.on_fences_timer(now),
            }
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let next = self.timers.next()?;
        Some(next.max(self.flood.ends().min(next + LONGEST_PUT_OFF)))
    }

    /// Whether Connects come so fast that what is due waits for them: that a subscriber's session is
    /// recorded and acknowledged counts more than how soon terminals are asked.
    fn connects_first(&self, now: Instant) -> bool {
        let late = |next| now >= next + LONGEST_PUT_OFF;
        now < self.flood.ends() && !self.timers.next().is_some_and(late)
    }

    fn on_instruction(&mut self, operator: OperatorIndex, instruction: Instruction, now: Now) {
        match instruction {
            Instruction::Connect(connect) => self.on_connect(operator, connect, now),
            Instruction::Disconnect {
                session,
                generation,
            } => self.on_disconnect(SessionRef { operator, session }, generation, now),
            Instruction::ChangeService(change) => self.on_change_service(operator, change, now),
            Instruction::Malformed(refusal) => self.report(operator, Report::Nack(refusal)),
            Instruction::Synced => self.on_synced(operator, now),
            Instruction::ReceiptAck { number } => self.on_receipt_ack(operator, number, now),
        }
    }

    fn on_session_timer(&mut self, session: SessionRef, now: Now) {
        match self.sessions.get(&session).map(|held| &held.row.phase) {
            Some(Phase::Establishing) => self.ask_terminal(session, now),
            Some(Phase::Closing { .. }) => self.close(session, now),
            Some(Phase::Established(_)) => self.change_service(session),
            None => {}
        }
    }

    /// What those sessions have in the fast path that a terminal has opened.
    fn entries(&self, opened: impl Fn(&Session) -> Option<Opened>) -> Vec<SessionEntry> {
        let sessions = self.sessions.iter();
        sessions
            .filter_map(|(session, held)| Some(held.entry(session.operator, opened(held)?.mac)))
            .collect()
    }

    /// Tells whoever collects traces of these steps under an instruction.
    fn trace(
        &mut self,
        session: SessionRef,
        generation: u64,
        what: &'static str,
        steps: Vec<(&'static str, i64)>,
    ) {
        if self.settings.is_traced {
            let operator = self.operator(session.operator);
            let traced = Traced {
                operator: operator.map(|known| known.name.clone()).unwrap_or_default(),
                session: session.session,
                generation,
                what,
                steps,
            };
            self.out.push(Action::Trace(traced));
        }
    }

    fn operator(&self, index: OperatorIndex) -> Option<&Operator> {
        self.settings
            .operators
            .iter()
            .find(|operator| operator.index == index)
    }

    fn persist(&mut self, write: Write) {
        self.out.push(Action::Persist(write));
    }

    fn persist_session(&mut self, session: SessionRef) {
        if let Some(held) = self.sessions.get(&session) {
            let row = Box::new(held.row.clone());
            self.persist(Write::PutSession(session, row));
        }
    }

    fn persist_fence(&mut self, session: SessionRef, fence: Fence) {
        if let Some(former) = self.fences.insert(session, fence.clone()) {
            self.aged.replaced(session, &former);
        }
        self.persist(Write::PutFence(session, fence));
    }

    /// Nothing is kept for a server that is away: its next Hello tells it all.
    fn report(&mut self, operator: OperatorIndex, report: Report) {
        let state = self.operators.get(&operator);
        if state.is_some_and(|state| state.connected) {
            self.out.push(Action::Report { operator, report });
        }
    }

    fn acknowledge(&mut self, session: SessionRef, generation: u64) {
        let held = self.sessions.get(&session);
        let report = Report::Ack {
            session: session.session,
            generation,
            revision: held.map_or(0, |held| held.revision(generation)),
        };
        self.report(session.operator, report);
    }

    fn refuse(&mut self, session: SessionRef, generation: u64, why: Objection) {
        self.refuse_revision(session, generation, 0, why);
    }

    fn refuse_revision(
        &mut self,
        session: SessionRef,
        generation: u64,
        revision: u64,
        why: Objection,
    ) {
        let Objection { reason, detail } = why;
        tracing::warn!(
            ?session,
            generation,
            revision,
            ?reason,
            detail,
            "instruction refused"
        );
        let refusal = Refusal {
            session: session.session.to_string(),
            generation,
            revision,
            reason,
            detail,
        };
        self.report(session.operator, Report::Nack(refusal));
    }

    fn offer(&self, operator: OperatorIndex, connect: &Connect, mtu: u16) -> Offer {
        let own = self.operator(operator).and_then(|own| own.gateway_v4);
        Offer {
            gateway_id: self.settings.gateway_id.clone(),
            ipv4: connect.ipv4,
            ipv4_gateway: own
                .or(connect.ipv4_gateway)
                .filter(|_| connect.ipv4.is_some()),
            ipv6: connect.ipv6,
            ipv6_line: connect.ipv6_line,
            dns: connect.dns.clone(),
            mtu: mtu.into(),
        }
    }
}

/// Why an instruction is refused.
struct Objection {
    reason: RefusalReason,
    detail: String,
}

impl Objection {
    fn new(reason: RefusalReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// Names and times of steps, as a trace has them.
fn timed(steps: &[Step]) -> Vec<(&'static str, i64)> {
    let steps = steps.iter();
    steps
        .map(|step| (step.step.name(), step.at_unix_ms))
        .collect()
}

impl Session {
    fn step(&mut self, step: StepName, now: Now) {
        self.row.steps.push(Step {
            step,
            at_unix_ms: now.unix_ms,
        });
    }

    /// Its entry in the fast path, once the terminal's address is known.
    fn entry(&self, operator: OperatorIndex, mac: Mac) -> SessionEntry {
        let connect = &self.row.connect;
        SessionEntry {
            session: connect.session,
            generation: connect.generation,
            slot: self.row.slot,
            operator,
            line: self.line.clone(),
            mac,
            ipv4: connect.ipv4,
            ipv6: connect.ipv6,
            ipv6_line: connect.ipv6_line,
            mtu: self.mtu,
            service: connect.service,
            shaper: self.shaper,
            flags: self.flags,
        }
    }

    /// What sends a message of the establishment exchange, to all terminals of the line or, where its
    /// address is known, to the one (RFC 6085: a group address of IPv6 in a unicast frame).
    fn frame(&self, gateway: Mac, body: &Body, to: Option<Mac>) -> Action {
        let envelope = frame::Envelope::to_line(gateway, self.line.tags);
        let envelope = frame::Envelope {
            dst_mac: to.unwrap_or(envelope.dst_mac),
            ..envelope
        };
        let connect = &self.row.connect;
        let datagram = seal(&connect.key, connect.session, body);
        Action::Transmit {
            ifindex: self.line.key.ifindex,
            frame: frame::build(&envelope, &datagram),
        }
    }

    /// The newest Connect: the one in force, or the one that waits for its end.
    fn newest_connect(&self) -> Option<&Connect> {
        match &self.row.phase {
            Phase::Establishing | Phase::Established(_) => Some(&self.row.connect),
            Phase::Closing { then, .. } => then.connect.as_deref(),
        }
    }
}

impl Connect {
    /// What the session is known by downstream.
    fn addresses(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self
            .ipv4
            .map(|address| IpNet::from(std::net::IpAddr::V4(address)));
        v4.into_iter().chain(self.prefixes().map(IpNet::V6))
    }

    /// The delegated prefix and the line's own.
    fn prefixes(&self) -> impl Iterator<Item = Ipv6Net> + use<> {
        [self.ipv6, self.ipv6_line].into_iter().flatten()
    }
}
