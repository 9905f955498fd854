//! What a gateway must be told, derived from rows and from what it says it holds.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{Session, State};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Connect,
    Disconnect,
    ChangeService,
}

/// One instruction, by name: its content is read from the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    pub session: Uuid,
    pub generation: u64,
    pub kind: Kind,
}

/// As much of a session's row as tells what its gateway is to hold.
pub trait Standing {
    fn id(&self) -> Uuid;
    fn generation(&self) -> u64;
    fn state(&self) -> State;
    fn gateway(&self) -> &str;
    /// Of the service, and the newest that the gateway has acknowledged.
    fn revisions(&self) -> (u64, u64);
}

impl Standing for Session {
    fn id(&self) -> Uuid {
        self.id
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn state(&self) -> State {
        self.state
    }

    fn gateway(&self) -> &str {
        &self.connection.gateway
    }

    fn revisions(&self) -> (u64, u64) {
        (self.service.revision, self.service.acknowledged)
    }
}

/// What a row asks of a gateway that knows nothing of it, if anything.
pub fn derive(session: &impl Standing, gateway: &str) -> Option<Instruction> {
    if session.gateway() != gateway {
        return None;
    }
    let kind = if session.state().is_connected_side() {
        Kind::Connect
    } else if session.state().is_disconnecting() {
        Kind::Disconnect
    } else {
        return None;
    };
    Some(Instruction {
        session: session.id(),
        generation: session.generation(),
        kind,
    })
}

/// What a row asks of a gateway that has answered as the row says.
pub fn due(session: &Session, gateway: &str) -> Option<Instruction> {
    let wanted = derive(session, gateway)?;
    let behind = matches!(session.state, State::Establishing | State::Established)
        && !session.service.is_acknowledged();
    Some(Instruction {
        kind: if behind {
            Kind::ChangeService
        } else {
            wanted.kind
        },
        ..wanted
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Establishing,
    Established,
    /// A receipt waits to be acknowledged; the gateway sends it again by itself.
    Disconnected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub session: Uuid,
    pub generation: u64,
    pub phase: Phase,
    /// Of the service that it follows.
    pub revision: u64,
}

/// How a gateway's holdings differ from the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Disconnects first, then connects.
    pub send: Vec<Instruction>,
    /// What need not be sent, because the gateway holds it already.
    pub holds: Vec<Instruction>,
    /// Sessions whose Ack was lost with the former stream.
    pub acked: Vec<Held>,
    /// Sessions whose Established was lost with the former stream.
    pub established: Vec<Held>,
    /// Sessions whose service the table has otherwise, or had not heard of.
    pub services: Vec<Held>,
    /// Refused here and yet held under the very generation of the refusal.
    pub held_though_refused: Vec<Held>,
    /// Left alone: the table does not know them, or knows only older generations.
    pub unknown: Vec<Held>,
}

/// Compares what `gateway` holds with the rows that concern it: those that name it, and those of
/// every held session id.
///
/// Nothing is ever disconnected because a row is absent: a restored database must not cut homes off.
pub fn diff<R: Standing>(gateway: &str, held: &[Held], rows: &[R]) -> Diff {
    let by_id: HashMap<Uuid, &R> = rows.iter().map(|row| (row.id(), row)).collect();
    let mut diff = Diff::default();
    let mut satisfied = HashSet::new();
    let (mut disconnects, mut connects) = (Vec::new(), Vec::new());

    for item in held {
        let Some(row) = by_id.get(&item.session) else {
            diff.unknown.push(*item);
            continue;
        };
        if item.phase == Phase::Disconnected {
            // Its receipt is on the way: neither is a Disconnect of that generation to be repeated,
            // nor a Connect whose session the terminal has replaced.
            if let Some(wanted) = derive(*row, gateway) {
                match wanted.kind {
                    Kind::Disconnect if item.generation >= wanted.generation => {
                        satisfied.insert(item.session);
                        diff.holds.push(wanted);
                    }
                    Kind::Connect if item.generation == wanted.generation => {
                        satisfied.insert(item.session);
                    }
                    _ => {}
                }
            }
            continue;
        }
        match derive(*row, gateway) {
            Some(wanted) if item.generation > wanted.generation => {
                satisfied.insert(item.session);
                diff.unknown.push(*item);
            }
            Some(wanted)
                if wanted.kind == Kind::Connect && item.generation == wanted.generation =>
            {
                satisfied.insert(item.session);
                diff.holds.push(wanted);
                let (revision, acknowledged) = row.revisions();
                if item.revision != revision || item.revision != acknowledged {
                    diff.services.push(*item);
                }
                match (row.state(), item.phase) {
                    (State::Connecting, Phase::Establishing) => diff.acked.push(*item),
                    (State::Connecting | State::Establishing, Phase::Established) => {
                        diff.established.push(*item);
                        // Answered by all that was said of it and has been lost.
                        connects.push(wanted);
                    }
                    _ => {}
                }
            }
            Some(_) => {}
            // Known to have ended here: released, moved on, or refused.
            None if row.generation() > item.generation => disconnects.push(Instruction {
                session: row.id(),
                generation: row.generation(),
                kind: Kind::Disconnect,
            }),
            None if row.state() == State::Refused && row.generation() == item.generation => {
                diff.held_though_refused.push(*item);
            }
            None => diff.unknown.push(*item),
        }
    }

    for row in rows {
        if satisfied.contains(&row.id()) {
            continue;
        }
        match derive(row, gateway) {
            Some(wanted) if wanted.kind == Kind::Disconnect => disconnects.push(wanted),
            Some(wanted) => connects.push(wanted),
            None => {}
        }
    }
    disconnects.append(&mut connects);
    diff.send = disconnects;
    diff
}

#[cfg(test)]
#[path = "instruct_tests.rs"]
mod tests;
