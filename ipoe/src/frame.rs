//! UDP over IPv4 in the frames of a line, and back.

use std::net::Ipv4Addr;

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, SingleVlanHeader, UdpHeader};

/// A MAC address, in the order of the wire.
pub type Mac = [u8; 6];

/// Every station of a link.
pub const BROADCAST: Mac = [0xff; 6];

const TPID_8021Q: u16 = 0x8100;
const TPID_8021AD: u16 = 0x88a8;
const TAG_LEN: usize = 4;
const MAX_TAGS: usize = 2;
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

/// Why a frame holds no datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame ends within a header, or before the length a header tells.
    #[error("frame: cut short")]
    Truncated,
    /// The source is a group address or zero.
    #[error("frame: the source MAC address is not a station's")]
    SourceMac,
    /// A third VLAN tag.
    #[error("frame: more than {MAX_TAGS} VLAN tags")]
    Tags,
    /// Not IPv4, or not UDP.
    #[error("frame: not UDP over IPv4")]
    NotUdp,
    /// A malformed IPv4 header, or a wrong checksum of it.
    #[error("frame: malformed IPv4 header")]
    Header,
    /// A part of a packet only.
    #[error("frame: a fragment")]
    Fragment,
}

impl<'a> Datagram<'a> {
    /// Reads a frame.
    ///
    /// The UDP checksum is not held against the payload: between virtual ports it is left to
    /// hardware that is not there, and is wrong in every datagram of a client's ordinary socket.
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (ethernet, mut rest) =
            Ethernet2Header::from_slice(frame).map_err(|_| FrameError::Truncated)?;
        let source_mac = ethernet.source;
        if source_mac[0] & 1 != 0 || source_mac == [0; 6] {
            return Err(FrameError::SourceMac);
        }
        // From the first tag's TPID to the EtherType of the packet.
        let tagged = &frame[Ethernet2Header::LEN - 2..];
        let (mut ether_type, mut tags) = (ethernet.ether_type.0, 0);
        while let TPID_8021Q | TPID_8021AD = ether_type {
            if tags == MAX_TAGS {
                return Err(FrameError::Tags);
            }
            let (tag, after) =
                SingleVlanHeader::from_slice(rest).map_err(|_| FrameError::Truncated)?;
            (ether_type, rest, tags) = (tag.ether_type.0, after, tags + 1);
        }
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
        let (udp, _) = UdpHeader::from_slice(segment).map_err(|_| FrameError::Truncated)?;
        let payload = segment
            .get(UdpHeader::LEN..usize::from(udp.length))
            .ok_or(FrameError::Truncated)?;
        Ok(Self {
            source_mac,
            destination_mac: ethernet.destination,
            tags: &tagged[..tags * TAG_LEN],
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
        let mut frame = Vec::with_capacity(14 + self.tags.len() + ip.header_len() + length);
        frame.extend_from_slice(&self.destination_mac);
        frame.extend_from_slice(&self.source_mac);
        for tag in self.tags.chunks_exact(TAG_LEN) {
            frame.extend_from_slice(&[tag[0], tag[1], tag[2] & 0x0f, tag[3]]);
        }
        frame.extend_from_slice(&EtherType::IPV4.0.to_be_bytes());
        frame.extend_from_slice(&ip.to_bytes());
        frame.extend_from_slice(&udp.to_bytes());
        frame.extend_from_slice(self.payload);
        Some(frame)
    }
}
