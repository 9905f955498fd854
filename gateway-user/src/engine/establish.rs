//! The exchange with the terminal on the line, and the opening of the fast path.

use doorstep_establish::{Body, Direction, Mac, Outcome, ProbeKey, frame, open, session_of};
use doorstep_gateway_common::LineKey;
use doorstep_ipoe::frame::{Datagram, FrameError, Packet};

use super::message::{RefusalReason, Report};
use super::row::{Opened, Phase, SessionRef, StepName, Then};
use super::{Action, Engine, Now, Objection, Timer, timed};

impl Engine {
    /// Sends the establishment request when it is due.
    pub(super) fn ask_terminal(&mut self, session: SessionRef, now: Now) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if held.is_blocked() {
            // Asked again once the line is not blocked any more.
            self.timers.set(Timer::Session(session), None);
            return;
        }
        if held.is_by_dhcp() {
            // Nobody is asked: it is the router that asks, or has asked already.
            let line = held.line.key;
            self.timers.set(Timer::Session(session), None);
            return self.answer_early(line, now);
        }
        if let Some(request) = held.initiator.poll(now.at, &mut self.rng) {
            if !held.row.steps.iter().any(|s| s.step == StepName::Requested) {
                held.step(StepName::Requested, now);
            }
            let gateway = self.settings.gateway_mac;
            self.out.push(held.frame(gateway, &request, None));
        }
        let next = held.initiator.next_deadline();
        self.timers.set(Timer::Session(session), next);
    }

    /// A frame came from a line: of DHCP, or of the exchange. Whatever is in it, it can only concern
    /// a session that is on this very line.
    pub(super) fn on_frame(&mut self, line: LineKey, bytes: &[u8], now: Now) {
        match Datagram::parse(bytes) {
            Ok(asked) => return self.on_dhcp(line, bytes, &asked, now),
            // The exchange is over IPv6, too.
            Err(FrameError::NotUdp) => match Packet::parse(bytes) {
                Ok(asked) if Self::asks_over_ipv6(&asked) => {
                    return self.on_ipv6(line, bytes, &asked, now);
                }
                _ => {}
            },
            Err(error) => {
                self.count_malformed();
                return tracing::debug!(?line, %error, "a frame is ignored");
            }
        }
        let parsed = match frame::parse(bytes) {
            Ok(parsed) => parsed,
            Err(error) => return tracing::debug!(?line, %error, "establishment frame ignored"),
        };
        let Some(id) = session_of(parsed.payload) else {
            return self.on_stranger(line, &parsed, now);
        };
        let operators = self.on_line.get(&(line, id)).cloned().unwrap_or_default();
        for operator in operators {
            let session = SessionRef {
                operator,
                session: id,
            };
            let Some(held) = self.sessions.get(&session) else {
                continue;
            };
            if held.is_by_dhcp() {
                // No terminal has its key.
                continue;
            }
            let key = held.row.connect.key.clone();
            match open(parsed.payload, Direction::FromTerminal, |_| Some(key)) {
                Ok((_, body)) => return self.on_body(session, &body, parsed.envelope.src_mac, now),
                Err(error) => tracing::debug!(?session, %error, "establishment datagram ignored"),
            }
        }
    }

    fn on_body(&mut self, session: SessionRef, body: &Body, from: Mac, now: Now) {
        let Some(held) = self.sessions.get(&session) else {
            return;
        };
        if matches!(held.row.phase, Phase::Closing { .. }) {
            return;
        }
        let replacing = match self.replacing(session, body) {
            Ok(replacing) => replacing,
            Err(unproven) => return self.on_unproven(session, &unproven),
        };
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        match held.initiator.on_body(body, from) {
            Outcome::Accepted { mac, .. } => self.on_accept(session, mac, replacing, now),
            Outcome::Refused { detail } => {
                let detail = format!("the terminal refuses: {}", detail.escape_debug());
                if held.detail.as_ref() != Some(&detail) {
                    tracing::warn!(?session, line = %held.line, detail, "asking the terminal again");
                    held.detail = Some(detail);
                }
            }
            Outcome::Ignored(why) => tracing::debug!(?session, %why, "answer ignored"),
        }
    }

    pub(super) fn on_accept(
        &mut self,
        session: SessionRef,
        mac: Mac,
        replacing: Option<(SessionRef, u64)>,
        now: Now,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        match (&held.row.phase, held.opening) {
            (Phase::Establishing, None) => {
                held.opening = Some(Opened {
                    mac,
                    at_unix_ms: now.unix_ms,
                });
                held.replacing = replacing;
                held.detail = None;
                held.step(StepName::Accepted, now);
                let entry = held.entry(session.operator, mac);
                self.timers.set(Timer::Session(session), None);
                let displaced = self.displaced(&entry);
                self.out.push(Action::Open {
                    session,
                    entry,
                    displaced,
                });
            }
            // The Confirm has not arrived.
            (Phase::Established(_), _) => self.confirm(session),
            (Phase::Establishing, Some(_)) | (Phase::Closing { .. }, _) => {}
        }
    }

    fn confirm(&mut self, session: SessionRef) {
        if let Some(held) = self.sessions.get(&session) {
            if held.is_by_dhcp() {
                return self.answer_router(session);
            }
            let (confirm, terminal) = (
                held.initiator.confirm(held.row.slot),
                held.initiator.terminal(),
            );
            let gateway = self.settings.gateway_mac;
            self.out.push(held.frame(gateway, &confirm, terminal));
        }
    }

    /// The terminal may ask from now on; a router that speaks DHCP does not know how.
    pub(super) fn expect_probes(&mut self, session: SessionRef) {
        let Some(held) = self
            .sessions
            .get(&session)
            .filter(|held| !held.is_by_dhcp())
        else {
            return;
        };
        let (connect, nonce) = (&held.row.connect, held.row.nonce);
        self.out.push(Action::ExpectProbes {
            slot: held.row.slot,
            line: held.line.key,
            key: ProbeKey::derive(&connect.key, connect.session, connect.generation, nonce),
        });
    }

    pub(super) fn on_opened(
        &mut self,
        session: SessionRef,
        generation: u64,
        result: Result<(), String>,
        now: Now,
    ) {
        self.take_opened(session, generation, result, now);
        self.sweep_all(now);
    }

    fn take_opened(
        &mut self,
        session: SessionRef,
        generation: u64,
        result: Result<(), String>,
        now: Now,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if held.row.connect.generation != generation {
            return;
        }
        match (&mut held.row.phase, held.opening, result) {
            (phase @ Phase::Establishing, Some(opening), Ok(())) => {
                self.tally.leave(session.operator, phase);
                *phase = Phase::Established(Opened {
                    at_unix_ms: now.unix_ms,
                    ..opening
                });
                self.tally.enter(session.operator, phase);
                held.carried = Some([0; 2]);
                held.opening = None;
                held.mac_in_force = Some(opening.mac);
                held.step(StepName::Opened, now);
                tracing::info!(?session, generation, line = %held.line, mac = %opening.mac, "session established");
                let (line, steps) = (held.line.key, timed(&held.row.steps));
                self.trace(session, generation, "establish", steps);
                self.persist_session(session);
                self.end_replaced(session, now);
                self.end_lease(line, now);
                self.expect_probes(session);
                self.confirm(session);
                self.begin_advertising(session, now);
                self.report_established(session);
                // It may have been given another one while it was being opened.
                self.change_service(session);
            }
            (Phase::Establishing, Some(_), Err(error)) => {
                let what = format!("the fast path refused the session: {error}");
                self.start_closing(session, Then::default(), now);
                self.refuse(
                    session,
                    generation,
                    Objection::new(RefusalReason::Dataplane, what),
                );
                self.close_unless_under_way(session, now);
            }
            // The close was ordered while the entry was being made: its answer comes next.
            _ => {}
        }
    }

    /// Tells the server, if the session is established.
    pub(super) fn report_established(&mut self, session: SessionRef) {
        let Some(held) = self.sessions.get(&session) else {
            return;
        };
        let Phase::Established(opened) = &held.row.phase else {
            return;
        };
        let route = self
            .operator(session.operator)
            .map(|operator| operator.route());
        let report = Report::Established {
            session: session.session,
            generation: held.row.connect.generation,
            mac: opened.mac,
            line: held.line.to_string(),
            route: route.unwrap_or_default(),
            at_unix_ms: opened.at_unix_ms,
        };
        let state = self.operators.get(&session.operator);
        let connected = state.is_some_and(|state| state.connected);
        if let Some(held) = self.sessions.get_mut(&session) {
            held.told = connected;
        }
        self.report(session.operator, report);
    }
}
