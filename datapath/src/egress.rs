//! From the kernel to a line: TC egress on an access port.
//!
//! ICMP errors, answers of the gateway itself and packets that took the kernel's path come without
//! tags and with no useful MAC addresses, because the access port runs with ARP off.

use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key};
use doorstep_gateway_common::{OperatorIndex, Reason};

use crate::headers::{ETHERNET_LEN, Ethernet, ether_type};
use crate::verdict::{Account, NewLink};
use crate::{Frame, Tables, downstream, parse};

/// How a packet of the kernel's leaves for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub account: Account,
    pub link: NewLink,
    /// The line's port; the packet may have been routed to another.
    pub ifindex: u32,
}

/// Finds the line of an untagged packet that the kernel sends; `operator` 0 means that nobody
/// knows whose it is.
#[inline(always)]
pub fn decide<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    operator: OperatorIndex,
) -> Result<Delivery, Reason> {
    let header: Ethernet = frame.load(0).ok_or(Reason::Truncated)?;
    let globals = tables.globals();
    let (home, bytes) = match u16::from_be(header.ether_type_be) {
        ether_type::IPV4 => {
            let (header, total_len) = parse::ipv4(frame, ETHERNET_LEN)?;
            let key = DownstreamV4Key {
                operator,
                pad: 0,
                destination_be: header.destination,
            };
            (tables.downstream_v4(&key), u32::from(total_len))
        }
        ether_type::IPV6 => {
            let (header, total_len) = parse::ipv6(frame, ETHERNET_LEN)?;
            let prefix_be = parse::prefix(&header.destination, &globals.delegated_mask_be);
            let key = DownstreamV6Key {
                operator,
                pad: [0; 3],
                prefix_be,
            };
            (tables.downstream_v6(&key), total_len)
        }
        _ => return Err(Reason::UnknownEtherType),
    };
    let home = home.ok_or(Reason::EgressNotBound)?;
    Ok(Delivery {
        account: downstream::account(home, bytes),
        link: downstream::new_link(home, globals.gateway_mac),
        ifindex: home.line.ifindex,
    })
}
