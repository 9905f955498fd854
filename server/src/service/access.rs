//! `Access`: what terminals ask for.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::access_server::Access;
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::convert::{self, Violations};
use crate::engine::{Engine, EngineError};
use crate::hub::{News, Watch};
use crate::identity::{IdCard, Phone};
use crate::limits::{Place, Reason};
use crate::session::State;
use crate::store::StepRow;
use crate::vault::Secret;
use crate::verification::{Claim, Verifier};

/// News of another server may get lost: the table is looked at after this long in any case.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

pub struct AccessService {
    engine: Arc<Engine>,
    verifier: Option<Arc<Verifier>>,
    shutdown: CancellationToken,
}

impl AccessService {
    pub fn new(
        engine: Arc<Engine>,
        verifier: Option<Arc<Verifier>>,
        shutdown: CancellationToken,
    ) -> Self {
        AccessService {
            engine,
            verifier,
            shutdown,
        }
    }

    fn status(&self, error: &EngineError) -> Status {
        if matches!(error, EngineError::Busy) {
            self.engine.guard.refusals.count(Reason::Store);
        }
        convert::status(error)
    }

    /// Asks the operator's hook, if there is one. Before anything is looked up, so that nobody
    /// learns which numbers are registered without owning them.
    async fn verify(&self, claim: &Claim<'_>) -> Result<(), Status> {
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        let Some(place) = verifier.place() else {
            let refusals = &self.engine.guard.refusals;
            return Err(refusals.refuse(Reason::Verifications, None));
        };
        let verdict = verifier.ask(claim, place).await;
        convert::verdict(verdict)
    }

    async fn authenticate(&self, (id, secret): (Uuid, Secret)) -> Result<Uuid, Status> {
        self.engine.guard.credentials(id, &secret)?;
        self.engine
            .authenticate(id, &secret)
            .await
            .map_err(|error| self.status(&error))?;
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
            &request.get_ref().phone,
            &request.get_ref().id_card,
            self.engine.config.country_code.as_deref(),
        )?;
        let code = convert::verification_code(&request.get_ref().verification_code)?;
        self.verify(&Claim {
            operator: &self.engine.config.operator,
            phone: phone.as_ref().map(Phone::as_str),
            id_card: id_card.as_ref().map(IdCard::as_str),
            code,
            source: request.remote_addr().map(|peer| peer.ip().to_canonical()),
        })
        .await?;
        let (id, secret) = self
            .engine
            .register(phone, id_card)
            .await
            .map_err(|error| self.status(&error))?;
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
            .map_err(|error| self.status(&error))?;
        Ok(Response::new(pb::RequestAccessResponse {
            session_id: granted.session.to_string(),
            generation: granted.generation,
            session_key: granted.key.as_bytes().to_vec(),
        }))
    }

    async fn plans(
        &self,
        request: Request<pb::PlansRequest>,
    ) -> Result<Response<pb::PlansResponse>, Status> {
        let Some(credentials) = request.into_inner().credentials else {
            let plans = self.engine.plans();
            return Ok(Response::new(convert::offered_plans(&plans, None)));
        };
        let mut violations = Violations::default();
        let credentials = convert::credentials(Some(credentials), &mut violations);
        let credentials = credentials.ok_or_else(|| violations.status())?;
        let subscriber = self.authenticate(credentials).await?;
        let found = self.engine.plans_for(subscriber).await;
        let (plans, own) = found.map_err(|error| self.status(&error))?;
        Ok(Response::new(convert::offered_plans(
            &plans,
            own.as_deref(),
        )))
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
            .map_err(|error| self.status(&error))?;
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
            .map_err(|error| self.status(&error))?;
        let guard = &self.engine.guard;
        let place = guard.watch(subscriber)?;
        let watch = self.engine.hub.watch(session);
        let watch = watch.ok_or_else(|| guard.refusals.refuse(Reason::Watches, None))?;
        let follower = Follower {
            engine: Arc::clone(&self.engine),
            shutdown: self.shutdown.clone(),
            session,
            watch,
            _place: place,
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

/// Follows one session's history. Each step names the one before, so none is missed and none is told
/// twice, however fast they come and whichever server makes them.
struct Follower {
    engine: Arc<Engine>,
    shutdown: CancellationToken,
    session: Uuid,
    watch: Watch,
    _place: Place<Uuid>,
    /// The step told last, or to be told next to last.
    seen: Option<Uuid>,
    ready: VecDeque<Arc<StepRow>>,
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
            let shutdown = self.shutdown.clone();
            let looked = tokio::select! {
                looked = self.look() => looked,
                () = shutdown.cancelled() => Err(Status::unavailable(
                    "the server is shutting down; watch again",
                )),
            };
            if let Err(status) = looked {
                self.ended = true;
                return Some(Err(status));
            }
        }
    }

    /// Waits for news and makes ready what has not been told.
    async fn look(&mut self) -> Result<(), Status> {
        let store = &self.engine.store;
        let steps = match self.seen {
            // The first answer is the present state alone.
            None => store.last_step(self.session).await.map(Vec::from_iter),
            Some(seen) => match tokio::time::timeout(LOOK_AGAIN, self.watch.news()).await {
                Ok(News::Step(step)) if step.previous == Some(seen) => {
                    self.seen = Some(step.id);
                    self.ready.push_back(step);
                    return Ok(());
                }
                // It was read from the table before the news came.
                Ok(News::Step(step)) if step.id == seen => return Ok(()),
                _ => store.steps(self.session, Some(seen)).await,
            },
        };
        let steps = steps.map_err(|error| convert::status(&error.into()))?;
        self.seen = steps.last().map(|last| last.id).or(self.seen);
        self.ready.extend(steps.into_iter().map(Arc::new));
        Ok(())
    }
}
