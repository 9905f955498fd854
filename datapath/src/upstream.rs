//! From a line: XDP on an access port.

use doorstep_gateway_common::account::Meter;
use doorstep_gateway_common::downstream::{DownstreamValue, WireTag};
use doorstep_gateway_common::operator::OperatorValue;
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{Direction, LineKey, LineValue, MacWord, Reason, flag};

use crate::deliver::{self, Packet, Sent};
use crate::garden::{self, Far};
use crate::headers::{Ipv4, Ipv6, ether_type};
use crate::parse::{self, Link};
use crate::rewrite::{self, NO_TAG, NewLink, ONE_TAG, TWO_TAGS};
use crate::verdict::{Due, Family, ToKernel};
use crate::{Frame, Tables, Verdict, arp, dhcp, downstream, meter, mss, nd, probe};

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

impl Arrival {
    #[inline(always)]
    pub fn of<F: Frame>(frame: &F, ifindex: u32) -> Result<Self, Reason> {
        let link = parse::link(frame)?;
        Ok(Self {
            link,
            line: link.line(ifindex),
        })
    }
}

/// How far the shortest way has led.
enum Step {
    /// Counted for its session, and ready to leave.
    Sent(Sent),
    /// Within its session's rate; what few packets need is left to do, and its reason tells what.
    Aside(Reason),
}

#[inline(always)]
fn decide_or_drop<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    ifindex: u32,
) -> Result<Verdict, Reason> {
    let arrival = Arrival::of(frame, ifindex)?;
    let link = arrival.link;
    if link.destination != tables.globals().gateway_mac && !link.destination.is_multicast() {
        return Err(Reason::NotOurMac);
    }
    if link.ether_type == ether_type::ARP {
        return arp::answer(frame, tables, ifindex);
    }
    if link.ether_type == ether_type::IPV6 && nd::is_control(frame, link.len)? {
        return match nd::control(frame, tables, ifindex) {
            Err(Reason::ProbeRefused) => probe::answer(frame, tables, ifindex),
            treated => treated,
        };
    }
    // The length of the link layer is a constant on the shortest way, and with it every offset.
    // What is off it is written once for all lengths.
    let step = match link.len {
        NO_TAG => network::<F, T, NO_TAG>(frame, tables, &arrival),
        ONE_TAG => network::<F, T, ONE_TAG>(frame, tables, &arrival),
        _ => network::<F, T, TWO_TAGS>(frame, tables, &arrival),
    };
    let step = match step {
        Err(reason) if dhcp::may_be_behind(reason) => {
            return dhcp::control(frame, tables, ifindex, reason);
        }
        step => step?,
    };
    match step {
        Step::Sent(sent) => {
            if sent.clamp != 0 {
                mss::clamp_upstream(frame, tables, sent.ifindex, sent.clamp);
            }
            Ok(Verdict::Forward(sent.reason, sent.ifindex))
        }
        Step::Aside(reason) => aside(frame, tables, ifindex, reason),
    }
}

#[inline(always)]
fn network<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    arrival: &Arrival,
) -> Result<Step, Reason> {
    if arrival.link.destination.is_multicast() {
        return match arrival.link.ether_type {
            ether_type::IPV4 | ether_type::IPV6 => Err(Reason::Multicast),
            _ => Err(Reason::UnknownEtherType),
        };
    }
    match arrival.link.ether_type {
        ether_type::IPV4 => ipv4::<F, T, LINK>(frame, tables, arrival),
        ether_type::IPV6 => ipv6::<F, T, LINK>(frame, tables, arrival),
        _ => Err(Reason::UnknownEtherType),
    }
}

#[inline(always)]
fn ipv4<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    arrival: &Arrival,
) -> Result<Step, Reason> {
    let (header, total_len) = parse::ipv4(frame, LINK)?;
    let key = UpstreamV4Key {
        line: arrival.line,
        source_be: header.source,
    };
    let Some(session) = tables.upstream_v4(&key) else {
        return Err(not_bound(tables, &key.line));
    };
    let operator = check(tables, session, arrival)?;
    parse::is_forwardable_v4(&header.destination)?;
    if session.flags & flag::GARDEN != 0 {
        garden::check::<Ipv4, F, T>(frame, tables, LINK, session.operator, Far::Destination)?;
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
    if operator.flags & OperatorValue::HAIRPIN != 0
        && let Some(home) = downstream::home_v4(tables, session.operator, &header.destination)
        && turns_round(session, home, packet)
    {
        return set_aside(tables, session, packet, Reason::ForwardedHairpin);
    }
    route::<F, T, LINK>(frame, tables, session, operator, packet, way)
}

#[inline(always)]
fn ipv6<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    arrival: &Arrival,
) -> Result<Step, Reason> {
    let (header, total_len) = parse::ipv6(frame, LINK)?;
    let session = bound_v6(tables, &arrival.line, &header)?;
    let operator = check(tables, session, arrival)?;
    parse::is_forwardable_v6(&header.destination)?;
    if session.flags & flag::GARDEN != 0 {
        garden::check::<Ipv6, F, T>(frame, tables, LINK, session.operator, Far::Destination)?;
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
    if operator.flags & OperatorValue::HAIRPIN != 0
        && let Some(home) = downstream::home_v6(tables, session.operator, &header.destination)
        && turns_round(session, home, packet)
    {
        return set_aside(tables, session, packet, Reason::ForwardedHairpin);
    }
    route::<F, T, LINK>(frame, tables, session, operator, packet, way)
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
        _ => Err(not_bound(tables, &key.line)),
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
    session: &UpstreamValue,
    operator: &OperatorValue,
    packet: Packet,
    way: Way,
) -> Result<Step, Reason> {
    if way.for_gateway {
        return set_aside(tables, session, packet, Reason::KernelGateway);
    }
    if packet.hops <= 1 || packet.bytes > u32::from(operator.mtu) {
        return set_aside(tables, session, packet, Reason::KernelUpstream);
    }
    if !way.resolved {
        return set_aside(tables, session, packet, Reason::KernelUnresolved);
    }
    let meter = admit(tables, session, packet)?;
    let link = NewLink {
        destination: way.next_hop,
        source: operator.port_mac,
        outer: WireTag::NONE,
        inner: uplink_tag(session, operator, packet),
    };
    rewrite::forward::<F, LINK>(frame, &link, packet.family)?;
    meter.count(1, packet.bytes.into());
    Ok(Step::Sent(Sent {
        reason: Reason::ForwardedUpstream,
        ifindex: operator.ifindex,
        clamp: match session.flags & flag::CLAMP_MSS {
            0 => 0,
            _ => operator.mtu,
        },
    }))
}

/// Leaves the shortest way, within the session's rate.
#[inline(always)]
fn set_aside<T: Tables>(
    tables: &T,
    session: &UpstreamValue,
    packet: Packet,
    reason: Reason,
) -> Result<Step, Reason> {
    admit(tables, session, packet)?;
    Ok(Step::Aside(reason))
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

/// What few packets need. They are looked up again, so that the shortest way has nothing to hand on.
#[inline(never)]
fn aside<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    ifindex: u32,
    reason: Reason,
) -> Result<Verdict, Reason> {
    let arrival = Arrival::of(frame, ifindex)?;
    let offset = arrival.link.len;
    if arrival.link.ether_type == ether_type::IPV4 {
        let (header, total_len) = parse::ipv4(frame, offset)?;
        let key = UpstreamV4Key {
            line: arrival.line,
            source_be: header.source,
        };
        let session = tables.upstream_v4(&key).ok_or(Reason::SourceNotBound)?;
        let packet = Packet {
            family: Family::V4,
            hops: header.ttl,
            tos: header.tos,
            bytes: u32::from(total_len),
        };
        if reason != Reason::ForwardedHairpin {
            return to_kernel(frame, offset, session, packet, reason);
        }
        let home = downstream::home_v4(tables, session.operator, &header.destination);
        let home = home.ok_or(Reason::EgressNotBound)?;
        turn_round(frame, tables, offset, session, home, packet)
    } else {
        let (header, total_len) = parse::ipv6(frame, offset)?;
        let session = bound_v6(tables, &arrival.line, &header)?;
        let packet = Packet {
            family: Family::V6,
            hops: header.hop_limit,
            tos: parse::traffic_class(&header),
            bytes: total_len,
        };
        if reason != Reason::ForwardedHairpin {
            return to_kernel(frame, offset, session, packet, reason);
        }
        let home = downstream::home_v6(tables, session.operator, &header.destination);
        let home = home.ok_or(Reason::EgressNotBound)?;
        turn_round(frame, tables, offset, session, home, packet)
    }
}

#[inline(always)]
fn to_kernel<F: Frame>(
    frame: &mut F,
    offset: usize,
    session: &UpstreamValue,
    packet: Packet,
    reason: Reason,
) -> Result<Verdict, Reason> {
    rewrite::strip_tags(frame, offset, packet.family)?;
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

/// Whether a packet to another home can turn round here; otherwise it goes by the uplink, as all do.
#[inline(always)]
fn turns_round(session: &UpstreamValue, home: &DownstreamValue, packet: Packet) -> bool {
    const NO: u16 = flag::BLOCKED | flag::GARDEN | flag::SHAPED;
    session.flags & flag::GARDEN == 0
        && home.flags & NO == 0
        && packet.hops > 1
        && packet.bytes <= u32::from(home.mtu)
}

/// From a home to another of the same operator: it counts for both, and is held against both rates.
#[inline(always)]
fn turn_round<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    offset: usize,
    session: &UpstreamValue,
    home: &DownstreamValue,
    packet: Packet,
) -> Result<Verdict, Reason> {
    let account = tables.account(session.slot).ok_or(Reason::NoAccount)?;
    let reason = Reason::ForwardedHairpin;
    let sent = match offset {
        NO_TAG => deliver::deliver::<F, T, NO_TAG>(frame, tables, home, packet, reason),
        ONE_TAG => deliver::deliver::<F, T, ONE_TAG>(frame, tables, home, packet, reason),
        _ => deliver::deliver::<F, T, TWO_TAGS>(frame, tables, home, packet, reason),
    };
    // Sent by the one, even where the other's rate does not take it.
    account.upstream.count(1, packet.bytes.into());
    // No MSS is clamped: the stack of the BPF machine has no room for it at this depth.
    sent.map(|sent| Verdict::Forward(sent.reason, sent.ifindex))
}
