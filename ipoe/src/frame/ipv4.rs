//! UDP over IPv4 in the frames of a line, and back.

use std::net::Ipv4Addr;

use etherparse::{EtherType, IpNumber, Ipv4Header, UdpHeader};

use super::{FrameError, Link, Mac, udp};

const TTL: u8 = 64;

/// A datagram of a line with everything around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Source of the frame.
    pub source_mac: Mac,
    /// Destination of the frame.
    pub destination_mac: Mac,
    /// The VLAN tags as they are in the frame, outer first, four bytes each.
    pub tags: &'a [u8],
    /// Source of the packet.
    pub source: Ipv4Addr,
    /// Destination of the packet.
    pub destination: Ipv4Addr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// What the datagram carries.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads a frame.
    ///
    /// The UDP checksum is not held against the payload: between virtual ports it is left to
    /// hardware that is not there, and is wrong in every datagram of a client's ordinary socket.
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (link, ether_type, rest) = Link::parse(frame)?;
        if ether_type != EtherType::IPV4.0 {
            return Err(FrameError::NotUdp);
        }
        let (ip, _) = Ipv4Header::from_slice(rest).map_err(|_| FrameError::Header)?;
        if ip.calc_header_checksum() != ip.header_checksum {
            return Err(FrameError::Header);
        }
        if ip.protocol != IpNumber::UDP {
            return Err(FrameError::NotUdp);
        }
        if ip.is_fragmenting_payload() {
            return Err(FrameError::Fragment);
        }
        // A short frame is padded to 60 bytes: the headers tell where the datagram ends.
        let segment = rest
            .get(ip.header_len()..usize::from(ip.total_len))
            .ok_or(FrameError::Truncated)?;
        let (udp, payload) = udp(segment)?;
        Ok(Self {
            source_mac: link.source_mac,
            destination_mac: link.destination_mac,
            tags: link.tags,
            source: ip.source.into(),
            destination: ip.destination.into(),
            source_port: udp.source_port,
            destination_port: udp.destination_port,
            payload,
        })
    }

    /// The frame that carries the datagram; none if the payload is longer than UDP can carry.
    ///
    /// Priorities are taken out of the tags: what the gateway says itself has none.
    #[must_use]
    pub fn build(&self) -> Option<Vec<u8>> {
        let length = UdpHeader::LEN + self.payload.len();
        let (source, destination) = (self.source.octets(), self.destination.octets());
        let length16 = u16::try_from(length).ok()?;
        let mut ip = Ipv4Header::new(length16, TTL, IpNumber::UDP, source, destination).ok()?;
        ip.header_checksum = ip.calc_header_checksum();
        let ports = (self.source_port, self.destination_port);
        let udp = UdpHeader::with_ipv4_checksum(ports.0, ports.1, &ip, self.payload).ok()?;
        let link = Link {
            source_mac: self.source_mac,
            destination_mac: self.destination_mac,
            tags: self.tags,
        };
        let mut frame = link.begin(EtherType::IPV4.0, ip.header_len() + length);
        frame.extend_from_slice(&ip.to_bytes());
        frame.extend_from_slice(&udp.to_bytes());
        frame.extend_from_slice(self.payload);
        Some(frame)
    }
}
