//! DHCPv4 toward lines whose sessions come up by it.
//!
//! A lease is a session: its address and line are the server's decision, and who holds it is in the
//! session's row, so that it outlives the daemon. What a router is told is a read of that, by
//! [`doorstep_ipoe`]; here is which session of a line is meant, and what becomes of it. A line with
//! several such sessions has room for as many routers.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use doorstep_establish::Mac;
use doorstep_gateway_common::LineKey;
use doorstep_ipoe::dhcp4::{self, Answer, Event, Ignored};
use doorstep_ipoe::frame::Datagram;
use doorstep_ipoe::holder::Holder;

use super::message::{Connect, RefusalReason};
use super::row::{Opened, Phase, SessionRef};
use super::told::replace;
use super::{Action, Engine, Now, Objection, Session};
use crate::config::Operator;

/// How soon a router may be replaced at the earliest after it was acknowledged: two that contend for a
/// line keep neither the journal nor the server busy.
pub(super) const SETTLED: Duration = Duration::from_secs(1);
/// How long a question waits for its session: about as long as clients wait for its answer.
const EARLY: Duration = Duration::from_secs(30);
/// Lines whose question waits at most, each with a frame.
const EARLY_LINES: usize = 4096;
/// Seconds. In less, renewals alone would be a load.
const LEASE_S: std::ops::RangeInclusive<u32> = 10..=31_536_000;

/// What the engine knows of lines with DHCP, beside their sessions.
#[derive(Clone)]
pub(super) struct Lines {
    /// Since when times are told to `ipoe`.
    began: Instant,
    /// Sessions that come up by DHCP, in the order in which they came.
    sessions: HashMap<LineKey, Vec<SessionRef>>,
    /// What was asked last where there was no session to offer, and when.
    early: HashMap<LineKey, (Instant, Vec<u8>)>,
    /// Messages by what became of them.
    counts: BTreeMap<&'static str, u64>,
    /// Of what is signed for routers; see [`Lines::next_counter`].
    counter: u64,
}

/// What is known of the router that a session is for, beside the row.
#[derive(Clone)]
pub(super) struct Client {
    /// When it was acknowledged last. After a start of the daemon that counts as now: a router is
    /// rather held for too long than replaced too early.
    acknowledged: Instant,
    /// What it is told once the fast path is as it should be.
    answer: Option<Vec<u8>>,
    /// The transaction that told it how a FORCERENEW is signed, if one did. Not recorded: it says so
    /// again whenever it renews.
    pub(super) told_nonce: Option<u32>,
}

impl Lines {
    pub(super) fn new(now: Now) -> Self {
        Self {
            began: now.at,
            sessions: HashMap::new(),
            early: HashMap::new(),
            counts: BTreeMap::new(),
            counter: 0,
        }
    }

    pub(super) fn join(&mut self, line: LineKey, session: SessionRef) {
        self.sessions.entry(line).or_default().push(session);
    }

    pub(super) fn leave(&mut self, line: LineKey, session: SessionRef) {
        if let Some(sessions) = self.sessions.get_mut(&line) {
            sessions.retain(|other| *other != session);
            if sessions.is_empty() {
                self.sessions.remove(&line);
            }
        }
    }

    /// Messages by what became of them.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }

    /// Sessions that come up by DHCP on a line.
    pub(super) fn on(&self, line: LineKey) -> impl Iterator<Item = SessionRef> {
        let sessions = self.sessions.get(&line).into_iter().flatten();
        sessions.copied()
    }

    pub(super) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// Greater than any before: routers refuse what they take for a message that is repeated. It is
    /// the time, unless that goes back while the daemon runs. A clock that is set back before the
    /// daemon starts again has them refuse what is signed until it has caught up.
    pub(super) fn next_counter(&mut self, now: Now) -> u64 {
        let time = u64::try_from(now.unix_ms).unwrap_or_default();
        self.counter = time.max(self.counter + 1);
        self.counter
    }

    pub(super) fn clock(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    /// Keeps a question until there is a session to answer it by.
    fn wait(&mut self, line: LineKey, frame: &[u8], now: Instant) {
        if !self.early.contains_key(&line) && self.early.len() >= EARLY_LINES {
            self.early
                .retain(|_, (asked, _)| now.saturating_duration_since(*asked) < EARLY);
            if self.early.len() >= EARLY_LINES {
                return;
            }
        }
        self.early.insert(line, (now, frame.to_vec()));
    }
}

impl Client {
    pub(super) fn new(now: Now) -> Self {
        Self {
            acknowledged: now.at,
            answer: None,
            told_nonce: None,
        }
    }
}

/// Whether a session can come up by DHCP as it is wanted.
pub(super) fn check(connect: &Connect, operator: &Operator) -> Result<(), Objection> {
    let Some(dhcp) = connect.dhcp else {
        return Ok(());
    };
    let malformed = |what: String| Err(Objection::new(RefusalReason::Malformed, what));
    if connect.ipv4.is_none() {
        return malformed("dhcp: needs an ipv4_address, which is empty".into());
    }
    if operator.gateway_v4.is_none() {
        return malformed(format!(
            "dhcp: this gateway has no IPv4 address of its own toward lines of {}; name one in the \
             operator's gateway_addresses",
            operator.name
        ));
    }
    if !LEASE_S.contains(&dhcp.lease_s) {
        return malformed(format!(
            "dhcp.lease_s: {} is not in {}..={}",
            dhcp.lease_s,
            LEASE_S.start(),
            LEASE_S.end()
        ));
    }
    Ok(())
}

impl Engine {
    pub(super) fn on_dhcp(&mut self, line: LineKey, frame: &[u8], asked: &Datagram<'_>, now: Now) {
        let mac = Mac(dhcp4::client(asked));
        let meant = self.meant(line, mac, now);
        let counter = self.dhcp.next_counter(now);
        let told = match meant {
            Some(session) => self
                .sessions
                .get(&session)
                .and_then(|held| self.told(session, held, mac, counter)),
            None => Some(self.told_of_none(asked)),
        };
        let Some(told) = told else {
            return;
        };
        let answer = dhcp4::answer(frame, &told, self.dhcp.clock(now.at));
        let Answer {
            frame,
            event,
            told_nonce,
        } = match answer {
            Ok(answer) => answer,
            Err(why) => {
                self.dhcp.count(why.name());
                tracing::debug!(?line, %mac, %why, "a DHCP message is not answered");
                if why == Ignored::NoSession {
                    self.dhcp.wait(line, frame, now.at);
                }
                return;
            }
        };
        let name = match event {
            None => "offered",
            Some(Event::Bound(_)) => "acknowledged",
            Some(Event::Released(_)) => "released",
            Some(Event::Declined(_)) => "declined",
            Some(Event::Refused(_)) => "refused",
        };
        self.dhcp.count(name);
        match (event, meant) {
            (Some(Event::Bound(mac)), Some(session)) => {
                self.on_bound(session, Mac(mac), frame, told_nonce, now);
            }
            (Some(Event::Released(mac)), Some(session)) => self.on_given_back(session, mac, None),
            (Some(Event::Declined(mac)), Some(session)) => {
                let why = "the router has found its address in use on the line";
                self.on_given_back(session, mac, Some(why));
            }
            (None | Some(_), _) => self.send_to(line, frame),
        }
    }

    /// What was asked on a line before its session came, unless that is long ago.
    pub(super) fn answer_early(&mut self, line: LineKey, now: Now) {
        let Some((asked, frame)) = self.dhcp.early.remove(&line) else {
            return;
        };
        if now.at.saturating_duration_since(asked) < EARLY
            && let Ok(datagram) = Datagram::parse(&frame)
        {
            self.on_dhcp(line, &frame, &datagram, now);
        }
    }

    pub(super) fn count_malformed(&mut self) {
        self.dhcp.count("frame");
    }

    /// The session that a router means: its own; or else one that nobody holds, one that it may take
    /// over, the first.
    fn meant(&self, line: LineKey, mac: Mac, now: Now) -> Option<SessionRef> {
        let sessions = self.dhcp.sessions.get(&line)?.iter();
        let rank = |session: &SessionRef| {
            let held = self.sessions.get(session)?;
            if matches!(held.row.phase, Phase::Closing { .. }) || held.is_blocked() {
                return None;
            }
            let dhcp = held.row.connect.dhcp?;
            let holder = held.holder(&self.dhcp);
            Some(match holder {
                Some(holder) if holder.mac == mac.0 => 0,
                None => 1,
                holder => {
                    let now = self.dhcp.clock(now.at);
                    let admitted = replace(dhcp).admits(holder, mac.0, now);
                    if admitted { 2 } else { 3 }
                }
            })
        };
        let ranked = sessions.filter_map(|session| Some((rank(session)?, session)));
        // Of equals, the first.
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, session)| *session)
    }

    /// A router holds a session from now on, or goes on to. It is told so once that is recorded and
    /// the fast path forwards for it.
    fn on_bound(
        &mut self,
        session: SessionRef,
        mac: Mac,
        answer: Option<Vec<u8>>,
        told_nonce: Option<u32>,
        now: Now,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        match held.row.phase {
            Phase::Establishing => {
                // Another router comes again, once the one is served.
                if held.opening.is_none_or(|opening| opening.mac == mac) {
                    held.client.acknowledged = now.at;
                    held.client.answer = answer;
                    held.client.told_nonce = told_nonce;
                    self.on_accept(session, mac, None, now);
                }
            }
            Phase::Established(opened) => {
                held.client.acknowledged = now.at;
                held.client.answer = answer;
                held.client.told_nonce = told_nonce;
                if opened.mac != mac || held.row.released {
                    held.row.released = false;
                    if opened.mac != mac {
                        tracing::info!(?session, line = %held.line, from = %opened.mac, to = %mac, "another router holds the session");
                        held.row.phase = Phase::Established(Opened {
                            mac,
                            at_unix_ms: now.unix_ms,
                        });
                    }
                    self.persist_session(session);
                }
                self.change_service(session);
                self.answer_router(session);
            }
            Phase::Closing { .. } => {}
        }
    }

    /// Tells the router what it waits for, if the fast path forwards for it.
    pub(super) fn answer_router(&mut self, session: SessionRef) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let Phase::Established(opened) = held.row.phase else {
            return;
        };
        if held.mac_in_force == Some(opened.mac) {
            let (line, answer) = (held.line.key, held.client.answer.take());
            self.send_to(line, answer);
        }
    }

    /// The session's router holds it no more. It flows on until another one comes, which may be at
    /// once.
    fn on_given_back(&mut self, session: SessionRef, mac: [u8; 6], why: Option<&str>) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let mac = Mac(mac);
        tracing::info!(?session, line = %held.line, %mac, why, "the router has given its lease back");
        if matches!(held.row.phase, Phase::Established(_)) && !held.row.released {
            held.row.released = true;
            self.persist_session(session);
        }
    }

    pub(super) fn send_to(&mut self, line: LineKey, frame: Option<Vec<u8>>) {
        if let Some(frame) = frame {
            let ifindex = line.ifindex;
            self.out.push(Action::Transmit { ifindex, frame });
        }
    }
}

impl Session {
    pub(super) fn is_by_dhcp(&self) -> bool {
        self.row.connect.dhcp.is_some()
    }

    /// The router that holds it, or is just getting it.
    pub(super) fn holder(&self, lines: &Lines) -> Option<Holder> {
        let opened = match self.row.phase {
            Phase::Established(opened) if !self.row.released => Some(opened),
            Phase::Establishing => self.opening,
            Phase::Established(_) | Phase::Closing { .. } => None,
        };
        opened.map(|opened| Holder {
            mac: opened.mac.0,
            acknowledged: lines.clock(self.client.acknowledged),
        })
    }
}
