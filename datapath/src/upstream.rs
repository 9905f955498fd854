//! From a line: XDP on an access port.

use doorstep_gateway_common::operator::OperatorValue;
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{Direction, LineKey, LineValue, Reason};

use crate::headers::ether_type;
use crate::parse::{self, Link};
use crate::verdict::{Account, Family, NewLink, PushTag, ToKernel};
use crate::{Forward, Frame, Tables, Verdict, arp, nd};

/// Decides on a frame that came in at an access port; answers to it are written into the frame.
#[inline(always)]
pub fn decide<F: Frame, T: Tables>(frame: &mut F, tables: &T, ifindex: u32) -> Verdict {
    decide_or_drop(frame, tables, ifindex).into()
}

#[inline(always)]
fn decide_or_drop<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    ifindex: u32,
) -> Result<Verdict, Reason> {
    let link = parse::link(frame)?;
    let line = link.line(ifindex);
    if !link.is_multicast() && link.destination != tables.globals().gateway_mac {
        return Err(Reason::NotOurMac);
    }
    match link.ether_type {
        ether_type::IPV4 if link.is_multicast() => Err(Reason::Multicast),
        ether_type::IPV4 => ipv4(frame, tables, &link, &line),
        ether_type::IPV6 => ipv6(frame, tables, &link, &line),
        ether_type::ARP => arp::answer(frame, tables, &link, &line),
        _ => Err(Reason::UnknownEtherType),
    }
}

#[inline(always)]
fn ipv4<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    link: &Link,
    line: &LineKey,
) -> Result<Verdict, Reason> {
    let (header, total_len) = parse::ipv4(frame, link.len)?;
    let key = UpstreamV4Key {
        line: *line,
        source_be: header.source,
    };
    let Some(session) = tables.upstream_v4(&key) else {
        return Err(not_bound(tables, line));
    };
    let operator = check(tables, session, link)?;
    parse::is_forwardable_v4(&header.destination)?;
    let packet = Packet {
        family: Family::V4,
        hops: header.ttl,
        bytes: u32::from(total_len),
        for_gateway: match header.destination == operator.gateway_v4_be {
            true if parse::is_echo_request_v4(frame, link.len, &header) => true,
            true => return Err(Reason::GatewayService),
            false => false,
        },
        next_hop: (operator.flags & OperatorValue::NEXT_HOP_V4 != 0)
            .then_some(operator.next_hop_v4_mac),
    };
    Ok(route(session, operator, link, packet))
}

#[inline(always)]
fn ipv6<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    link: &Link,
    line: &LineKey,
) -> Result<Verdict, Reason> {
    let (header, total_len) = parse::ipv6(frame, link.len)?;
    if let Some(verdict) = nd::control(frame, tables, link, line, &header)? {
        return Ok(verdict);
    }
    if link.is_multicast() {
        return Err(Reason::Multicast);
    }
    let prefix_be = parse::prefix(&header.source, &tables.globals().delegated_mask_be);
    let Some(session) = tables.upstream_v6(&UpstreamV6Key {
        line: *line,
        prefix_be,
    }) else {
        return Err(not_bound(tables, line));
    };
    let operator = check(tables, session, link)?;
    parse::is_forwardable_v6(&header.destination)?;
    let packet = Packet {
        family: Family::V6,
        hops: header.hop_limit,
        bytes: total_len,
        for_gateway: match header.destination == operator.gateway_v6_be {
            true if parse::is_echo_request_v6(frame, link.len, &header) => true,
            true => return Err(Reason::GatewayService),
            false => false,
        },
        next_hop: (operator.flags & OperatorValue::NEXT_HOP_V6 != 0)
            .then_some(operator.next_hop_v6_mac),
    };
    Ok(route(session, operator, link, packet))
}

/// Why a source address was not found on a line.
#[inline(always)]
pub(crate) fn not_bound<T: Tables>(tables: &T, line: &LineKey) -> Reason {
    match tables.line(line) {
        None => Reason::UnknownLine,
        Some(value) if value.flags & LineValue::BLOCKED != 0 => Reason::BlockedLine,
        Some(_) => Reason::SourceNotBound,
    }
}

#[inline(always)]
fn check<'t, T: Tables>(
    tables: &'t T,
    session: &UpstreamValue,
    link: &Link,
) -> Result<&'t OperatorValue, Reason> {
    if session.mac != link.source {
        return Err(Reason::MacNotBound);
    }
    match tables.operator(session.operator) {
        Some(operator) if operator.ifindex != 0 => Ok(operator),
        _ => Err(Reason::NoUplink),
    }
}

/// What the route of a packet depends on.
struct Packet {
    family: Family,
    hops: u8,
    bytes: u32,
    for_gateway: bool,
    next_hop: Option<[u8; 6]>,
}

#[inline(always)]
fn route(
    session: &UpstreamValue,
    operator: &OperatorValue,
    link: &Link,
    packet: Packet,
) -> Verdict {
    let account = Account {
        slot: session.slot,
        direction: Direction::Upstream,
        bytes: packet.bytes,
    };
    let to_kernel = |reason| {
        Verdict::Kernel(ToKernel {
            reason,
            operator: session.operator,
            account: Some(account),
            family: packet.family,
            strip: Some(link.len),
            for_host: packet.for_gateway,
        })
    };
    if packet.for_gateway || packet.hops <= 1 || packet.bytes > u32::from(operator.mtu) {
        return to_kernel(Reason::KernelUpstream);
    }
    let Some(next_hop) = packet.next_hop else {
        return to_kernel(Reason::KernelUnresolved);
    };
    Verdict::Forward(Forward {
        reason: Reason::ForwardedUpstream,
        account,
        family: packet.family,
        old_link_len: link.len,
        link: NewLink {
            destination: next_hop,
            source: operator.port_mac,
            outer: PushTag::default(),
            inner: PushTag {
                tpid: ether_type::C_TAG,
                vid: operator.vid,
            },
        },
        ifindex: operator.ifindex,
    })
}
