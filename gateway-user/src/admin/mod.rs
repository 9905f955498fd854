//! What the gateway's own commands ask, answered on the admin socket.

mod brief;
mod convert;
mod list;
mod trace;
mod why;

pub use convert::attachment;

use std::sync::Arc;
use std::time::Instant;

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1;
use doorstep_proto::v1::gateway_admin_server::{GatewayAdmin, GatewayAdminServer};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

use crate::clock;
use crate::config::Config;
use crate::control::ServerStates;
use crate::dataplane::{Examiner, Object, Tracer, UplinkStates};
use crate::engine::BlockRefusal;
use crate::inventory::Inventory;
use crate::runtime::{Input, Query};

use self::brief::brief;

/// Sessions or lines in one part of the answer.
const PART: usize = 500;

/// Largest message, which is one with an object file, in bytes.
const MAX_MESSAGE: usize = 64 << 20;

/// What the answers are made of.
pub struct Admin {
    pub config: Config,
    pub inventory: Arc<Inventory>,
    pub tracer: Tracer,
    pub examiner: Examiner,
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

#[tonic::async_trait]
impl GatewayAdmin for Admin {
    async fn status(
        &self,
        _: Request<v1::GatewayStatusRequest>,
    ) -> Result<Response<v1::GatewayStatus>, Status> {
        let summaries = self.summary().await?;
        Ok(Response::new(convert::status(self, &summaries)))
    }

    type SessionsStream = Parts<v1::GatewaySessions>;

    async fn sessions(
        &self,
        request: Request<v1::GatewaySessionsRequest>,
    ) -> Result<Response<Self::SessionsStream>, Status> {
        let list = list::sessions(&self.config, request.into_inner())?;
        let shown = self.ask(|reply| Query::Sessions(list, reply)).await?;
        let readings = shown.readings.await.unwrap_or_default();
        let sessions = convert::sessions(
            &self.config,
            shown.sessions,
            &readings,
            clock::now().unix_ms,
        );
        Ok(in_parts(sessions, |sessions| v1::GatewaySessions {
            sessions,
        }))
    }

    async fn upgrade(
        &self,
        request: Request<v1::GatewayUpgradeRequest>,
    ) -> Result<Response<v1::GatewayUpgrade>, Status> {
        let request = request.into_inner();
        let run = Run::from(request.dry_run);
        let object = Object::new(request.object);
        let programs = self
            .ask(|reply| Query::Upgrade(object, run, reply))
            .await?
            .map_err(|refusal| Status::failed_precondition(brief(&refusal)))?;
        Ok(Response::new(v1::GatewayUpgrade {
            programs: programs
                .iter()
                .map(|program| convert::attachment(program, run))
                .collect(),
        }))
    }

    async fn garden(
        &self,
        _: Request<v1::GatewayGardenRequest>,
    ) -> Result<Response<v1::GatewayGarden>, Status> {
        let shown = self.ask(Query::Garden).await?;
        let readings = shown.readings.await.unwrap_or_default();
        let lines = convert::garden(&shown.lines, &readings);
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

    type TraceStream = trace::Told;

    async fn trace(
        &self,
        request: Request<v1::GatewayTraceRequest>,
    ) -> Result<Response<Self::TraceStream>, Status> {
        trace::follow(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn why(
        &self,
        request: Request<v1::GatewayWhyRequest>,
    ) -> Result<Response<v1::GatewayFates>, Status> {
        why::why(self, request.into_inner())
            .await
            .map(Response::new)
    }

    type LinesStream = Parts<v1::GatewayLines>;

    async fn lines(
        &self,
        request: Request<v1::GatewayLinesRequest>,
    ) -> Result<Response<Self::LinesStream>, Status> {
        let list = list::lines(request.get_ref())?;
        let lines = self.ask(|reply| Query::Lines(list, reply)).await?;
        let lines = lines.into_iter().map(convert::line).collect();
        Ok(in_parts(lines, |lines| v1::GatewayLines { lines }))
    }

    async fn set_line_blocked(
        &self,
        request: Request<v1::GatewaySetLineBlockedRequest>,
    ) -> Result<Response<v1::GatewayLine>, Status> {
        let v1::GatewaySetLineBlockedRequest {
            location_id,
            blocked,
            dry_run,
        } = request.into_inner();
        let location = location_id
            .parse()
            .map_err(|error| Status::invalid_argument(format!("'{location_id}': {error}")))?;
        let refused = |why: BlockRefusal| match why {
            BlockRefusal::Unknown(_) => Status::not_found(why.to_string()),
            BlockRefusal::ByInventory(_) => Status::failed_precondition(why.to_string()),
        };
        if dry_run {
            let query = |reply| Query::WouldBeBlocked {
                location,
                blocked,
                reply,
            };
            let line = self.ask(query).await?.map_err(refused)?;
            return Ok(Response::new(convert::line(line)));
        }
        let query = |reply| Query::SetBlocked {
            location,
            blocked,
            reply,
        };
        let (line, done) = self.ask(query).await?.map_err(refused)?;
        done.await
            .map_err(|_| Status::unavailable("the daemon is stopping"))?
            .map_err(|error| {
                Status::internal(format!(
                    "it is recorded, but not in force before the daemon is restarted: {error}"
                ))
            })?;
        Ok(Response::new(convert::line(line)))
    }
}

type Parts<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

/// An answer of any length, in parts of limited size.
fn in_parts<T, P>(all: Vec<T>, part: impl Fn(Vec<T>) -> P) -> Response<Parts<P>> {
    let mut all = all.into_iter();
    let mut parts = Vec::new();
    loop {
        let some: Vec<_> = all.by_ref().take(PART).collect();
        if some.is_empty() {
            return Response::new(tokio_stream::iter(parts));
        }
        parts.push(Ok(part(some)));
    }
}
