//! What the operator has done for many at once: row by row, each for itself, so that it can be cut
//! off anywhere and begun again. A group of rows shares what the store writes together.

use std::collections::HashMap;
use std::sync::Arc;

use doorstep_daemon::dry_run::Run;
use doorstep_location::LocationId;
use futures::future::join_all;
use uuid::Uuid;

use super::access::Ask;
use super::accounts::allowed;
use super::plans::known_plan;
use super::{Engine, EngineError, Result, now_ms};
use crate::account::{Actor, Right};
use crate::identity::{IdCard, Phone};
use crate::session::{Establishment, SealedSecret};
use crate::store::{Answer, Need, Outcome, SessionRow, Who, Work};
use crate::vault::{Purpose, Secret};

/// A subscriber that the operator knows and this server shall know.
#[derive(Clone, Debug)]
pub struct ToImport {
    pub phone: Option<Phone>,
    pub id_card: Option<IdCard>,
    /// None: the default plan.
    pub plan: Option<String>,
    pub run: Run,
}

#[derive(Debug)]
pub enum Imported {
    /// With the secret; of a dry run nobody has either.
    New(Uuid, Secret, Run),
    /// Somebody has these numbers already.
    Present(Uuid),
}

/// Who is meant.
#[derive(Clone, Debug)]
pub enum Which {
    Id(Uuid),
    Numbers(Option<Phone>, Option<IdCard>),
}

/// A session that the operator wants.
#[derive(Clone, Debug)]
pub struct ToBind {
    pub subscriber: Which,
    pub location: LocationId,
    /// Beside the sessions that there are.
    pub additional: bool,
    pub establishment: Establishment,
    pub run: Run,
}

/// The subscriber's session.
#[derive(Clone, Debug)]
pub struct Bound {
    pub subscriber: Uuid,
    pub session: Uuid,
    /// The session as it is, or of a dry run would be.
    pub outcome: Outcome,
    /// It was there already.
    pub present: bool,
    pub run: Run,
}

/// What is told apart by what the operator opened a session with.
const OPENED: &[u8] = b"opened by the operator";

/// What one number is claimed by, under each identity key.
pub(super) type Claims = Vec<Vec<u8>>;

/// Whose claims are.
pub(super) type Owners = HashMap<Vec<u8>, Uuid>;

impl Engine {
    /// Makes subscribers known; outcomes in the order of the rows.
    pub async fn import_subscribers(
        self: &Arc<Self>,
        rows: Vec<ToImport>,
    ) -> Result<Vec<Result<Imported>>> {
        let numbers: Vec<_> = rows
            .iter()
            .map(|row| self.claims(row.phone.as_ref(), row.id_card.as_ref()))
            .collect();
        let owners = self.owners(&numbers).await?;
        let imported = rows.into_iter().zip(&numbers).map(|(row, numbers)| {
            let known = one_owner(numbers, &owners);
            async move {
                match known {
                    Ok(None) => self.import_one(row).await,
                    Ok(Some(id)) => Ok(Imported::Present(id)),
                    Err(error) => Err(error),
                }
            }
        });
        let mut imported = join_all(imported).await;
        // Who came twice in this group is known by now.
        let again =
            |outcome: &Result<Imported>| matches!(outcome, Err(EngineError::AlreadyRegistered));
        if imported.iter().any(again) {
            let owners = self.owners(&numbers).await?;
            for (outcome, numbers) in imported.iter_mut().zip(&numbers) {
                if again(outcome)
                    && let Some(known) = one_owner(numbers, &owners).transpose()
                {
                    *outcome = known.map(Imported::Present);
                }
            }
        }
        Ok(imported)
    }

    async fn import_one(self: &Arc<Self>, row: ToImport) -> Result<Imported> {
        if let Some(plan) = &row.plan {
            known_plan(&self.plans(), plan)?;
        }
        let (new, secret) = self.new_subscriber(row.phone.as_ref(), row.id_card.as_ref())?;
        let (id, run) = (new.id, row.run);
        let at_ms = now_ms();
        self.store
            .change_or_try(run, move |work| {
                if !work.insert_subscriber(&new, at_ms)? {
                    return Err(EngineError::AlreadyRegistered);
                }
                let plan = row.plan.as_deref();
                if plan.is_some() {
                    work.set_plan(id, plan)?;
                }
                work.audit(
                    Who::Operator,
                    "import-subscriber",
                    Some(id),
                    None,
                    plan.unwrap_or_default(),
                    at_ms,
                );
                Ok(())
            })
            .await?;
        Ok(Imported::New(id, secret, run))
    }

    /// Opens sessions; outcomes in the order of the rows.
    pub async fn bind_sessions(
        self: &Arc<Self>,
        actor: Actor,
        rows: Vec<ToBind>,
    ) -> Result<Vec<Result<Bound>>> {
        let who = allowed(actor, Right::Serve)?;
        let numbers: Vec<_> = rows
            .iter()
            .map(|row| match &row.subscriber {
                Which::Id(_) => Vec::new(),
                Which::Numbers(phone, id_card) => self.claims(phone.as_ref(), id_card.as_ref()),
            })
            .collect();
        let owners = self.owners(&numbers).await?;
        let bound = rows.into_iter().zip(&numbers).map(|(row, numbers)| {
            let subscriber = match row.subscriber {
                Which::Id(id) => Ok(Some(id)),
                Which::Numbers(..) => one_owner(numbers, &owners),
            };
            async move {
                let subscriber = subscriber?.ok_or(EngineError::NotFound(
                    "no subscriber is registered with what is given",
                ))?;
                let wanted = (row.additional, row.establishment);
                let ask = (who, subscriber, row.location);
                self.bind_one(ask, wanted, row.run).await
            }
        });
        Ok(join_all(bound).await)
    }

    async fn bind_one(
        self: &Arc<Self>,
        (who, subscriber, location): (Who, Uuid, LocationId),
        wanted: (bool, Establishment),
        run: Run,
    ) -> Result<Bound> {
        let engine = Arc::clone(self);
        let at_ms = now_ms();
        self.store
            .change_or_try(run, move |work| {
                work.expect([Need::Subscriber(subscriber), Need::SessionsOf(subscriber)])?;
                let row = work.subscriber(subscriber)?;
                let row = row.ok_or(EngineError::NotFound("there is no such subscriber"))?;
                let gateway = engine.config.gateway_for(&location);
                let ask = Ask {
                    subscriber: &row,
                    location: &location,
                    gateway: gateway.ok_or(EngineError::NoGateway)?,
                    plan: None,
                    who,
                    at_ms,
                };
                engine.bind(work, &ask, wanted, run)
            })
            .await
    }

    fn bind(
        &self,
        work: &mut Work<'_>,
        ask: &Ask<'_>,
        (additional, establishment): (bool, Establishment),
        run: Run,
    ) -> Result<Bound> {
        Self::can_come_up(ask, establishment)?;
        let subscriber = ask.subscriber.id;
        let sessions = work.sessions_of(subscriber)?;
        let there = sessions.iter().find(|row| is_bound_to(row, ask.location));
        if let Some(row) = there {
            let held = row.session.establishment;
            if held != establishment {
                return Err(EngineError::Precondition(format!(
                    "the subscriber has a session there that comes up by {held}; disconnect it first"
                )));
            }
            return Ok(Bound {
                subscriber,
                session: row.session.id,
                outcome: work.outcome(row.session.id)?,
                present: true,
                run,
            });
        }
        if additional {
            let limit = self.config.limits.sessions_per_subscriber;
            if sessions.len() >= limit {
                return Err(EngineError::Exhausted(format!(
                    "the subscriber has {limit} sessions, which is the limit (refused ones count)"
                )));
            }
        } else if sessions.iter().any(|row| row.session.state.is_live()) {
            return Err(EngineError::Precondition(
                "the subscriber has a session at another location, or one that is ending; disconnect \
                 it, or ask for an additional one"
                    .to_owned(),
            ));
        } else {
            Self::supersede(work, ask, &sessions)?;
        }
        let (session, generation, key) = self.connect(work, ask, establishment)?;
        let opened = Answer {
            digest: OPENED.to_vec(),
            session,
            generation,
            key,
            at_ms: ask.at_ms,
        };
        // As if it had been asked for under the session's own id: see `opened_for`.
        work.record_answer(subscriber, session, &opened);
        work.audit(
            ask.who,
            "connect-session",
            Some(subscriber),
            Some(session),
            &format!(
                "at {} with generation {generation}, by {establishment}",
                ask.gateway.id
            ),
            ask.at_ms,
        );
        Ok(Bound {
            subscriber,
            session,
            outcome: work.outcome(session)?,
            present: false,
            run,
        })
    }

    /// A session that the operator has opened for the very location that the subscriber's terminal
    /// now asks for: it gets this one, with the key that the gateway has of it. No terminal is
    /// asked for one that comes up by DHCP.
    pub(super) fn opened_for(
        work: &mut Work<'_>,
        ask: &Ask<'_>,
        sessions: &[SessionRow],
    ) -> Result<Option<(Uuid, u64, SealedSecret)>> {
        for SessionRow { session, .. } in sessions {
            if !session.state.is_connected_side()
                || session.establishment != Establishment::Terminal
                || session.connection.location != *ask.location
            {
                continue;
            }
            let opened = work.answer(ask.subscriber.id, session.id)?;
            if let Some(opened) = opened
                && opened.digest == OPENED
                && opened.generation == session.generation
            {
                return Ok(Some((session.id, opened.generation, opened.key)));
            }
        }
        Ok(None)
    }

    /// For each number that is given, what it is claimed by under every identity key.
    pub(super) fn claims(&self, phone: Option<&Phone>, id_card: Option<&IdCard>) -> Vec<Claims> {
        let vault = self.vault();
        let phone = phone.map(|phone| vault.indexes(Purpose::Phone, phone.as_str()));
        let id_card = id_card.map(|card| vault.indexes(Purpose::IdCard, card.as_str()));
        phone.into_iter().chain(id_card).collect()
    }

    pub(super) async fn owners(&self, claims: &[Vec<Claims>]) -> Result<Owners> {
        let all = claims.iter().flatten().flatten().map(Vec::as_slice);
        Ok(self.store.owners(all).await?)
    }
}

/// Whose all these numbers are; none: nobody's.
pub(super) fn one_owner(numbers: &[Claims], owners: &Owners) -> Result<Option<Uuid>> {
    let owner = |claims: &Claims| claims.iter().find_map(|claim| owners.get(claim)).copied();
    let mut found = numbers.iter().map(owner);
    let first = found.next().flatten();
    if found.all(|other| other == first) {
        Ok(first)
    } else {
        Err(EngineError::Precondition(
            "the phone and the ID-card number are not of one and the same subscriber".to_owned(),
        ))
    }
}

/// There already, or on its way.
fn is_bound_to(row: &SessionRow, location: &LocationId) -> bool {
    let session = &row.session;
    match &session.target {
        Some(target) => target.connection.location == *location,
        None => session.state.is_connected_side() && session.connection.location == *location,
    }
}
