//! What an operator has to choose from.

use std::time::Duration;

use doorstep_proto::v1 as pb;
use tokio::time::Instant;
use tonic::Status;

use super::{Core, to_proto};
use crate::daemon::events::{Event, PlansReply};
use crate::server::{Server, has_answered};

/// How long somebody waits for it.
const PATIENCE: Duration = Duration::from_secs(15);

impl Core {
    /// Asks the operator's server; also before the home is registered there.
    pub(super) fn plans(&mut self, request: &pb::TerminalPlansRequest, reply: PlansReply) {
        let (operator, server, credentials) = match self.offers_of(&request.operator) {
            Ok(found) => found,
            Err(status) => {
                let _ = reply.send(Err(status));
                return;
            }
        };
        self.want(&operator);
        let events = self.events.clone();
        tokio::spawn(async move {
            let deadline = Instant::now() + PATIENCE;
            let answer = server.plans(pb::PlansRequest { credentials }, deadline);
            let answer = answer.await;
            let event = Event::Plans {
                operator,
                answer,
                reply,
            };
            let _ = events.send(event).await;
        });
    }

    fn offers_of(&self, named: &str) -> Result<(String, Server, Option<pb::Credentials>), Status> {
        let (name, operator) = self.operator_named(named)?;
        let credentials = operator.credentials.as_ref().map(to_proto);
        Ok((name.to_owned(), operator.server(name)?.clone(), credentials))
    }

    pub(super) fn on_plans(
        &mut self,
        operator: String,
        answer: Result<pb::PlansResponse, Status>,
    ) -> Result<pb::TerminalPlansResponse, Status> {
        if has_answered(&answer) {
            self.garden.server_reached(&operator);
        }
        let failed = |status: Status| {
            let text = format!("the server: {}", self.why_unanswered(&status));
            Status::new(status.code(), text)
        };
        let plans = answer.map_err(failed)?.plans;
        Ok(pb::TerminalPlansResponse { operator, plans })
    }
}
