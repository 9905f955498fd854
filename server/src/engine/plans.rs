//! Plans: which there are, and how sessions follow them.

use std::sync::{Arc, PoisonError};

use futures::future::join_all;
use uuid::Uuid;

use super::{Engine, EngineError, Result, now_ms};
use crate::config::{Config, Plan, PlanChange, Plans};
use crate::store::Who;

/// Sessions looked at together when a plan has changed.
const PAGE: i64 = 1000;

/// What the file says now.
#[derive(Clone, Debug)]
pub struct Reloaded {
    pub changes: Vec<PlanChange>,
    /// The default plan's name, if it is another one.
    pub other_default: Option<Option<String>>,
    /// Keys of the file, beside plans, that hold once the server is started again.
    pub needs_restart: Vec<String>,
    /// Plans that the file does not have and subscribers or sessions are on.
    pub missing: Vec<String>,
}

impl Engine {
    /// As they are now.
    pub fn plans(&self) -> Arc<Plans> {
        let plans = self.plans.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&plans)
    }

    /// Reads the configuration again, and takes up its plans if `apply`. What is wrong with it
    /// changes nothing. Sessions are given what their plans say by whoever waits for
    /// [`plans_changed`](Self::plans_changed).
    pub async fn reload_plans(self: &Arc<Self>, apply: bool) -> Result<Reloaded> {
        // One after the other: of two, the later one has read the file later.
        let _turn = self.reload_turn.lock().await;
        let file = self.config.file.clone();
        let read = doorstep_daemon::blocking::run(move || Config::load(&file)).await;
        let later = read
            .map_err(|error| EngineError::Precondition(error.to_string()))?
            .map_err(|error| EngineError::Precondition(error.to_string()))?;
        let (before, after) = (self.plans(), later.plans.clone());
        let name = |plans: &Plans| plans.default().map(|plan| plan.name.clone());
        let in_use = self.store.plans_in_use().await?.into_iter();
        let reloaded = Reloaded {
            changes: before.changes(&after),
            other_default: (name(&before) != name(&after)).then(|| name(&after)),
            needs_restart: self.config.differing_keys(&later),
            missing: in_use.filter(|name| after.named(name).is_none()).collect(),
        };
        if apply && *before != after {
            self.take_up(after, &reloaded).await?;
        }
        Ok(reloaded)
    }

    async fn take_up(&self, plans: Plans, reloaded: &Reloaded) -> Result<()> {
        // A time to live counts from a contact that is written down.
        self.note_contacts_for(&plans).await?;
        let text = audit_text(reloaded);
        self.store
            .change(move |work| {
                work.audit(Who::Operator, "reload-plans", None, None, &text, now_ms());
                Ok::<(), EngineError>(())
            })
            .await?;
        let plans = Arc::new(plans);
        *self.plans.write().unwrap_or_else(PoisonError::into_inner) = plans;
        // What was decided by the former plans is written before sessions are looked at.
        self.store.settle().await;
        self.plans_changed.notify_one();
        Ok(())
    }

    /// Waits until plans were taken up after [`follow_plans`](Self::follow_plans) began last.
    pub async fn plans_changed(&self) {
        self.plans_changed.notified().await;
    }

    /// Gives sessions what their plans say now, which may be something else than when they were served. Returns
    /// how many sessions have another service.
    pub async fn follow_plans(self: &Arc<Self>) -> Result<usize> {
        let mut total = 0;
        let plans = self.plans();
        for plan in plans.iter() {
            let changed = self.follow_plan(plan).await?;
            if changed > 0 {
                let detail = format!("{}: {}, for {changed} sessions", plan.name, plan.service);
                tracing::info!(plan = plan.name, sessions = changed, "the plan has changed");
                self.store
                    .change(move |work| {
                        let at_ms = now_ms();
                        work.audit(Who::Server, "plan-changed", None, None, &detail, at_ms);
                        Ok::<(), EngineError>(())
                    })
                    .await?;
            }
            total += changed;
        }
        for name in self.store.plans_in_use().await? {
            if plans.named(&name).is_none() {
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
                .sessions_behind_plan(&plan.name, &plan.service, after, PAGE)
                .await?;
            let Some(last) = rows.last() else {
                return Ok(changed);
            };
            after = last.session.id;
            let served = rows.iter().map(|row| {
                let (id, service, name) = (row.session.id, plan.service, plan.name.clone());
                self.store.change(move |work| {
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
}

fn audit_text(reloaded: &Reloaded) -> String {
    let changes = reloaded.changes.iter().map(|change| match change.after {
        Some(service) => format!("{}: {service}", change.name),
        None => format!("{}: gone", change.name),
    });
    let default = reloaded.other_default.iter().map(|name| match name {
        Some(name) => format!("default plan: {name}"),
        None => "no default plan".to_owned(),
    });
    changes.chain(default).collect::<Vec<_>>().join("; ")
}

pub(super) fn known_plan<'a>(plans: &'a Plans, name: &str) -> Result<&'a Plan> {
    plans.named(name).ok_or_else(|| {
        let names: Vec<_> = plans.iter().map(|plan| plan.name.as_str()).collect();
        EngineError::Invalid(if names.is_empty() {
            "plan: no [[plan]] is configured".to_owned()
        } else {
            format!("plan: must be one of {}", names.join(", "))
        })
    })
}
