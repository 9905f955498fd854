//! Plans and services: what sessions may do, and how that changes while they go on.

use uuid::Uuid;

use super::{Engine, EngineError, Result, Wakes, now_ms};
use crate::config::Plan;
use crate::session::machine::{Event, Outcome};
use crate::session::service::{Grant, Service};
use crate::store::{SessionRow, Tx, Who};

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
    pub async fn set_service(&self, session: Uuid, wanted: &Wanted) -> Result<()> {
        let at_ms = now_ms();
        let mut tx = self.store.begin().await?;
        let row = tx.session(session).await?.ok_or(EngineError::NotFound(
            "session_id: there is no such session",
        ))?;
        let (service, plan) = match wanted {
            Wanted::Plan(name) => {
                let plan = self.known_plan(name)?;
                (plan.service, Some(plan.name.as_str()))
            }
            Wanted::Parts {
                upstream_bps,
                downstream_bps,
                shape_downstream,
                priority,
            } => {
                let before = row.session.service.service;
                let service = Service {
                    upstream_bps: upstream_bps.unwrap_or(before.upstream_bps),
                    downstream_bps: downstream_bps.unwrap_or(before.downstream_bps),
                    shape_downstream: shape_downstream.unwrap_or(before.shape_downstream),
                    priority: priority.unwrap_or(before.priority),
                };
                (service, None)
            }
        };
        service
            .check()
            .map_err(|error| EngineError::Invalid(error.to_string()))?;
        let mut wakes = Wakes::default();
        self.serve(
            &mut tx,
            &mut wakes,
            &row,
            (service, plan),
            Who::Operator,
            at_ms,
        )
        .await?;
        tx.audit(
            Who::Operator,
            "set-service",
            Some(row.session.subscriber),
            Some(session),
            &match plan {
                Some(plan) => format!("plan {plan}: {service}"),
                None => service.to_string(),
            },
            at_ms,
        )
        .await?;
        self.commit(tx, wakes).await
    }

    /// Puts a subscriber and all its sessions on a plan; none: the default plan.
    pub async fn set_plan(&self, subscriber: Uuid, plan: Option<&str>) -> Result<()> {
        let at_ms = now_ms();
        let chosen = match plan {
            Some(name) => Some(self.known_plan(name)?),
            None => self.config.default_plan(),
        };
        let mut tx = self.store.begin().await?;
        if !tx.set_plan(subscriber, plan).await? {
            return Err(EngineError::NotFound(
                "subscriber_id: there is no such subscriber",
            ));
        }
        let service = chosen.map(|plan| plan.service).unwrap_or_default();
        let name = chosen.map(|plan| plan.name.as_str());
        let mut wakes = Wakes::default();
        for row in tx.sessions_of(subscriber).await? {
            self.serve(
                &mut tx,
                &mut wakes,
                &row,
                (service, name),
                Who::Operator,
                at_ms,
            )
            .await?;
        }
        tx.audit(
            Who::Operator,
            "set-plan",
            Some(subscriber),
            None,
            &format!("{}: {service}", name.unwrap_or("none")),
            at_ms,
        )
        .await?;
        self.commit(tx, wakes).await
    }

    /// Gives sessions what their plans say now, after the configuration may have changed. Returns
    /// how many sessions have another service.
    pub async fn follow_plans(&self) -> Result<usize> {
        let at_ms = now_ms();
        let mut tx = self.store.begin().await?;
        let mut wakes = Wakes::default();
        let mut total = 0;
        for plan in &self.config.plans {
            let given = (plan.service, Some(plan.name.as_str()));
            let mut changed = 0;
            for row in tx.sessions_on_plan(&plan.name).await? {
                let served = self
                    .serve(&mut tx, &mut wakes, &row, given, Who::Server, at_ms)
                    .await?;
                changed += usize::from(served);
            }
            if changed > 0 {
                let detail = format!("{}: {}, for {changed} sessions", plan.name, plan.service);
                tracing::info!(plan = plan.name, sessions = changed, "the plan has changed");
                tx.audit(Who::Server, "plan-changed", None, None, &detail, at_ms)
                    .await?;
            }
            total += changed;
        }
        for name in tx.plans_in_use().await? {
            if self.config.plan(&name).is_none() {
                tracing::warn!(
                    plan = name,
                    "subscribers or sessions are on a plan that is not configured: open sessions \
                     keep their service, new ones get the default plan"
                );
            }
        }
        self.commit(tx, wakes).await?;
        Ok(total)
    }

    /// The service of a new session of a subscriber.
    pub(super) async fn grant(&self, tx: &mut Tx, subscriber: Uuid) -> Result<Grant> {
        let own = tx.plan(subscriber).await?;
        let own = own.as_deref().and_then(|name| self.config.plan(name));
        let plan = own.or_else(|| self.config.default_plan());
        Ok(Grant::new(
            plan.map(|plan| (plan.name.as_str(), plan.service)),
        ))
    }

    /// Whether the session's service is another one now.
    async fn serve(
        &self,
        tx: &mut Tx,
        wakes: &mut Wakes,
        row: &SessionRow,
        (service, plan): (Service, Option<&str>),
        who: Who,
        at_ms: i64,
    ) -> Result<bool> {
        let event = Event::Serve { service, plan };
        match self
            .drive(tx, wakes, &row.session, event, who, at_ms)
            .await?
        {
            Outcome::Changed(change) => {
                let grant = &change.session.service;
                let changed = grant.revision != row.session.service.revision;
                if changed {
                    tracing::info!(
                        session = %row.session.id,
                        revision = grant.revision,
                        %service,
                        "service changed"
                    );
                }
                Ok(changed)
            }
            Outcome::Ignored(_) => Ok(false),
            Outcome::Denied(denied) => Err(denied.into()),
        }
    }

    fn known_plan(&self, name: &str) -> Result<&Plan> {
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
