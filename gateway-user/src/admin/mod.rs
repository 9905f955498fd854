//! What the gateway's own commands ask, answered on the admin socket.

mod convert;

use std::time::Instant;

use doorstep_proto::v1;
use doorstep_proto::v1::gateway_admin_server::{GatewayAdmin, GatewayAdminServer};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::control::ServerStates;
use crate::dataplane::UplinkStates;
use crate::runtime::{Input, Query};

/// Sessions in one part of the answer.
const PART: usize = 500;

/// What the answers are made of.
pub struct Admin {
    pub config: Config,
    pub uplinks: UplinkStates,
    pub servers: ServerStates,
    pub inputs: mpsc::Sender<Input>,
    pub started: Instant,
}

impl Admin {
    /// What answers on the admin socket.
    #[must_use]
    pub fn router(self) -> Router {
        Server::builder().add_service(GatewayAdminServer::new(self))
    }

    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, Status> {
        let stopping = |()| Status::unavailable("the daemon is stopping");
        let (sender, answer) = oneshot::channel();
        let sent = self.inputs.send(Input::Query(query(sender))).await;
        sent.map_err(|_| stopping(()))?;
        answer.await.map_err(|_| stopping(()))
    }

    async fn summary(&self) -> Result<convert::Summaries, Status> {
        let (summary, inspection) = self.ask(Query::Summary).await?;
        let inspection = inspection
            .await
            .map_err(|_| Status::unavailable("the daemon is stopping"))?
            .map_err(|error| Status::internal(format!("cannot read the maps: {error}")))?;
        Ok(convert::Summaries {
            summary,
            inspection,
        })
    }
}

#[tonic::async_trait]
impl GatewayAdmin for Admin {
    async fn status(
        &self,
        _: Request<v1::GatewayStatusRequest>,
    ) -> Result<Response<v1::GatewayStatus>, Status> {
        let summaries = self.summary().await?;
        Ok(Response::new(convert::status(self, &summaries)))
    }

    type SessionsStream =
        tokio_stream::Iter<std::vec::IntoIter<Result<v1::GatewaySessions, Status>>>;

    async fn sessions(
        &self,
        _: Request<v1::GatewaySessionsRequest>,
    ) -> Result<Response<Self::SessionsStream>, Status> {
        let shown = self.ask(Query::Sessions).await?;
        let counters = shown.counters.await.unwrap_or_default();
        let mut sessions = convert::sessions(&self.config, shown.sessions, &counters).into_iter();
        let mut parts = Vec::new();
        loop {
            let part: Vec<_> = sessions.by_ref().take(PART).collect();
            if part.is_empty() {
                return Ok(Response::new(tokio_stream::iter(parts)));
            }
            parts.push(Ok(v1::GatewaySessions { sessions: part }));
        }
    }

    async fn garden(
        &self,
        _: Request<v1::GatewayGardenRequest>,
    ) -> Result<Response<v1::GatewayGarden>, Status> {
        let shown = self.ask(Query::Garden).await?;
        let counters = shown.counters.await.unwrap_or_default();
        let lines = convert::garden(&shown.lines, &counters);
        Ok(Response::new(v1::GatewayGarden { lines }))
    }

    async fn reasons(
        &self,
        _: Request<v1::GatewayReasonsRequest>,
    ) -> Result<Response<v1::GatewayReasons>, Status> {
        let summaries = self.summary().await?;
        Ok(Response::new(v1::GatewayReasons {
            reasons: convert::reasons(&summaries.inspection.reasons),
        }))
    }
}
