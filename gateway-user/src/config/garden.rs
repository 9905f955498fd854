//! The garden: what lines without a session reach, and how much of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use doorstep_daemon::rate::Rate;
use doorstep_establish::{Garden as Message, GardenOffer, Way};
use doorstep_gateway_common::OperatorIndex;
use doorstep_gateway_common::garden::{GardenKey, MAX_ENTRIES, MAX_LEASES, mapped};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::problem::Problems;
use super::validate::ranged;
use super::{Operator, raw};

const DEFAULT_LINES: u32 = 1024;
const DEFAULT_RATE: Rate = Rate(1_000_000);
const DEFAULT_LEASE_S: u64 = 600;
const MIN_LEASE_S: u64 = 60;
const MAX_LEASE_S: u64 = 86_400;
/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What all lines without a session have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Lines that may be in the garden at once.
    pub lines: u32,
    /// Of each line and direction, in bits of IP per second; 0: unlimited.
    pub rate_bps: u64,
    /// How long a line stays in it without asking again.
    pub lease: Duration,
}

/// An operator's part of the garden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garden {
    pub servers: Vec<Server>,
    /// What the lines have as addresses while they are in it. One of them is there.
    pub v4: Option<Ipv4Net>,
    pub v6: Option<Ipv6Net>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    pub address: SocketAddr,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
}

impl Garden {
    /// What a line has as its IPv4 address with its lease: the prefix's own address is nobody's.
    pub fn ipv4(&self, lease: u32) -> Option<Ipv4Addr> {
        let first = self.v4?.network().to_bits().checked_add(1)?;
        Some(Ipv4Addr::from_bits(first.checked_add(lease)?))
    }

    /// What a line has as its IPv6 prefix with its lease: a /64, because that is what the maps tell
    /// lines apart by. One that a prefix of the delegated length begins with would be found for all
    /// of these, and is nobody's.
    pub fn ipv6(&self, lease: u32, delegated_prefix_len: u8) -> Option<Ipv6Net> {
        let first = self.v6?.network().to_bits();
        let number = u128::from(number_v6(lease, delegated_prefix_len));
        let own = first.checked_add(number << 64)?;
        Ipv6Net::new(Ipv6Addr::from_bits(own), 64).ok()
    }

    /// The servers' addresses that a line can reach, each once.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<_> = self.servers.iter().map(|own| own.address.ip()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// The way to the servers with a lease.
    pub fn way(&self, lease: u32, delegated_prefix_len: u8) -> Way {
        let own_v6 = |prefix: Ipv6Net| Ipv6Addr::from_bits(prefix.network().to_bits() | 1);
        Way {
            ipv4: self.ipv4(lease),
            ipv6: self.ipv6(lease, delegated_prefix_len).map(own_v6),
            servers: self.addresses(),
        }
    }

    /// The keys of the map.
    pub fn keys(&self, operator: OperatorIndex) -> impl Iterator<Item = GardenKey> {
        self.servers.iter().map(move |server| GardenKey {
            operator,
            port_be: server.address.port().to_be(),
            protocol: server.protocol.into(),
            address: match server.address.ip() {
                IpAddr::V4(address) => mapped(address.octets()),
                IpAddr::V6(address) => address.octets(),
            },
        })
    }
}

/// The /64 of a lease, counted from the beginning of the garden's prefix.
fn number_v6(lease: u32, delegated_prefix_len: u8) -> u64 {
    let lease = u64::from(lease);
    match 1u64 << (64 - delegated_prefix_len) {
        1 => lease,
        block => lease / (block - 1) * block + 1 + lease % (block - 1),
    }
}

pub(super) fn limits(problems: &mut Problems<'_>, raw: Option<raw::Garden>) -> Limits {
    let raw = raw.unwrap_or_default();
    Limits {
        lines: ranged(problems, "lines", raw.lines, DEFAULT_LINES, 1..=MAX_LEASES),
        rate_bps: raw.rate.unwrap_or(DEFAULT_RATE).0,
        lease: Duration::from_secs(ranged(
            problems,
            "lease_s",
            raw.lease_s,
            DEFAULT_LEASE_S,
            MIN_LEASE_S..=MAX_LEASE_S,
        )),
    }
}

/// Checks an operator's part. `overlap` tells of, and remembers, a prefix that is taken.
pub(super) fn operator(
    problems: &mut Problems<'_>,
    raw: raw::OperatorGarden,
    limits: &Limits,
    delegated_prefix_len: u8,
    mut overlap: impl FnMut(&mut Problems<'_>, Range<usize>, IpNet),
) -> Garden {
    let (mut v4, mut v6) = (None, None);
    for prefix in raw.prefixes.into_inner() {
        let span = prefix.span();
        let Ok(net) = prefix.get_ref().parse::<IpNet>() else {
            let what = format!(
                "'{}' is not a prefix such as 100.127.0.0/20 or fd00:db8::/48",
                prefix.get_ref()
            );
            problems.add(span, what);
            continue;
        };
        if net.trunc() != net {
            let what = format_args!("{net} has host bits set; write {}", net.trunc());
            problems.add(span.clone(), what);
        }
        if !has_room(&net, limits.lines, delegated_prefix_len) {
            let what = format_args!(
                "{net} has no room for the garden's {} lines; each needs an IPv4 address, or a \
                 /64 that no prefix of delegated_prefix_len, {delegated_prefix_len}, begins with",
                limits.lines
            );
            problems.add(span.clone(), what);
        }
        overlap(problems, span.clone(), net);
        let second = match net {
            IpNet::V4(net) => v4.replace(net).is_some(),
            IpNet::V6(net) => v6.replace(net).is_some(),
        };
        if second {
            problems.add(
                span,
                "a second prefix of one family; a garden has at most one each",
            );
        }
    }
    let mut servers = Vec::new();
    if raw.servers.get_ref().is_empty() {
        problems.add(raw.servers.span(), "a garden needs a server");
    }
    for server in raw.servers.into_inner() {
        let span = server.span();
        let Some(server) = parse(server.get_ref()) else {
            let what = format!(
                "'{}' is not a server such as \"198.51.100.5:7443\", \"[2001:db8::5]:7443\" or, \
                 for UDP, \"198.51.100.53:53/udp\"",
                server.get_ref()
            );
            problems.add(span, what);
            continue;
        };
        let reachable = match server.address {
            SocketAddr::V4(_) => v4.is_some(),
            SocketAddr::V6(_) => v6.is_some(),
        };
        if !reachable {
            let what = format_args!(
                "no line has an address to reach {} with; add a prefix of its family to the \
                 garden's prefixes",
                server.address
            );
            problems.add(span, what);
        }
        servers.push(server);
    }
    Garden { servers, v4, v6 }
}

/// What all gardens together must fit into: the maps, and the datagram that tells a line of them.
pub(super) fn together(
    problems: &mut Problems<'_>,
    span: Range<usize>,
    id: &str,
    limits: &Limits,
    operators: &[Operator],
) {
    let gardens: Vec<_> = operators
        .iter()
        .filter_map(|operator| operator.garden.as_ref())
        .collect();
    let rows = u64::from(limits.lines) * gardens.len() as u64;
    if rows > u64::from(MAX_LEASES) {
        let what = format_args!(
            "{} lines in the gardens of {} operators need {rows} rows, and there are {MAX_LEASES}; \
             set a lower `lines` in [garden]",
            limits.lines,
            gardens.len()
        );
        problems.add(span.clone(), what);
    }
    let servers: usize = gardens.iter().map(|garden| garden.servers.len()).sum();
    let offer = Message::Offer(GardenOffer {
        gateway_id: id.to_owned(),
        lifetime: limits.lease,
        mtu: u32::MAX,
        ways: gardens.iter().map(|garden| garden.way(0, 64)).collect(),
    });
    if servers > MAX_ENTRIES as usize || offer.encode().is_none() {
        let what = format_args!(
            "the operators' gardens have {servers} servers, more than a line can be told of at \
             once; name fewer addresses"
        );
        problems.add(span, what);
    }
}

fn has_room(net: &IpNet, lines: u32, delegated_prefix_len: u8) -> bool {
    match net {
        // Neither its first nor its last address is a line's.
        IpNet::V4(net) => {
            let addresses = 1u64 << (32 - net.prefix_len());
            u64::from(lines) + 2 <= addresses
        }
        IpNet::V6(net) if net.prefix_len() > delegated_prefix_len => false,
        IpNet::V6(net) => {
            let prefixes = 1u128 << (64 - net.prefix_len());
            u128::from(number_v6(lines - 1, delegated_prefix_len)) < prefixes
        }
    }
}

/// `198.51.100.5:7443`, `[2001:db8::5]:7443/tcp`, `198.51.100.53:53/udp`.
fn parse(text: &str) -> Option<Server> {
    let (address, protocol) = match text.split_once('/') {
        None => (text, TCP),
        Some((address, "tcp")) => (address, TCP),
        Some((address, "udp")) => (address, UDP),
        Some(_) => return None,
    };
    let address: SocketAddr = address.parse().ok()?;
    let ip = address.ip();
    let nobody = ip.is_unspecified() || ip.is_multicast() || ip.is_loopback();
    (!nobody && address.port() != 0).then_some(Server { address, protocol })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use doorstep_gateway_common::globals::Globals;

    use super::*;

    #[test]
    fn no_lease_is_found_for_another() {
        for delegated in [48, 56, 60, 63, 64] {
            let garden = Garden {
                servers: Vec::new(),
                v4: Some("100.127.0.0/16".parse().expect("a prefix")),
                v6: Some("fd00:db8::/40".parse().expect("a prefix")),
            };
            let mask = u64::from_be_bytes(Globals::delegated_mask(delegated));
            let mut whole = HashSet::new();
            for lease in 0..MAX_LEASES {
                let prefix = garden.ipv6(lease, delegated).expect("a prefix");
                assert_eq!(prefix.prefix_len(), 64);
                let first = (prefix.network().to_bits() >> 64) as u64;
                assert!(whole.insert(first), "{delegated}: {lease} has another's");
            }
            // The programs look the masked prefix up first.
            for first in &whole {
                let masked = first & mask;
                assert!(
                    masked == *first || !whole.contains(&masked),
                    "{delegated}: {first:x}"
                );
            }
            assert_eq!(garden.ipv4(0), Some(Ipv4Addr::new(100, 127, 0, 1)));
            assert_eq!(garden.ipv4(255), Some(Ipv4Addr::new(100, 127, 1, 0)));
        }
    }

    #[test]
    fn room_for_all_lines() {
        #[rustfmt::skip]
        let rows = [
            ("100.127.0.0/22", 1022, 56, true),
            ("100.127.0.0/22", 1023, 56, false),
            ("100.127.0.0/32", 1, 56, false),
            ("0.0.0.0/0", 4096, 56, true),
            ("fd00::/48", 4096, 56, true),
            ("fd00::/56", 255, 56, true),
            ("fd00::/56", 256, 56, false),
            ("fd00::/57", 1, 56, false),
            ("fd00::/64", 1, 64, true),
            ("fd00::/63", 3, 64, false),
            ("::/0", 4096, 48, true),
        ];
        for (net, lines, delegated, expected) in rows {
            let parsed = net.parse().expect("a prefix");
            assert_eq!(
                has_room(&parsed, lines, delegated),
                expected,
                "{net} for {lines}, {delegated}"
            );
        }
    }

    #[test]
    fn servers() {
        for (text, expected) in [
            ("198.51.100.5:7443", Some(("198.51.100.5:7443", TCP))),
            ("198.51.100.5:7443/tcp", Some(("198.51.100.5:7443", TCP))),
            ("[2001:db8::5]:53/udp", Some(("[2001:db8::5]:53", UDP))),
            ("198.51.100.5:7443/icmp", None),
            ("198.51.100.5:0", None),
            ("198.51.100.5", None),
            ("server.example:7443", None),
            ("127.0.0.1:7443", None),
            ("[ff02::1]:7443", None),
        ] {
            let expected = expected.map(|(address, protocol)| Server {
                address: address.parse().expect("an address"),
                protocol,
            });
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
