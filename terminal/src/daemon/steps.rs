//! The steps of a request, told to the client that made it.

use std::time::Duration;

use doorstep_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status};

/// Names of states, as they stand in steps and in `status`.
pub(super) mod name {
    pub(crate) const REQUESTED: &str = "requested";
    pub(crate) const ACCEPTED: &str = "accepted";
    pub(crate) const BRINGING_UP: &str = "bringing-up";
    pub(crate) const ACCEPTING: &str = "accepting";
    pub(crate) const ESTABLISHED: &str = "established";
    pub(crate) const SILENT: &str = "silent";
    pub(crate) const REFUSED: &str = "refused";
    pub(crate) const RELEASED: &str = "released";
    pub(crate) const RELEASING: &str = "releasing";
    pub(crate) const FAILED: &str = "failed";
    pub(crate) const WAITING: &str = "waiting";
}

/// The server's states by the same names.
pub(super) fn server_state(state: pb::SessionState) -> &'static str {
    match state {
        pb::SessionState::Unspecified => "",
        pb::SessionState::Connecting => "connecting",
        pb::SessionState::Establishing => "establishing",
        pb::SessionState::Established => name::ESTABLISHED,
        pb::SessionState::Disconnecting => "disconnecting",
        pb::SessionState::Released => name::RELEASED,
        pb::SessionState::Refused => name::REFUSED,
        pb::SessionState::DisconnectingUnconfirmed => "disconnecting-unconfirmed",
    }
}

/// A client that waits for a request of its own.
#[derive(Debug)]
pub(super) struct Listener {
    steps: mpsc::Sender<Result<pb::TerminalStep, Status>>,
    begun: Instant,
    deadline: Instant,
    /// The server's answer is enough.
    pub no_wait: bool,
    /// The generation asked for, once the server has told it.
    pub generation: u64,
    last: String,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The wait that a client asks for.
pub(super) fn wait(timeout_ms: u32) -> Duration {
    if timeout_ms == 0 {
        DEFAULT_TIMEOUT
    } else {
        Duration::from_millis(timeout_ms.into())
    }
}

impl Listener {
    pub(super) fn new(
        steps: mpsc::Sender<Result<pb::TerminalStep, Status>>,
        timeout_ms: u32,
        no_wait: bool,
    ) -> Self {
        let begun = Instant::now();
        let deadline = begun + wait(timeout_ms);
        Self {
            steps,
            begun,
            deadline,
            no_wait,
            generation: 0,
            last: String::new(),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the client has gone.
    pub(super) fn is_gone(&self) -> bool {
        self.steps.is_closed()
    }

    /// Tells a step. The same one twice in a row is told once.
    pub(super) fn tell(&mut self, state: &str, detail: &str) {
        let what = if detail.is_empty() {
            state.to_owned()
        } else {
            format!("{state}: {detail}")
        };
        if what != self.last {
            self.last = what;
            self.send(state, detail, None, false, Code::Ok);
        }
    }

    /// Tells the last step.
    pub(super) fn finish(&self, state: &str, detail: &str, session: Option<pb::TerminalSession>) {
        self.send(state, detail, session, true, Code::Ok);
    }

    /// Tells that there is nothing to wait for.
    pub(super) fn fail(&self, code: Code, detail: &str) {
        self.send(name::FAILED, detail, None, true, code);
    }

    /// The wait is over without a result.
    pub(super) fn time_out(&self, session: Option<pb::TerminalSession>) {
        let waited = self.begun.elapsed().as_secs_f32();
        let detail = format!(
            "not established within {waited:.0} s (last: {}); the request stands, `status` tells \
             how it goes on",
            self.last
        );
        self.send(name::FAILED, &detail, session, true, Code::DeadlineExceeded);
    }

    fn send(
        &self,
        state: &str,
        detail: &str,
        session: Option<pb::TerminalSession>,
        last: bool,
        code: Code,
    ) {
        let at_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (state, detail) = (state.to_owned(), detail.to_owned());
        let step = pb::TerminalStep {
            state,
            detail,
            at_ms,
            r#final: last,
            session,
            code: code as u32,
        };
        // The channel holds more than a request has steps; a client that reads none loses some.
        let _ = self.steps.try_send(Ok(step));
    }
}
