//! Datagrams as Ethernet frames, and back.

use std::net::Ipv6Addr;

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv6Header, SingleVlanHeader, UdpHeader, VlanId,
};

use crate::{
    ALL_NODES, ALL_NODES_MAC, ALL_ROUTERS, ALL_ROUTERS_MAC, GATEWAY_LINK_LOCAL, Mac, TPID_8021AD,
    TPID_8021Q, Tag, Tags, UDP_PORT,
};

/// Proves that a frame was not forwarded by a router (RFC 5082).
const HOP_LIMIT: u8 = 255;

/// Everything around a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Source of the frame.
    pub src_mac: Mac,
    /// Destination of the frame.
    pub dst_mac: Mac,
    /// VLAN tags, outer first.
    pub tags: Tags,
    /// A link-local address.
    pub src_ip: Ipv6Addr,
    /// A link-local address, all nodes, or all routers.
    pub dst_ip: Ipv6Addr,
}

impl Envelope {
    /// From a gateway's port to every terminal on the line.
    #[must_use]
    pub fn to_line(gateway_mac: Mac, tags: Tags) -> Self {
        Self {
            src_mac: gateway_mac,
            dst_mac: ALL_NODES_MAC,
            tags,
            src_ip: GATEWAY_LINK_LOCAL,
            dst_ip: ALL_NODES,
        }
    }

    /// From a terminal to the gateway whose request came from `gateway_mac`.
    #[must_use]
    pub fn to_gateway(terminal_mac: Mac, gateway_mac: Mac, tags: Tags) -> Self {
        Self {
            src_mac: terminal_mac,
            dst_mac: gateway_mac,
            tags,
            src_ip: terminal_mac.link_local(),
            dst_ip: GATEWAY_LINK_LOCAL,
        }
    }

    /// From a terminal that knows no gateway yet to whichever is on the line.
    #[must_use]
    pub fn to_any_gateway(terminal_mac: Mac, tags: Tags) -> Self {
        Self {
            src_mac: terminal_mac,
            dst_mac: ALL_ROUTERS_MAC,
            tags,
            src_ip: terminal_mac.link_local(),
            dst_ip: ALL_ROUTERS,
        }
    }
}

/// A frame of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// Everything around the datagram.
    pub envelope: Envelope,
    /// The datagram.
    pub payload: &'a [u8],
}

/// Why a frame is not one of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame ends within a header, or before the length a header tells.
    #[error("frame: cut short")]
    Truncated,
    /// The source is a group address or zero.
    #[error("frame: the source MAC address is not a station's")]
    SourceMac,
    /// A third VLAN tag, or VLAN 4095.
    #[error("frame: more than two VLAN tags, or a reserved VLAN id")]
    Tags,
    /// Not IPv6.
    #[error("frame: EtherType 0x{0:04x} is not IPv6")]
    NotIpv6(u16),
    /// Hop limit other than 255: it has crossed a router.
    #[error("frame: hop limit {0}, expected 255")]
    HopLimit(u8),
    /// Not from a link-local address.
    #[error("frame: the source address is not link-local")]
    SourceAddress,
    /// Not UDP.
    #[error("frame: next header {0} is not UDP")]
    NotUdp(u8),
    /// For another port.
    #[error("frame: UDP port {0}, expected {UDP_PORT}")]
    Port(u16),
    /// The UDP checksum is wrong or absent.
    #[error("frame: wrong UDP checksum")]
    Checksum,
}

/// Builds the frame that carries `payload`.
///
/// # Panics
/// If `payload` is longer than 65,527 bytes; no datagram of the exchange is.
#[must_use]
pub fn build(envelope: &Envelope, payload: &[u8]) -> Vec<u8> {
    let length = UdpHeader::LEN + payload.len();
    let ip = Ipv6Header {
        payload_length: u16::try_from(length).expect("a datagram fits UDP"),
        next_header: IpNumber::UDP,
        hop_limit: HOP_LIMIT,
        source: envelope.src_ip.octets(),
        destination: envelope.dst_ip.octets(),
        ..Ipv6Header::default()
    };
    let udp = UdpHeader::with_ipv6_checksum(UDP_PORT, UDP_PORT, &ip, payload)
        .expect("a datagram fits UDP");

    let tags = envelope.tags.as_slice();
    let types = tags
        .iter()
        .map(|tag| EtherType(tag.tpid))
        .chain([EtherType::IPV6]);
    let mut types = types.collect::<Vec<_>>().into_iter();
    let mut frame = Vec::with_capacity(14 + 8 + 40 + length);
    let ethernet = Ethernet2Header {
        source: envelope.src_mac.0,
        destination: envelope.dst_mac.0,
        ether_type: types.next().unwrap_or(EtherType::IPV6),
    };
    frame.extend_from_slice(&ethernet.to_bytes());
    for (tag, ether_type) in tags.iter().zip(types) {
        let vlan_id = VlanId::try_new(tag.vid).expect("Tags holds VLAN ids only");
        let vlan = SingleVlanHeader {
            vlan_id,
            ether_type,
            ..SingleVlanHeader::default()
        };
        frame.extend_from_slice(&vlan.to_bytes());
    }
    frame.extend_from_slice(&ip.to_bytes());
    frame.extend_from_slice(&udp.to_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Reads a frame of the exchange. Priority bits and priority tags (VLAN 0) are skipped.
pub fn parse(frame: &[u8]) -> Result<Parsed<'_>, FrameError> {
    let (ethernet, mut rest) =
        Ethernet2Header::from_slice(frame).map_err(|_| FrameError::Truncated)?;
    let src_mac = Mac(ethernet.source);
    if !src_mac.is_station() {
        return Err(FrameError::SourceMac);
    }
    let mut tags = Vec::new();
    let mut ether_type = ethernet.ether_type.0;
    while let TPID_8021Q | TPID_8021AD = ether_type {
        let (vlan, after) =
            SingleVlanHeader::from_slice(rest).map_err(|_| FrameError::Truncated)?;
        if tags.len() == 2 {
            return Err(FrameError::Tags);
        }
        if vlan.vlan_id != VlanId::ZERO {
            tags.push(Tag {
                tpid: ether_type,
                vid: vlan.vlan_id.value(),
            });
        }
        (ether_type, rest) = (vlan.ether_type.0, after);
    }
    if ether_type != EtherType::IPV6.0 {
        return Err(FrameError::NotIpv6(ether_type));
    }
    let (ip, rest) = Ipv6Header::from_slice(rest).map_err(|_| FrameError::Truncated)?;
    if ip.next_header != IpNumber::UDP {
        return Err(FrameError::NotUdp(ip.next_header.0));
    }
    if ip.hop_limit != HOP_LIMIT {
        return Err(FrameError::HopLimit(ip.hop_limit));
    }
    let src_ip = Ipv6Addr::from(ip.source);
    if !src_ip.is_unicast_link_local() {
        return Err(FrameError::SourceAddress);
    }
    // A short frame is padded to 60 bytes: the headers tell where the datagram ends.
    let segment = rest
        .get(..usize::from(ip.payload_length))
        .ok_or(FrameError::Truncated)?;
    let (udp, payload) = UdpHeader::from_slice(segment).map_err(|_| FrameError::Truncated)?;
    if udp.destination_port != UDP_PORT {
        return Err(FrameError::Port(udp.destination_port));
    }
    if usize::from(udp.length) != segment.len() {
        return Err(FrameError::Truncated);
    }
    if udp.checksum == 0 || udp.calc_checksum_ipv6(&ip, payload) != Ok(udp.checksum) {
        return Err(FrameError::Checksum);
    }
    let tags = Tags::new(&tags).map_err(|_| FrameError::Tags)?;
    let dst_ip = Ipv6Addr::from(ip.destination);
    let envelope = Envelope {
        src_mac,
        dst_mac: Mac(ethernet.destination),
        tags,
        src_ip,
        dst_ip,
    };
    Ok(Parsed { envelope, payload })
}
