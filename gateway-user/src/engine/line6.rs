//! IPv6 toward lines whose sessions come up by DHCP: router advertisements and DHCPv6.
//!
//! IPv6 follows the router that has the session by DHCPv4, and nobody else is told anything: one
//! device holds a session, whichever way it has taken it.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use doorstep_gateway_common::LineKey;
use doorstep_ipoe::dhcp6::{Binding, Duid, Event, Service};
use doorstep_ipoe::frame::{Body, Packet};
use doorstep_ipoe::holder::{Holder, Replace};
use doorstep_ipoe::line6::{Gateway, Line, Session as Told};
use doorstep_ipoe::ra::{self, Kind, Schedule};
use rand::RngCore as _;

use super::row::{Phase, SessionRef};
use super::{Action, Engine, Now, Session, Timer};

/// The gateway on every line, for which the programs answer neighbour solicitations.
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What is known of a session's router in IPv6. After a start of the daemon it is told all anew, and
/// what it lists of the session's own is taken for its binding.
#[derive(Clone, Default)]
pub(super) struct Client6 {
    /// When the line is told of the session again.
    schedule: Option<Schedule>,
    /// By which of its associations the router has address and prefix.
    binding: Option<Binding>,
}

impl Engine {
    /// Whether a packet over IPv6 is what routers ask, and not of the exchange.
    pub(super) fn asks_over_ipv6(packet: &Packet<'_>) -> bool {
        match packet.body {
            Body::Icmp { .. } => true,
            Body::Udp {
                destination_port, ..
            } => destination_port == doorstep_ipoe::dhcp6::SERVER_PORT,
            Body::Other => false,
        }
    }

    pub(super) fn on_ipv6(&mut self, line: LineKey, frame: &[u8], asked: &Packet<'_>, now: Now) {
        let session = self.served_by_ipv6(line, asked.source_mac);
        let told = Line {
            gateway: self.gateway6(),
            session: session.and_then(|session| self.sessions.get(&session)?.told6()),
            holder: session.map(|_| Holder {
                mac: asked.source_mac,
                acknowledged: self.dhcp.clock(now.at),
            }),
            replace: Replace::Never,
        };
        match asked.body {
            Body::Udp { .. } => self.on_dhcp6(line, frame, &told, session, now),
            Body::Icmp { .. } | Body::Other => {
                self.on_solicitation(line, frame, &told, session, now)
            }
        }
    }

    fn on_dhcp6(
        &mut self,
        line: LineKey,
        frame: &[u8],
        told: &Line,
        session: Option<SessionRef>,
        now: Now,
    ) {
        let held = session.and_then(|session| self.sessions.get(&session));
        let answer = Service {
            line: told,
            server: &Duid::of_mac(told.gateway.mac),
            binding: held.and_then(|held| held.client6.binding.as_ref()),
        }
        .answer(frame, self.dhcp.clock(now.at));
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                self.dhcp.count(why.name());
                return tracing::debug!(?line, %why, "a DHCPv6 message is not answered");
            }
        };
        self.dhcp.count(match &answer.event {
            None => "dhcp6_told",
            Some(Event::Bound(_)) => "dhcp6_bound",
            Some(Event::Released(_)) => "dhcp6_released",
            Some(Event::Declined(_)) => "dhcp6_declined",
            Some(Event::Refused(_)) => "dhcp6_refused",
        });
        if let Some(held) = session.and_then(|session| self.sessions.get_mut(&session)) {
            match answer.event {
                Some(Event::Bound(binding)) => held.client6.binding = Some(binding),
                Some(Event::Released(_) | Event::Declined(_)) => held.client6.binding = None,
                Some(Event::Refused(_)) | None => {}
            }
        }
        self.send_to(line, answer.frame);
    }

    fn on_solicitation(
        &mut self,
        line: LineKey,
        frame: &[u8],
        told: &Line,
        session: Option<SessionRef>,
        now: Now,
    ) {
        match ra::answer(frame, told, self.dhcp.clock(now.at)) {
            Ok(answer) => {
                self.dhcp.count("solicitation_answered");
                match (answer.frame, session) {
                    (Some(frame), _) => self.send_to(line, Some(frame)),
                    // It has no address yet: all are told.
                    (None, Some(session)) => {
                        let now_told = self.dhcp.clock(now.at);
                        self.reschedule(session, |schedule| schedule.solicited(now_told), now);
                    }
                    (None, None) => {}
                }
            }
            Err(why) => {
                self.dhcp.count(why.name());
                tracing::debug!(?line, %why, "a router solicitation is not answered");
            }
        }
    }

    /// The session of a line that this router has, if there is IPv6 in it.
    fn served_by_ipv6(&self, line: LineKey, mac: [u8; 6]) -> Option<SessionRef> {
        let mut sessions = self.dhcp.on(line);
        sessions.find(|session| {
            let held = self.sessions.get(session);
            held.is_some_and(|held| match held.row.phase {
                Phase::Established(opened) => {
                    opened.mac.0 == mac && !held.is_blocked() && held.told6().is_some()
                }
                Phase::Establishing | Phase::Closing { .. } => false,
            })
        })
    }

    /// The line is told of a session that has begun to flow, or flows for another router.
    pub(super) fn begin_advertising(&mut self, session: SessionRef, now: Now) {
        let clock = self.dhcp.clock(now.at);
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if !held.is_by_dhcp() || held.told6().is_none() {
            return;
        }
        held.client6.binding = None;
        let schedule = match held.client6.schedule {
            Some(schedule) => schedule.changed(clock),
            None => Schedule::begin(clock),
        };
        held.client6.schedule = Some(schedule);
        self.advertise(session, now);
    }

    /// After a start of the daemon the lines are told anew, one after another.
    pub(super) fn resume_advertising(&mut self, session: SessionRef, now: Now) {
        let clock = self.dhcp.clock(now.at);
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if held.is_by_dhcp() && held.told6().is_some() {
            held.client6.schedule = Some(Schedule::begin(clock));
            self.timers.set(Timer::Advertise(session), Some(now.at));
        }
    }

    fn reschedule(
        &mut self,
        session: SessionRef,
        change: impl FnOnce(Schedule) -> Schedule,
        now: Now,
    ) {
        if let Some(held) = self.sessions.get_mut(&session) {
            held.client6.schedule = held.client6.schedule.map(change);
        }
        self.advertise(session, now);
    }

    /// Tells the line of a session if it is time, and sees to the next time.
    pub(super) fn advertise(&mut self, session: SessionRef, now: Now) {
        let (gateway, clock) = (self.gateway6(), self.dhcp.clock(now.at));
        let random = self.rng.next_u32();
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let (Some(schedule), Some(told)) = (held.client6.schedule, held.told6()) else {
            return;
        };
        if !matches!(held.row.phase, Phase::Established(_)) {
            return;
        }
        let (due, kind) = schedule.due();
        let mut next = Some(schedule);
        if due <= clock {
            let frame = ra::advertisement(&gateway, &told, kind, &held.tags());
            next = schedule.sent(clock, &told, random);
            held.client6.schedule = next;
            let line = held.line.key;
            self.send_to(line, frame);
        }
        let at = next.map(|next| now.at + next.due().0.saturating_sub(clock));
        self.timers.set(Timer::Advertise(session), at);
    }

    /// Tells the line that a session is no more: its router is none, and its prefix deprecated.
    pub(super) fn retire(&mut self, held: &Session) {
        let (Some(told), Some(_)) = (held.told6(), held.client6.schedule) else {
            return;
        };
        let gateway = self.gateway6();
        let frame = ra::advertisement(&gateway, &told, Kind::Final, &held.tags());
        if let Some(frame) = frame {
            let ifindex = held.line.key.ifindex;
            self.out.push(Action::Transmit { ifindex, frame });
        }
    }

    fn gateway6(&self) -> Gateway {
        Gateway {
            mac: self.settings.gateway_mac.0,
            address: GATEWAY,
        }
    }
}

impl Session {
    /// What its router is told of IPv6; none where it has none.
    fn told6(&self) -> Option<Told> {
        let connect = &self.row.connect;
        let lifetime = Duration::from_secs(connect.dhcp?.lease_s.into());
        let dns = connect.dns.iter().filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        });
        let has_any = connect.ipv6.is_some() || connect.ipv6_line.is_some();
        has_any.then(|| Told {
            line: connect.ipv6_line,
            delegated: connect.ipv6,
            dns: dns.collect(),
            mtu: self.mtu,
            lifetime,
        })
    }

    /// The tags of the line's frames, as they stand in them.
    pub(super) fn tags(&self) -> Vec<u8> {
        let tags = self.line.tags;
        let bytes = tags.as_slice().iter().flat_map(|tag| {
            let ([a, b], [c, d]) = (tag.tpid.to_be_bytes(), tag.vid.to_be_bytes());
            [a, b, c, d]
        });
        bytes.collect()
    }
}
