//! The service of a session: taken, recorded, brought into the fast path.
//!
//! A row may be ahead of the fast path, never behind it. Only what the fast path has is
//! acknowledged; after a restart it is made equal to the rows before anything else happens.

use std::ops::RangeInclusive;

use doorstep_gateway_common::OperatorIndex;

use super::message::{ChangeService, Connect, RefusalReason};
use super::row::{Phase, SessionRef};
use super::{Action, Engine, Now, Objection, Session, Timer};
use crate::session::Service;

/// Rates that make sense, in bits per second: below, a single full packet takes a fifth of a
/// second; above, no port is.
const RATE_BPS: RangeInclusive<u64> = 64_000..=1_000_000_000_000;
/// Seconds. In less, sessions would end while a server is only started anew.
const TIME_TO_LIVE_S: RangeInclusive<u32> = 10..=31_536_000;
/// PCP (IEEE 802.1Q clause 6.9.3).
const MAX_PRIORITY: u8 = 7;

pub(super) fn check_service(service: &Service) -> Result<(), Objection> {
    let malformed = |what: String| Err(Objection::new(RefusalReason::Malformed, what));
    for (field, rate) in [
        ("upstream_bps", service.upstream_bps),
        ("downstream_bps", service.downstream_bps),
    ] {
        if rate != 0 && !RATE_BPS.contains(&rate) {
            return malformed(format!(
                "service.{field}: {rate} is neither 0 (unlimited) nor in {}..={}",
                RATE_BPS.start(),
                RATE_BPS.end()
            ));
        }
    }
    if service.time_to_live_s != 0 && !TIME_TO_LIVE_S.contains(&service.time_to_live_s) {
        return malformed(format!(
            "service.time_to_live_s: {} is neither 0 (for ever) nor in {}..={}",
            service.time_to_live_s,
            TIME_TO_LIVE_S.start(),
            TIME_TO_LIVE_S.end()
        ));
    }
    if service.priority > MAX_PRIORITY {
        return malformed(format!(
            "service.priority: {} is beyond {MAX_PRIORITY}",
            service.priority
        ));
    }
    Ok(())
}

impl Engine {
    pub(super) fn on_change_service(
        &mut self,
        operator: OperatorIndex,
        change: ChangeService,
        now: Now,
    ) {
        let ChangeService {
            session,
            generation,
            revision,
            service,
        } = change;
        let session = SessionRef { operator, session };
        let taken = self
            .check_held(session, generation)
            .and_then(|()| self.take_service(session, service, revision));
        match taken {
            Ok(()) => {
                self.acknowledge_service(session);
                self.watch_time_to_live(session, now);
            }
            Err(why) => self.refuse_revision(session, generation, revision, why),
        }
    }

    fn check_held(&self, session: SessionRef, generation: u64) -> Result<(), Objection> {
        let held = self.sessions.get(&session);
        match held.and_then(|held| held.newest_connect()) {
            Some(newest) if newest.generation == generation => Ok(()),
            Some(newest) if newest.generation > generation => {
                let what = format!("generation {} is held", newest.generation);
                Err(Objection::new(RefusalReason::StaleGeneration, what))
            }
            Some(newest) => {
                let what = format!("only generation {} is held", newest.generation);
                Err(Objection::new(RefusalReason::NotHeld, what))
            }
            None => Err(Objection::new(RefusalReason::NotHeld, "")),
        }
    }

    /// Records a service of the generation that is held. It is acknowledged elsewhere, because
    /// the fast path may be behind.
    pub(super) fn take_service(
        &mut self,
        session: SessionRef,
        service: Service,
        revision: u64,
    ) -> Result<(), Objection> {
        check_service(&service)?;
        let Some(held) = self.sessions.get_mut(&session) else {
            return Ok(());
        };
        let Some(newest) = held.newest_connect_mut() else {
            return Ok(());
        };
        let known = newest.service_revision;
        if revision < known {
            let what = format!("service revision {known} has been seen already");
            return Err(Objection::new(RefusalReason::StaleGeneration, what));
        }
        if revision == known {
            if newest.service == service {
                return Ok(());
            }
            let what = format!(
                "service revision {known} is held with other values; \
                 a change needs a newer revision"
            );
            return Err(Objection::new(RefusalReason::Malformed, what));
        }
        newest.service = service;
        newest.service_revision = revision;
        if held.waits_for_terminal() {
            held.in_force = revision;
        }
        tracing::info!(?session, revision, ?service, "service recorded");
        self.persist_session(session);
        self.change_service(session);
        Ok(())
    }

    /// Has the fast path change an open session's service, flags and MAC address, unless it has them
    /// or is at it.
    pub(super) fn change_service(&mut self, session: SessionRef) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let Phase::Established(opened) = held.row.phase else {
            return;
        };
        let (revision, flags, mac) = (held.row.connect.service_revision, held.flags, opened.mac);
        let has_all =
            (held.in_force, held.flags_in_force, held.mac_in_force) == (revision, flags, Some(mac));
        if held.changing.is_some() || has_all {
            return;
        }
        let wanted = (revision, flags, mac);
        held.changing = Some(wanted);
        let entry = held.entry(session.operator, opened.mac);
        self.timers.set(Timer::Session(session), None);
        self.out.push(Action::Change { session, entry });
    }

    pub(super) fn on_changed(
        &mut self,
        session: SessionRef,
        generation: u64,
        result: Result<(), String>,
        now: Now,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        // A session that ends meanwhile needs no service.
        if held.row.connect.generation != generation
            || !matches!(held.row.phase, Phase::Established(_))
        {
            return;
        }
        let Some((revision, flags, mac)) = held.changing.take() else {
            return;
        };
        let has_service = held.in_force == revision;
        match result {
            Ok(()) => {
                (held.in_force, held.flags_in_force) = (revision, flags);
                let is_another = held.mac_in_force.replace(mac) != Some(mac);
                if held.failures > 0 {
                    held.failures = 0;
                    held.detail = None;
                }
                tracing::info!(?session, generation, revision, "service changed");
                // Another may have been recorded since.
                self.change_service(session);
                if !has_service {
                    self.acknowledge_service(session);
                }
                if is_another {
                    self.answer_router(session);
                    self.begin_advertising(session, now);
                    self.report_established(session);
                }
            }
            Err(error) => {
                let what = format!("cannot change the service: {error}");
                held.detail = Some(format!("{what}; trying again"));
                let at = now.at + held.pause();
                self.timers.set(Timer::Session(session), Some(at));
                if has_service {
                    tracing::error!(?session, what, "trying again");
                    return;
                }
                let why = Objection::new(RefusalReason::Dataplane, what);
                self.refuse_revision(session, generation, revision, why);
            }
        }
    }

    /// Tells the server that its newest service is in force, or will be as soon as the session is
    /// opened; nothing if the fast path is still behind.
    fn acknowledge_service(&mut self, session: SessionRef) {
        let held = self.sessions.get(&session);
        let Some((held, newest)) = held.and_then(|held| Some((held, held.newest_connect()?)))
        else {
            return;
        };
        let generation = newest.generation;
        if held.revision(generation) == newest.service_revision {
            self.acknowledge(session, generation);
        }
    }
}

impl Session {
    /// Of the service that a generation has in the fast path, or is to be opened with; 0 for a
    /// generation that ends the session.
    pub(super) fn revision(&self, generation: u64) -> u64 {
        match &self.row.phase {
            Phase::Closing { then, .. } => then
                .connect
                .as_deref()
                .filter(|waiting| waiting.generation == generation)
                .map_or(0, |waiting| waiting.service_revision),
            Phase::Establishing | Phase::Established(_) => {
                let own = self.row.connect.generation == generation;
                if own { self.in_force } else { 0 }
            }
        }
    }

    /// Nothing of it is in the fast path, or on its way there.
    pub(super) fn waits_for_terminal(&self) -> bool {
        matches!(self.row.phase, Phase::Establishing) && self.opening.is_none()
    }

    fn newest_connect_mut(&mut self) -> Option<&mut Connect> {
        match &mut self.row.phase {
            Phase::Establishing | Phase::Established(_) => Some(&mut self.row.connect),
            Phase::Closing { then, .. } => then.connect.as_deref_mut(),
        }
    }
}

impl Connect {
    /// A service may change under one generation, nothing else may.
    pub(super) fn same_but_for_service(&self, other: &Connect) -> bool {
        let other = Connect {
            service: self.service,
            service_revision: self.service_revision,
            ..other.clone()
        };
        *self == other
    }
}
