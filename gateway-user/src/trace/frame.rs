//! The beginning of a frame, read for people.

use doorstep_gateway_common::trace::TraceEvent;
use etherparse::{
    IpNumber, LaxPacketHeaders, LinkExtHeader, LinkHeader, NetHeaders, TransportHeader,
};

/// A VLAN tag as it was in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub tpid: u16,
    pub vid: u16,
    pub priority: u8,
}

/// What a frame says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Outer first.
    pub tags: Vec<Tag>,
    /// IANA's keyword or number of an IP protocol, `ARP`, or an EtherType such as `0x88cc`; empty
    /// where the frame is too short to tell.
    pub protocol: String,
    /// Source and destination of TCP and UDP.
    pub ports: Option<(u16, u16)>,
}

impl Frame {
    /// Reads as much as there is.
    pub fn of(event: &TraceEvent) -> Self {
        let snapped = usize::from(event.snapped).min(event.frame.len());
        let Ok(headers) = LaxPacketHeaders::from_ethernet(&event.frame[..snapped]) else {
            return Self::default();
        };
        let mut ether_type = match &headers.link {
            Some(LinkHeader::Ethernet2(header)) => header.ether_type.0,
            _ => 0,
        };
        let mut tags = Vec::new();
        for ext in &headers.link_exts {
            let LinkExtHeader::Vlan(tag) = ext else { break };
            tags.push(Tag {
                tpid: ether_type,
                vid: tag.vlan_id.value(),
                priority: tag.pcp.value(),
            });
            ether_type = tag.ether_type.0;
        }
        Self {
            tags,
            protocol: protocol(&headers, ether_type),
            ports: match &headers.transport {
                Some(TransportHeader::Udp(udp)) => Some((udp.source_port, udp.destination_port)),
                Some(TransportHeader::Tcp(tcp)) => Some((tcp.source_port, tcp.destination_port)),
                _ => None,
            },
        }
    }
}

fn protocol(headers: &LaxPacketHeaders<'_>, ether_type: u16) -> String {
    let number = match &headers.net {
        Some(NetHeaders::Arp(_)) => return "ARP".to_owned(),
        Some(NetHeaders::Ipv4(header, exts)) => exts.next_header(header.protocol).ok(),
        Some(NetHeaders::Ipv6(header, exts)) => exts.next_header(header.next_header).ok(),
        None => return format!("{ether_type:#06x}"),
    };
    // IANA's list calls ICMP of IPv6 by another name than everybody else.
    match number {
        Some(IpNumber::IPV6_ICMP) => "ICMPv6".to_owned(),
        Some(number) => match number.keyword_str() {
            Some(keyword) => keyword.to_owned(),
            None => number.0.to_string(),
        },
        None => "IP".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use doorstep_gateway_common::record;
    use doorstep_gateway_common::trace::SNAP;
    use etherparse::PacketBuilder;

    use super::*;

    const MACS: ([u8; 6], [u8; 6]) = ([2; 6], [4; 6]);

    fn seen(bytes: &[u8]) -> Frame {
        let zero = [0; size_of::<TraceEvent>()];
        let (mut event, _) = record::split::<TraceEvent>(&zero).expect("long enough");
        let snapped = bytes.len().min(SNAP);
        event.frame[..snapped].copy_from_slice(&bytes[..snapped]);
        event.snapped = u16::try_from(snapped).expect("short");
        Frame::of(&event)
    }

    #[test]
    fn tags_and_ports_of_long_packets() {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(MACS.0, MACS.1)
            .double_vlan(
                101.try_into().expect("an id"),
                1004.try_into().expect("an id"),
            )
            .ipv6([1; 16], [2; 16], 64)
            .tcp(40_000, 443, 1, 2)
            .write(&mut bytes, &[0; 1000])
            .expect("a packet");
        // Priority 5 in the outer tag.
        bytes[14] |= 5 << 5;
        let tag = |tpid, vid, priority| Tag {
            tpid,
            vid,
            priority,
        };
        assert_eq!(
            seen(&bytes),
            Frame {
                tags: vec![tag(0x88a8, 101, 5), tag(0x8100, 1004, 0)],
                protocol: "TCP".to_owned(),
                ports: Some((40_000, 443)),
            }
        );
    }

    #[test]
    fn other_protocols() {
        let echo = |builder: etherparse::PacketBuilderStep<etherparse::IpHeaders>, v6| {
            let mut bytes = Vec::new();
            match v6 {
                false => builder
                    .icmpv4_echo_request(1, 2)
                    .write(&mut bytes, &[0; 500]),
                true => builder
                    .icmpv6_echo_request(1, 2)
                    .write(&mut bytes, &[0; 500]),
            }
            .expect("a packet");
            seen(&bytes)
        };
        let ethernet = || PacketBuilder::ethernet2(MACS.0, MACS.1);
        let v4 = echo(ethernet().ipv4([1; 4], [2; 4], 64), false);
        assert_eq!((v4.protocol.as_str(), v4.ports), ("ICMP", None));
        let v6 = echo(ethernet().ipv6([1; 16], [2; 16], 64), true);
        assert_eq!((v6.protocol.as_str(), v6.ports), ("ICMPv6", None));
        let lldp = [&[2; 12][..], &[0x88, 0xcc, 0, 0, 0, 0]].concat();
        assert_eq!(seen(&lldp).protocol, "0x88cc");
        assert_eq!(seen(&[0; 5]), Frame::default());
    }
}
