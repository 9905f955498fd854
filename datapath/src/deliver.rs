//! Out to a line: the end of the way for packets from the world, and from one home to another.

use doorstep_gateway_common::downstream::DownstreamValue;
use doorstep_gateway_common::{Direction, MacWord, Reason, flag};

use crate::rewrite::{self, NewLink};
use crate::verdict::Family;
use crate::{Frame, Tables, meter};

/// What matters of a packet's IP header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub family: Family,
    pub hops: u8,
    /// Bytes of IP.
    pub bytes: u32,
    /// Type of service or traffic class.
    pub tos: u8,
}

/// A packet that is ready to leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub reason: Reason,
    pub ifindex: u32,
    /// The MTU of the link that it leaves by, if the MSS of TCP connections is to be clamped to it;
    /// otherwise 0.
    pub clamp: u16,
}

/// Sends a packet to the home's line, if it fits the session's rate. The link layer in front of it
/// has `LINK` bytes.
#[inline(always)]
pub(crate) fn deliver<F: Frame, T: Tables, const LINK: usize>(
    frame: &mut F,
    tables: &T,
    home: &DownstreamValue,
    packet: Packet,
    reason: Reason,
) -> Result<Sent, Reason> {
    let account = tables.account(home.slot).ok_or(Reason::NoAccount)?;
    let meter = &account.downstream;
    if home.flags & flag::POLICED != 0
        && !meter::admit(
            tables,
            meter,
            home.slot,
            Direction::Downstream,
            packet.bytes,
        )
    {
        meter.refuse(1);
        return Err(Reason::PolicedDownstream);
    }
    let link = new_link(home, packet.tos, tables.globals().gateway_mac);
    rewrite::forward::<F, LINK>(frame, &link, packet.family)?;
    meter.count(1, packet.bytes.into());
    Ok(Sent {
        reason,
        ifindex: home.ifindex,
        clamp: clamp(home),
    })
}

/// The MTU that the MSS of a home's TCP connections is to be clamped to; 0: it is not.
#[inline(always)]
pub(crate) fn clamp(home: &DownstreamValue) -> u16 {
    match home.flags & flag::CLAMP_MSS {
        0 => 0,
        _ => home.mtu,
    }
}

/// The link layer of a home's line.
#[inline(always)]
pub(crate) fn new_link(home: &DownstreamValue, tos: u8, gateway_mac: MacWord) -> NewLink {
    let mut link = NewLink {
        destination: home.mac,
        source: gateway_mac,
        outer: home.outer,
        inner: home.inner,
    };
    if home.flags & flag::PRIORITY_FROM_DSCP != 0 {
        let priority = priority(tos);
        link.outer = link.outer.with_priority(priority);
        link.inner = link.inner.with_priority(priority);
    }
    link
}

/// The priority of a frame by its packet's class selector (RFC 2474 section 4.2.2).
#[inline(always)]
pub(crate) const fn priority(tos: u8) -> u8 {
    tos >> 5
}
