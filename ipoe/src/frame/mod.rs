//! The frames of a line: their link layer, and packets in them.

mod ipv4;
mod ipv6;

use etherparse::{Ethernet2Header, SingleVlanHeader, UdpHeader};

pub use ipv4::Datagram;
pub use ipv6::{Body, HOP_LIMIT, Packet, group_mac};

/// A MAC address, in the order of the wire.
pub type Mac = [u8; 6];

/// Every station of a link.
pub const BROADCAST: Mac = [0xff; 6];

const TPID_8021Q: u16 = 0x8100;
const TPID_8021AD: u16 = 0x88a8;
const TAG_LEN: usize = 4;
const MAX_TAGS: usize = 2;

/// Why a frame is not read.
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
    /// Not IPv6.
    #[error("frame: not IPv6")]
    NotIpv6,
    /// A malformed IP header, or a wrong checksum of it.
    #[error("frame: malformed IP header")]
    Header,
    /// A part of a packet only.
    #[error("frame: a fragment")]
    Fragment,
    /// Extension headers before what the packet carries. Neither DHCP nor discovery needs any, and
    /// hosts must not take discovery in fragments (RFC 6980, 5).
    #[error("frame: IPv6 extension headers")]
    Extension,
}

/// What is around a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    pub source_mac: Mac,
    pub destination_mac: Mac,
    /// The VLAN tags as they are in the frame, outer first, four bytes each.
    pub tags: &'a [u8],
}

/// The header of a datagram and what it carries.
fn udp(segment: &[u8]) -> Result<(UdpHeader, &[u8]), FrameError> {
    let (header, _) = UdpHeader::from_slice(segment).map_err(|_| FrameError::Truncated)?;
    let payload = segment
        .get(UdpHeader::LEN..usize::from(header.length))
        .ok_or(FrameError::Truncated)?;
    Ok((header, payload))
}

impl<'a> Link<'a> {
    /// The link layer of a frame, the EtherType of what it carries, and that.
    pub fn parse(frame: &'a [u8]) -> Result<(Self, u16, &'a [u8]), FrameError> {
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
        let link = Self {
            source_mac,
            destination_mac: ethernet.destination,
            tags: &tagged[..tags * TAG_LEN],
        };
        Ok((link, ether_type, rest))
    }

    /// The beginning of a frame, with room for a packet of `len` bytes.
    ///
    /// Priorities are taken out of the tags: what the gateway says itself has none.
    pub fn begin(&self, ether_type: u16, len: usize) -> Vec<u8> {
        let mut frame = Vec::with_capacity(Ethernet2Header::LEN + self.tags.len() + len);
        frame.extend_from_slice(&self.destination_mac);
        frame.extend_from_slice(&self.source_mac);
        for tag in self.tags.chunks_exact(TAG_LEN) {
            frame.extend_from_slice(&[tag[0], tag[1], tag[2] & 0x0f, tag[3]]);
        }
        frame.extend_from_slice(&ether_type.to_be_bytes());
        frame
    }
}
