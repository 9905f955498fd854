//! Everything that the event loop hears.

use std::sync::Arc;

use doorstep_daemon::dry_run::Run;
use doorstep_establish::Mac;
use doorstep_proto::v1 as pb;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use uuid::Uuid;

use super::steps::Listener;
use crate::packet::Port;
use crate::server::Update;

/// One thing that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A WAN port can be heard and spoken on.
    PortOpen {
        name: String,
        port: Arc<Port>,
        mac: Mac,
    },
    /// It cannot, any more or yet.
    PortClosed { name: String, detail: String },
    /// A frame arrived.
    Frame { port: String, frame: Vec<u8> },
    /// An interface has changed, come or gone.
    LinksChanged,
    /// An address, a route, a rule or a neighbour has gone, or been written over.
    Disturbed,
    /// The server's answer to a registration.
    Registered {
        operator: String,
        answer: Result<pb::RegisterResponse, Status>,
        reply: oneshot::Sender<Result<String, Status>>,
    },
    /// The server's answer to a question for plans.
    Plans {
        operator: String,
        answer: Result<pb::PlansResponse, Status>,
        reply: PlansReply,
    },
    /// The server's answer to a request for access.
    Access {
        request: Uuid,
        answer: Result<pb::RequestAccessResponse, Status>,
        listener: Listener,
    },
    /// What following a session tells.
    Followed { session: Uuid, update: Update },
    /// The server's answer to a release.
    Release {
        session: Uuid,
        answer: Result<pb::ReleaseResponse, Status>,
        reply: ReleaseReply,
        no_wait: bool,
    },
    /// A client of the admin socket asks.
    Command(Command),
}

pub(super) type PlansReply = oneshot::Sender<Result<pb::TerminalPlansResponse, Status>>;
pub(super) type ReleaseReply = oneshot::Sender<Result<pb::TerminalReleaseResponse, Status>>;

/// What clients ask.
#[derive(Debug)]
pub(super) enum Command {
    Register {
        request: pb::TerminalRegisterRequest,
        reply: oneshot::Sender<Result<String, Status>>,
    },
    Request {
        request: pb::TerminalServiceRequest,
        steps: mpsc::Sender<Result<pb::TerminalStep, Status>>,
    },
    Plans {
        request: pb::TerminalPlansRequest,
        reply: PlansReply,
    },
    Release {
        request: pb::TerminalReleaseRequest,
        reply: ReleaseReply,
    },
    /// Not by a client: whether the loop answers.
    Alive { reply: oneshot::Sender<()> },
    Status {
        reply: oneshot::Sender<pb::TerminalStatus>,
    },
    Apply {
        request: pb::TerminalApplyRequest,
        reply: oneshot::Sender<Result<pb::TerminalApplyResponse, Status>>,
    },
    Confirm {
        refuse: bool,
        run: Run,
        reply: oneshot::Sender<Result<(), Status>>,
    },
}
