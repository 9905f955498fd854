//! From a line: XDP on an access port.

use doorstep_gateway_common::account::Meter;
use doorstep_gateway_common::downstream::{DownstreamValue, WireTag};
use doorstep_gateway_common::operator::OperatorValue;
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{Direction, LineKey, LineValue, MacWord, Reason, flag};

use crate::deliver::{self, Packet};
use crate::garden::{self, Far};
use crate::headers::{Ipv4, Ipv6, ether_type};
use crate::parse::{self, Link};
use crate::rewrite::{self, NO_TAG, NewLink, ONE_TAG, TWO_TAGS};
use crate::verdict::{Due, Family, ToKernel};
use crate::{Frame, Tables, Verdict, arp, downstream, meter, mss, nd};

/// Decides on a frame that came in at an access port, and changes it as it must be.
#[inline(always)]
pub fn decide<F: Frame, T: Tables>(frame: &mut F, tables: &T, ifindex: u32) -> Verdict {
    decide_or_drop(frame, tables, ifindex).into()
}

/// Where a frame came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub link: Link,
    pub line: LineKey,
}

#[inline(always)]
fn decide_or_drop<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    ifindex: u32,
) -> Result<Verdict, Reason> {
    let link = parse::link(frame)?;
    let arrival = Arrival {
        link,
        line: link.line(ifindex),
    };
    if link.destination != tables.globals().gateway_mac && !link.destination.is_multicast() {
        return Err(Reason::NotOurMac);
    }
    // The length of the link layer is a constant from here on, and with it every offset on the
    // shortest way. What is off it is written once for all lengths, and not inlined.
    match link.len {
        NO_TAG => network::<F, T, NO_TAG>(frame, tables, &arrival),
        ONE_TAG => network::<F, T, ONE_TAG>(frame, tables, &arrival),
        _ => network::<F, T, TWO_TAGS>(frame, tables, &arrival),
    }
}

#[inline(always)]
fn network<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    arrival: &Arrival,
) -> Result<Verdict, Reason> {
    match arrival.link.ether_type {
        ether_type::IPV4 => ipv4::<F, T, LINK>(frame, tables, arrival),
        ether_type::IPV6 => ipv6::<F, T, LINK>(frame, tables, arrival),
        ether_type::ARP => arp::answer(frame, tables, arrival),
        _ => Err(Reason::UnknownEtherType),
    }
}

#[inline(always)]
fn ipv4<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    arrival: &Arrival,
) -> Result<Verdict, Reason> {
    if arrival.link.destination.is_multicast() {
        return Err(Reason::Multicast);
    }
    let (header, total_len) = parse::ipv4(frame, LINK)?;
    let key = UpstreamV4Key {
        line: arrival.line,
        source_be: header.source,
    };
    let Some(session) = tables.upstream_v4(&key) else {
        return Err(not_bound(tables, &arrival.line));
    };
    let operator = check(tables, session, arrival)?;
    parse::is_forwardable_v4(&header.destination)?;
    if session.flags & flag::GARDEN != 0 {
        garden::check_v4(frame, tables, LINK, session.operator, Far::Destination)?;
    }
    let for_gateway = header.destination == operator.gateway_v4_be;
    if for_gateway && !parse::is_echo_request_v4(frame, LINK, &header) {
        return Err(Reason::GatewayService);
    }
    let packet = Packet {
        family: Family::V4,
        hops: header.ttl,
        tos: header.tos,
        bytes: u32::from(total_len),
    };
    let way = Way {
        for_gateway,
        next_hop: operator.next_hop_v4_mac,
        resolved: operator.flags & OperatorValue::NEXT_HOP_V4 != 0,
    };
    route::<F, T, LINK>(frame, tables, arrival, session, operator, packet, way)
}

#[inline(always)]
fn ipv6<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    arrival: &Arrival,
) -> Result<Verdict, Reason> {
    let (header, total_len) = parse::ipv6(frame, LINK)?;
    if nd::may_be_control(&header)
        && let Some(verdict) = nd::control(frame, tables, arrival)?
    {
        return Ok(verdict);
    }
    if arrival.link.destination.is_multicast() {
        return Err(Reason::Multicast);
    }
    let session = bound_v6(tables, &arrival.line, &header)?;
    let operator = check(tables, session, arrival)?;
    parse::is_forwardable_v6(&header.destination)?;
    if session.flags & flag::GARDEN != 0 {
        garden::check_v6(frame, tables, LINK, session.operator, Far::Destination)?;
    }
    let for_gateway = header.destination == operator.gateway_v6_be;
    if for_gateway && !parse::is_echo_request_v6(frame, LINK, &header) {
        return Err(Reason::GatewayService);
    }
    let packet = Packet {
        family: Family::V6,
        hops: header.hop_limit,
        tos: parse::traffic_class(&header),
        bytes: total_len,
    };
    let way = Way {
        for_gateway,
        next_hop: operator.next_hop_v6_mac,
        resolved: operator.flags & OperatorValue::NEXT_HOP_V6 != 0,
    };
    route::<F, T, LINK>(frame, tables, arrival, session, operator, packet, way)
}

/// The session of a source address: in its delegated prefix, or in the line's own /64.
#[inline(always)]
fn bound_v6<'t, T: Tables>(
    tables: &'t T,
    line: &LineKey,
    header: &Ipv6,
) -> Result<&'t UpstreamValue, Reason> {
    let mask = &tables.globals().delegated_mask_be;
    let [delegated, whole] = parse::prefixes(&header.source, mask);
    let mut key = UpstreamV6Key {
        line: *line,
        prefix_be: delegated,
    };
    if let Some(session) = tables.upstream_v6(&key) {
        return Ok(session);
    }
    key.prefix_be = whole;
    match tables.upstream_v6(&key) {
        Some(session) if whole != delegated => Ok(session),
        _ => Err(not_bound(tables, line)),
    }
}

/// Why a source address was not found on a line.
#[inline(never)]
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
    arrival: &Arrival,
) -> Result<&'t OperatorValue, Reason> {
    if session.mac != arrival.link.source {
        return Err(Reason::MacNotBound);
    }
    if session.flags & flag::BLOCKED != 0 {
        return Err(Reason::BlockedLine);
    }
    match tables.operator(session.operator) {
        Some(operator) if operator.ifindex != 0 => Ok(operator),
        _ => Err(Reason::NoUplink),
    }
}

/// Holds a packet against its session's rate; where it is to be counted.
#[inline(always)]
fn admit<'t, T: Tables>(
    tables: &'t T,
    session: &UpstreamValue,
    packet: Packet,
) -> Result<&'t Meter, Reason> {
    let account = tables.account(session.slot).ok_or(Reason::NoAccount)?;
    let (slot, meter) = (session.slot, &account.upstream);
    if session.flags & flag::POLICED != 0
        && !meter::admit(tables, meter, slot, Direction::Upstream, packet.bytes)
    {
        meter.refuse(1);
        return Err(Reason::PolicedUpstream);
    }
    Ok(meter)
}

/// Where a packet would go.
struct Way {
    for_gateway: bool,
    next_hop: MacWord,
    resolved: bool,
}

#[inline(always)]
fn route<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    arrival: &Arrival,
    session: &UpstreamValue,
    operator: &OperatorValue,
    packet: Packet,
    way: Way,
) -> Result<Verdict, Reason> {
    let meter = admit(tables, session, packet)?;
    if operator.flags & OperatorValue::HAIRPIN != 0
        && let Some(verdict) = hairpin(frame, tables, arrival, session, &packet)?
    {
        // Sent by the one home, and counted for the other where its rate takes it.
        meter.count(1, packet.bytes.into());
        return Ok(verdict);
    }
    if session.flags & flag::CLAMP_MSS != 0 {
        mss::clamp(frame, LINK, packet.family, operator.mtu);
    }
    if way.for_gateway {
        return to_kernel::<F, LINK>(frame, session, packet, Reason::KernelGateway);
    }
    if packet.hops <= 1 || packet.bytes > u32::from(operator.mtu) {
        return to_kernel::<F, LINK>(frame, session, packet, Reason::KernelUpstream);
    }
    if !way.resolved {
        return to_kernel::<F, LINK>(frame, session, packet, Reason::KernelUnresolved);
    }
    let link = NewLink {
        destination: way.next_hop,
        source: operator.port_mac,
        outer: WireTag::NONE,
        inner: uplink_tag(session, operator, packet),
    };
    rewrite::forward::<F, LINK>(frame, &link, packet.family)?;
    meter.count(1, packet.bytes.into());
    Ok(Verdict::Forward(
        Reason::ForwardedUpstream,
        operator.ifindex,
    ))
}

/// The tag of the operator's VLAN on its uplink.
#[inline(always)]
fn uplink_tag(session: &UpstreamValue, operator: &OperatorValue, packet: Packet) -> WireTag {
    if operator.vid == 0 {
        return WireTag::NONE;
    }
    let priority = if session.flags & flag::PRIORITY_FROM_DSCP != 0 {
        deliver::priority(packet.tos)
    } else {
        (session.flags >> flag::PRIORITY_SHIFT) as u8
    };
    WireTag::new(ether_type::C_TAG, operator.vid, priority)
}

#[inline(always)]
fn to_kernel<F: Frame, const LINK: usize>(
    frame: &mut F,
    session: &UpstreamValue,
    packet: Packet,
    reason: Reason,
) -> Result<Verdict, Reason> {
    rewrite::strip_tags(frame, LINK, packet.family)?;
    Ok(Verdict::Kernel(ToKernel {
        reason,
        operator: session.operator,
        for_host: reason == Reason::KernelGateway,
        due: Some(Due {
            slot: session.slot,
            bytes: packet.bytes,
        }),
    }))
}

/// From a home to another of the same operator, where that can be; otherwise it goes by the uplink,
/// as all do.
#[inline(never)]
fn hairpin<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    arrival: &Arrival,
    session: &UpstreamValue,
    packet: &Packet,
) -> Result<Option<Verdict>, Reason> {
    const NO: u16 = flag::BLOCKED | flag::GARDEN | flag::SHAPED;
    let Some(home) = other_home(frame, tables, arrival, session, packet.family) else {
        return Ok(None);
    };
    let fits = packet.hops > 1 && packet.bytes <= u32::from(home.mtu);
    if session.flags & flag::GARDEN != 0 || home.flags & NO != 0 || !fits {
        return Ok(None);
    }
    let reason = Reason::ForwardedHairpin;
    match arrival.link.len {
        NO_TAG => deliver::deliver::<F, T, NO_TAG>(frame, tables, home, *packet, reason),
        ONE_TAG => deliver::deliver::<F, T, ONE_TAG>(frame, tables, home, *packet, reason),
        _ => deliver::deliver::<F, T, TWO_TAGS>(frame, tables, home, *packet, reason),
    }
    .map(Some)
}

#[inline(always)]
fn other_home<'t, F: Frame, T: Tables>(
    frame: &F,
    tables: &'t T,
    arrival: &Arrival,
    session: &UpstreamValue,
    family: Family,
) -> Option<&'t DownstreamValue> {
    match family {
        Family::V4 => {
            let header: Ipv4 = frame.load(arrival.link.len)?;
            downstream::home_v4(tables, session.operator, &header.destination)
        }
        Family::V6 => {
            let header: Ipv6 = frame.load(arrival.link.len)?;
            downstream::home_v6(tables, session.operator, &header.destination)
        }
    }
}
