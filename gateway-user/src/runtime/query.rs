//! Questions to the running daemon.

use tokio::sync::oneshot;

use super::Runtime;
use super::fast_path::{Command, Inspection};
use crate::clock;
use crate::engine::{LeaseView, SessionView, Summary};
use crate::session::Counters;

/// A question, and where its answer goes.
#[derive(Debug)]
pub enum Query {
    Summary(oneshot::Sender<(Summary, oneshot::Receiver<Result<Inspection, String>>)>),
    Sessions(oneshot::Sender<SessionShown>),
    Garden(oneshot::Sender<GardenShown>),
}

/// The lines in the garden, and their counters in the same order.
#[derive(Debug)]
pub struct GardenShown {
    pub lines: Vec<LeaseView>,
    pub counters: oneshot::Receiver<Vec<Option<Counters>>>,
}

/// The sessions, and, as soon as they are read, their counters in the same order.
#[derive(Debug)]
pub struct SessionShown {
    pub sessions: Vec<SessionView>,
    pub counters: oneshot::Receiver<Vec<Option<Counters>>>,
}

impl Runtime {
    /// Answers at once; what has to be read from maps comes from the thread that has them. Whoever
    /// asked may have gone away: then nobody minds.
    pub(super) fn answer(&self, query: Query) {
        match query {
            Query::Summary(reply) => {
                let (sender, inspection) = oneshot::channel();
                let _ = self.fast_path.send(Command::Inspect(sender));
                let _ = reply.send((self.engine.summary(), inspection));
            }
            Query::Sessions(reply) => {
                let (sender, counters) = oneshot::channel();
                let sessions = self.engine.sessions();
                let slots = sessions.iter().map(|view| view.slot).collect();
                let _ = self.fast_path.send(Command::Show(slots, sender));
                let _ = reply.send(SessionShown { sessions, counters });
            }
            Query::Garden(reply) => {
                let (sender, counters) = oneshot::channel();
                let lines = self.engine.leases(clock::now());
                let slots = lines.iter().map(|view| view.slot).collect();
                let _ = self.fast_path.send(Command::Show(slots, sender));
                let _ = reply.send(GardenShown { lines, counters });
            }
        }
    }
}
