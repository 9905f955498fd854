//! What the journal keeps: sessions, fences, receipts, blocked lines.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use doorstep_establish::{Mac, Nonce, Tags};
use doorstep_gateway_common::{OperatorIndex, Slot};
use doorstep_location::LocationId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message::{Connect, Receipt};

/// A session of an operator. Two operators may use one id: they never see each other's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionRef {
    pub operator: OperatorIndex,
    pub session: Uuid,
}

impl fmt::Debug for SessionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.operator, self.session)
    }
}

/// A session that the gateway holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRow {
    pub connect: Connect,
    pub slot: Slot,
    /// The line that the location was when the session was recorded.
    pub place: Place,
    /// Of the establishment.
    pub nonce: Nonce,
    pub phase: Phase,
    pub steps: Vec<Step>,
    /// The router that it was opened for by DHCP has given it back; it flows on until another one
    /// holds it. Older journals have no such sessions.
    #[serde(default)]
    pub released: bool,
}

/// A line by the port's name: interface indexes change when a host starts again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub port: String,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Phase {
    /// The terminal is being asked, or a router's DHCP is waited for.
    Establishing,
    /// Traffic flows.
    Established(Opened),
    /// Being taken out of the fast path.
    Closing {
        /// None where it never was in the fast path.
        opened: Option<Opened>,
        /// What is to be done next.
        then: Then,
    },
}

/// How a session entered the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    pub mac: Mac,
    pub at_unix_ms: i64,
}

/// What follows once a session forwards nothing more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Then {
    /// A receipt for the Disconnect of this generation.
    pub receipt: Option<u64>,
    /// A newer Connect that is waiting.
    pub connect: Option<Box<Connect>>,
}

/// A step of a session's life, with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub step: StepName,
    pub at_unix_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// The Connect was recorded.
    Instructed,
    /// The first establishment request has gone out.
    Requested,
    /// The terminal's first answer, or the router's first request, has come in.
    Accepted,
    /// The fast path is open.
    Opened,
    /// The Disconnect, or a newer Connect, was recorded.
    Closing,
}

impl StepName {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Instructed => "instructed",
            Self::Requested => "requested",
            Self::Accepted => "accepted",
            Self::Opened => "opened",
            Self::Closing => "closing",
        }
    }
}

/// The highest generation seen of a session; what is older is refused. Outlives the session, as
/// long as anything older may come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    pub generation: u64,
    pub kind: FenceKind,
    /// The last receipt, for a Disconnect that is repeated.
    pub receipt: Option<Receipt>,
}

/// What set a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceKind {
    Connect,
    Disconnect,
}

/// Lines that somebody has blocked, by location: a line may be patched elsewhere, the home stays.
pub type Blocks = BTreeMap<LocationId, Block>;

/// Somebody has blocked a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    pub at_unix_ms: i64,
}

/// One change of the journal. Those of one batch are durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    PutSession(SessionRef, Box<SessionRow>),
    DeleteSession(SessionRef),
    PutFence(SessionRef, Fence),
    DeleteFence(SessionRef),
    /// Not acknowledged yet. Also sets the operator's last number.
    PutReceipt(OperatorIndex, Receipt),
    DeleteReceipt(OperatorIndex, u64),
    /// When the operator's server was last in contact, in Unix milliseconds.
    PutContact(OperatorIndex, i64),
    PutBlock(LocationId, Block),
    DeleteBlock(LocationId),
}

/// All that the journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub sessions: HashMap<SessionRef, SessionRow>,
    pub fences: HashMap<SessionRef, Fence>,
    pub receipts: BTreeMap<(OperatorIndex, u64), Receipt>,
    /// Number of each operator's last receipt.
    pub last_numbers: HashMap<OperatorIndex, u64>,
    /// When each operator's server was last in contact, in Unix milliseconds, as far as a time to
    /// live depends on it.
    pub contacts: HashMap<OperatorIndex, i64>,
    pub blocks: Blocks,
}

impl Snapshot {
    /// What the journal holds after a change.
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::PutSession(session, row) => {
                self.sessions.insert(*session, (**row).clone());
            }
            Write::DeleteSession(session) => {
                self.sessions.remove(session);
            }
            Write::PutFence(session, fence) => {
                self.fences.insert(*session, fence.clone());
            }
            Write::DeleteFence(session) => {
                self.fences.remove(session);
            }
            Write::PutReceipt(operator, receipt) => {
                self.last_numbers.insert(*operator, receipt.number);
                self.receipts
                    .insert((*operator, receipt.number), receipt.clone());
            }
            Write::DeleteReceipt(operator, number) => {
                self.receipts.remove(&(*operator, *number));
            }
            Write::PutContact(operator, unix_ms) => {
                self.contacts.insert(*operator, *unix_ms);
            }
            Write::PutBlock(location, block) => {
                self.blocks.insert(location.clone(), *block);
            }
            Write::DeleteBlock(location) => {
                self.blocks.remove(location);
            }
        }
    }
}
