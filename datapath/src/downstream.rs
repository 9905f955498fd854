//! From the world: XDP on an uplink.

use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::operator::UplinkKey;
use doorstep_gateway_common::{OperatorIndex, Reason, flag};

use crate::deliver::{self, Packet, Sent};
use crate::garden::{self, Far};
use crate::headers::{Ipv4, Ipv6, ether_type};
use crate::parse;
use crate::rewrite::{NO_TAG, ONE_TAG};
use crate::verdict::{Family, ToKernel};
use crate::{Frame, Tables, Verdict, mss};

const HOST: Verdict = Verdict::Host(Reason::KernelHost);

/// How far the shortest way has led.
enum Step {
    Sent(Sent),
    Done(Verdict),
}

/// Decides on a frame that came in at an uplink, and changes it as it must be.
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
    // Two tags are nobody's uplink; the kernel may have a use for them.
    if link.s_vid != 0 {
        return Ok(HOST);
    }
    let Some(uplink) = tables.uplink(&UplinkKey {
        ifindex,
        vid: link.c_vid,
        pad: 0,
    }) else {
        return Ok(HOST);
    };
    if link.destination != uplink.port_mac {
        return Ok(HOST);
    }
    // The length of the link layer is a constant on the shortest way, and with it every offset.
    let step = match link.len {
        NO_TAG => network::<F, T, NO_TAG>(frame, tables, uplink.operator, link.ether_type),
        ONE_TAG => network::<F, T, ONE_TAG>(frame, tables, uplink.operator, link.ether_type),
        _ => Ok(Step::Done(HOST)),
    };
    match step? {
        Step::Sent(sent) => {
            if sent.clamp != 0 {
                mss::clamp_downstream(frame, tables, uplink.operator, sent.clamp);
            }
            Ok(Verdict::Forward(sent.reason, sent.ifindex))
        }
        Step::Done(verdict) => Ok(verdict),
    }
}

#[inline(always)]
fn network<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    operator: OperatorIndex,
    ether_type: u16,
) -> Result<Step, Reason> {
    match ether_type {
        ether_type::IPV4 => ipv4::<F, T, LINK>(frame, tables, operator),
        ether_type::IPV6 => ipv6::<F, T, LINK>(frame, tables, operator),
        _ => Ok(Step::Done(HOST)),
    }
}

#[inline(always)]
fn ipv4<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    operator: OperatorIndex,
) -> Result<Step, Reason> {
    let (header, total_len) = parse::ipv4(frame, LINK)?;
    let Some(home) = home_v4(tables, operator, &header.destination) else {
        return Ok(Step::Done(HOST));
    };
    parse::check_source_v4(&header.source, &header.destination)?;
    if home.flags & flag::GARDEN != 0 {
        garden::check::<Ipv4, F, T>(frame, tables, LINK, operator, Far::Source)?;
    }
    let packet = Packet {
        family: Family::V4,
        hops: header.ttl,
        bytes: u32::from(total_len),
        tos: header.tos,
    };
    to_home::<F, T, LINK>(frame, tables, home, operator, packet)
}

#[inline(always)]
fn ipv6<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    operator: OperatorIndex,
) -> Result<Step, Reason> {
    let (header, total_len) = parse::ipv6(frame, LINK)?;
    let Some(home) = home_v6(tables, operator, &header.destination) else {
        return Ok(Step::Done(HOST));
    };
    parse::check_source_v6(&header.source, &header.destination)?;
    if home.flags & flag::GARDEN != 0 {
        garden::check::<Ipv6, F, T>(frame, tables, LINK, operator, Far::Source)?;
    }
    let packet = Packet {
        family: Family::V6,
        hops: header.hop_limit,
        bytes: total_len,
        tos: parse::traffic_class(&header),
    };
    to_home::<F, T, LINK>(frame, tables, home, operator, packet)
}

/// The home of a destination.
#[inline(always)]
pub(crate) fn home_v4<'t, T: Tables>(
    tables: &'t T,
    operator: OperatorIndex,
    destination: &[u8; 4],
) -> Option<&'t DownstreamValue> {
    tables.downstream_v4(&DownstreamV4Key {
        operator,
        pad: 0,
        destination_be: *destination,
    })
}

/// The home of a destination: in its delegated prefix, or in the line's own /64.
#[inline(always)]
pub(crate) fn home_v6<'t, T: Tables>(
    tables: &'t T,
    operator: OperatorIndex,
    destination: &[u8; 16],
) -> Option<&'t DownstreamValue> {
    let mask = &tables.globals().delegated_mask_be;
    let [delegated, whole] = parse::prefixes(destination, mask);
    let mut key = DownstreamV6Key {
        operator,
        pad: [0; 3],
        prefix_be: delegated,
    };
    if let Some(home) = tables.downstream_v6(&key) {
        return Some(home);
    }
    if whole == delegated {
        return None;
    }
    key.prefix_be = whole;
    tables.downstream_v6(&key)
}

#[inline(always)]
fn to_home<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    home: &DownstreamValue,
    operator: OperatorIndex,
    packet: Packet,
) -> Result<Step, Reason> {
    if home.flags & flag::BLOCKED != 0 {
        return Err(Reason::BlockedLine);
    }
    // Counted, and held against the rate, when TC sends it; an error message goes back to the
    // world. An uplink's tag stays: the kernel has a VLAN link for it.
    let to_kernel = |reason| {
        Ok(Step::Done(Verdict::Kernel(ToKernel {
            reason,
            operator,
            for_host: false,
            due: None,
        })))
    };
    if packet.hops <= 1 || packet.bytes > u32::from(home.mtu) {
        return to_kernel(Reason::KernelDownstream);
    }
    if home.flags & flag::SHAPED != 0 {
        return to_kernel(Reason::KernelShaped);
    }
    let reason = Reason::ForwardedDownstream;
    deliver::deliver::<F, T, LINK>(frame, tables, home, packet, reason).map(Step::Sent)
}
