//! Followed packets in the words of people: what to follow, and what was seen.

mod entry;
mod frame;
mod target;

pub use entry::{Names, entry};
pub use frame::{Frame, Tag};
pub use target::{Target, TargetError};

use std::net::{IpAddr, Ipv6Addr};

use doorstep_gateway_common::Reason;
use doorstep_gateway_common::trace::{Point, TraceEvent};

/// Which way a packet went, seen from the subscriber; `access` tells whether a port has lines.
pub fn direction(event: &TraceEvent, access: impl Fn(u32) -> bool) -> &'static str {
    match Point::from_number(event.point) {
        Some(Point::Access) => "up",
        Some(Point::Ingress) if access(event.ifindex) => "up",
        _ => "down",
    }
}

/// Source and destination; none of a packet that has no addresses.
pub fn addresses(event: &TraceEvent) -> Option<(IpAddr, IpAddr)> {
    const NONE: [u8; 16] = [0; 16];
    if event.source == NONE && event.destination == NONE {
        return None;
    }
    let address = |bytes| Ipv6Addr::from(bytes).to_canonical();
    Some((address(event.source), address(event.destination)))
}

/// What was done with a packet, in a word.
pub const fn verdict(reason: Reason) -> &'static str {
    match reason {
        Reason::ForwardedUpstream
        | Reason::ForwardedDownstream
        | Reason::ForwardedHairpin
        | Reason::EgressToLine => "forward",
        Reason::KernelUpstream
        | Reason::KernelUnresolved
        | Reason::KernelDownstream
        | Reason::KernelHost
        | Reason::KernelShaped
        | Reason::KernelGateway => "kernel",
        Reason::ArpAnswered | Reason::NdAnswered | Reason::ProbeAnswered => "answer",
        Reason::PuntEstablish | Reason::PuntDhcp | Reason::PuntSolicitation => "daemon",
        _ => "drop",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drops_are_called_so() {
        for reason in Reason::ALL {
            let is_drop = verdict(*reason) == "drop";
            assert_eq!(is_drop, reason.is_drop(), "{}", reason.name());
        }
    }
}
