//! From the world: XDP on an uplink.

use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::operator::UplinkKey;
use doorstep_gateway_common::{Direction, OperatorIndex, Reason};

use crate::headers::ether_type;
use crate::parse::{self, Link};
use crate::verdict::{Account, Family, NewLink, PushTag, ToKernel};
use crate::{Forward, Frame, Tables, Verdict};

/// Decides on a frame that came in at an uplink.
#[inline(always)]
pub fn decide<F: Frame, T: Tables>(frame: &F, tables: &T, ifindex: u32) -> Verdict {
    decide_or_drop(frame, tables, ifindex).into()
}

#[inline(always)]
fn decide_or_drop<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    ifindex: u32,
) -> Result<Verdict, Reason> {
    const HOST: Verdict = Verdict::Host(Reason::KernelHost);
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
    let globals = tables.globals();
    match link.ether_type {
        ether_type::IPV4 => {
            let (header, total_len) = parse::ipv4(frame, link.len)?;
            let key = DownstreamV4Key {
                operator: uplink.operator,
                pad: 0,
                destination_be: header.destination,
            };
            let Some(home) = tables.downstream_v4(&key) else {
                return Ok(HOST);
            };
            parse::check_source_v4(&header.source, &header.destination)?;
            let hops = header.ttl;
            let bytes = u32::from(total_len);
            Ok(deliver(
                home,
                uplink.operator,
                &link,
                Family::V4,
                hops,
                bytes,
                globals.gateway_mac,
            ))
        }
        ether_type::IPV6 => {
            let (header, total_len) = parse::ipv6(frame, link.len)?;
            let key = DownstreamV6Key {
                operator: uplink.operator,
                pad: [0; 3],
                prefix_be: parse::prefix(&header.destination, &globals.delegated_mask_be),
            };
            let Some(home) = tables.downstream_v6(&key) else {
                return Ok(HOST);
            };
            parse::check_source_v6(&header.source, &header.destination)?;
            let hops = header.hop_limit;
            Ok(deliver(
                home,
                uplink.operator,
                &link,
                Family::V6,
                hops,
                total_len,
                globals.gateway_mac,
            ))
        }
        _ => Ok(HOST),
    }
}

#[inline(always)]
fn deliver(
    home: &DownstreamValue,
    operator: OperatorIndex,
    link: &Link,
    family: Family,
    hops: u8,
    bytes: u32,
    gateway_mac: [u8; 6],
) -> Verdict {
    if hops <= 1 || bytes > u32::from(home.mtu) {
        // Counted when TC sends it, or its error message goes back to the world.
        // An uplink's tag stays: the kernel has a VLAN link for it.
        return Verdict::Kernel(ToKernel {
            reason: Reason::KernelDownstream,
            operator,
            account: None,
            family,
            strip: None,
            for_host: false,
        });
    }
    Verdict::Forward(Forward {
        reason: Reason::ForwardedDownstream,
        account: account(home, bytes),
        family,
        old_link_len: link.len,
        link: new_link(home, gateway_mac),
        ifindex: home.line.ifindex,
    })
}

/// The counters of a packet to a home.
#[inline(always)]
pub(crate) fn account(home: &DownstreamValue, bytes: u32) -> Account {
    Account {
        slot: home.slot,
        direction: Direction::Downstream,
        bytes,
    }
}

/// The link layer of a home's line.
#[inline(always)]
pub(crate) fn new_link(home: &DownstreamValue, gateway_mac: [u8; 6]) -> NewLink {
    NewLink {
        destination: home.mac,
        source: gateway_mac,
        outer: PushTag {
            tpid: home.s_tpid,
            vid: home.line.s_vid,
        },
        inner: PushTag {
            tpid: home.c_tpid,
            vid: home.line.c_vid,
        },
    }
}
