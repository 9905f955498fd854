//! What clients ask the event loop, whichever way they come: by the admin socket or by the app's pages.

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1 as pb;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::events::{Command, Event};

/// More steps than a request has.
const STEPS: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Calls {
    events: mpsc::Sender<Event>,
}

fn stopping() -> Status {
    Status::unavailable("the daemon is stopping")
}

impl Calls {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events }
    }

    async fn tell(&self, command: Command) -> Result<(), Status> {
        let told = self.events.send(Event::Command(command)).await;
        told.map_err(|_| stopping())
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command + Send,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await?;
        answer.await.map_err(|_| stopping())
    }

    /// Makes the subscriber known; its id.
    pub(super) async fn register(
        &self,
        request: pb::TerminalRegisterRequest,
    ) -> Result<String, Status> {
        self.ask(|reply| Command::Register { request, reply })
            .await?
    }

    /// Asks for service; its steps, of which one is the last.
    pub(super) async fn request(
        &self,
        request: pb::TerminalServiceRequest,
    ) -> Result<mpsc::Receiver<Result<pb::TerminalStep, Status>>, Status> {
        let (steps, told) = mpsc::channel(STEPS);
        self.tell(Command::Request { request, steps }).await?;
        Ok(told)
    }

    /// What an operator has to choose from.
    pub(super) async fn plans(
        &self,
        request: pb::TerminalPlansRequest,
    ) -> Result<pb::TerminalPlansResponse, Status> {
        self.ask(|reply| Command::Plans { request, reply }).await?
    }

    pub(super) async fn release(
        &self,
        request: pb::TerminalReleaseRequest,
    ) -> Result<pb::TerminalReleaseResponse, Status> {
        self.ask(|reply| Command::Release { request, reply })
            .await?
    }

    pub(super) async fn status(&self) -> Result<pb::TerminalStatus, Status> {
        self.ask(|reply| Command::Status { reply }).await
    }

    pub(super) async fn apply(
        &self,
        request: pb::TerminalApplyRequest,
    ) -> Result<pb::TerminalApplyResponse, Status> {
        self.ask(|reply| Command::Apply { request, reply }).await?
    }

    pub(super) async fn confirm(&self, refuse: bool, run: Run) -> Result<(), Status> {
        self.ask(|reply| Command::Confirm { refuse, run, reply })
            .await?
    }

    /// Whether the event loop answers.
    pub(super) async fn alive(&self) -> bool {
        self.ask(|reply| Command::Alive { reply }).await.is_ok()
    }
}
