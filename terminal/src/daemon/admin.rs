//! The daemon's side of the admin socket.

use std::pin::Pin;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::terminal_admin_server::{TerminalAdmin, TerminalAdminServer};
use futures::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

use super::events::{Command, Event};

/// What answers on the admin socket.
pub(super) fn router(events: mpsc::Sender<Event>) -> Router {
    Server::builder().add_service(TerminalAdminServer::new(Service { events }))
}

#[derive(Debug)]
struct Service {
    events: mpsc::Sender<Event>,
}

fn stopping() -> Status {
    Status::unavailable("the daemon is stopping")
}

impl Service {
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command + Send,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        self.events
            .send(Event::Command(command(reply)))
            .await
            .map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

#[tonic::async_trait]
impl TerminalAdmin for Service {
    async fn register(
        &self,
        request: Request<pb::TerminalRegisterRequest>,
    ) -> Result<Response<pb::TerminalRegisterResponse>, Status> {
        let request = request.into_inner();
        let subscriber_id = self
            .ask(|reply| Command::Register { request, reply })
            .await??;
        Ok(Response::new(pb::TerminalRegisterResponse {
            subscriber_id,
        }))
    }

    type RequestStream =
        Pin<Box<dyn Stream<Item = Result<pb::TerminalStep, Status>> + Send + 'static>>;

    async fn request(
        &self,
        request: Request<pb::TerminalServiceRequest>,
    ) -> Result<Response<Self::RequestStream>, Status> {
        let (steps, told) = mpsc::channel(256);
        let command = Command::Request {
            request: request.into_inner(),
            steps,
        };
        self.events
            .send(Event::Command(command))
            .await
            .map_err(|_| stopping())?;
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    async fn plans(
        &self,
        request: Request<pb::TerminalPlansRequest>,
    ) -> Result<Response<pb::TerminalPlansResponse>, Status> {
        let request = request.into_inner();
        self.ask(|reply| Command::Plans { request, reply })
            .await?
            .map(Response::new)
    }

    async fn release(
        &self,
        request: Request<pb::TerminalReleaseRequest>,
    ) -> Result<Response<pb::TerminalReleaseResponse>, Status> {
        let request = request.into_inner();
        self.ask(|reply| Command::Release { request, reply })
            .await?
            .map(Response::new)
    }

    async fn status(
        &self,
        _: Request<pb::TerminalStatusRequest>,
    ) -> Result<Response<pb::TerminalStatus>, Status> {
        self.ask(|reply| Command::Status { reply })
            .await
            .map(Response::new)
    }

    async fn apply(
        &self,
        request: Request<pb::TerminalApplyRequest>,
    ) -> Result<Response<pb::TerminalApplyResponse>, Status> {
        let request = request.into_inner();
        self.ask(|reply| Command::Apply { request, reply })
            .await?
            .map(Response::new)
    }

    async fn confirm(
        &self,
        request: Request<pb::TerminalConfirmRequest>,
    ) -> Result<Response<pb::TerminalConfirmResponse>, Status> {
        let refuse = request.into_inner().refuse;
        self.ask(|reply| Command::Confirm { refuse, reply })
            .await??;
        Ok(Response::new(pb::TerminalConfirmResponse {}))
    }
}
