//! What the gateway's own commands ask, answered on the admin socket.

mod convert;
mod trace;

pub use convert::attachment;

use std::sync::Arc;
use std::time::Instant;

use doorstep_proto::v1;
use doorstep_proto::v1::gateway_admin_server::{GatewayAdmin, GatewayAdminServer};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::control::ServerStates;
use crate::dataplane::{Object, Tracer, UplinkStates};
use crate::inventory::Inventory;
use crate::runtime::{Input, Query};

/// Sessions in one part of the answer.
const PART: usize = 500;

/// Largest message, which is one with an object file, in bytes.
const MAX_MESSAGE: usize = 64 << 20;

/// Bytes of a long refusal's beginning and end that are told.
const HEAD: usize = 500;
const TAIL: usize = 2_000;

/// What the answers are made of.
pub struct Admin {
    pub config: Config,
    pub inventory: Arc<Inventory>,
    pub tracer: Tracer,
    pub uplinks: UplinkStates,
    pub servers: ServerStates,
    pub inputs: mpsc::Sender<Input>,
    pub started: Instant,
}

impl Admin {
    /// What answers on the admin socket.
    #[must_use]
    pub fn router(self) -> Router {
        let service = GatewayAdminServer::new(self).max_decoding_message_size(MAX_MESSAGE);
        Server::builder().add_service(service)
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

/// Leaves the middle of a long text out: a status travels in a header, and what the verifier tells
/// may be megabytes. It begins with what was refused, and ends with why.
fn brief(text: &str) -> String {
    let (head, tail) = (
        text.floor_char_boundary(HEAD),
        text.ceil_char_boundary(text.len().saturating_sub(TAIL)),
    );
    match text.get(head..tail) {
        Some(middle) if !middle.is_empty() => {
            let (head, tail) = (&text[..head], &text[tail..]);
            format!("{head}\n[... {} bytes ...]\n{tail}", middle.len())
        }
        _ => text.to_owned(),
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

    async fn upgrade(
        &self,
        request: Request<v1::GatewayUpgradeRequest>,
    ) -> Result<Response<v1::GatewayUpgrade>, Status> {
        let object = Object::new(request.into_inner().object);
        let programs = self
            .ask(|reply| Query::Upgrade(object, reply))
            .await?
            .map_err(|refusal| Status::failed_precondition(brief(&refusal)))?;
        Ok(Response::new(v1::GatewayUpgrade {
            programs: programs.iter().map(convert::attachment).collect(),
        }))
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

    type TraceStream = trace::Told;

    async fn trace(
        &self,
        request: Request<v1::GatewayTraceRequest>,
    ) -> Result<Response<Self::TraceStream>, Status> {
        trace::follow(self, request.into_inner())
            .await
            .map(Response::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_refusals_keep_both_ends() {
        for short in ["", "program xdp_access: R9 !read_ok", &"é".repeat(1_250)] {
            assert_eq!(brief(short), short);
        }
        let long = format!("program xdp_access: {}R9 !read_ok", "é\n".repeat(1 << 20));
        let told = brief(&long);
        assert!(told.starts_with("program xdp_access: é"), "{told}");
        assert!(told.ends_with("é\nR9 !read_ok"), "{told}");
        assert!(told.len() < HEAD + TAIL + 100, "{}", told.len());
    }
}
