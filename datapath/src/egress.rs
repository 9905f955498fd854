//! From the kernel to a line: TC egress on an access port.
//!
//! ICMP errors, answers of the gateway itself, shaped traffic and packets that took the kernel's
//! path come without tags and with no useful MAC addresses, because the access port runs with ARP
//! off.

use doorstep_gateway_common::account::Meter;
use doorstep_gateway_common::downstream::DownstreamValue;
use doorstep_gateway_common::{Direction, OperatorIndex, Reason, flag};

use crate::headers::{ETHERNET_LEN, Ethernet, ether_type};
use crate::rewrite::NewLink;
use crate::{Frame, Tables, deliver, downstream, meter, mss, parse};

/// What the kernel says of a packet, which may stand for several on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    pub packets: u32,
    /// Bytes of IP of all of them.
    pub bytes: u32,
    /// Bytes of IP of the longest.
    pub longest: u32,
}

/// How a packet of the kernel's leaves for a line.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'t> {
    meter: &'t Meter,
    segments: Segments,
    pub link: NewLink,
    /// The line's port; the packet may have been routed to another.
    pub ifindex: u32,
    /// As in [`deliver::Sent`].
    clamp: u16,
    /// When it may leave, in the clock of [`Tables::now_ns`]; none: at once.
    pub departure_ns: Option<u64>,
}

impl Delivery<'_> {
    /// Clamps the MSS of a TCP connection, as XDP does for what does not come by the kernel.
    #[inline(always)]
    pub fn clamp<F: Frame, T: Tables>(&self, frame: &mut F, tables: &T, operator: OperatorIndex) {
        if self.clamp != 0 {
            mss::clamp_downstream(frame, tables, operator, self.clamp);
        }
    }

    /// Counts it for its session.
    #[inline(always)]
    pub fn count(&self) {
        let Segments { packets, bytes, .. } = self.segments;
        self.meter.count(packets.into(), bytes.into());
    }
}

/// Finds the line of an untagged packet that the kernel sends; `operator` 0 means that nobody
/// knows whose it is.
#[inline(always)]
pub fn find<'t, F: Frame, T: Tables>(
    frame: &F,
    tables: &'t T,
    operator: OperatorIndex,
) -> Result<(&'t DownstreamValue, u8), Reason> {
    let header: Ethernet = frame.load(0).ok_or(Reason::Truncated)?;
    let (home, tos) = match u16::from_be(header.ether_type_be) {
        ether_type::IPV4 => {
            let (header, _) = parse::ipv4(frame, ETHERNET_LEN)?;
            let home = downstream::home_v4(tables, operator, &header.destination);
            (home, header.tos)
        }
        ether_type::IPV6 => {
            let (header, _) = parse::ipv6(frame, ETHERNET_LEN)?;
            let home = downstream::home_v6(tables, operator, &header.destination);
            (home, parse::traffic_class(&header))
        }
        _ => return Err(Reason::UnknownEtherType),
    };
    Ok((home.ok_or(Reason::EgressNotBound)?, tos))
}

/// Decides how the packet leaves for the home that was found.
#[inline(always)]
pub fn decide<'t, T: Tables>(
    tables: &'t T,
    home: &DownstreamValue,
    tos: u8,
    segments: Segments,
) -> Result<Delivery<'t>, Reason> {
    if home.flags & flag::BLOCKED != 0 {
        return Err(Reason::BlockedLine);
    }
    if segments.longest > u32::from(home.mtu) {
        return Err(Reason::EgressTooBig);
    }
    let account = tables.account(home.slot).ok_or(Reason::NoAccount)?;
    let meter = &account.downstream;
    let mut departure_ns = None;
    if home.flags & flag::SHAPED != 0 {
        let policers = tables.policers(home.slot).ok_or(Reason::NoAccount)?;
        let at = meter::departure(tables, &policers.downstream, segments.bytes);
        if at.is_none() {
            meter.refuse(segments.packets.into());
            return Err(Reason::ShaperFull);
        }
        departure_ns = at;
    } else if home.flags & flag::POLICED != 0
        && !meter::admit(
            tables,
            meter,
            home.slot,
            Direction::Downstream,
            segments.bytes,
        )
    {
        meter.refuse(segments.packets.into());
        return Err(Reason::PolicedDownstream);
    }
    Ok(Delivery {
        meter,
        segments,
        link: deliver::new_link(home, tos, tables.globals().gateway_mac),
        ifindex: home.ifindex,
        clamp: deliver::clamp(home),
        departure_ns,
    })
}
