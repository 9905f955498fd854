//! Sessions with a time to live: without their server for longer, they end by themselves.
//!
//! The time counts from the last moment at which the server, having told all differences, was
//! connected. It is recorded the while, so that a daemon that was away does not begin it anew. What
//! has lapsed is gone without a receipt, as nobody asked for one; a server that still wants it finds
//! it missing in the next Hello and connects it again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use doorstep_gateway_common::OperatorIndex;

use super::row::{Phase, SessionRef, Then, Write};
use super::{Engine, Now, Session, Timer};

/// How often contact is recorded.
const RECORD: Duration = Duration::from_secs(5);

impl Engine {
    /// The server has told all differences: it is in contact from now on.
    pub(super) fn in_contact(&mut self, operator: OperatorIndex, now: Now) {
        self.operators.entry(operator).or_default().synced = true;
        self.on_lapse_timer(operator, now);
    }

    /// The stream has ended.
    pub(super) fn out_of_contact(&mut self, operator: OperatorIndex, now: Now) {
        let state = self.operators.entry(operator).or_default();
        if std::mem::take(&mut state.synced) {
            self.record_contact(operator, now);
        }
        self.on_lapse_timer(operator, now);
    }

    /// A session has a time to live that it may not have had before.
    pub(super) fn watch_time_to_live(&mut self, session: SessionRef, now: Now) {
        let operator = session.operator;
        let held = self.sessions.get(&session);
        if held.is_none_or(|held| held.time_to_live().is_none()) {
            return;
        }
        match self.contact(operator) {
            // Who has never synced has at least sent this.
            None => {
                self.record_contact(operator, now);
            }
            // Nothing depended on it until now, and so it is not in the journal. A daemon that starts
            // again must not count from its own start.
            Some(contact) if !self.operators.entry(operator).or_default().recorded => {
                let since_ms = now.at.saturating_duration_since(contact).as_millis();
                let since_ms = i64::try_from(since_ms).unwrap_or(i64::MAX);
                let contact_ms = now.unix_ms.saturating_sub(since_ms);
                self.persist(Write::PutContact(operator, contact_ms));
                self.operators.entry(operator).or_default().recorded = true;
            }
            Some(_) => {}
        }
        if !self.timers.is_set(Timer::Lapse(operator)) {
            self.on_lapse_timer(operator, now);
        }
    }

    /// The operators of sessions with a time to live.
    pub(super) fn with_time_to_live(&self) -> BTreeSet<OperatorIndex> {
        let sessions = self.sessions.iter();
        let mortal = sessions.filter(|(_, held)| held.time_to_live().is_some());
        mortal.map(|(session, _)| session.operator).collect()
    }

    /// Of a session that was persisted: whether its time was over before this daemon began.
    pub(super) fn has_lapsed(&self, session: SessionRef, now: Now) -> bool {
        let contact = self.contact(session.operator);
        self.sessions
            .get(&session)
            .and_then(|held| held.time_to_live())
            .zip(contact)
            .is_some_and(|(time_to_live, contact)| contact + time_to_live <= now.at)
    }

    pub(super) fn on_lapse_timer(&mut self, operator: OperatorIndex, now: Now) {
        let state = self.operators.entry(operator).or_default();
        let (connected, synced) = (state.connected, state.synced);
        let next = if synced {
            self.record_contact(operator, now).then(|| now.at + RECORD)
        } else if connected {
            // The server is about to say what is still wanted; and if it does not, the stream ends.
            None
        } else {
            self.lapse_due(operator, now)
        };
        self.timers.set(Timer::Lapse(operator), next);
    }

    /// False if no time to live depends on it.
    fn record_contact(&mut self, operator: OperatorIndex, now: Now) -> bool {
        let depends = self
            .sessions
            .iter()
            .any(|(session, held)| session.operator == operator && held.time_to_live().is_some());
        let state = self.operators.entry(operator).or_default();
        state.contact = Some(now.at);
        state.recorded = depends;
        if depends {
            self.persist(Write::PutContact(operator, now.unix_ms));
        }
        depends
    }

    /// When this operator's server was last in contact: connected, and all differences told. None
    /// before the first time.
    pub fn contact(&self, operator: OperatorIndex) -> Option<Instant> {
        self.operators.get(&operator)?.contact
    }

    /// Ends what has lapsed; when the next does.
    fn lapse_due(&mut self, operator: OperatorIndex, now: Now) -> Option<Instant> {
        let contact = *self
            .operators
            .entry(operator)
            .or_default()
            .contact
            .get_or_insert(now.at);
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (session, held) in &self.sessions {
            let Some(time_to_live) = held.time_to_live() else {
                continue;
            };
            if session.operator != operator {
                continue;
            }
            let ends = contact + time_to_live;
            if ends <= now.at {
                due.push(*session);
            } else {
                next = Some(next.map_or(ends, |next| next.min(ends)));
            }
        }
        due.sort_unstable();
        for session in due {
            tracing::warn!(
                ?session,
                "without its server for longer than its time to live; it ends"
            );
            self.lapse(session, now);
        }
        next
    }

    /// Ends a session that nobody has asked to end.
    pub(super) fn lapse(&mut self, session: SessionRef, now: Now) {
        let then = Then {
            receipt: None,
            connect: None,
        };
        self.start_closing(session, then, now);
        self.close_unless_under_way(session, now);
    }
}

impl Session {
    /// Of a session that is not about to end anyway.
    fn time_to_live(&self) -> Option<Duration> {
        let seconds = self.row.connect.service.time_to_live_s;
        let ends = matches!(self.row.phase, Phase::Closing { .. });
        (seconds > 0 && !ends).then(|| Duration::from_secs(seconds.into()))
    }
}
