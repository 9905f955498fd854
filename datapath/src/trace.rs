//! What is known of a packet that somebody may be following.

use doorstep_gateway_common::garden::mapped;
use doorstep_gateway_common::operator::UplinkKey;
use doorstep_gateway_common::trace::{TraceEvent, TraceFilter};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key};
use doorstep_gateway_common::{LineKey, OperatorIndex, Slot};

use crate::headers::{Ipv4, Ipv6, ether_type};
use crate::{Frame, Tables, downstream, parse};

/// What a packet is, and which map entry it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// All zero: none is known.
    pub line: LineKey,
    /// [`TraceEvent::NO_SLOT`]: no entry.
    pub slot: Slot,
    pub operator: OperatorIndex,
    /// The entry's, see [`doorstep_gateway_common::flag`].
    pub flags: u16,
    /// IPv4 as in [`mapped`]; all zero: not IP.
    pub source: [u8; 16],
    pub destination: [u8; 16],
}

impl Seen {
    const NOTHING: Self = Self {
        line: LineKey {
            ifindex: 0,
            s_vid: 0,
            c_vid: 0,
        },
        slot: TraceEvent::NO_SLOT,
        operator: 0,
        flags: 0,
        source: [0; 16],
        destination: [0; 16],
    };

    /// Whether somebody follows such packets.
    #[inline(always)]
    pub fn fits(&self, filter: &TraceFilter) -> bool {
        if filter.flags & TraceFilter::ENABLED == 0 {
            return false;
        }
        if filter.flags & TraceFilter::LINE != 0 && filter.line != self.line {
            return false;
        }
        filter.flags & TraceFilter::ADDRESS == 0
            || filter.address == self.source
            || filter.address == self.destination
    }
}

/// A packet's addresses.
enum Network {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
    Other,
}

#[inline(always)]
fn network<F: Frame>(frame: &F, ether_type: u16, offset: usize) -> Network {
    match ether_type {
        ether_type::IPV4 => match frame.load::<Ipv4>(offset) {
            Some(header) => Network::V4(header.source, header.destination),
            None => Network::Other,
        },
        ether_type::IPV6 => match frame.load::<Ipv6>(offset) {
            Some(header) => Network::V6(header.source, header.destination),
            None => Network::Other,
        },
        _ => Network::Other,
    }
}

/// A frame from a line.
#[inline(always)]
pub fn from_line<F: Frame, T: Tables>(frame: &F, tables: &T, ifindex: u32) -> Seen {
    let mut seen = Seen::NOTHING;
    let Ok(link) = parse::link(frame) else {
        return seen;
    };
    seen.line = link.line(ifindex);
    let session = match network(frame, link.ether_type, link.len) {
        Network::V4(source, destination) => {
            seen.source = mapped(source);
            seen.destination = mapped(destination);
            tables.upstream_v4(&UpstreamV4Key {
                line: seen.line,
                source_be: source,
            })
        }
        Network::V6(source, destination) => {
            seen.source = source;
            seen.destination = destination;
            let [delegated, whole] = parse::prefixes(&source, &tables.globals().delegated_mask_be);
            let mut key = UpstreamV6Key {
                line: seen.line,
                prefix_be: delegated,
            };
            match tables.upstream_v6(&key) {
                Some(session) => Some(session),
                None => {
                    key.prefix_be = whole;
                    tables.upstream_v6(&key)
                }
            }
        }
        Network::Other => None,
    };
    if let Some(session) = session {
        seen.slot = session.slot;
        seen.operator = session.operator;
        seen.flags = session.flags;
    }
    seen
}

/// A frame from the world.
#[inline(always)]
pub fn from_world<F: Frame, T: Tables>(frame: &F, tables: &T, ifindex: u32) -> Seen {
    let Ok(link) = parse::link(frame) else {
        return Seen::NOTHING;
    };
    let key = UplinkKey {
        ifindex,
        vid: link.c_vid,
        pad: 0,
    };
    let operator = match tables.uplink(&key) {
        Some(uplink) => uplink.operator,
        None => 0,
    };
    to_line(frame, tables, operator, link.ether_type, link.len)
}

/// A packet of an operator's to a line.
#[inline(always)]
pub fn to_line<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    operator: OperatorIndex,
    ether_type: u16,
    offset: usize,
) -> Seen {
    let mut seen = Seen {
        operator,
        ..Seen::NOTHING
    };
    let home = match network(frame, ether_type, offset) {
        Network::V4(source, destination) => {
            seen.source = mapped(source);
            seen.destination = mapped(destination);
            downstream::home_v4(tables, operator, &destination)
        }
        Network::V6(source, destination) => {
            seen.source = source;
            seen.destination = destination;
            downstream::home_v6(tables, operator, &destination)
        }
        Network::Other => None,
    };
    if let Some(home) = home {
        seen.line = home.line();
        seen.slot = home.slot;
        seen.flags = home.flags;
    }
    seen
}
