//! What is known of a packet that somebody may be following.
//!
//! It is written into an event in place: where the programs run, the stack has no room for it. The
//! packet is looked up as [`crate::upstream`], [`crate::downstream`] and [`crate::egress`] do, in the
//! same maps and under the same conditions, before they decide.

use doorstep_gateway_common::OperatorIndex;
use doorstep_gateway_common::downstream::{DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::garden::mapped;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey};
use doorstep_gateway_common::trace::{Entry, TraceEvent, TraceFilter};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};

use crate::headers::{Arp, ETHERNET_LEN, Ethernet, Ipv4, Ipv6, ether_type};
use crate::{Frame, Tables, downstream, nd, parse};

/// Whether somebody follows such packets.
#[inline(always)]
pub fn fits(event: &TraceEvent, filter: &TraceFilter) -> bool {
    if filter.flags & TraceFilter::ENABLED == 0 {
        return false;
    }
    if filter.flags & TraceFilter::LINE != 0
        && filter.line != event.line
        && filter.line != event.other_line
    {
        return false;
    }
    filter.flags & TraceFilter::ADDRESS == 0
        || filter.address == event.source
        || filter.address == event.destination
}

/// Which addresses a packet has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    V4,
    V6,
    Other,
}

/// Notes a packet's addresses.
#[inline(always)]
fn network<F: Frame>(frame: &F, ether_type: u16, offset: usize, event: &mut TraceEvent) -> Network {
    match ether_type {
        ether_type::IPV4 => {
            let Some(header) = frame.load::<Ipv4>(offset) else {
                return Network::Other;
            };
            event.source = mapped(header.source);
            event.destination = mapped(header.destination);
            Network::V4
        }
        ether_type::ARP => {
            let Some(header) = frame.load::<Arp>(offset) else {
                return Network::Other;
            };
            event.source = mapped(header.sender);
            event.destination = mapped(header.target);
            Network::V4
        }
        ether_type::IPV6 => {
            let Some(header) = frame.load::<Ipv6>(offset) else {
                return Network::Other;
            };
            event.source = header.source;
            event.destination = header.destination;
            Network::V6
        }
        _ => Network::Other,
    }
}

#[inline(always)]
fn unmapped(address: &[u8; 16]) -> [u8; 4] {
    let [.., a, b, c, d] = *address;
    [a, b, c, d]
}

/// A frame from a line.
#[inline(always)]
pub fn from_line<F: Frame, T: Tables>(frame: &F, tables: &T, ifindex: u32, event: &mut TraceEvent) {
    event.clear();
    let Ok(link) = parse::link(frame) else {
        return;
    };
    event.line = link.line(ifindex);
    let network = network(frame, link.ether_type, link.len, event);
    if link.destination != tables.globals().gateway_mac && !link.destination.is_multicast() {
        return;
    }
    let is_control =
        network == Network::V6 && matches!(nd::is_control(frame, link.len), Ok(true) | Err(_));
    match network {
        Network::V4 => {
            let key = UpstreamV4Key {
                line: event.line,
                source_be: unmapped(&event.source),
            };
            if let Some(session) = tables.upstream_v4(&key) {
                note_session(event, session, Entry::UpstreamV4);
            }
        }
        Network::V6 if !is_control => {
            let line = event.line;
            let source = event.source;
            let session = by_prefix(tables, &source, event, |prefix_be| {
                tables.upstream_v6(&UpstreamV6Key { line, prefix_be })
            });
            if let Some(session) = session {
                note_session(event, session, Entry::UpstreamV6);
            }
        }
        _ => {}
    }
    if event.slot == TraceEvent::NO_SLOT {
        if let Some(line) = tables.line(&event.line) {
            event.entry = Entry::Line as u16;
            event.flags = line.flags as u16;
        }
    } else if link.ether_type != ether_type::ARP {
        note_other_line(tables, event);
    }
}

#[inline(always)]
fn note_session(event: &mut TraceEvent, session: &UpstreamValue, entry: Entry) {
    event.entry = entry as u16;
    event.slot = session.slot;
    event.generation = session.generation;
    event.operator = session.operator;
    event.flags = session.flags;
}

/// A packet that turns round at the gateway belongs to two lines.
#[inline(always)]
fn note_other_line<T: Tables>(tables: &T, event: &mut TraceEvent) {
    match tables.operator(event.operator) {
        Some(operator) if operator.flags & OperatorValue::HAIRPIN != 0 => {}
        _ => return,
    }
    let home = if event.entry == Entry::UpstreamV4 as u16 {
        downstream::home_v4(tables, event.operator, &unmapped(&event.destination))
    } else {
        downstream::home_v6(tables, event.operator, &event.destination)
    };
    if let Some(home) = home {
        event.other_line = home.line();
    }
}

/// A frame from the world.
#[inline(always)]
pub fn from_world<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    ifindex: u32,
    event: &mut TraceEvent,
) {
    event.clear();
    let Ok(link) = parse::link(frame) else {
        return;
    };
    let network = network(frame, link.ether_type, link.len, event);
    if link.s_vid != 0 {
        return;
    }
    let Some(uplink) = tables.uplink(&UplinkKey {
        ifindex,
        vid: link.c_vid,
        pad: 0,
    }) else {
        return;
    };
    event.operator = uplink.operator;
    event.entry = Entry::Uplink as u16;
    if link.destination == uplink.port_mac && link.ether_type != ether_type::ARP {
        find_home(tables, network, event);
    }
}

/// A packet of an operator's that the kernel sends to a line.
#[inline(always)]
pub fn to_line<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    operator: OperatorIndex,
    event: &mut TraceEvent,
) {
    event.clear();
    event.operator = operator;
    let network = untagged(frame, event);
    find_home(tables, network, event);
}

/// A packet of an operator's that XDP handed to the kernel. Its tags are gone; whoever has one of its
/// addresses has the line.
#[inline(always)]
pub fn to_kernel<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    operator: OperatorIndex,
    event: &mut TraceEvent,
) {
    event.clear();
    event.operator = operator;
    let home = match untagged(frame, event) {
        Network::V4 => downstream::home_v4(tables, operator, &unmapped(&event.source)),
        Network::V6 => downstream::home_v6(tables, operator, &event.source),
        Network::Other => None,
    };
    if let Some(home) = home {
        event.line = home.line();
    }
}

#[inline(always)]
fn untagged<F: Frame>(frame: &F, event: &mut TraceEvent) -> Network {
    match frame.load::<Ethernet>(0) {
        Some(header) => {
            let ether_type = u16::from_be(header.ether_type_be);
            network(frame, ether_type, ETHERNET_LEN, event)
        }
        None => Network::Other,
    }
}

/// Looks a destination up.
#[inline(always)]
fn find_home<T: Tables>(tables: &T, network: Network, event: &mut TraceEvent) {
    let operator = event.operator;
    match network {
        Network::V4 => {
            let home = downstream::home_v4(tables, operator, &unmapped(&event.destination));
            note_home(event, home, Entry::DownstreamV4);
        }
        Network::V6 => {
            let destination = event.destination;
            let home = by_prefix(tables, &destination, event, |prefix_be| {
                tables.downstream_v6(&DownstreamV6Key {
                    operator,
                    pad: [0; 3],
                    prefix_be,
                })
            });
            note_home(event, home, Entry::DownstreamV6);
        }
        Network::Other => {}
    }
}

/// Looks an address up by its delegated prefix and, failing that, by the line's own /64; notes which.
#[inline(always)]
fn by_prefix<'t, T: Tables, V>(
    tables: &T,
    address: &[u8; 16],
    event: &mut TraceEvent,
    find: impl Fn([u8; 8]) -> Option<&'t V>,
) -> Option<&'t V> {
    let [delegated, whole] = parse::prefixes(address, &tables.globals().delegated_mask_be);
    event.prefix_be = delegated;
    if let Some(found) = find(delegated) {
        return Some(found);
    }
    event.prefix_be = whole;
    find(whole)
}

#[inline(always)]
fn note_home(event: &mut TraceEvent, home: Option<&DownstreamValue>, entry: Entry) {
    if let Some(home) = home {
        event.entry = entry as u16;
        event.line = home.line();
        event.slot = home.slot;
        event.generation = home.generation;
        event.flags = home.flags;
    }
}
