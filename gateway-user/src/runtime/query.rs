//! Questions to the running daemon.

use tokio::sync::oneshot;

use super::Runtime;
use super::fast_path::{Command, Inspection};
use crate::dataplane::{Attachment, Object};
use crate::engine::{SessionView, Summary};
use crate::session::Counters;

/// A question, and where its answer goes.
#[derive(Debug)]
pub enum Query {
    Summary(oneshot::Sender<(Summary, oneshot::Receiver<Result<Inspection, String>>)>),
    Sessions(oneshot::Sender<SessionShown>),
    /// Puts the programs of another object in place.
    Upgrade(Object, oneshot::Sender<Result<Vec<Attachment>, String>>),
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
            Query::Upgrade(object, reply) => {
                let _ = self.fast_path.send(Command::Upgrade(object, reply));
            }
            Query::Sessions(reply) => {
                let (sender, counters) = oneshot::channel();
                let sessions = self.engine.sessions();
                let slots = sessions.iter().map(|view| view.slot).collect();
                let _ = self.fast_path.send(Command::Show(slots, sender));
                let _ = reply.send(SessionShown { sessions, counters });
            }
        }
    }
}
