//! Leases of the garden: with one a line without a session reaches the operators' servers.
//!
//! ```text
//!            Ask             opened: Offer
//!  (nothing) ───▶ Opening ─────────────────▶ Open ─────▶ Closing ──▶ (nothing)
//!                    ▲                        │  it has run out, or a session
//!                    └────────────────────────┘  is established on the line
//!                     Ask of another station
//! ```
//!
//! Whoever asks on a line has no session, whatever else is known of the line: a terminal that has
//! lost its state, or was replaced, must be able to ask for service. One lease for each line bounds
//! what a line can have; the rate of each, and their number, bound them all. They are not in the
//! journal: the maps outlive the daemon, and after a start of the host the terminals ask anew.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use doorstep_establish::{Garden as Message, GardenOffer, Mac, Tag, Tags, frame};
use doorstep_gateway_common::downstream::{DownstreamValue, WireTag};
use doorstep_gateway_common::{LineKey, flag, garden};
use ipnet::IpNet;
use uuid::Uuid;

use super::slots::Slots;
use super::{Action, Engine, Now, Settings, Timer};
use crate::plan::Tables;
use crate::session::{Line, Service, SessionEntry};

/// What Ethernet carries.
const MTU: u16 = 1500;
/// Pause before a removal that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The leases of a gateway.
#[derive(Clone)]
pub(super) struct Leases {
    held: HashMap<LineKey, Lease>,
    numbers: Slots,
    /// Names of the access ports.
    ports: HashMap<u32, String>,
    /// Asks in vain, because all leases were taken.
    refused: u64,
}

#[derive(Clone)]
struct Lease {
    number: u32,
    line: Line,
    mac: Mac,
    mtu: u16,
    until: Instant,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Closing,
}

/// A lease, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    pub line: String,
    pub mac: Mac,
    /// IPv4 addresses and IPv6 prefixes, one of a family for each operator.
    pub addresses: Vec<IpNet>,
    pub slot: u32,
    pub left: Duration,
}

impl Leases {
    pub(super) fn new(settings: &Settings, now: Now) -> Self {
        Self {
            held: HashMap::new(),
            numbers: Slots::new(
                settings.garden.lines,
                settings.garden.lines,
                &BTreeSet::new(),
                [],
                now.at,
            ),
            ports: settings.inventory.ports(),
            refused: 0,
        }
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        (self.held.len() as u64, self.refused)
    }
}

impl Engine {
    /// Takes up the leases that the fast path has, for lines that there still are.
    pub(super) fn resume_leases(&mut self, rows: &Tables, now: Now) -> Vec<SessionEntry> {
        let values: Vec<_> = rows
            .downstream_v4
            .values()
            .chain(rows.downstream_v6.values())
            .copied()
            .collect();
        if values.is_empty() || !self.has_garden() {
            return Vec::new();
        }
        let known: HashSet<LineKey> = self
            .settings
            .inventory
            .iter()
            .map(|(_, line)| line.key)
            .collect();
        let mut numbers = BTreeSet::new();
        for value in values {
            let line = value.line();
            let number = garden::lease(self.settings.max_sessions, value.slot);
            let Some(number) = number.filter(|number| *number < self.settings.garden.lines) else {
                continue;
            };
            if !known.contains(&line)
                || self.leases.held.contains_key(&line)
                || !numbers.insert(number)
            {
                continue;
            }
            let Ok(tags) = tags(&value) else { continue };
            let lease = self.lease(line, tags, Mac(value.mac.bytes()), number, now);
            self.hold(Lease {
                state: State::Open,
                ..lease
            });
        }
        self.leases.numbers = Slots::new(
            self.settings.garden.lines,
            self.settings.garden.lines,
            &numbers,
            [],
            now.at,
        );
        let leases = self.leases.held.values();
        leases.flat_map(|lease| self.lease_entries(lease)).collect()
    }

    /// A datagram of the exchange that is for no session.
    pub(super) fn on_stranger(&mut self, line: LineKey, parsed: &frame::Parsed<'_>, now: Now) {
        let Some(Message::Ask) = Message::decode(parsed.payload) else {
            return tracing::debug!(?line, "establishment datagram ignored: no session in it");
        };
        if !self.has_garden() {
            return tracing::debug!(?line, "no operator has a garden");
        }
        let (mac, tags) = (parsed.envelope.src_mac, parsed.envelope.tags);
        let until = now.at + self.settings.garden.lease;
        let number = match self.leases.held.get_mut(&line) {
            None => {
                let Some(number) = self.leases.numbers.take(None, now.at) else {
                    self.leases.refused += 1;
                    return tracing::debug!(?line, "all leases of the garden are taken");
                };
                number
            }
            Some(lease) if lease.state != State::Open => return,
            Some(lease) if lease.mac == mac && lease.line.tags == tags => {
                lease.until = until;
                self.timers.set(Timer::Lease(line), Some(until));
                return self.offer_garden(line);
            }
            Some(lease) => lease.number,
        };
        let lease = self.lease(line, tags, mac, number, now);
        tracing::info!(line = %lease.line, %mac, "line enters the garden");
        self.hold(lease);
        self.open_lease(line);
    }

    fn has_garden(&self) -> bool {
        let mut operators = self.settings.operators.iter();
        operators.any(|operator| operator.garden.is_some())
    }

    fn lease(&mut self, key: LineKey, tags: Tags, mac: Mac, number: u32, now: Now) -> Lease {
        let port = self.leases.ports.get(&key.ifindex).cloned();
        let line = Line {
            key,
            port: port.unwrap_or_default(),
            tags,
        };
        Lease {
            number,
            mtu: self.line_mtu(&line, MTU),
            line,
            mac,
            until: now.at + self.settings.garden.lease,
            state: State::Opening,
        }
    }

    fn hold(&mut self, lease: Lease) {
        let line = lease.line.key;
        self.timers.set(Timer::Lease(line), Some(lease.until));
        self.leases.held.insert(line, lease);
    }

    fn open_lease(&mut self, line: LineKey) {
        if let Some(lease) = self.leases.held.get(&line) {
            let entries = self.lease_entries(lease);
            self.out.push(Action::OpenLease { line, entries });
        }
    }

    pub(super) fn on_lease_opened(&mut self, line: LineKey, result: Result<(), String>, now: Now) {
        let Some(lease) = self.leases.held.get_mut(&line) else {
            return;
        };
        if lease.state != State::Opening {
            return;
        }
        lease.state = State::Open;
        match result {
            Err(error) => {
                tracing::warn!(line = %lease.line, error, "the fast path refused a lease of the garden");
                lease.until = now.at;
                self.end_lease(line, now);
            }
            // Ended while it was being opened.
            Ok(()) if lease.until <= now.at => self.end_lease(line, now),
            Ok(()) => self.offer_garden(line),
        }
    }

    /// It has run out, or its removal is to be tried again.
    pub(super) fn on_lease_timer(&mut self, line: LineKey, now: Now) {
        if let Some(lease) = self.leases.held.get_mut(&line)
            && lease.state == State::Closing
        {
            lease.state = State::Open;
        }
        self.end_lease(line, now);
    }

    /// Takes a line out of the garden.
    pub(super) fn end_lease(&mut self, line: LineKey, now: Now) {
        let Some(lease) = self.leases.held.get_mut(&line) else {
            return;
        };
        lease.until = lease.until.min(now.at);
        self.timers.set(Timer::Lease(line), None);
        if lease.state != State::Open {
            return;
        }
        lease.state = State::Closing;
        if let Some(lease) = self.leases.held.get(&line) {
            tracing::info!(line = %lease.line, "line leaves the garden");
            let entries = self.lease_entries(lease);
            self.out.push(Action::CloseLease { line, entries });
        }
    }

    pub(super) fn on_lease_closed(&mut self, line: LineKey, result: Result<(), String>, now: Now) {
        match result {
            Ok(()) => {
                if let Some(lease) = self.leases.held.remove(&line) {
                    self.leases.numbers.free(lease.number, now.at);
                }
            }
            Err(error) => {
                tracing::error!(
                    ?line,
                    error,
                    "cannot take a line out of the garden; trying again"
                );
                self.timers.set(Timer::Lease(line), Some(now.at + RETRY));
            }
        }
    }

    fn offer_garden(&mut self, line: LineKey) {
        let Some(lease) = self.leases.held.get(&line) else {
            return;
        };
        let gardens = self.settings.operators.iter();
        let gardens = gardens.filter_map(|operator| operator.garden.as_ref());
        let delegated = self.settings.delegated_prefix_len;
        let offer = Message::Offer(GardenOffer {
            gateway_id: self.settings.gateway_id.clone(),
            lifetime: self.settings.garden.lease,
            mtu: lease.mtu.into(),
            ways: gardens
                .map(|garden| garden.way(lease.number, delegated))
                .collect(),
        });
        let Some(datagram) = offer.encode() else {
            // The configuration was checked for it.
            return tracing::error!("the garden does not fit a datagram: nobody is told of it");
        };
        let envelope = frame::Envelope {
            dst_mac: lease.mac,
            ..frame::Envelope::to_line(self.settings.gateway_mac, lease.line.tags)
        };
        self.out.push(Action::Transmit {
            ifindex: line.ifindex,
            frame: frame::build(&envelope, &datagram),
        });
    }

    /// What the fast path has of a lease: as if it were a session of each operator, in one slot.
    fn lease_entries(&self, lease: &Lease) -> Vec<SessionEntry> {
        let limits = &self.settings.garden;
        let gardens = self.settings.operators.iter();
        let gardens = gardens.filter_map(|own| Some((own.index, own.garden.as_ref()?)));
        gardens
            .map(|(operator, own)| SessionEntry {
                session: Uuid::nil(),
                generation: 0,
                slot: garden::slot(self.settings.max_sessions, lease.number),
                operator,
                line: lease.line.clone(),
                mac: lease.mac,
                ipv4: own.ipv4(lease.number),
                ipv6: own.ipv6(lease.number, self.settings.delegated_prefix_len),
                ipv6_line: None,
                mtu: lease.mtu,
                service: Service {
                    upstream_bps: limits.rate_bps,
                    downstream_bps: limits.rate_bps,
                    ..Service::default()
                },
                shaper: false,
                flags: flag::GARDEN | flag::CLAMP_MSS,
            })
            .collect()
    }

    /// The lines in the garden.
    pub fn leases(&self, now: Now) -> Vec<LeaseView> {
        let leases = self.leases.held.values();
        let mut views: Vec<_> = leases
            .map(|lease| {
                let entries = self.lease_entries(lease);
                let addresses = entries.iter().flat_map(|entry| {
                    let v4 = entry.ipv4.map(|own| IpNet::from(std::net::IpAddr::V4(own)));
                    v4.into_iter().chain(entry.ipv6.map(IpNet::V6))
                });
                LeaseView {
                    line: lease.line.to_string(),
                    mac: lease.mac,
                    addresses: addresses.collect(),
                    slot: garden::slot(self.settings.max_sessions, lease.number),
                    left: lease.until.saturating_duration_since(now.at),
                }
            })
            .collect();
        views.sort_unstable_by_key(|view| view.slot);
        views
    }
}

/// The tags of a line, as its rows have them.
fn tags(value: &DownstreamValue) -> Result<Tags, doorstep_establish::InvalidTags> {
    let tags = [value.outer, value.inner]
        .into_iter()
        .filter(|tag| tag.is_some());
    let tags: Vec<_> = tags
        .map(|tag: WireTag| Tag {
            tpid: tag.tpid(),
            vid: tag.vid(),
        })
        .collect();
    Tags::new(&tags)
}
