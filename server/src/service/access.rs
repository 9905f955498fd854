//! `Access`: what terminals ask for.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::access_server::Access;
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::convert::{self, Violations};
use crate::engine::Engine;
use crate::hub::Watch;
use crate::session::State;
use crate::store::StepRow;
use crate::vault::Secret;

pub struct AccessService {
    engine: Arc<Engine>,
    shutdown: CancellationToken,
}

impl AccessService {
    pub fn new(engine: Arc<Engine>, shutdown: CancellationToken) -> Self {
        AccessService { engine, shutdown }
    }

    async fn authenticate(&self, (id, secret): (Uuid, Secret)) -> Result<Uuid, Status> {
        self.engine
            .authenticate(id, &secret)
            .await
            .map_err(|error| convert::status(&error))?;
        Ok(id)
    }
}

#[tonic::async_trait]
impl Access for AccessService {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let (phone, id_card) = convert::numbers(
            request.get_ref(),
            self.engine.config.country_code.as_deref(),
        )?;
        let (id, secret) = self
            .engine
            .register(phone, id_card)
            .await
            .map_err(|error| convert::status(&error))?;
        Ok(Response::new(pb::RegisterResponse {
            credentials: Some(pb::Credentials {
                subscriber_id: id.to_string(),
                secret: secret.as_bytes().to_vec(),
            }),
        }))
    }

    async fn request_access(
        &self,
        request: Request<pb::RequestAccessRequest>,
    ) -> Result<Response<pb::RequestAccessResponse>, Status> {
        let (credentials, request) = convert::access_request(request.into_inner())?;
        let subscriber = self.authenticate(credentials).await?;
        let granted = self
            .engine
            .request_access(subscriber, request)
            .await
            .map_err(|error| convert::status(&error))?;
        Ok(Response::new(pb::RequestAccessResponse {
            session_id: granted.session.to_string(),
            generation: granted.generation,
            session_key: granted.key.as_bytes().to_vec(),
        }))
    }

    async fn release(
        &self,
        request: Request<pb::ReleaseRequest>,
    ) -> Result<Response<pb::ReleaseResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let credentials = convert::credentials(request.credentials, &mut violations);
        let session = violations.check("session_id", convert::optional_uuid(&request.session_id));
        let (Some(credentials), Some(session)) = (credentials, session) else {
            return Err(violations.status());
        };
        let subscriber = self.authenticate(credentials).await?;
        let released = self
            .engine
            .release(subscriber, session)
            .await
            .map_err(|error| convert::status(&error))?;
        Ok(Response::new(pb::ReleaseResponse {
            session_id: released.to_string(),
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::SessionStatus, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let credentials = convert::credentials(request.credentials, &mut violations);
        let session = violations.check("session_id", convert::uuid(&request.session_id));
        let (Some(credentials), Some(session)) = (credentials, session) else {
            return Err(violations.status());
        };
        let subscriber = self.authenticate(credentials).await?;
        self.engine
            .owns(subscriber, session)
            .await
            .map_err(|error| convert::status(&error))?;
        let watch = self.engine.hub.watch(session).ok_or_else(|| {
            Status::resource_exhausted("too many Watch streams are open; try again later")
        })?;
        let follower = Follower {
            engine: Arc::clone(&self.engine),
            shutdown: self.shutdown.clone(),
            session,
            watch,
            seen: None,
            ready: VecDeque::new(),
            ended: false,
        };
        Ok(Response::new(Box::pin(stream::unfold(
            follower,
            |mut follower| async move { follower.next().await.map(|item| (item, follower)) },
        ))))
    }
}

/// Follows one session's history. Steps are read from the table in their order, so none is missed
/// and none is told twice, however fast they come.
struct Follower {
    engine: Arc<Engine>,
    shutdown: CancellationToken,
    session: Uuid,
    watch: Watch,
    seen: Option<i64>,
    ready: VecDeque<StepRow>,
    ended: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<pb::SessionStatus, Status>> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(step) = self.ready.pop_front() {
                self.ended = step.state == State::Released;
                return Some(Ok(convert::session_status(self.session, &step)));
            }
            if self.seen.is_some() {
                tokio::select! {
                    () = self.watch.changed() => {}
                    () = self.shutdown.cancelled() => {
                        self.ended = true;
                        return Some(Err(Status::unavailable(
                            "the server is shutting down; watch again",
                        )));
                    }
                }
            }
            match self
                .engine
                .store
                .steps(self.session, self.seen.unwrap_or(0))
                .await
            {
                Ok(mut steps) => {
                    // The first answer is the present state alone.
                    if self.seen.is_none() {
                        steps = steps.split_off(steps.len().saturating_sub(1));
                    }
                    self.seen = Some(steps.last().map_or(self.seen.unwrap_or(0), |last| last.seq));
                    self.ready.extend(steps);
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(convert::status(&error.into())));
                }
            }
        }
    }
}
