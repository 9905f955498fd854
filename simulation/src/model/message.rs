//! What servers and gateways say to each other, small enough to be kept in sets.

use std::cmp::Ordering;

use doorstep_server::session::instruct::Phase;

/// A session, by its number.
pub type Who = u8;
/// A gateway, by its number.
pub type Place = u8;
/// A gateway's streams, counted.
pub type Stream = u8;
pub type Generation = u64;
pub type Revision = u64;
/// Of a receipt.
pub type Number = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ToGateway {
    Connect(Who, Generation, Revision),
    Disconnect(Who, Generation),
    ChangeService(Who, Generation, Revision),
    ReceiptAck(Number),
    /// Ends what answers a Hello.
    Synced,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ToServer {
    Hello(Place, Stream, Vec<Held>),
    Ack(Place, Who, Generation, Revision),
    Nack(Place, Who, Generation, Revision),
    Established(Place, Who, Generation),
    Receipt(Place, Who, Generation, Number),
    /// What a Hello tells of the service in force.
    ServiceHeld(Place, Who, Generation, Revision),
    /// What a Hello tells of a session that is refused here.
    HeldThoughRefused(Place, Who),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub who: Who,
    pub generation: Generation,
    pub phase: Phase,
    pub revision: Revision,
}

impl Held {
    fn key(&self) -> (Who, Generation, u8, Revision) {
        (self.who, self.generation, self.phase as u8, self.revision)
    }
}

impl std::hash::Hash for Held {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}
