//! An engine from what was persisted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use doorstep_establish::Nonce;
use doorstep_gateway_common::{LineKey, OperatorIndex, Slot};
use rand::rngs::StdRng;

use super::row::{Phase, Place, SessionRef, SessionRow, Snapshot};
use super::slots::Slots;
use super::{Action, Engine, Now, OperatorState, Settings, Timer, Timers};
use crate::session::{Line, SessionEntry};

/// What an engine needs to begin.
pub struct Recovery<'a> {
    pub settings: Settings,
    pub snapshot: Snapshot,
    /// Slots that rows of the fast path count in, whosever they are.
    pub warm: &'a mut dyn Iterator<Item = Slot>,
    /// Interface index of an access port.
    pub port: &'a dyn Fn(&str) -> Option<u32>,
    pub rng: StdRng,
    pub now: Now,
}

impl Engine {
    /// Goes on from what was persisted. Returns what the fast path is to hold at once, and what is
    /// to be done after that.
    pub fn recover(recovery: Recovery<'_>) -> (Self, Vec<SessionEntry>, Vec<Action>) {
        let Recovery {
            settings,
            snapshot,
            warm,
            port,
            rng,
            now,
        } = recovery;
        let held: BTreeSet<Slot> = snapshot.sessions.values().map(|row| row.slot).collect();
        let operators = operators(&settings, &snapshot);
        let mut engine = Self {
            slots: Slots::new(settings.max_sessions, &held, warm, now.at),
            settings,
            rng,
            sessions: HashMap::new(),
            fences: snapshot.fences,
            operators,
            addresses: HashMap::new(),
            on_line: HashMap::new(),
            narrow_ports: HashSet::new(),
            timers: Timers::default(),
            out: Vec::new(),
        };
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
        let desired = engine
            .sessions
            .iter()
            .filter_map(|(session, held)| match &held.row.phase {
                Phase::Established(opened) => Some(held.entry(session.operator, opened.mac)),
                Phase::Establishing | Phase::Closing { .. } => None,
            })
            .collect();
        let actions = std::mem::take(&mut engine.out);
        (engine, desired, actions)
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
        if establishing {
            self.timers.set(Timer::Session(session), Some(now.at));
        } else if closing {
            self.close(session, now);
        }
    }
}

fn operators(settings: &Settings, snapshot: &Snapshot) -> BTreeMap<OperatorIndex, OperatorState> {
    let mut operators: BTreeMap<OperatorIndex, OperatorState> = settings
        .operators
        .iter()
        .map(|operator| (operator.index, OperatorState::default()))
        .collect();
    for (operator, number) in &snapshot.last_numbers {
        operators.entry(*operator).or_default().last_number = *number;
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
