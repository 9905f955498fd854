//! Ethernet and VLAN tags, and the checks that an IP header must pass.

use doorstep_gateway_common::{LineKey, MacWord, Reason};

use crate::Frame;
use crate::headers::{ETHERNET_LEN, IPV6_LEN, Ipv4, Ipv6, TAG_LEN, Tag, ether_type, protocol};

/// A frame's link layer.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub destination: MacWord,
    pub source: MacWord,
    /// What the last tag, or the Ethernet header, says that follows.
    pub ether_type: u16,
    /// Outer VLAN id of two tags; 0: none.
    pub s_vid: u16,
    /// The only or the inner VLAN id; 0: none.
    pub c_vid: u16,
    /// Bytes before the network header: 14, 18 or 22.
    pub len: usize,
}

impl Link {
    /// The line on which a frame came in at that port.
    #[inline(always)]
    pub fn line(&self, ifindex: u32) -> LineKey {
        LineKey {
            ifindex,
            s_vid: self.s_vid,
            c_vid: self.c_vid,
        }
    }
}

#[inline(always)]
fn is_tpid(ether_type: u16) -> bool {
    matches!(ether_type, ether_type::C_TAG | ether_type::S_TAG)
}

/// Reads the Ethernet header and up to two VLAN tags of either TPID. A priority tag (VLAN id 0)
/// counts as none, wherever it stands.
#[inline(always)]
pub fn link<F: Frame>(frame: &F) -> Result<Link, Reason> {
    const SOURCE: usize = 6;
    let source: u64 = frame.load(SOURCE).ok_or(Reason::Truncated)?;
    let destination: u64 = frame.load(0).ok_or(Reason::Truncated)?;
    let mut link = Link {
        destination: MacWord::of_wire(destination),
        source: MacWord::of_wire(source),
        ether_type: (u64::from_be(source) & 0xffff) as u16,
        s_vid: 0,
        c_vid: 0,
        len: ETHERNET_LEN,
    };
    if is_tpid(link.ether_type) {
        let outer: Tag = frame.load(ETHERNET_LEN).ok_or(Reason::Truncated)?;
        link.c_vid = outer.vid();
        link.ether_type = u16::from_be(outer.ether_type_be);
        link.len = ETHERNET_LEN + TAG_LEN;
        if is_tpid(link.ether_type) {
            let inner: Tag = frame
                .load(ETHERNET_LEN + TAG_LEN)
                .ok_or(Reason::Truncated)?;
            if inner.vid() != 0 {
                link.s_vid = link.c_vid;
                link.c_vid = inner.vid();
            }
            link.ether_type = u16::from_be(inner.ether_type_be);
            link.len = ETHERNET_LEN + 2 * TAG_LEN;
            if is_tpid(link.ether_type) {
                return Err(Reason::TooManyTags);
            }
        }
    }
    Ok(link)
}

/// Reads an IPv4 header and checks version and lengths; also its total length in bytes.
#[inline(always)]
pub fn ipv4<F: Frame>(frame: &F, offset: usize) -> Result<(Ipv4, u16), Reason> {
    let header: Ipv4 = frame.load(offset).ok_or(Reason::Truncated)?;
    let header_len = u16::from(header.version_ihl & 0x0f) * 4;
    if header.version_ihl >> 4 != 4 || header_len < 20 {
        return Err(Reason::BadIpv4);
    }
    let total_len = u16::from_be(header.total_len_be);
    if total_len < header_len {
        return Err(Reason::BadIpv4);
    }
    if usize::from(total_len) + offset > frame.len() {
        return Err(Reason::Truncated);
    }
    Ok((header, total_len))
}

/// Reads an IPv6 header and checks version and length; also its total length in bytes.
#[inline(always)]
pub fn ipv6<F: Frame>(frame: &F, offset: usize) -> Result<(Ipv6, u32), Reason> {
    let header: Ipv6 = frame.load(offset).ok_or(Reason::Truncated)?;
    if u32::from_be(header.version_class_flow_be) >> 28 != 6 {
        return Err(Reason::BadIpv6);
    }
    let total_len = u32::from(u16::from_be(header.payload_len_be)) + IPV6_LEN as u32;
    if total_len as usize + offset > frame.len() {
        return Err(Reason::Truncated);
    }
    Ok((header, total_len))
}

/// What an address may be looked up by: its first 64 bits under the delegated mask, and whole.
#[inline(always)]
pub fn prefixes(address: &[u8; 16], mask: &[u8; 8]) -> [[u8; 8]; 2] {
    let [a, b, c, d, e, f, g, h, ..] = *address;
    let whole = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let delegated = whole & u64::from_ne_bytes(*mask);
    [delegated.to_ne_bytes(), whole.to_ne_bytes()]
}

/// RFC 8200 section 7.
#[inline(always)]
pub fn traffic_class(header: &Ipv6) -> u8 {
    (u32::from_be(header.version_class_flow_be) >> 20) as u8
}

/// Where what follows an IPv4 header begins; none in a fragment, the first one included.
#[inline(always)]
pub fn whole_body(header: &Ipv4, offset: usize) -> Option<usize> {
    /// More fragments, and the fragment's offset.
    const FRAGMENT: u16 = 0x3fff;
    let is_whole = u16::from_be(header.fragment_be) & FRAGMENT == 0;
    is_whole.then(|| offset + usize::from(header.version_ihl & 0x0f) * 4)
}

/// Whether an IPv4 destination is one that a packet may be forwarded to.
#[inline(always)]
pub fn is_forwardable_v4(destination: &[u8; 4]) -> Result<(), Reason> {
    match destination[0] {
        0 | 127 | 240..=255 => Err(Reason::BadDestination),
        224..=239 => Err(Reason::Multicast),
        _ => Ok(()),
    }
}

/// fe80::/10.
#[inline(always)]
pub fn is_link_local_v6(address: &[u8; 16]) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}

/// Whether an IPv6 destination is one that a packet may be forwarded to.
#[inline(always)]
pub fn is_forwardable_v6(destination: &[u8; 16]) -> Result<(), Reason> {
    if destination[0] == 0xff {
        return Err(Reason::Multicast);
    }
    if is_link_local_v6(destination) {
        return Err(Reason::LinkLocal);
    }
    // ::/8 holds the unspecified, loopback and v4-mapped addresses.
    if destination[0] == 0 {
        return Err(Reason::BadDestination);
    }
    Ok(())
}

/// Whether an IPv4 packet from the world may come from that source, to that destination.
#[inline(always)]
pub fn check_source_v4(source: &[u8; 4], destination: &[u8; 4]) -> Result<(), Reason> {
    match source[0] {
        0 | 127 | 224..=255 => Err(Reason::BadSource),
        _ if source == destination => Err(Reason::BadSource),
        _ => Ok(()),
    }
}

/// Whether an IPv6 packet from the world may come from that source, to that destination.
#[inline(always)]
pub fn check_source_v6(source: &[u8; 16], destination: &[u8; 16]) -> Result<(), Reason> {
    // ::/8 holds the unspecified, loopback and v4-mapped addresses.
    if matches!(source[0], 0 | 0xff) || is_link_local_v6(source) || source == destination {
        return Err(Reason::BadSource);
    }
    Ok(())
}

/// Whether an IPv4 packet is a whole echo request (RFC 792).
#[inline(always)]
pub fn is_echo_request_v4<F: Frame>(frame: &F, offset: usize, header: &Ipv4) -> bool {
    const ECHO_REQUEST: u8 = 8;
    let Some(body) = whole_body(header, offset) else {
        return false;
    };
    header.protocol == protocol::ICMP && frame.load(body) == Some([ECHO_REQUEST, 0])
}

/// Whether an IPv6 packet is an echo request (RFC 4443 section 4.1).
#[inline(always)]
pub fn is_echo_request_v6<F: Frame>(frame: &F, offset: usize, header: &Ipv6) -> bool {
    const ECHO_REQUEST: u8 = 128;
    header.next_header == protocol::ICMPV6
        && frame.load(offset + IPV6_LEN) == Some([ECHO_REQUEST, 0])
}
