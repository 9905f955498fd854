//! ARP on a line: the gateway answers for itself and for every other address, because between two
//! homes, even on one line, stands the gateway.

use doorstep_gateway_common::upstream::UpstreamV4Key;
use doorstep_gateway_common::{MacWord, Reason, flag};

use crate::headers::{Arp, Ethernet, ether_type};
use crate::parse::Link;
use crate::upstream::{self, Arrival};
use crate::{Frame, Tables, Verdict, meter};

const ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Turns a request of a session into its reply.
///
/// Probes for duplicate addresses (RFC 5227: sender 0.0.0.0) are not answered: the address is
/// free for the one whom the server gave it to.
#[inline(never)]
pub(crate) fn answer<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    ifindex: u32,
) -> Result<Verdict, Reason> {
    let Arrival { link, line } = &Arrival::of(frame, ifindex)?;
    let request: Arp = frame.load(link.len).ok_or(Reason::Truncated)?;
    if request.hardware_be != ETHERNET.to_be()
        || request.protocol_be != ether_type::IPV4.to_be()
        || request.operation_be != REQUEST.to_be()
        || request.sender == [0; 4]
        || request.sender == request.target
    {
        return Err(Reason::ArpIgnored);
    }
    let key = UpstreamV4Key {
        line: *line,
        source_be: request.sender,
    };
    let Some(session) = tables.upstream_v4(&key) else {
        return Err(upstream::not_bound(tables, line));
    };
    if session.mac != link.source || MacWord::new(request.sender_mac) != link.source {
        return Err(Reason::MacNotBound);
    }
    if session.flags & flag::BLOCKED != 0 {
        return Err(Reason::BlockedLine);
    }
    meter::answer(tables, line)?;
    let gateway_mac = tables.globals().gateway_mac;
    let reply = Arp {
        operation_be: REPLY.to_be(),
        sender_mac: gateway_mac.bytes(),
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
        ..request
    };
    frame.store(link.len, reply).ok_or(Reason::Truncated)?;
    turn_around(frame, link, gateway_mac)?;
    Ok(Verdict::Answer(Reason::ArpAnswered))
}

/// Sends a frame back to where it came from, keeping its tags.
#[inline(always)]
pub(crate) fn turn_around<F: Frame>(
    frame: &mut F,
    link: &Link,
    gateway_mac: MacWord,
) -> Result<(), Reason> {
    let header: Ethernet = frame.load(0).ok_or(Reason::Truncated)?;
    let header = Ethernet {
        destination: link.source.bytes(),
        source: gateway_mac.bytes(),
        ..header
    };
    frame.store(0, header).ok_or(Reason::Truncated)
}
