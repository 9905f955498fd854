//! Headers as they stand on the wire. Multi-byte fields are in wire order (`_be`).
//!
//! Alignments are those of the machine's words that the headers are read in, not of their fields:
//! the BPF machine loads from any address (see `gateway-ebpf/src/xdp.rs`).

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// EtherTypes and TPIDs.
pub mod ether_type {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const IPV6: u16 = 0x86dd;
    /// IEEE 802.1Q, customer tag.
    pub const C_TAG: u16 = 0x8100;
    /// IEEE 802.1ad, service tag.
    pub const S_TAG: u16 = 0x88a8;
}

/// IP protocol numbers.
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
}

pub const ETHERNET_LEN: usize = 14;
pub const TAG_LEN: usize = 4;

/// IEEE 802.3 header, for what is not in a hurry; see [`crate::parse::link`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct Ethernet {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    pub ether_type_be: u16,
}

/// What follows a TPID: tag control information and the next EtherType (IEEE 802.1Q clause 9).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct Tag {
    pub tci_be: u16,
    pub ether_type_be: u16,
}

impl Tag {
    /// VLAN id, without priority and drop eligibility.
    pub fn vid(self) -> u16 {
        u16::from_be(self.tci_be) & 0x0fff
    }
}

/// RFC 791, without options.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct Ipv4 {
    pub version_ihl: u8,
    pub tos: u8,
    pub total_len_be: u16,
    pub id_be: u16,
    pub fragment_be: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum_be: u16,
    pub source: [u8; 4],
    pub destination: [u8; 4],
}

/// RFC 8200.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct Ipv6 {
    pub version_class_flow_be: u32,
    pub payload_len_be: u16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u8; 16],
    pub destination: [u8; 16],
}

pub const IPV6_LEN: usize = 40;

/// RFC 826, for Ethernet and IPv4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct Arp {
    pub hardware_be: u16,
    pub protocol_be: u16,
    pub hardware_len: u8,
    pub protocol_len: u8,
    pub operation_be: u16,
    pub sender_mac: [u8; 6],
    pub sender: [u8; 4],
    pub target_mac: [u8; 6],
    pub target: [u8; 4],
}

/// Neighbour solicitation and advertisement, RFC 4861 sections 4.3 and 4.4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct Neighbour {
    pub kind: u8,
    pub code: u8,
    pub checksum_be: u16,
    pub flags_be: u32,
    pub target: [u8; 16],
}

/// Source or target link-layer address option, RFC 4861 section 4.6.1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct LinkLayerOption {
    pub kind: u8,
    /// In units of eight bytes.
    pub len: u8,
    pub mac: [u8; 6],
}

/// RFC 768.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct Udp {
    pub source_be: u16,
    pub destination_be: u16,
    pub len_be: u16,
    pub checksum_be: u16,
}

/// RFC 9293, without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct Tcp {
    pub source_be: u16,
    pub destination_be: u16,
    pub sequence_be: [u16; 2],
    pub acknowledgement_be: [u16; 2],
    /// Data offset in words of 32 bits in the upper half.
    pub offset: u8,
    pub flags: u8,
    pub window_be: u16,
    pub checksum_be: u16,
    pub urgent_be: u16,
}

impl Tcp {
    pub const SYN: u8 = 0x02;
}

const _: () = assert!(size_of::<Tcp>() == 20);
const _: () = assert!(size_of::<Ethernet>() == ETHERNET_LEN);
const _: () = assert!(size_of::<Tag>() == TAG_LEN);
const _: () = assert!(size_of::<Ipv4>() == 20);
const _: () = assert!(size_of::<Ipv6>() == IPV6_LEN);
const _: () = assert!(size_of::<Arp>() == 28);
const _: () = assert!(size_of::<Neighbour>() == 24);
const _: () = assert!(size_of::<LinkLayerOption>() == 8);
const _: () = assert!(size_of::<Udp>() == 8);
