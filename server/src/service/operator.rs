//! `Operator`: what the operator's own tools ask, over the administration socket.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::operator_server::Operator;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::convert::{self, Violations};
use super::operator_bulk::{Bulk, Outcomes};
use super::{operator_why, paging};
use crate::account::Actor;
use crate::config::Plan;
use crate::engine::{AUDIT_LEGACY_SEAL, Engine, EngineError, IdentityKey};
use crate::store::{CountersRow, Outcome, ReceiptRow, StoreError, SubscriberRow};
use crate::vault::KeyId;

pub struct OperatorService {
    engine: Arc<Engine>,
    listen: SocketAddr,
    started_ms: i64,
    bulk: Bulk,
}

impl OperatorService {
    pub fn new(
        engine: Arc<Engine>,
        listen: SocketAddr,
        started_ms: i64,
        shutdown: CancellationToken,
    ) -> Self {
        OperatorService {
            bulk: Bulk::new(Arc::clone(&engine), shutdown),
            engine,
            listen,
            started_ms,
        }
    }

    fn subscriber_view(&self, row: &SubscriberRow) -> Result<pb::SubscriberView, Status> {
        let subscriber = &row.subscriber;
        let (phone_masked, id_card_masked) = self
            .engine
            .masked_numbers(subscriber)
            .map_err(engine_failed)?;
        Ok(pb::SubscriberView {
            subscriber_id: subscriber.id.to_string(),
            phone_masked,
            id_card_masked,
            generation: subscriber.generation,
            sessions: row.sessions,
            created_unix_ms: subscriber.created_ms,
            plan: subscriber.plan.clone().unwrap_or_default(),
        })
    }

    async fn subscriber(&self, id: Uuid) -> Result<pb::SubscriberView, Status> {
        let row = self.engine.store.subscriber(id).await.map_err(failed)?;
        let row =
            row.ok_or_else(|| Status::not_found("subscriber_id: there is no such subscriber"))?;
        self.subscriber_view(&row)
    }

    /// That a gateway is configured, or was: a mistyped name would look like one without sessions.
    async fn check_gateway(&self, id: &str) -> Result<(), Status> {
        let is_configured = self.engine.config.gateways.iter().any(|own| own.id == id);
        let was = is_configured
            || self
                .engine
                .store
                .gateways()
                .await
                .map_err(failed)?
                .contains_key(id);
        was.then_some(()).ok_or_else(|| {
            Status::not_found(
                "gateway_id: no such gateway is configured, or has ever been connected; \
                 `doorstep-server gateways` has all that are configured",
            )
        })
    }

    /// The session after a change; of a dry run, as it would be.
    async fn answer(
        &self,
        outcome: Outcome,
        run: Run,
    ) -> Result<Response<pb::SessionDetail>, Status> {
        Ok(Response::new(match run {
            Run::Real => self.session_detail(outcome.row.session.id).await?,
            Run::Dry => self.detail_of(outcome).await?,
        }))
    }

    async fn session_detail(&self, id: Uuid) -> Result<pb::SessionDetail, Status> {
        let store = &self.engine.store;
        let row = store
            .session(id)
            .await
            .map_err(failed)?
            .ok_or_else(|| Status::not_found("session_id: there is no such session"))?;
        let steps = Vec::new();
        self.detail_of(Outcome { row, steps }).await
    }

    /// With the steps that are recorded before its own.
    async fn detail_of(&self, outcome: Outcome) -> Result<pb::SessionDetail, Status> {
        let store = &self.engine.store;
        let Outcome { row, steps } = outcome;
        let id = row.session.id;
        let receipts = store.receipts(id).await.map_err(failed)?;
        let counters = store.counters_of(&[id]).await.map_err(failed)?;
        let heard = self.engine.hub.liveness(&row.session);
        Ok(pb::SessionDetail {
            session: Some(convert::session_view(
                row,
                counters.first(),
                receipts.last(),
                heard,
            )),
            steps: store
                .steps(id, None)
                .await
                .map_err(failed)?
                .into_iter()
                .chain(steps)
                .map(convert::session_step)
                .collect(),
            receipts: receipts.iter().map(convert::receipt_view).collect(),
        })
    }
}

fn failed(error: StoreError) -> Status {
    engine_failed(error.into())
}

/// The operator is told everything.
fn engine_failed(error: EngineError) -> Status {
    match &error {
        EngineError::Store(_) | EngineError::Vault(_) => Status::internal(error.to_string()),
        _ => convert::status(&error),
    }
}

fn id(field: &str, text: &str) -> Result<Uuid, Status> {
    let mut violations = Violations::default();
    violations
        .check(field, convert::uuid(text))
        .ok_or_else(|| violations.status())
}

fn identity_key_view(key: &IdentityKey) -> pb::IdentityKeyView {
    let needs = key.needs.unwrap_or_default();
    pb::IdentityKeyView {
        key: key.id.number(),
        state: key.state.name().to_owned(),
        subscribers: needs.subscribers,
        sessions: needs.sessions,
        answers: needs.answers,
    }
}

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn status(
        &self,
        _request: Request<pb::OperatorStatusRequest>,
    ) -> Result<Response<pb::OperatorStatusResponse>, Status> {
        let store = &self.engine.store;
        let tallies = store.tallies().await.map_err(failed)?;
        let counted = self.engine.counted().await.map_err(engine_failed)?;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Response::new(pb::OperatorStatusResponse {
            operator: self.engine.config.operator.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: self.listen.to_string(),
            started_unix_ms: self.started_ms,
            subscribers: tallies.subscribers,
            sessions_by_state: tallies
                .by_state()
                .filter(|(_, count)| *count > 0)
                .map(|(state, count)| pb::StateCount {
                    state: convert::state(state).into(),
                    count,
                })
                .collect(),
            silent: self.engine.hub.silent() as u64,
            gateways_connected: count(self.engine.hub.gateways_connected()),
            gateways_configured: count(self.engine.config.gateways.len()),
            legacy_seal_enabled: self.engine.allows_legacy_seals(),
            legacy_seal_uses: store.audit_count(AUDIT_LEGACY_SEAL).await.map_err(failed)?,
            counted_unix_ms: counted.as_ref().map_or(0, |counted| counted.at_ms),
            receipts: counted.as_ref().map_or(0, |counted| counted.receipts),
            watches: count(self.engine.hub.watches_open()),
            identity_keys: counted
                .iter()
                .flat_map(|counted| &counted.identity_keys)
                .map(identity_key_view)
                .collect(),
            refused: self
                .engine
                .guard
                .refusals
                .counts()
                .map(convert::refused)
                .collect(),
        }))
    }

    async fn retire_identity_key(
        &self,
        request: Request<pb::RetireIdentityKeyRequest>,
    ) -> Result<Response<pb::RetireIdentityKeyResponse>, Status> {
        let request = request.get_ref();
        let key = KeyId::new(request.key)
            .ok_or_else(|| Status::invalid_argument("key: identity keys are numbered from 1"))?;
        let run = request.dry_run.into();
        let kept = self.engine.retire_identity_key(key, run).await;
        let kept = kept.map_err(|error| Status::failed_precondition(format!("{error:#}")))?;
        Ok(Response::new(pb::RetireIdentityKeyResponse {
            file: kept.display().to_string(),
        }))
    }

    async fn list_subscribers(
        &self,
        request: Request<pb::ListSubscribersRequest>,
    ) -> Result<Response<pb::ListSubscribersResponse>, Status> {
        let asked = paging::subscribers(request.get_ref())?;
        let page = self
            .engine
            .store
            .subscribers(asked.which, asked.after.as_ref(), asked.limit)
            .await
            .map_err(failed)?;
        Ok(Response::new(pb::ListSubscribersResponse {
            subscribers: page
                .rows
                .iter()
                .map(|row| self.subscriber_view(row))
                .collect::<Result<_, _>>()?,
            next_page_token: asked.token(page.next.as_ref()),
        }))
    }

    async fn show_subscriber(
        &self,
        request: Request<pb::ShowSubscriberRequest>,
    ) -> Result<Response<pb::SubscriberView>, Status> {
        let id = id("subscriber_id", &request.get_ref().subscriber_id)?;
        Ok(Response::new(self.subscriber(id).await?))
    }

    async fn reset_secret(
        &self,
        request: Request<pb::ResetSecretRequest>,
    ) -> Result<Response<pb::Credentials>, Status> {
        let request = request.get_ref();
        let id = id("subscriber_id", &request.subscriber_id)?;
        let reset = self.engine.reset_secret(id, request.dry_run.into()).await;
        let secret = reset.map_err(engine_failed)?;
        Ok(Response::new(pb::Credentials {
            subscriber_id: id.to_string(),
            secret: match request.dry_run {
                true => Vec::new(),
                false => secret.as_bytes().to_vec(),
            },
        }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let asked = paging::sessions(request.get_ref())?;
        let store = &self.engine.store;
        if let Some(gateway) = &asked.which.gateway {
            self.check_gateway(gateway).await?;
        }
        let page = store
            .sessions(&asked.which, asked.after.as_ref(), asked.limit)
            .await
            .map_err(failed)?;
        let ids: Vec<Uuid> = page.rows.iter().map(|row| row.session.id).collect();
        // Of each session the last one stays.
        let receipts: HashMap<Uuid, ReceiptRow> = store
            .receipts_of(&ids)
            .await
            .map_err(failed)?
            .into_iter()
            .map(|receipt| (receipt.session, receipt))
            .collect();
        let counters: HashMap<Uuid, CountersRow> = store
            .counters_of(&ids)
            .await
            .map_err(failed)?
            .into_iter()
            .map(|counters| (counters.session, counters))
            .collect();
        let sessions = page
            .rows
            .into_iter()
            .map(|row| {
                let id = row.session.id;
                let heard = self.engine.hub.liveness(&row.session);
                convert::session_view(row, counters.get(&id), receipts.get(&id), heard)
            })
            .collect();
        Ok(Response::new(pb::ListSessionsResponse {
            sessions,
            next_page_token: asked.token(page.next.as_ref()),
        }))
    }

    async fn show_session(
        &self,
        request: Request<pb::ShowSessionRequest>,
    ) -> Result<Response<pb::SessionDetail>, Status> {
        let id = id("session_id", &request.get_ref().session_id)?;
        Ok(Response::new(self.session_detail(id).await?))
    }

    async fn why(
        &self,
        request: Request<pb::WhyRequest>,
    ) -> Result<Response<pb::WhyResponse>, Status> {
        let country_code = self.engine.config.country_code.as_deref();
        let (subject, quiet_after) = operator_why::asked(request.into_inner(), country_code)?;
        let explained = self.engine.why(subject, quiet_after).await;
        let explained = explained.map_err(engine_failed)?;
        Ok(Response::new(operator_why::answer(explained)))
    }

    async fn force_session(
        &self,
        request: Request<pb::ForceSessionRequest>,
    ) -> Result<Response<pb::SessionDetail>, Status> {
        let request = request.get_ref();
        let id = id("session_id", &request.session_id)?;
        let run = Run::from(request.dry_run);
        let forced = self.engine.force(Actor::Operator, id, run).await;
        self.answer(forced.map_err(engine_failed)?, run).await
    }

    async fn disconnect_session(
        &self,
        request: Request<pb::DisconnectSessionRequest>,
    ) -> Result<Response<pb::SessionDetail>, Status> {
        let request = request.get_ref();
        let id = id("session_id", &request.session_id)?;
        let run = Run::from(request.dry_run);
        let ended = self.engine.disconnect(Actor::Operator, id, run).await;
        self.answer(ended.map_err(engine_failed)?, run).await
    }

    async fn move_session(
        &self,
        request: Request<pb::MoveSessionRequest>,
    ) -> Result<Response<pb::SessionDetail>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let id = violations.check("session_id", convert::uuid(&request.session_id));
        let location = violations.check("location_id", request.location_id.parse());
        let (Some(id), Some(location)) = (id, location) else {
            return Err(violations.status());
        };
        let run = Run::from(request.dry_run);
        let moved = self
            .engine
            .relocate(Actor::Operator, id, location, run)
            .await;
        self.answer(moved.map_err(engine_failed)?, run).await
    }

    async fn set_session_service(
        &self,
        request: Request<pb::SetSessionServiceRequest>,
    ) -> Result<Response<pb::SessionDetail>, Status> {
        let request = request.into_inner();
        let run = Run::from(request.dry_run);
        let (id, wanted) = convert::wanted_service(request)?;
        let served = self.engine.set_service(id, &wanted, run).await;
        self.answer(served.map_err(engine_failed)?, run).await
    }

    async fn set_subscriber_plan(
        &self,
        request: Request<pb::SetSubscriberPlanRequest>,
    ) -> Result<Response<pb::SubscriberView>, Status> {
        let request = request.get_ref();
        let id = id("subscriber_id", &request.subscriber_id)?;
        let plan = (!request.plan.is_empty()).then_some(request.plan.as_str());
        let run = Run::from(request.dry_run);
        let set = self.engine.set_plan(id, plan, run).await;
        let row = set.map_err(engine_failed)?;
        Ok(Response::new(match run {
            Run::Real => self.subscriber(id).await?,
            Run::Dry => self.subscriber_view(&row)?,
        }))
    }

    async fn list_plans(
        &self,
        _request: Request<pb::ListPlansRequest>,
    ) -> Result<Response<pb::ListPlansResponse>, Status> {
        let plans = self.engine.plans();
        let default = plans.default().map(|plan| plan.name.as_str());
        let view = |plan: &Plan| pb::PlanView {
            name: plan.name.clone(),
            service: Some(convert::service(plan.service)),
            is_default: default == Some(plan.name.as_str()),
            offered: plan.offer.offered,
            title: plan.offer.title.clone(),
            price: plan.offer.price.clone(),
        };
        let plans = plans.iter().map(view).collect();
        Ok(Response::new(pb::ListPlansResponse { plans }))
    }

    async fn reload_plans(
        &self,
        request: Request<pb::ReloadPlansRequest>,
    ) -> Result<Response<pb::ReloadPlansResponse>, Status> {
        let apply = !request.get_ref().dry_run;
        let reloaded = self.engine.reload_plans(apply).await;
        let reloaded = reloaded.map_err(engine_failed)?;
        let changes = reloaded.changes.into_iter().map(|change| pb::PlanChange {
            name: change.name,
            before: change.before.map(convert::service),
            after: change.after.map(convert::service),
        });
        let offers = reloaded.offers.into_iter();
        let offers = offers.map(|(name, offer)| pb::OfferChange {
            name,
            offered: offer.offered,
            title: offer.title,
            price: offer.price,
        });
        Ok(Response::new(pb::ReloadPlansResponse {
            changes: changes.collect(),
            default_plan: reloaded.other_default.map(Option::unwrap_or_default),
            needs_restart: reloaded.needs_restart,
            missing: reloaded.missing,
            offers: offers.collect(),
        }))
    }

    type ImportSubscribersStream = Outcomes;

    async fn import_subscribers(
        &self,
        request: Request<Streaming<pb::SubscriberToImport>>,
    ) -> Result<Response<Outcomes>, Status> {
        Ok(Response::new(self.bulk.import(request.into_inner())))
    }

    type ConnectSessionsStream = Outcomes;

    async fn connect_sessions(
        &self,
        request: Request<Streaming<pb::SessionToConnect>>,
    ) -> Result<Response<Outcomes>, Status> {
        Ok(Response::new(self.bulk.connect(request.into_inner())))
    }

    async fn list_gateways(
        &self,
        _request: Request<pb::ListGatewaysRequest>,
    ) -> Result<Response<pb::ListGatewaysResponse>, Status> {
        let mut gateways = Vec::with_capacity(self.engine.config.gateways.len());
        let store = &self.engine.store;
        let live = store.tallies().await.map_err(failed)?.live;
        let mut all = store.gateways().await.map_err(failed)?;
        for configured in &self.engine.config.gateways {
            let link = self.engine.hub.link(&configured.id);
            let seen = all.remove(&configured.id);
            let mut view = pb::GatewayView {
                gateway_id: configured.id.clone(),
                connected: link.is_some(),
                sessions: live.get(&configured.id).copied().unwrap_or(0),
                last_receipt: seen.as_ref().map_or(0, |seen| seen.last_receipt),
                ..pb::GatewayView::default()
            };
            if let Some(seen) = seen {
                view.since_unix_ms = seen.seen_ms;
                view.software_version = seen.software_version;
                view.peer = seen.peer;
            }
            if let Some(link) = link {
                view.since_unix_ms = link.since_ms;
                view.software_version.clone_from(&link.software_version);
                view.peer.clone_from(&link.peer);
                let last_receipt = link.last_receipt.load(Ordering::Relaxed);
                if last_receipt > 0 {
                    view.last_receipt = last_receipt;
                }
            }
            gateways.push(view);
        }
        Ok(Response::new(pb::ListGatewaysResponse { gateways }))
    }
}
