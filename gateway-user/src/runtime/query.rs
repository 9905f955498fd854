//! Questions to the running daemon.

use std::collections::{BTreeMap, BTreeSet};

use doorstep_daemon::dry_run::Run;
use doorstep_gateway_common::{OperatorIndex, Reason, Slot};
use doorstep_location::LocationId;
use tokio::sync::oneshot;

use super::Runtime;
use super::fast_path::{Command, Inspection};
use crate::clock;
use crate::dataplane::{Attachment, MapUse, Object};
use crate::engine::row::SessionRef;
use crate::engine::{
    BlockRefusal, LeaseView, LineList, LineView, OperatorTally, SessionList, SessionView, Summary,
};
use crate::session::Reading;

/// A question, and where its answer goes.
#[derive(Debug)]
pub enum Query {
    /// Whether the loop and the thread of the fast path do anything at all.
    Alive(oneshot::Sender<()>),
    Measure(oneshot::Sender<(Measured, oneshot::Receiver<Result<MapsRead, String>>)>),
    Summary(oneshot::Sender<(Summary, oneshot::Receiver<Result<Inspection, String>>)>),
    Sessions(SessionList, oneshot::Sender<SessionShown>),
    /// Puts the programs of another object in place.
    Upgrade(
        Object,
        Run,
        oneshot::Sender<Result<Vec<Attachment>, String>>,
    ),
    Lines(LineList, oneshot::Sender<Vec<LineView>>),
    /// Not only a question: to block a line, or not any more.
    SetBlocked {
        location: LocationId,
        blocked: bool,
        reply: oneshot::Sender<Result<LineSet, BlockRefusal>>,
    },
    /// What that would come to.
    WouldBeBlocked {
        location: LocationId,
        blocked: bool,
        reply: oneshot::Sender<Result<LineView, BlockRefusal>>,
    },
    Garden(oneshot::Sender<GardenShown>),
    /// Whose slots these are.
    Holders(BTreeSet<Slot>, oneshot::Sender<BTreeMap<Slot, SessionRef>>),
}

/// Packets by reason, and how full maps are.
pub type MapsRead = (Vec<(Reason, u64)>, Vec<MapUse>);

/// What is counted. Nothing was walked over for it.
#[derive(Debug, Default)]
pub struct Measured {
    pub summary: Summary,
    pub operators: Vec<(OperatorIndex, OperatorTally)>,
    pub reasons: Vec<(Reason, u64)>,
    pub maps: Vec<MapUse>,
}

/// The lines in the garden, and what the fast path knows of them in the same order.
#[derive(Debug)]
pub struct GardenShown {
    pub lines: Vec<LeaseView>,
    pub readings: oneshot::Receiver<Vec<Option<Reading>>>,
}

/// A line whose state is recorded, and, as soon as it is so, whether it is in force.
pub type LineSet = (LineView, oneshot::Receiver<Result<(), String>>);

/// The sessions, and, as soon as they are read, what the fast path knows of them in the same order.
#[derive(Debug)]
pub struct SessionShown {
    pub sessions: Vec<SessionView>,
    pub readings: oneshot::Receiver<Vec<Option<Reading>>>,
}

impl Runtime {
    /// Answers at once; what has to be read from maps comes from the thread that has them. Whoever
    /// asked may have gone away: then nobody minds.
    pub(super) fn answer(&self, query: Query) {
        match query {
            Query::Alive(reply) => {
                let _ = self.fast_path.send(Command::Alive(reply));
            }
            Query::Measure(reply) => {
                let (sender, read) = oneshot::channel();
                let _ = self.fast_path.send(Command::ReadMaps(sender));
                let measured = Measured {
                    summary: self.engine.summary(),
                    operators: self.engine.tallies(),
                    ..Measured::default()
                };
                let _ = reply.send((measured, read));
            }
            Query::Summary(reply) => {
                let (sender, inspection) = oneshot::channel();
                let _ = self.fast_path.send(Command::Inspect(sender));
                let _ = reply.send((self.engine.summary(), inspection));
            }
            Query::Upgrade(object, run, reply) => {
                let _ = self.fast_path.send(Command::Upgrade(object, run, reply));
            }
            Query::WouldBeBlocked {
                location,
                blocked,
                reply,
            } => {
                let now = clock::now();
                let _ = reply.send(self.engine.would_be_blocked(&location, blocked, now));
            }
            Query::Lines(list, reply) => {
                let _ = reply.send(self.engine.lines(&list));
            }
            Query::Holders(slots, reply) => {
                let _ = reply.send(self.engine.holders(&slots));
            }
            Query::SetBlocked { .. } => unreachable!("decided on, as other inputs are"),
            Query::Sessions(list, reply) => {
                let (sender, readings) = oneshot::channel();
                let sessions = self.engine.sessions(&list);
                let slots = sessions.iter().map(|view| view.slot).collect();
                let _ = self.fast_path.send(Command::Show(slots, sender));
                let _ = reply.send(SessionShown { sessions, readings });
            }
            Query::Garden(reply) => {
                let (sender, readings) = oneshot::channel();
                let lines = self.engine.leases(clock::now());
                let slots = lines.iter().map(|view| view.slot).collect();
                let _ = self.fast_path.send(Command::Show(slots, sender));
                let _ = reply.send(GardenShown { lines, readings });
            }
        }
    }
}
