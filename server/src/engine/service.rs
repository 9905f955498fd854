//! Plans and services: what sessions may do, and how that changes while they go on.

use std::sync::Arc;

use futures::future::join_all;
use uuid::Uuid;

use super::{Engine, EngineError, Result, now_ms};
use crate::config::Plan;
use crate::session::machine::{Event, Outcome};
use crate::session::service::{Grant, Service};
use crate::store::{SessionRow, Subscriber, Who, Work};

/// Sessions looked at together when a plan has changed.
const PLAN_PAGE: i64 = 1000;

/// What an operator wants a session to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All that a plan says, now and when the plan changes.
    Plan(String),
    /// What is absent stays as it is; the session follows no plan any more.
    Parts {
        upstream_bps: Option<u64>,
        downstream_bps: Option<u64>,
        shape_downstream: Option<bool>,
        priority: Option<u8>,
    },
}

impl Engine {
    /// Gives one session another service.
    pub async fn set_service(self: &Arc<Self>, session: Uuid, wanted: &Wanted) -> Result<()> {
        let at_ms = now_ms();
        let engine = Arc::clone(self);
        let wanted = wanted.clone();
        self.store
            .change(session, move |work| {
                let row = work.session(session)?.ok_or(EngineError::NotFound(
                    "session_id: there is no such session",
                ))?;
                let (service, plan) = engine.asked_for(&wanted, row.session.service.service)?;
                service
                    .check()
                    .map_err(|error| EngineError::Invalid(error.to_string()))?;
                Self::serve(work, &row, (service, plan), Who::Operator, at_ms)?;
                work.audit(
                    Who::Operator,
                    "set-service",
                    Some(row.session.subscriber),
                    Some(session),
                    &match plan {
                        Some(plan) => format!("plan {plan}: {service}"),
                        None => service.to_string(),
                    },
                    at_ms,
                );
                Ok(())
            })
            .await
    }

    /// What is wanted of a session that has the service `before`, and the plan it follows.
    fn asked_for<'a>(
        &'a self,
        wanted: &Wanted,
        before: Service,
    ) -> Result<(Service, Option<&'a str>)> {
        match wanted {
            Wanted::Plan(name) => {
                let plan = self.known_plan(name)?;
                Ok((plan.service, Some(plan.name.as_str())))
            }
            Wanted::Parts {
                upstream_bps,
                downstream_bps,
                shape_downstream,
                priority,
            } => Ok((
                Service {
                    upstream_bps: upstream_bps.unwrap_or(before.upstream_bps),
                    downstream_bps: downstream_bps.unwrap_or(before.downstream_bps),
                    shape_downstream: shape_downstream.unwrap_or(before.shape_downstream),
                    priority: priority.unwrap_or(before.priority),
                    time_to_live_s: before.time_to_live_s,
                },
                None,
            )),
        }
    }

    /// Puts a subscriber and all its sessions on a plan; none: the default plan.
    pub async fn set_plan(self: &Arc<Self>, subscriber: Uuid, plan: Option<&str>) -> Result<()> {
        let at_ms = now_ms();
        let engine = Arc::clone(self);
        let plan = plan.map(ToOwned::to_owned);
        self.store
            .change(subscriber, move |work| {
                let chosen = match &plan {
                    Some(name) => Some(engine.known_plan(name)?),
                    None => engine.config.default_plan(),
                };
                if !work.set_plan(subscriber, plan.as_deref())? {
                    return Err(EngineError::NotFound(
                        "subscriber_id: there is no such subscriber",
                    ));
                }
                let service = chosen.map(|plan| plan.service).unwrap_or_default();
                let name = chosen.map(|plan| plan.name.as_str());
                for row in work.sessions_of(subscriber)? {
                    Self::serve(work, &row, (service, name), Who::Operator, at_ms)?;
                }
                work.audit(
                    Who::Operator,
                    "set-plan",
                    Some(subscriber),
                    None,
                    &format!("{}: {service}", name.unwrap_or("none")),
                    at_ms,
                );
                Ok(())
            })
            .await
    }

    /// Gives sessions what their plans say now, after the configuration may have changed. Returns
    /// how many sessions have another service.
    pub async fn follow_plans(self: &Arc<Self>) -> Result<usize> {
        let mut total = 0;
        for plan in &self.config.plans {
            let changed = self.follow_plan(plan).await?;
            if changed > 0 {
                let detail = format!("{}: {}, for {changed} sessions", plan.name, plan.service);
                tracing::info!(plan = plan.name, sessions = changed, "the plan has changed");
                self.store
                    .change(Uuid::nil(), move |work| {
                        let at_ms = now_ms();
                        work.audit(Who::Server, "plan-changed", None, None, &detail, at_ms);
                        Ok::<(), EngineError>(())
                    })
                    .await?;
            }
            total += changed;
        }
        for name in self.store.plans_in_use().await? {
            if self.config.plan(&name).is_none() {
                tracing::warn!(
                    plan = name,
                    "subscribers or sessions are on a plan that is not configured: open sessions \
                     keep their service, new ones get the default plan"
                );
            }
        }
        Ok(total)
    }

    /// Session by session: one that is served already is left alone, so that this can be cut off
    /// anywhere and begun again.
    async fn follow_plan(self: &Arc<Self>, plan: &Plan) -> Result<usize> {
        let mut changed = 0;
        let mut after = Uuid::nil();
        loop {
            let rows = self
                .store
                .sessions_behind_plan(&plan.name, &plan.service, after, PLAN_PAGE)
                .await?;
            let Some(last) = rows.last() else {
                return Ok(changed);
            };
            after = last.session.id;
            let served = rows.iter().map(|row| {
                let (id, service, name) = (row.session.id, plan.service, plan.name.clone());
                self.store.change(id, move |work| {
                    // It may have been given another plan since it was listed.
                    match work.session(id)? {
                        Some(row) if row.session.service.plan.as_ref() == Some(&name) => {
                            let given = (service, Some(name.as_str()));
                            Self::serve(work, &row, given, Who::Server, now_ms())
                        }
                        _ => Ok(false),
                    }
                })
            });
            for served in join_all(served).await {
                changed += usize::from(served?);
            }
        }
    }

    /// The service of a new session of a subscriber.
    pub(super) fn grant(&self, subscriber: &Subscriber) -> Grant {
        let own = subscriber
            .plan
            .as_deref()
            .and_then(|name| self.config.plan(name));
        let plan = own.or_else(|| self.config.default_plan());
        Grant::new(plan.map(|plan| (plan.name.as_str(), plan.service)))
    }

    /// Whether the session's service is another one now.
    fn serve(
        work: &mut Work<'_>,
        row: &SessionRow,
        (service, plan): (Service, Option<&str>),
        who: Who,
        at_ms: i64,
    ) -> Result<bool> {
        let event = Event::Serve { service, plan };
        match Self::drive(work, &row.session, event, who, at_ms)? {
            Outcome::Changed(change) => {
                Ok(change.session.service.revision != row.session.service.revision)
            }
            Outcome::Ignored(_) => Ok(false),
            Outcome::Denied(denied) => Err(denied.into()),
        }
    }

    pub(super) fn known_plan(&self, name: &str) -> Result<&Plan> {
        self.config.plan(name).ok_or_else(|| {
            let names: Vec<_> = self.config.plans.iter().map(|p| p.name.as_str()).collect();
            EngineError::Invalid(if names.is_empty() {
                "plan: no [[plan]] is configured".to_owned()
            } else {
                format!("plan: must be one of {}", names.join(", "))
            })
        })
    }
}
