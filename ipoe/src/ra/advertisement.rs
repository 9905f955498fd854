//! What clients are told.

use std::net::Ipv6Addr;
use std::time::Duration;

use etherparse::Icmpv6Type;
use etherparse::icmpv6::{
    PrefixInformation, RouterAdvertisementHeader, RouterAdvertisementPayload,
};

use super::schedule::max_interval;
use crate::frame::{Body, HOP_LIMIT, Mac, Packet, group_mac};
use crate::line6::{ALL_NODES, Gateway, MAX_DNS, Session, seconds};

/// What clients put into their own packets (CurHopLimit, RFC 4861, 6.2.1): the value that the
/// assigned numbers have for it.
const CLIENTS_HOP_LIMIT: u8 = 64;
/// Longest AdvDefaultLifetime (RFC 4861, 6.2.1).
const ROUTER_LIFETIME_MAX: Duration = Duration::from_secs(9000);
/// Advertisements in the life of what they say, so that two may be lost (AdvDefaultLifetime, RFC
/// 4861, 6.2.1; AdvRDNSSLifetime, RFC 8106, 5.1).
pub(super) const PER_LIFETIME: u32 = 3;
/// What a link must carry (RFC 8200, 5). Clients ignore an MTU below.
const MIN_MTU: u16 = 1280;
/// Clients make addresses of a /64 only (RFC 4862, 5.5.3 d; RFC 7136).
const SLAAC_LEN: u8 = 64;

const SOURCE_LINK_LAYER: u8 = 1;
const MTU: u8 = 5;
const RDNSS: u8 = 25;

/// What an advertisement says of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is there.
    Current,
    /// It has ended (RFC 4861, 6.2.5): the gateway is no router of the line any more, its resolvers
    /// must not be asked, and no new connection is to begin from an address of the line's prefix.
    /// Such an address itself stays for two hours at most, because clients do not take a shorter
    /// time from anyone (RFC 4862, 5.5.3 e); it is deprecated at once.
    Final,
}

/// The advertisement to all nodes of a line; `tags` as in [`Packet`].
#[must_use]
pub fn advertisement(
    gateway: &Gateway,
    session: &Session,
    kind: Kind,
    tags: &[u8],
) -> Option<Vec<u8>> {
    let all = (group_mac(ALL_NODES), ALL_NODES);
    to(all, gateway, session, kind, tags)
}

/// The advertisement to one node or a group.
pub(super) fn to(
    (destination_mac, destination): (Mac, Ipv6Addr),
    gateway: &Gateway,
    session: &Session,
    kind: Kind,
    tags: &[u8],
) -> Option<Vec<u8>> {
    let packet = Packet {
        source_mac: gateway.mac,
        destination_mac,
        tags,
        source: gateway.address,
        destination,
        hop_limit: HOP_LIMIT,
        body: Body::Icmp {
            header: Icmpv6Type::RouterAdvertisement(header(session, kind)),
            payload: &payload(gateway, session, kind),
            intact: true,
        },
    };
    packet.build()
}

/// | field | value |
/// |---|---|
/// | M | set if there is an address by DHCP (RFC 4861, 4.2) |
/// | O | set: resolvers are told by DHCP too; and home routers ask for a prefix if M or O is set (RFC 7084, WPD-4) |
/// | router lifetime | three intervals, as by default (AdvDefaultLifetime, RFC 4861, 6.2.1), and no longer than the session's |
fn header(session: &Session, kind: Kind) -> RouterAdvertisementHeader {
    let lifetime = (max_interval(session.lifetime) * PER_LIFETIME)
        .min(session.lifetime)
        .min(ROUTER_LIFETIME_MAX);
    RouterAdvertisementHeader {
        cur_hop_limit: CLIENTS_HOP_LIMIT,
        managed_address_config: session.address().is_some(),
        other_config: true,
        router_lifetime: match kind {
            Kind::Current => u16::try_from(lifetime.as_secs()).unwrap_or(u16::MAX),
            Kind::Final => 0,
        },
    }
}

fn payload(gateway: &Gateway, session: &Session, kind: Kind) -> Vec<u8> {
    // Unspecified: how long clients take a neighbour to be there is theirs (RFC 4861, 6.2.1).
    let timers = RouterAdvertisementPayload {
        reachable_time: 0,
        retrans_timer: 0,
    };
    let mut payload = timers.to_bytes().to_vec();
    let lifetime = match kind {
        Kind::Current => session.lifetime,
        Kind::Final => Duration::ZERO,
    };
    // RFC 4861, 4.6.1.
    payload.extend_from_slice(&[SOURCE_LINK_LAYER, 1]);
    payload.extend_from_slice(&gateway.mac);
    // RFC 4861, 4.6.4.
    if session.mtu >= MIN_MTU {
        payload.extend_from_slice(&[MTU, 1, 0, 0]);
        payload.extend_from_slice(&u32::from(session.mtu).to_be_bytes());
    }
    if let Some(line) = session.line {
        let prefix = PrefixInformation {
            prefix_length: line.prefix_len(),
            // All of it is on this line and nowhere else (L, RFC 4861, 4.6.2).
            on_link: true,
            // A (RFC 4862, 5.5.3).
            autonomous_address_configuration: line.prefix_len() == SLAAC_LEN,
            valid_lifetime: seconds(lifetime),
            preferred_lifetime: seconds(lifetime),
            prefix: line.network().octets(),
        };
        payload.extend_from_slice(&prefix.to_bytes());
    }
    rdnss(&mut payload, session, kind);
    payload
}

/// RFC 8106, 5.1: as long as the router, for three intervals at least.
fn rdnss(payload: &mut Vec<u8>, session: &Session, kind: Kind) {
    let dns = &session.dns[..session.dns.len().min(MAX_DNS)];
    if dns.is_empty() {
        return;
    }
    let lifetime = match kind {
        Kind::Current => max_interval(session.lifetime) * PER_LIFETIME,
        Kind::Final => Duration::ZERO,
    };
    // In units of 8 bytes: the head is one, each address two.
    let units = 1 + 2 * dns.len() as u8;
    payload.extend_from_slice(&[RDNSS, units, 0, 0]);
    payload.extend_from_slice(&seconds(lifetime).to_be_bytes());
    for resolver in dns {
        payload.extend_from_slice(&resolver.octets());
    }
}
