//! Plans: which there are, and how sessions follow them.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::{Engine, EngineError, Result, now_ms};
use crate::config::{Config, Offer, Plan, PlanChange, Plans};
use crate::store::Who;

/// Sessions read together when a plan has changed.
const PAGE: i64 = 1000;
/// Sessions of it that are being written: whatever else is asked for waits behind them.
const AT_ONCE: usize = 1000;

/// What the file says now.
#[derive(Clone, Debug)]
pub struct Reloaded {
    pub changes: Vec<PlanChange>,
    /// Names of those that are offered otherwise, and how now.
    pub offers: Vec<(String, Offer)>,
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

    /// The plans, and the one that a subscriber was put on.
    pub async fn plans_for(&self, subscriber: Uuid) -> Result<(Arc<Plans>, Option<String>)> {
        let row = self.store.subscriber(subscriber).await?;
        let row = row.ok_or(EngineError::Unauthenticated)?;
        Ok((self.plans(), row.subscriber.plan))
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
            offers: before
                .other_offers(&after)
                .into_iter()
                .map(|plan| (plan.name.clone(), plan.offer.clone()))
                .collect(),
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
        let names = reloaded.changes.iter().map(|change| change.name.clone());
        self.unfollowed().extend(names);
        self.plans_changed.notify_one();
        Ok(())
    }

    /// Waits until plans were taken up after [`follow_plans`](Self::follow_plans) began last.
    pub async fn plans_changed(&self) {
        self.plans_changed.notified().await;
    }

    /// Names of plans that sessions may not follow yet.
    fn unfollowed(&self) -> MutexGuard<'_, BTreeSet<String>> {
        let unfollowed = self.unfollowed.lock();
        unfollowed.unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives sessions what their plans say now, if it may be something else than when they were served: any plan
    /// after a start, and later those that a reload has changed. Returns how many sessions have another service.
    pub async fn follow_plans(self: &Arc<Self>) -> Result<usize> {
        let mut total = 0;
        loop {
            // Taken out before: it may change once more meanwhile.
            let Some(name) = self.unfollowed().pop_first() else {
                break;
            };
            match self.follow_named(&name).await {
                Ok(changed) => total += changed,
                Err(error) => {
                    self.unfollowed().insert(name);
                    return Err(error);
                }
            }
        }
        let plans = self.plans();
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

    async fn follow_named(self: &Arc<Self>, name: &str) -> Result<usize> {
        let plans = self.plans();
        let Some(plan) = plans.named(name) else {
            return Ok(0);
        };
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
        Ok(changed)
    }

    /// Session by session: one that is served already is left alone, so that this can be cut off
    /// anywhere and begun again.
    async fn follow_plan(self: &Arc<Self>, plan: &Plan) -> Result<usize> {
        let begin = (Arc::clone(self), plan.clone(), Uuid::nil());
        let pages = stream::try_unfold(begin, |(engine, plan, after)| async move {
            let behind = engine
                .store
                .sessions_behind_plan(&plan.name, &plan.service, after, PAGE);
            let rows = behind.await?;
            let Some(last) = rows.last().map(|row| row.session.id) else {
                return Ok::<_, EngineError>(None);
            };
            Ok(Some((stream::iter(rows).map(Ok), (engine, plan, last))))
        });
        // The next page is read while sessions of this one are written.
        let (engine, plan) = (Arc::clone(self), plan.clone());
        pages
            .try_flatten()
            .map_ok(move |row| Arc::clone(&engine).serve_by_plan(row.session.id, plan.clone()))
            .try_buffer_unordered(AT_ONCE)
            .try_fold(0, |changed, served| async move {
                Ok(changed + usize::from(served))
            })
            .await
    }

    async fn serve_by_plan(self: Arc<Self>, session: Uuid, plan: Plan) -> Result<bool> {
        let Plan { name, service, .. } = plan;
        self.store
            .change(move |work| {
                // It may have been given another plan since it was listed.
                match work.session(session)? {
                    Some(row) if row.session.service.plan.as_ref() == Some(&name) => {
                        let given = (service, Some(name.as_str()));
                        Self::serve(work, &row, given, Who::Server, now_ms())
                    }
                    _ => Ok(false),
                }
            })
            .await
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
    let offers = reloaded.offers.iter();
    let offers = offers.map(|(name, offer)| format!("{name}: {offer}"));
    let all: Vec<_> = changes.chain(offers).chain(default).collect();
    all.join("; ")
}

/// The plan that a subscriber asks for, who is on `own` otherwise.
pub(super) fn chosen_plan<'a>(
    plans: &'a Plans,
    own: Option<&'a str>,
    name: &str,
) -> Result<&'a Plan> {
    let mut choice = plans.choice(own);
    choice.find(|plan| plan.name == name).ok_or_else(|| {
        let names: Vec<_> = plans.choice(own).map(|plan| plan.name.as_str()).collect();
        EngineError::Precondition(if names.is_empty() {
            "plan: this operator offers none to choose from; leave it out".to_owned()
        } else {
            format!(
                "plan: it is not offered; choose one of {}, or leave it out",
                names.join(", ")
            )
        })
    })
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
