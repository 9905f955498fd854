//! The garden: what a line without a session reaches.

use doorstep_gateway_common::garden::{GardenKey, mapped};
use doorstep_gateway_common::{OperatorIndex, Reason};

use crate::headers::{IPV6_LEN, Ipv4, Ipv6, Udp, protocol};
use crate::{Frame, Tables, parse};

/// The end of a connection that is not the subscriber's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Far {
    /// From a line.
    Destination,
    /// From the world.
    Source,
}

/// Refuses a packet that is not between a line and one of the operator's servers. `offset` is where
/// its header begins.
#[inline(never)]
pub(crate) fn check_v4<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    offset: usize,
    operator: OperatorIndex,
    far: Far,
) -> Result<(), Reason> {
    let frame = whole(frame);
    let header: Ipv4 = frame.load(offset).ok_or(Reason::OutsideGarden)?;
    let body = parse::first_fragment_body(&header, offset).ok_or(Reason::OutsideGarden)?;
    let address = mapped(match far {
        Far::Destination => header.destination,
        Far::Source => header.source,
    });
    check(
        frame,
        tables,
        (operator, address, header.protocol),
        body,
        far,
    )
}

/// As [`check_v4`].
#[inline(never)]
pub(crate) fn check_v6<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    offset: usize,
    operator: OperatorIndex,
    far: Far,
) -> Result<(), Reason> {
    let frame = whole(frame);
    let header: Ipv6 = frame.load(offset).ok_or(Reason::OutsideGarden)?;
    let address = match far {
        Far::Destination => header.destination,
        Far::Source => header.source,
    };
    let body = offset + IPV6_LEN;
    check(
        frame,
        tables,
        (operator, address, header.next_header),
        body,
        far,
    )
}

/// Keeps the compiler from passing a function that only reads the packet's bounds instead of the
/// packet, which the kernel's verifier would no longer take for a packet.
#[inline(always)]
fn whole<F>(frame: &F) -> &F {
    core::hint::black_box(frame)
}

/// `body` is where the header after that of IP begins; TCP and UDP have their ports at the same
/// place.
#[inline(always)]
fn check<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    (operator, address, next): (OperatorIndex, [u8; 16], u8),
    body: usize,
    far: Far,
) -> Result<(), Reason> {
    if !matches!(next, protocol::TCP | protocol::UDP) {
        return Err(Reason::OutsideGarden);
    }
    let ports: Udp = frame.load(body).ok_or(Reason::OutsideGarden)?;
    let port_be = match far {
        Far::Destination => ports.destination_be,
        Far::Source => ports.source_be,
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
