//! The garden: what a line without a session reaches.

use doorstep_gateway_common::garden::{GardenKey, mapped};
use doorstep_gateway_common::{OperatorIndex, Reason};

use crate::headers::{IPV6_LEN, Ipv4, Ipv6, Udp, protocol};
use crate::{Frame, Tables, Wire, parse};

/// The end of a connection that is not the subscriber's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Far {
    /// From a line.
    Destination,
    /// From the world.
    Source,
}

/// An IP header, as far as the garden looks at it.
pub(crate) trait Header: Wire {
    fn source(&self) -> [u8; 16];
    fn destination(&self) -> [u8; 16];
    /// What follows, and where; none in a fragment.
    fn next(&self, offset: usize) -> Option<(u8, usize)>;
}

impl Header for Ipv4 {
    #[inline(always)]
    fn source(&self) -> [u8; 16] {
        mapped(self.source)
    }

    #[inline(always)]
    fn destination(&self) -> [u8; 16] {
        mapped(self.destination)
    }

    #[inline(always)]
    fn next(&self, offset: usize) -> Option<(u8, usize)> {
        let body = parse::whole_body(self, offset)?;
        Some((self.protocol, body))
    }
}

impl Header for Ipv6 {
    #[inline(always)]
    fn source(&self) -> [u8; 16] {
        self.source
    }

    #[inline(always)]
    fn destination(&self) -> [u8; 16] {
        self.destination
    }

    /// Extension headers, among them that of a fragment, are neither TCP nor UDP.
    #[inline(always)]
    fn next(&self, offset: usize) -> Option<(u8, usize)> {
        Some((self.next_header, offset + IPV6_LEN))
    }
}

/// Refuses a packet that is not between a line and one of the operator's servers. Its header begins
/// at `offset`. Fragments are refused, because only the first has ports.
#[inline(never)]
pub(crate) fn check<H: Header, F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    offset: usize,
    operator: OperatorIndex,
    far: Far,
) -> Result<(), Reason> {
    // Keeps the compiler from passing the packet's bounds instead of the packet, which the kernel's
    // verifier would no longer take for a packet.
    let frame = core::hint::black_box(frame);
    let header: H = frame.load(offset).ok_or(Reason::OutsideGarden)?;
    let (next, body) = header.next(offset).ok_or(Reason::OutsideGarden)?;
    if !matches!(next, protocol::TCP | protocol::UDP) {
        return Err(Reason::OutsideGarden);
    }
    // Both have their ports at the same place.
    let ports: Udp = frame.load(body).ok_or(Reason::OutsideGarden)?;
    let (address, port_be) = match far {
        Far::Destination => (header.destination(), ports.destination_be),
        Far::Source => (header.source(), ports.source_be),
    };
    let key = GardenKey {
        operator,
        port_be,
        protocol: next.into(),
        address,
    };
    if tables.is_in_garden(&key) {
        Ok(())
    } else {
        Err(Reason::OutsideGarden)
    }
}
