//! Services: what sessions may do, and how that changes while they go on.

use std::sync::Arc;

use doorstep_daemon::dry_run::Run;
use uuid::Uuid;

use super::access::Ask;
use super::plans::known_plan;
use super::{Engine, EngineError, Result, now_ms};
use crate::config::Plans;
use crate::session::machine::{self, Event};
use crate::session::service::{Grant, Service};
use crate::store::{Outcome, SessionRow, StoreError, SubscriberRow, Who, Work};

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
    pub async fn set_service(
        self: &Arc<Self>,
        session: Uuid,
        wanted: &Wanted,
        run: Run,
    ) -> Result<Outcome> {
        let at_ms = now_ms();
        let engine = Arc::clone(self);
        let wanted = wanted.clone();
        self.store
            .change_or_try(run, move |work| {
                let row = work.session(session)?.ok_or(EngineError::NotFound(
                    "session_id: there is no such session",
                ))?;
                let plans = engine.plans();
                let (service, plan) = asked_for(&plans, &wanted, row.session.service.service)?;
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
                Ok(work.outcome(session)?)
            })
            .await
    }

    /// Puts a subscriber and all its sessions on a plan; none: the default plan.
    pub async fn set_plan(
        self: &Arc<Self>,
        subscriber: Uuid,
        plan: Option<&str>,
        run: Run,
    ) -> Result<SubscriberRow> {
        let at_ms = now_ms();
        let engine = Arc::clone(self);
        let plan = plan.map(ToOwned::to_owned);
        self.store
            .change_or_try(run, move |work| {
                let plans = engine.plans();
                let chosen = match &plan {
                    Some(name) => Some(known_plan(&plans, name)?),
                    None => plans.default(),
                };
                if !work.set_plan(subscriber, plan.as_deref())? {
                    return Err(EngineError::NotFound(
                        "subscriber_id: there is no such subscriber",
                    ));
                }
                let service = chosen.map(|plan| plan.service).unwrap_or_default();
                let name = chosen.map(|plan| plan.name.as_str());
                let sessions = work.sessions_of(subscriber)?;
                for row in &sessions {
                    Self::serve(work, row, (service, name), Who::Operator, at_ms)?;
                }
                work.audit(
                    Who::Operator,
                    "set-plan",
                    Some(subscriber),
                    None,
                    &format!("{}: {service}", name.unwrap_or("none")),
                    at_ms,
                );
                let row = work.subscriber(subscriber)?;
                Ok(SubscriberRow {
                    subscriber: row.ok_or(StoreError::Conflict)?,
                    sessions: sessions.len() as u64,
                })
            })
            .await
    }

    /// The service of a new session.
    pub(super) fn grant(&self, ask: &Ask<'_>) -> Grant {
        let plans = self.plans();
        let own = ask.subscriber.plan.as_deref();
        let plan = ask.plan.or_else(|| plans.of(own));
        Grant::new(plan.map(|plan| (plan.name.as_str(), plan.service)))
    }

    /// Whether the session's service is another one now.
    pub(super) fn serve(
        work: &mut Work<'_>,
        row: &SessionRow,
        (service, plan): (Service, Option<&str>),
        who: Who,
        at_ms: i64,
    ) -> Result<bool> {
        let event = Event::Serve { service, plan };
        match Self::drive(work, &row.session, event, who, at_ms)? {
            machine::Outcome::Changed(change) => {
                Ok(change.session.service.revision != row.session.service.revision)
            }
            machine::Outcome::Ignored(_) => Ok(false),
            machine::Outcome::Denied(denied) => Err(denied.into()),
        }
    }
}

/// What is wanted of a session that has the service `before`, and the plan it follows.
fn asked_for<'a>(
    plans: &'a Plans,
    wanted: &Wanted,
    before: Service,
) -> Result<(Service, Option<&'a str>)> {
    match wanted {
        Wanted::Plan(name) => {
            let plan = known_plan(plans, name)?;
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
