//! Connect: checked, recorded, acknowledged, begun.

use std::time::Duration;

use doorstep_establish::{Initiator, Nonce};
use doorstep_gateway_common::table::Layout;
use doorstep_gateway_common::{OperatorIndex, Slot, account, flag};
use ipnet::{IpNet, Ipv6Net};

use super::message::{Connect, RefusalReason};
use super::row::{Fence, FenceKind, Phase, Place, SessionRef, SessionRow, StepName, Then, Write};
use super::service::check_service;
use super::{Engine, Now, Objection, Session, Settings, Timer};
use super::{dhcp, line6};
use crate::config::Operator;
use crate::plan;
use crate::session::Line;

/// Smallest MTU of IPv6 (RFC 8200), and the largest of common access equipment.
const MTU: std::ops::RangeInclusive<u16> = 1280..=9000;

impl Engine {
    pub(super) fn on_connect(&mut self, operator: OperatorIndex, connect: Connect, now: Now) {
        let session = SessionRef {
            operator,
            session: connect.session,
        };
        let generation = connect.generation;
        if let Err(why) = self.check_fence(session, generation) {
            return self.refuse(session, generation, why);
        }
        let newest = self
            .sessions
            .get(&session)
            .and_then(|held| held.newest_connect());
        if let Some(newest) = newest.filter(|newest| newest.generation == generation) {
            if !newest.same_but_for_service(&connect) {
                let what = format!(
                    "generation {generation} is held with other values; \
                     a change needs a newer generation"
                );
                let why = Objection::new(RefusalReason::Malformed, what);
                return self.refuse(session, generation, why);
            }
            let Connect {
                service,
                service_revision: revision,
                ..
            } = connect;
            // An older service is passed over: the newest revision counts.
            if revision >= newest.service_revision
                && let Err(why) = self.take_service(session, service, revision)
            {
                return self.refuse(session, generation, why);
            }
            self.watch_time_to_live(session, now);
            self.acknowledge(session, generation);
            return self.report_established(session);
        }
        if let Err(why) = self.check(session, &connect) {
            return self.refuse(session, generation, why);
        }
        if self.sessions.contains_key(&session) {
            tracing::info!(?session, generation, "newer connect recorded");
            self.raise_fence(session, generation);
            self.replace(session, connect, now);
        } else {
            self.begin_new(session, connect, now);
        }
    }

    fn check_fence(&self, session: SessionRef, generation: u64) -> Result<(), Objection> {
        let Some(fence) = self.fences.get(&session) else {
            return Ok(());
        };
        let newer = match fence.kind {
            FenceKind::Connect => generation >= fence.generation,
            FenceKind::Disconnect => generation > fence.generation,
        };
        if newer {
            return Ok(());
        }
        let what = format!("generation {} has been seen already", fence.generation);
        Err(Objection::new(RefusalReason::StaleGeneration, what))
    }

    fn raise_fence(&mut self, session: SessionRef, generation: u64) {
        let fence = Fence {
            generation,
            kind: FenceKind::Connect,
            receipt: None,
        };
        self.persist_fence(session, fence);
    }

    fn check(&self, session: SessionRef, connect: &Connect) -> Result<(), Objection> {
        self.check_fields(session.operator, connect)?;
        if self.settings.inventory.resolve(&connect.location).is_none() {
            let what = format!("{} is not in this gateway's inventory", connect.location);
            return Err(Objection::new(RefusalReason::UnknownLocation, what));
        }
        for address in connect.addresses() {
            let holder = self.addresses.get(&(session.operator, address));
            if let Some(holder) = holder.filter(|holder| **holder != session) {
                let what = format!("{address} is held by session {}", holder.session);
                return Err(Objection::new(RefusalReason::AddressInUse, what));
            }
        }
        self.check_nesting(session, connect)
    }

    /// The programs look for a delegated prefix first. So no line's own prefix may lie in one: what
    /// is for that line would go to the other.
    fn check_nesting(&self, session: SessionRef, connect: &Connect) -> Result<(), Objection> {
        let others = |held: &(&(OperatorIndex, IpNet), &SessionRef)| *held.1 != session;
        let within = |net: Ipv6Net| {
            let first = Ipv6Net::new_assert(net.network(), 0);
            let last = Ipv6Net::new_assert(net.broadcast(), 128);
            let key = |net: Ipv6Net| (session.operator, IpNet::V6(net));
            self.addresses.range(key(first)..=key(last)).find(others)
        };
        if let Some(((_, inner), holder)) = connect.ipv6.and_then(within) {
            let what = format!(
                "{} holds {inner}, the line prefix of session {}",
                connect.ipv6.map(|net| net.to_string()).unwrap_or_default(),
                holder.session
            );
            return Err(Objection::new(RefusalReason::AddressInUse, what));
        }
        let length = self.settings.delegated_prefix_len;
        let Some(line) = connect.ipv6_line else {
            return Ok(());
        };
        let Ok(around) = Ipv6Net::new(line.network(), length).map(|net| net.trunc()) else {
            return Ok(());
        };
        if connect.ipv6 == Some(around) {
            let what = format!("ipv6_line_prefix: {line} lies in the session's own {around}");
            return Err(Objection::new(RefusalReason::Malformed, what));
        }
        let holder = self
            .addresses
            .get_key_value(&(session.operator, around.into()));
        if let Some((_, holder)) = holder.filter(others) {
            let what = format!("{line} lies in {around} of session {}", holder.session);
            return Err(Objection::new(RefusalReason::AddressInUse, what));
        }
        Ok(())
    }

    fn check_line_prefix(&self, operator: &Operator, line: Ipv6Net) -> Result<(), Objection> {
        let malformed = |what: String| {
            let what = format!("ipv6_line_prefix: {line} {what}");
            Err(Objection::new(RefusalReason::Malformed, what))
        };
        if !self.settings.line_prefixes {
            let what = format!(
                "ipv6_line_prefix: {line} has no room in this gateway's maps; set \
                 line_prefixes = true in its configuration"
            );
            return Err(Objection::new(RefusalReason::NoCapacity, what));
        }
        if line.prefix_len() != 64 || line.trunc() != line {
            return malformed("is not a /64".into());
        }
        let length = self.settings.delegated_prefix_len;
        if plan::stands_for_more(line, length) {
            return malformed(format!(
                "is the first /64 of a prefix of this gateway's delegated length, {length}, and \
                 would stand for all of it; give another"
            ));
        }
        if !operator.owns_v6(line) {
            return malformed(format!(
                "is not in this gateway's subscriber_prefixes of {}",
                operator.name
            ));
        }
        own_address(operator, line)
    }

    fn check_fields(&self, operator: OperatorIndex, connect: &Connect) -> Result<(), Objection> {
        let malformed = |what: String| Err(Objection::new(RefusalReason::Malformed, what));
        let Some(operator) = self.operator(operator) else {
            return malformed(format!("operator {operator} is not configured"));
        };
        if connect.generation == 0 {
            return malformed("generation: 0; the first is 1".into());
        }
        check_service(&connect.service)?;
        dhcp::check(connect, operator)?;
        if connect.addresses().next().is_none() {
            return malformed(
                "ipv4_address, ipv6_prefix, ipv6_line_prefix: all are empty; give one".into(),
            );
        }
        if !MTU.contains(&connect.mtu) {
            return malformed(format!(
                "mtu: {} is not in {}..={}",
                connect.mtu,
                MTU.start(),
                MTU.end()
            ));
        }
        if let Some(address) = connect.ipv4 {
            if !operator.owns_v4(address) {
                return malformed(format!(
                    "ipv4_address: {address} is not in this gateway's subscriber_prefixes of {}",
                    operator.name
                ));
            }
            if operator.gateway_v4 == Some(address) {
                let what = format!("{address} is the gateway's own address");
                return Err(Objection::new(RefusalReason::AddressInUse, what));
            }
        }
        if let Some(prefix) = connect.ipv6 {
            let length = self.settings.delegated_prefix_len;
            if prefix.prefix_len() != length || prefix.trunc() != prefix {
                return malformed(format!(
                    "ipv6_prefix: {prefix} is not a prefix of this gateway's delegated length, \
                     {length}"
                ));
            }
            if !operator.owns_v6(prefix) {
                return malformed(format!(
                    "ipv6_prefix: {prefix} is not in this gateway's subscriber_prefixes of {}",
                    operator.name
                ));
            }
            own_address(operator, prefix)?;
        }
        match connect.ipv6_line {
            Some(line) => self.check_line_prefix(operator, line),
            None => Ok(()),
        }
    }

    /// A newer generation of a session that is held: the old one is closed first.
    fn replace(&mut self, session: SessionRef, connect: Connect, now: Now) {
        let generation = connect.generation;
        let then = Then {
            receipt: None,
            connect: Some(Box::new(connect)),
        };
        self.start_closing(session, then, now);
        self.acknowledge(session, generation);
        self.close_unless_under_way(session, now);
    }

    /// The slot whose account the programs read ahead for the session's packets.
    pub(super) fn near(&self, connect: &Connect) -> Option<Slot> {
        let Settings {
            delegated_prefix_len,
            max_sessions,
            ..
        } = self.settings;
        let layout = Layout::new(delegated_prefix_len, account::rows(max_sessions));
        plan::near(layout, connect.ipv4, connect.prefixes().next())
    }

    fn begin_new(&mut self, session: SessionRef, connect: Connect, now: Now) {
        let generation = connect.generation;
        let adopted = self.adopt_slot(session.operator, &connect);
        let Some(slot) = adopted.or_else(|| self.slots.take(self.near(&connect), now.at)) else {
            let what = format!(
                "all {} sessions (max_sessions) are taken, or were until {} seconds ago",
                self.settings.max_sessions,
                super::slots::REST.as_secs()
            );
            let why = Objection::new(RefusalReason::NoCapacity, what);
            return self.refuse(session, generation, why);
        };
        self.raise_fence(session, generation);
        // The location was found a moment ago, and the inventory does not change.
        if self.begin(session, connect, slot, now) {
            tracing::info!(?session, generation, slot, "connect recorded");
            self.acknowledge(session, generation);
            self.flood.note(now.at);
            // Its turn comes with those of other terminals that wait to be asked.
            self.timers.set(Timer::Session(session), Some(now.at));
        }
    }

    /// Records a session whose terminal is to be asked. False if its location is gone.
    pub(super) fn begin(
        &mut self,
        session: SessionRef,
        connect: Connect,
        slot: u32,
        now: Now,
    ) -> bool {
        let Some(line) = self.settings.inventory.resolve(&connect.location).cloned() else {
            let what = format!("{} is not in this gateway's inventory", connect.location);
            let why = Objection::new(RefusalReason::UnknownLocation, what);
            self.slots.free(slot, now.at);
            self.refuse(session, connect.generation, why);
            return false;
        };
        let row = SessionRow {
            connect,
            slot,
            place: Place {
                port: line.port.clone(),
                tags: line.tags,
            },
            nonce: Nonce::generate(&mut self.rng),
            phase: Phase::Establishing,
            steps: Vec::new(),
            released: false,
        };
        let mut held = self.session(session, row, line, now);
        held.step(StepName::Instructed, now);
        self.insert(session, held);
        self.persist_session(session);
        self.watch_time_to_live(session, now);
        true
    }

    /// A session on its line, as its row says.
    pub(super) fn session(
        &mut self,
        session: SessionRef,
        row: SessionRow,
        line: Line,
        now: Now,
    ) -> Box<Session> {
        let mtu = self.line_mtu(&line, row.connect.mtu);
        let initiator = self.initiator(session, &row, mtu, now);
        let port = self.settings.ports.get(&line.key.ifindex);
        let shaper = port.is_none_or(|port| port.shaper);
        let operator = self.operator(session.operator);
        let mut flags = operator.map_or(0, Operator::session_flags);
        if self.is_blocked(&row.connect.location) {
            flags |= flag::BLOCKED;
        }
        let mac_in_force = match &row.phase {
            Phase::Established(opened) => Some(opened.mac),
            Phase::Establishing | Phase::Closing { .. } => None,
        };
        Box::new(Session {
            in_force: row.connect.service_revision,
            row,
            line,
            mtu,
            shaper,
            flags,
            flags_in_force: flags,
            mac_in_force,
            initiator,
            opening: None,
            replacing: None,
            claims: Vec::new(),
            detail: None,
            failures: 0,
            changing: None,
            client: dhcp::Client::new(now),
            client6: line6::Client6::default(),
            told: false,
            carried: None,
        })
    }

    fn initiator(&self, session: SessionRef, row: &SessionRow, mtu: u16, now: Now) -> Initiator {
        let connect = &row.connect;
        let offer = self.offer(session.operator, connect, mtu);
        let (id, generation) = (connect.session, connect.generation);
        match &row.phase {
            Phase::Established(opened)
            | Phase::Closing {
                opened: Some(opened),
                ..
            } => Initiator::accepted(id, generation, row.nonce, offer, opened.mac, now.at),
            Phase::Establishing | Phase::Closing { opened: None, .. } => {
                Initiator::new(id, generation, row.nonce, offer, now.at)
            }
        }
    }

    /// Takes a session into all indexes.
    pub(super) fn insert(&mut self, session: SessionRef, held: Box<Session>) {
        let on_line = self
            .on_line
            .entry((held.line.key, session.session))
            .or_default();
        on_line.push(session.operator);
        if held.is_by_dhcp() {
            self.dhcp.join(held.line.key, session);
        }
        self.tally.enter(session.operator, &held.row.phase);
        self.sessions.insert(session, held);
        self.claim(session);
    }

    /// Takes a session out of all indexes.
    pub(super) fn remove(&mut self, session: SessionRef) -> Option<Box<Session>> {
        let held = self.sessions.remove(&session)?;
        self.tally.leave(session.operator, &held.row.phase);
        let key = (held.line.key, session.session);
        if let Some(operators) = self.on_line.get_mut(&key) {
            operators.retain(|operator| *operator != session.operator);
            if operators.is_empty() {
                self.on_line.remove(&key);
            }
        }
        if held.is_by_dhcp() {
            self.dhcp.leave(held.line.key, session);
            self.timers.set(Timer::Advertise(session), None);
        }
        self.release_claims(session, &held.claims);
        self.timers.set(Timer::Session(session), None);
        Some(held)
    }

    /// Holds the addresses of a session, present and to come, against others.
    pub(super) fn claim(&mut self, session: SessionRef) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let mut claims: Vec<IpNet> = held.row.connect.addresses().collect();
        if let Phase::Closing { then, .. } = &held.row.phase {
            claims.extend(then.connect.iter().flat_map(|connect| connect.addresses()));
        }
        let before = std::mem::replace(&mut held.claims, claims.clone());
        self.release_claims(session, &before);
        for address in claims {
            self.addresses.insert((session.operator, address), session);
        }
    }

    fn release_claims(&mut self, session: SessionRef, claims: &[IpNet]) {
        for address in claims {
            self.addresses.remove(&(session.operator, *address));
        }
    }

    /// Removes the row of a session that does not go on.
    pub(super) fn forget(&mut self, session: SessionRef) {
        self.persist(Write::DeleteSession(session));
    }
}

/// The gateway's own address is nobody's.
fn own_address(operator: &Operator, prefix: Ipv6Net) -> Result<(), Objection> {
    match operator.gateway_v6.filter(|own| prefix.contains(own)) {
        None => Ok(()),
        Some(own) => {
            let what = format!("{prefix} holds the gateway's own address {own}");
            Err(Objection::new(RefusalReason::AddressInUse, what))
        }
    }
}

impl Session {
    /// How long to wait before an order that has failed is given again.
    pub(super) fn pause(&mut self) -> Duration {
        const FIRST: Duration = Duration::from_millis(100);
        const LONGEST: Duration = Duration::from_secs(5);
        let pause = (FIRST * 2u32.pow(self.failures.min(8))).min(LONGEST);
        self.failures += 1;
        pause
    }
}
