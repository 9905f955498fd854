//! DHCP on a line (RFC 2131): what a client says, or a relay for it, goes to the daemon.
//!
//! A client has no address yet, or one that it may have had elsewhere. So it is looked for among what
//! no session's packets are, for whichever reason; those have their shortest way to themselves.

use doorstep_gateway_common::Reason;

use crate::headers::{Udp, ether_type, protocol};
use crate::upstream::Arrival;
use crate::{Frame, Tables, Verdict, meter, nd, parse};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// Whether a client's message may be among the packets that are dropped for this reason: sent to all,
/// from no address or another's, or to a server's own address.
#[inline(always)]
pub(crate) const fn may_be_behind(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Multicast
            | Reason::SourceNotBound
            | Reason::MacNotBound
            | Reason::BadDestination
            | Reason::GatewayService
    )
}

/// Treats a packet that is dropped for `otherwise` if no client of DHCP, and no relay, has sent it.
#[inline(never)]
pub(crate) fn control<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    ifindex: u32,
    otherwise: Reason,
) -> Result<Verdict, Reason> {
    // As in `garden::check`.
    let frame = core::hint::black_box(frame);
    let Arrival { link, line } = &Arrival::of(frame, ifindex)?;
    if link.ether_type != ether_type::IPV4 {
        return Err(otherwise);
    }
    let (header, _) = parse::ipv4(frame, link.len).map_err(|_| otherwise)?;
    if header.protocol != protocol::UDP {
        return Err(otherwise);
    }
    // No client sends fragments: a message fits any MTU.
    let body = parse::whole_body(&header, link.len).ok_or(otherwise)?;
    let udp: Udp = frame.load(body).ok_or(otherwise)?;
    // A relay may send from the servers' port.
    let from = udp.source_be;
    let asks = from == CLIENT_PORT.to_be() || from == SERVER_PORT.to_be();
    if !asks || udp.destination_be != SERVER_PORT.to_be() {
        return Err(otherwise);
    }
    nd::check_line(tables, line)?;
    meter::punt(tables, line)?;
    Ok(Verdict::Punt(Reason::PuntDhcp))
}
