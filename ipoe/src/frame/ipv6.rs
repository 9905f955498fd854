//! IPv6 in the frames of a line, and back.

use std::net::Ipv6Addr;

use etherparse::{
    EtherType, Icmpv6Header, Icmpv6Slice, Icmpv6Type, IpNumber, Ipv6Header, UdpHeader,
};

use super::{FrameError, Link, Mac, udp};

/// Hop limit of what the gateway sends, and of discovery that no router has forwarded (RFC 4861,
/// 6.1.1).
pub const HOP_LIMIT: u8 = 255;

/// The MAC address that stands for a multicast group (RFC 2464, 7).
#[must_use]
pub const fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// A packet of a line without extension headers, and everything around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Source of the frame.
    pub source_mac: Mac,
    /// Destination of the frame.
    pub destination_mac: Mac,
    /// The VLAN tags as they are in the frame, outer first, four bytes each.
    pub tags: &'a [u8],
    /// Source of the packet.
    pub source: Ipv6Addr,
    /// Destination of the packet.
    pub destination: Ipv6Addr,
    /// As it has arrived. What is built has [`HOP_LIMIT`].
    pub hop_limit: u8,
    /// What the packet carries.
    pub body: Body<'a>,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// A datagram.
    ///
    /// The checksum is not held against the payload: between virtual ports it is left to hardware
    /// that is not there, and is wrong in every datagram of a client's ordinary socket.
    Udp {
        /// UDP source port.
        source_port: u16,
        /// UDP destination port.
        destination_port: u16,
        /// What the datagram carries.
        payload: &'a [u8],
    },
    /// A message of ICMPv6 with its own header. Kernels compute its checksum in software, also
    /// where they leave UDP's to hardware, so that here a wrong one is a damaged message.
    Icmp {
        /// Type, code, and what is left of the first 8 bytes.
        header: Icmpv6Type,
        /// After the first 8 bytes.
        payload: &'a [u8],
        /// Whether the checksum is right. Not used where packets are built.
        intact: bool,
    },
    /// Something else.
    Other,
}

impl<'a> Packet<'a> {
    /// Reads a frame.
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (link, ether_type, rest) = Link::parse(frame)?;
        if ether_type != EtherType::IPV6.0 {
            return Err(FrameError::NotIpv6);
        }
        let (ip, rest) = Ipv6Header::from_slice(rest).map_err(|_| FrameError::Header)?;
        // A short frame is padded to 60 bytes: the header tells where the packet ends.
        let content = rest
            .get(..usize::from(ip.payload_length))
            .ok_or(FrameError::Truncated)?;
        let body = match ip.next_header {
            IpNumber::UDP => {
                let (udp, payload) = udp(content)?;
                Body::Udp {
                    source_port: udp.source_port,
                    destination_port: udp.destination_port,
                    payload,
                }
            }
            IpNumber::IPV6_ICMP => {
                let icmp = Icmpv6Slice::from_slice(content).map_err(|_| FrameError::Truncated)?;
                Body::Icmp {
                    header: icmp.icmp_type(),
                    payload: icmp.payload(),
                    intact: icmp.is_checksum_valid(ip.source, ip.destination),
                }
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => return Err(FrameError::Fragment),
            number if number.is_ipv6_ext_header_value() => return Err(FrameError::Extension),
            _ => Body::Other,
        };
        Ok(Self {
            source_mac: link.source_mac,
            destination_mac: link.destination_mac,
            tags: link.tags,
            source: ip.source.into(),
            destination: ip.destination.into(),
            hop_limit: ip.hop_limit,
            body,
        })
    }

    /// The frame that carries the packet; none if the payload is longer than IPv6 can carry, or is
    /// neither UDP nor ICMPv6.
    ///
    /// Priorities are taken out of the tags: what the gateway says itself has none.
    #[must_use]
    pub fn build(&self) -> Option<Vec<u8>> {
        let (source, destination) = (self.source.octets(), self.destination.octets());
        let mut ip = Ipv6Header {
            hop_limit: HOP_LIMIT,
            source,
            destination,
            ..Ipv6Header::default()
        };
        let (next_header, header, payload) = match self.body {
            Body::Udp {
                source_port,
                destination_port,
                payload,
            } => {
                let ports = (source_port, destination_port);
                let udp = UdpHeader::with_ipv6_checksum(ports.0, ports.1, &ip, payload).ok()?;
                (IpNumber::UDP, udp.to_bytes().to_vec(), payload)
            }
            Body::Icmp {
                header, payload, ..
            } => {
                let icmp =
                    Icmpv6Header::with_checksum(header, source, destination, payload).ok()?;
                (IpNumber::IPV6_ICMP, icmp.to_bytes().to_vec(), payload)
            }
            Body::Other => return None,
        };
        let length = header.len() + payload.len();
        ip.next_header = next_header;
        ip.payload_length = u16::try_from(length).ok()?;
        let link = Link {
            source_mac: self.source_mac,
            destination_mac: self.destination_mac,
            tags: self.tags,
        };
        let mut frame = link.begin(EtherType::IPV6.0, Ipv6Header::LEN + length);
        frame.extend_from_slice(&ip.to_bytes());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(payload);
        Some(frame)
    }
}
