//! An engine from what was persisted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use doorstep_establish::Nonce;
use doorstep_gateway_common::garden;
use doorstep_gateway_common::{LineKey, OperatorIndex, Slot};
use rand::rngs::StdRng;

use super::aged::{self, Aged};
use super::dhcp;
use super::flood::Flood;
use super::garden::Leases;
use super::row::{Phase, Place, SessionRef, SessionRow, Snapshot};
use super::slots::Slots;
use super::tally::Tally;
use super::unclaimed::{self, Unclaimed};
use super::{Action, Engine, Now, OperatorState, Settings, Timer, Timers};
use crate::plan::Tables;
use crate::session::Line;

/// What an engine needs to begin.
pub struct Recovery<'a> {
    pub settings: Settings,
    pub snapshot: Snapshot,
    /// What the fast path holds.
    pub actual: &'a Tables,
    /// Interface index of an access port.
    pub port: &'a dyn Fn(&str) -> Option<u32>,
    pub rng: StdRng,
    pub now: Now,
}

/// An engine that goes on.
pub struct Recovered {
    pub engine: Engine,
    /// What the fast path is to hold at once.
    pub tables: Tables,
    /// How many sessions are in it.
    pub sessions: usize,
    /// What is to be done after that.
    pub actions: Vec<Action>,
}

impl Engine {
    /// Goes on from what was persisted.
    pub fn recover(recovery: Recovery<'_>) -> Recovered {
        let Recovery {
            settings,
            snapshot,
            actual,
            port,
            rng,
            now,
        } = recovery;
        let in_garden = actual.in_garden();
        let actual = &actual.without(&in_garden);
        let unclaimed = unclaimed::unclaimed(&settings.operators, &snapshot, actual);
        let held: BTreeSet<Slot> = snapshot
            .sessions
            .values()
            .map(|row| row.slot)
            .chain(unclaimed.values().flat_map(Unclaimed::slots))
            .collect();
        let operators = operators(&settings, &snapshot, now);
        let aged = Aged::new(&settings, &snapshot);
        let mut engine = Self {
            slots: Slots::new(
                garden::first_slot(settings.max_sessions),
                settings.max_sessions,
                &held,
                actual.slots(),
                now.at,
            ),
            unclaimed,
            leases: Leases::new(&settings, now),
            dhcp: dhcp::Lines::new(now),
            settings,
            rng,
            sessions: HashMap::new(),
            fences: snapshot.fences,
            aged,
            operators,
            addresses: BTreeMap::new(),
            on_line: HashMap::new(),
            blocks: snapshot.blocks,
            tally: Tally::default(),
            narrow_ports: HashSet::new(),
            timers: Timers::default(),
            flood: Flood::new(now.at),
            out: Vec::new(),
        };
        if !engine.aged.is_empty() {
            let first = Some(now.at + aged::PAUSE);
            engine.timers.set(Timer::Fences, first);
        }
        let mut rows: Vec<_> = snapshot.sessions.into_iter().collect();
        rows.sort_unstable_by_key(|(session, _)| *session);
        for (session, row) in rows {
            if engine.operator(session.operator).is_none() {
                // Kept in the journal, in case the operator is configured again.
                tracing::warn!(?session, "its operator is not configured: out of service");
                continue;
            }
            engine.resume(session, row, port, now);
        }
        for operator in engine.with_time_to_live() {
            engine.on_lapse_timer(operator, now);
        }
        let sessions = engine.entries(|held| match held.row.phase {
            Phase::Established(opened) => Some(opened),
            Phase::Establishing | Phase::Closing { .. } => None,
        });
        let mut tables = Tables::of(&sessions);
        for unclaimed in engine.unclaimed.values_mut() {
            unclaimed.forget(&tables);
        }
        for (operator, unclaimed) in &engine.unclaimed {
            let rows = unclaimed.rows();
            tracing::warn!(
                operator,
                rows = rows.len(),
                "the fast path forwards for sessions that the journal does not know; they are left \
                 until the operator's server has told what it wants"
            );
            tables.extend(rows);
        }
        let leases = engine.resume_leases(&in_garden, now);
        tables.extend(&Tables::of(&leases));
        let actions = std::mem::take(&mut engine.out);
        Recovered {
            engine,
            tables,
            sessions: sessions.len(),
            actions,
        }
    }

    fn resume(
        &mut self,
        session: SessionRef,
        mut row: SessionRow,
        port: &dyn Fn(&str) -> Option<u32>,
        now: Now,
    ) {
        let location = &row.connect.location;
        let found = self.settings.inventory.resolve(location).cloned();
        let mut changed = false;
        let mut detail = None;
        let closing = matches!(row.phase, Phase::Closing { .. });
        let line = match found {
            Some(line) if same_place(&line, &row.place) => line,
            Some(line) if !closing => {
                tracing::warn!(?session, %line, "the location has another line now: asking there");
                row.place = Place {
                    port: line.port.clone(),
                    tags: line.tags,
                };
                row.nonce = Nonce::generate(&mut self.rng);
                row.phase = Phase::Establishing;
                changed = true;
                line
            }
            _ => {
                if !closing {
                    tracing::warn!(?session, %location, "not in the inventory any more");
                    detail = Some(format!("{location} is not in the inventory any more"));
                }
                line_of(&row.place, port)
            }
        };
        let establishing = matches!(row.phase, Phase::Establishing);
        let mut held = self.session(session, row, line, now);
        held.detail = detail;
        self.insert(session, held);
        if changed {
            self.persist_session(session);
        }
        if !closing && self.has_lapsed(session, now) {
            tracing::warn!(
                ?session,
                "its time to live was over before this daemon began"
            );
            self.lapse(session, now);
        } else if establishing {
            self.timers.set(Timer::Session(session), Some(now.at));
        } else if closing {
            self.close(session, now);
        } else {
            self.expect_probes(session);
            self.resume_advertising(session, now);
        }
    }
}

fn operators(
    settings: &Settings,
    snapshot: &Snapshot,
    now: Now,
) -> BTreeMap<OperatorIndex, OperatorState> {
    let mut operators: BTreeMap<OperatorIndex, OperatorState> = settings
        .operators
        .iter()
        .map(|operator| (operator.index, OperatorState::default()))
        .collect();
    for (operator, number) in &snapshot.last_numbers {
        operators.entry(*operator).or_default().last_number = *number;
    }
    for (operator, unix_ms) in &snapshot.contacts {
        let since_ms = u64::try_from(now.unix_ms.saturating_sub(*unix_ms)).unwrap_or(0);
        // On Linux an instant may be before the boot.
        let contact = now.at.checked_sub(Duration::from_millis(since_ms));
        let state = operators.entry(*operator).or_default();
        (state.contact, state.recorded) = (contact, true);
    }
    for ((operator, number), receipt) in &snapshot.receipts {
        let state = operators.entry(*operator).or_default();
        state.receipts.insert(*number, receipt.clone());
    }
    operators
}

fn same_place(line: &Line, place: &Place) -> bool {
    line.port == place.port && line.tags == place.tags
}

/// The line of a place that the inventory does not name any more.
fn line_of(place: &Place, port: &dyn Fn(&str) -> Option<u32>) -> Line {
    let (s_vid, c_vid) = match place.tags.as_slice() {
        [] => (0, 0),
        [single] => (0, single.vid),
        [outer, inner, ..] => (outer.vid, inner.vid),
    };
    Line {
        key: LineKey {
            ifindex: port(&place.port).unwrap_or_default(),
            s_vid,
            c_vid,
        },
        port: place.port.clone(),
        tags: place.tags,
    }
}
