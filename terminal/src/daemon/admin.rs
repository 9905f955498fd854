//! The daemon's side of the admin socket.

use std::pin::Pin;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::terminal_admin_server::{TerminalAdmin, TerminalAdminServer};
use futures::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

use super::calls::Calls;

/// What answers on the admin socket.
pub(super) fn router(calls: Calls) -> Router {
    Server::builder().add_service(TerminalAdminServer::new(Service { calls }))
}

#[derive(Debug)]
struct Service {
    calls: Calls,
}

#[tonic::async_trait]
impl TerminalAdmin for Service {
    async fn register(
        &self,
        request: Request<pb::TerminalRegisterRequest>,
    ) -> Result<Response<pb::TerminalRegisterResponse>, Status> {
        let subscriber_id = self.calls.register(request.into_inner()).await?;
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
        let told = self.calls.request(request.into_inner()).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    async fn plans(
        &self,
        request: Request<pb::TerminalPlansRequest>,
    ) -> Result<Response<pb::TerminalPlansResponse>, Status> {
        let plans = self.calls.plans(request.into_inner()).await;
        plans.map(Response::new)
    }

    async fn release(
        &self,
        request: Request<pb::TerminalReleaseRequest>,
    ) -> Result<Response<pb::TerminalReleaseResponse>, Status> {
        let released = self.calls.release(request.into_inner()).await;
        released.map(Response::new)
    }

    async fn status(
        &self,
        _: Request<pb::TerminalStatusRequest>,
    ) -> Result<Response<pb::TerminalStatus>, Status> {
        self.calls.status().await.map(Response::new)
    }

    async fn apply(
        &self,
        request: Request<pb::TerminalApplyRequest>,
    ) -> Result<Response<pb::TerminalApplyResponse>, Status> {
        let applied = self.calls.apply(request.into_inner()).await;
        applied.map(Response::new)
    }

    async fn confirm(
        &self,
        request: Request<pb::TerminalConfirmRequest>,
    ) -> Result<Response<pb::TerminalConfirmResponse>, Status> {
        let request = request.into_inner();
        self.calls
            .confirm(request.refuse, request.dry_run.into())
            .await?;
        Ok(Response::new(pb::TerminalConfirmResponse {}))
    }
}
