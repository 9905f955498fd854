//! What goes into the engine and what comes out of it.

use std::time::Instant;

use doorstep_establish::ProbeKey;
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Slot};
use uuid::Uuid;

use super::message::{Instruction, Report};
use super::row::{SessionRef, Write};
use crate::plan::Plan;
use crate::session::{Counters, Reading, SessionEntry};

/// The two clocks: one for deadlines, one for people.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub at: Instant,
    pub unix_ms: i64,
}

#[derive(Debug)]
pub enum Event {
    /// A stream to the operator's server has been opened; the first report on it is a Hello.
    StreamUp {
        operator: OperatorIndex,
    },
    StreamDown {
        operator: OperatorIndex,
    },
    Instruction {
        operator: OperatorIndex,
        instruction: Instruction,
    },
    /// A frame of the establishment exchange, as it came from a line.
    Frame {
        line: LineKey,
        frame: Vec<u8>,
    },
    /// [`Action::Open`] is done. The session's counters began at zero.
    Opened {
        session: SessionRef,
        generation: u64,
        result: Result<(), String>,
    },
    /// [`Action::Change`] is done.
    Changed {
        session: SessionRef,
        generation: u64,
        result: Result<(), String>,
    },
    /// [`Action::Close`] is done: nothing is forwarded any more. With the final counters.
    Closed {
        session: SessionRef,
        generation: u64,
        result: Result<Counters, String>,
    },
    /// [`Action::Remove`] is done.
    Removed {
        operator: OperatorIndex,
        result: Result<(), String>,
    },
    /// [`Action::OpenLease`] is done.
    LeaseOpened {
        line: LineKey,
        result: Result<(), String>,
    },
    /// [`Action::CloseLease`] is done: the line reaches nothing more.
    LeaseClosed {
        line: LineKey,
        result: Result<(), String>,
    },
    /// [`Action::ReadCounters`] is done: session, generation, counters and silence.
    CountersRead {
        operator: OperatorIndex,
        readings: Vec<(Uuid, u64, Reading)>,
    },
    /// A deadline has passed.
    Tick,
}

/// Carried out in order; all that is to be persisted is durable before anything else happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Persist(Write),
    Open {
        session: SessionRef,
        entry: SessionEntry,
        /// Rows that have to go before.
        displaced: Plan,
    },
    /// Let a line pass what it passes, or nothing.
    SetLine {
        key: LineKey,
        value: LineValue,
    },
    /// Have a session's terminal answered when it asks whether the session is alive. It costs no
    /// more to say so again.
    ExpectProbes {
        slot: Slot,
        line: LineKey,
        key: ProbeKey,
    },
    /// Give an open session the entry's service and flags.
    Change {
        session: SessionRef,
        entry: SessionEntry,
    },
    Close {
        session: SessionRef,
        entry: SessionEntry,
    },
    /// Take rows out of the fast path that belong to no session.
    Remove {
        operator: OperatorIndex,
        plan: Plan,
    },
    /// Let a line into the garden, or another station on it.
    OpenLease {
        line: LineKey,
        entries: Vec<SessionEntry>,
    },
    /// Take a line out of the garden.
    CloseLease {
        line: LineKey,
        entries: Vec<SessionEntry>,
    },
    ReadCounters {
        operator: OperatorIndex,
        slots: Vec<(Uuid, u64, Slot)>,
    },
    /// Send a frame, tags and all, out of an access port.
    Transmit {
        ifindex: u32,
        frame: Vec<u8>,
    },
    Report {
        operator: OperatorIndex,
        report: Report,
    },
    /// Tell whoever collects traces what has come to its end.
    Trace(Traced),
}

/// What was done for a session, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    pub operator: String,
    pub session: Uuid,
    /// Of the instruction.
    pub generation: u64,
    pub what: &'static str,
    /// With their Unix milliseconds; the last one is the end.
    pub steps: Vec<(&'static str, i64)>,
}
