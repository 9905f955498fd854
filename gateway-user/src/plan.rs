//! What the fast path's maps should hold, what they hold, and the way from one to the other.
//!
//! All of it is plain data: [`rows`] says what a session needs, [`Tables`] is the content of the
//! four maps, [`Plan::diff`] is what must change. Applying a plan twice is the same as once.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::Ipv4Addr;

use doorstep_establish::Tag;
use doorstep_gateway_common::downstream::{
    DownstreamV4Key, DownstreamV6Key, DownstreamValue, WireTag,
};
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::policer::Rate;
use doorstep_gateway_common::table::Layout;
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{MacWord, Slot, flag};
use ipnet::Ipv6Net;

use crate::session::{Service, SessionEntry};

mod owner;

pub use owner::Owner;

/// The rows of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub upstream_v4: Option<(UpstreamV4Key, UpstreamValue)>,
    /// Of the delegated prefix and of the line's own.
    pub upstream_v6: [Option<(UpstreamV6Key, UpstreamValue)>; 2],
    pub downstream_v4: Option<(DownstreamV4Key, DownstreamValue)>,
    pub downstream_v6: [Option<(DownstreamV6Key, DownstreamValue)>; 2],
    pub rates: (Slot, Rates),
}

/// How fast a session may be, as its policers keep it; all zero: as fast as can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub upstream: Rate,
    pub downstream: Rate,
}

/// How much of a policed rate may pass at once. A connection whose packets were dropped is often
/// silent for the shortest retransmission timeout (200 ms on Linux), and what comes in meanwhile
/// beyond this is lost to it; much more would be no limit any more (docs/performance.md).
const BURST_NS: u64 = 150_000_000;

/// How long a packet may wait for its turn where the rate is shaped: so long, or as long as it takes
/// to send what must find room. The kernel makes up to 64 KiB of a connection's packets one, which
/// waits or is dropped as one; a queue that holds few of them starves TCP.
const LONGEST_WAIT_NS: u64 = 100_000_000;
const LEAST_ROOM_BITS: u64 = 4 * 64 * 1024 * 8;

fn longest_wait_ns(bps: u64) -> u64 {
    let room = LEAST_ROOM_BITS * 1_000_000_000 / bps.max(1);
    room.max(LONGEST_WAIT_NS)
}

impl Rates {
    /// Of a session on a port with a shaper, or without.
    pub fn of(service: &Service, shaper: bool) -> Self {
        let downstream_depth_ns = match service.is_shaped() && shaper {
            true => longest_wait_ns(service.downstream_bps),
            false => BURST_NS,
        };
        Self {
            upstream: Rate::new(service.upstream_bps, BURST_NS),
            downstream: Rate::new(service.downstream_bps, downstream_depth_ns),
        }
    }
}

/// The rows that a session has in the maps.
pub fn rows(entry: &SessionEntry) -> Rows {
    let [policed_upstream, policed_downstream] = rate_flags(entry);
    let priority = u16::from(entry.service.priority & 7);
    let upstream = UpstreamValue {
        generation: entry.generation,
        mac: MacWord::new(entry.mac.0),
        slot: entry.slot,
        operator: entry.operator,
        flags: entry.flags | policed_upstream | priority << flag::PRIORITY_SHIFT,
    };
    let [outer, inner] = tags(entry);
    let downstream = DownstreamValue {
        generation: entry.generation,
        mac: MacWord::new(entry.mac.0),
        ifindex: entry.line.key.ifindex,
        slot: entry.slot,
        outer,
        inner,
        mtu: entry.mtu,
        flags: entry.flags | policed_downstream,
        pad: 0,
    };
    let v4 = entry.ipv4.map(|address| address.octets());
    let v6 = [entry.ipv6, entry.ipv6_line].map(|prefix| prefix.map(masked));
    Rows {
        rates: (entry.slot, Rates::of(&entry.service, entry.shaper)),
        upstream_v4: v4.map(|source_be| {
            let key = UpstreamV4Key {
                line: entry.line.key,
                source_be,
            };
            (key, upstream)
        }),
        upstream_v6: v6.map(|prefix| {
            let key = UpstreamV6Key {
                line: entry.line.key,
                prefix_be: prefix?,
            };
            Some((key, upstream))
        }),
        downstream_v4: v4.map(|destination_be| {
            let key = DownstreamV4Key {
                operator: entry.operator,
                pad: 0,
                destination_be,
            };
            (key, downstream)
        }),
        downstream_v6: v6.map(|prefix| {
            let key = DownstreamV6Key {
                operator: entry.operator,
                pad: [0; 3],
                prefix_be: prefix?,
            };
            Some((key, downstream))
        }),
    }
}

/// The slot whose account the programs read ahead for packets of these addresses, if they have one
/// bucket, and as long as nobody else has taken it.
pub fn near(layout: Layout, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Net>) -> Option<Slot> {
    match (ipv4, ipv6) {
        (Some(ipv4), _) => Some(layout.bucket(&DownstreamV4Key {
            destination_be: ipv4.octets(),
            ..DownstreamV4Key::default()
        })),
        (None, Some(ipv6)) => Some(layout.bucket(&DownstreamV6Key {
            prefix_be: masked(ipv6),
            ..DownstreamV6Key::default()
        })),
        (None, None) => None,
    }
}

/// Whether a line's own prefix would be found for more than itself: the programs look an address's
/// delegated prefix up first, and this one begins with the same bits.
pub fn stands_for_more(line: Ipv6Net, delegated_len: u8) -> bool {
    let delegated = Ipv6Net::new(line.addr(), delegated_len);
    delegated_len < 64 && delegated.is_ok_and(|delegated| masked(delegated) == masked(line))
}

/// The first 64 bits of a prefix, with all bits beyond its length off.
fn masked(prefix: Ipv6Net) -> [u8; 8] {
    let mask = match prefix.prefix_len() {
        0 => [0; 8],
        length => Globals::delegated_mask(length.min(64)),
    };
    let octets = prefix.addr().octets();
    std::array::from_fn(|i| octets[i] & mask[i])
}

/// Tags of the outer and the inner VLAN, with the session's priority; none where there is no such
/// tag.
fn tags(entry: &SessionEntry) -> [WireTag; 2] {
    let tag = |tag: &Tag| WireTag::new(tag.tpid, tag.vid, entry.service.priority & 7);
    match entry.line.tags.as_slice() {
        [] => [WireTag::NONE; 2],
        [single] => [WireTag::NONE, tag(single)],
        [outer, inner, ..] => [tag(outer), tag(inner)],
    }
}

/// What the rates of a session are to the programs, upstream and downstream.
fn rate_flags(entry: &SessionEntry) -> [u16; 2] {
    let policed = |bps| if bps == 0 { 0 } else { flag::POLICED };
    let downstream = match entry.service.is_shaped() && entry.shaper {
        true => flag::SHAPED,
        false => policed(entry.service.downstream_bps),
    };
    [policed(entry.service.upstream_bps), downstream]
}

/// The content of the four maps of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    pub upstream_v4: HashMap<UpstreamV4Key, UpstreamValue>,
    pub upstream_v6: HashMap<UpstreamV6Key, UpstreamValue>,
    pub downstream_v4: HashMap<DownstreamV4Key, DownstreamValue>,
    pub downstream_v6: HashMap<DownstreamV6Key, DownstreamValue>,
    /// Of every slot that a row counts in and that has any.
    pub rates: HashMap<Slot, Rates>,
}

impl Tables {
    /// What the maps hold when exactly these sessions are open.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a SessionEntry>) -> Self {
        let mut tables = Self::default();
        for entry in entries {
            let rows = rows(entry);
            tables.upstream_v4.extend(rows.upstream_v4);
            tables
                .upstream_v6
                .extend(rows.upstream_v6.into_iter().flatten());
            tables.downstream_v4.extend(rows.downstream_v4);
            tables
                .downstream_v6
                .extend(rows.downstream_v6.into_iter().flatten());
            let (slot, rates) = rows.rates;
            tables.set_rates(slot, rates);
        }
        tables
    }

    /// Takes in the rates of a slot, which may be none.
    pub fn set_rates(&mut self, slot: Slot, rates: Rates) {
        if rates == Rates::default() {
            self.rates.remove(&slot);
        } else {
            self.rates.insert(slot, rates);
        }
    }

    /// Every slot that a row counts in.
    pub fn slots(&self) -> HashSet<Slot> {
        let upstream = self.upstream_v4.values().chain(self.upstream_v6.values());
        let downstream = self
            .downstream_v4
            .values()
            .chain(self.downstream_v6.values());
        upstream
            .map(|value| value.slot)
            .chain(downstream.map(|value| value.slot))
            .collect()
    }

    /// Carries one change out; what the maps do, for a model of them. The rates of a slot without
    /// rows are nobody's.
    pub fn apply(&mut self, change: &Change) {
        match *change {
            Change::RemoveUpstreamV4(key) => drop(self.upstream_v4.remove(&key)),
            Change::RemoveUpstreamV6(key) => drop(self.upstream_v6.remove(&key)),
            Change::RemoveDownstreamV4(key) => drop(self.downstream_v4.remove(&key)),
            Change::RemoveDownstreamV6(key) => drop(self.downstream_v6.remove(&key)),
            Change::SetRates(slot, rates) => self.set_rates(slot, rates),
            Change::UpsertDownstreamV4(key, value) => {
                self.downstream_v4.insert(key, value);
            }
            Change::UpsertDownstreamV6(key, value) => {
                self.downstream_v6.insert(key, value);
            }
            Change::UpsertUpstreamV4(key, value) => {
                self.upstream_v4.insert(key, value);
            }
            Change::UpsertUpstreamV6(key, value) => {
                self.upstream_v6.insert(key, value);
            }
        }
        if change.is_removal() && !self.rates.is_empty() {
            let slots = self.slots();
            self.rates.retain(|slot, _| slots.contains(slot));
        }
    }
}

/// One change of one row. Removing what is absent is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    RemoveUpstreamV4(UpstreamV4Key),
    RemoveUpstreamV6(UpstreamV6Key),
    RemoveDownstreamV4(DownstreamV4Key),
    RemoveDownstreamV6(DownstreamV6Key),
    UpsertDownstreamV4(DownstreamV4Key, DownstreamValue),
    UpsertDownstreamV6(DownstreamV6Key, DownstreamValue),
    UpsertUpstreamV4(UpstreamV4Key, UpstreamValue),
    UpsertUpstreamV6(UpstreamV6Key, UpstreamValue),
    SetRates(Slot, Rates),
}

impl Change {
    pub fn is_removal(&self) -> bool {
        matches!(
            self,
            Self::RemoveUpstreamV4(_)
                | Self::RemoveUpstreamV6(_)
                | Self::RemoveDownstreamV4(_)
                | Self::RemoveDownstreamV6(_)
        )
    }
}

/// The changes that lead from one content of the maps to another, in the order to apply them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Removals come first, upstream before downstream, so that an address never belongs to two
    /// lines; then rates, and insertions, downstream before upstream, so that an answer to the first packet
    /// out finds its way back.
    pub changes: Vec<Change>,
}

impl Plan {
    /// What must change for `actual` to become `desired`.
    pub fn diff(desired: &Tables, actual: &Tables) -> Self {
        let mut changes = Vec::new();
        stale(&desired.upstream_v4, &actual.upstream_v4)
            .for_each(|key| changes.push(Change::RemoveUpstreamV4(key)));
        stale(&desired.upstream_v6, &actual.upstream_v6)
            .for_each(|key| changes.push(Change::RemoveUpstreamV6(key)));
        stale(&desired.downstream_v4, &actual.downstream_v4)
            .for_each(|key| changes.push(Change::RemoveDownstreamV4(key)));
        stale(&desired.downstream_v6, &actual.downstream_v6)
            .for_each(|key| changes.push(Change::RemoveDownstreamV6(key)));
        // A slot that loses all its rows loses its rates with them.
        let kept = kept_slots(desired, actual);
        let mut rates = actual.rates.clone();
        rates.retain(|slot, _| kept.contains(slot));
        stale(&desired.rates, &rates)
            .for_each(|slot| changes.push(Change::SetRates(slot, Rates::default())));
        wanting(&desired.rates, &rates)
            .for_each(|(slot, rates)| changes.push(Change::SetRates(slot, rates)));
        wanting(&desired.downstream_v4, &actual.downstream_v4)
            .for_each(|(key, value)| changes.push(Change::UpsertDownstreamV4(key, value)));
        wanting(&desired.downstream_v6, &actual.downstream_v6)
            .for_each(|(key, value)| changes.push(Change::UpsertDownstreamV6(key, value)));
        wanting(&desired.upstream_v4, &actual.upstream_v4)
            .for_each(|(key, value)| changes.push(Change::UpsertUpstreamV4(key, value)));
        wanting(&desired.upstream_v6, &actual.upstream_v6)
            .for_each(|(key, value)| changes.push(Change::UpsertUpstreamV6(key, value)));
        Self { changes }
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// The slots of rows that stay, with whatever value.
fn kept_slots(desired: &Tables, actual: &Tables) -> HashSet<Slot> {
    fn kept<'t, K: Eq + Hash, V>(
        desired: &'t HashMap<K, V>,
        actual: &'t HashMap<K, V>,
    ) -> impl Iterator<Item = &'t V> {
        let rows = actual.iter();
        rows.filter(|(key, _)| desired.contains_key(key))
            .map(|(_, value)| value)
    }
    let upstream = kept(&desired.upstream_v4, &actual.upstream_v4)
        .chain(kept(&desired.upstream_v6, &actual.upstream_v6));
    let downstream = kept(&desired.downstream_v4, &actual.downstream_v4)
        .chain(kept(&desired.downstream_v6, &actual.downstream_v6));
    upstream
        .map(|value| value.slot)
        .chain(downstream.map(|value| value.slot))
        .collect()
}

/// Keys that only `actual` has.
fn stale<K: Copy + Eq + Hash, V>(
    desired: &HashMap<K, V>,
    actual: &HashMap<K, V>,
) -> impl Iterator<Item = K> {
    actual
        .keys()
        .filter(|key| !desired.contains_key(key))
        .copied()
}

/// Rows of `desired` that `actual` lacks or has with another value.
fn wanting<K: Copy + Eq + Hash, V: Copy + PartialEq>(
    desired: &HashMap<K, V>,
    actual: &HashMap<K, V>,
) -> impl Iterator<Item = (K, V)> {
    desired
        .iter()
        .filter(|(key, value)| actual.get(key) != Some(value))
        .map(|(key, value)| (*key, *value))
}

#[cfg(test)]
mod tests;
