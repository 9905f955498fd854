//! Frames for the program tests, made by another library than the one under test.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, NetHeaders, PacketBuilder, PacketHeaders, SingleVlanHeader, TcpOptionElement,
    TransportHeader, VlanHeader,
};

pub const HOME_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x11];
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
pub const UPLINK_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
pub const NEXT_HOP_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

pub const HOME_V4: [u8; 4] = [100, 64, 1, 10];
pub const WORLD_V4: [u8; 4] = [198, 51, 100, 7];
pub const GATEWAY_V4: [u8; 4] = [100, 64, 1, 1];
/// In the prefix 2001:db8:1000:100::/56.
pub const HOME_V6: [u8; 16] = [
    0x20, 1, 0x0d, 0xb8, 0x10, 0, 1, 0x23, 0, 0, 0, 0, 0, 0, 0, 5,
];
pub const WORLD_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];

/// A frame's link layer.
#[derive(Clone, Copy, Debug)]
pub struct Ether<'t> {
    pub source: [u8; 6],
    pub destination: [u8; 6],
    /// (TPID, VLAN id), outer first.
    pub tags: &'t [(u16, u16)],
}

/// A UDP datagram over IPv4.
pub fn udp_v4(ether: Ether<'_>, source: [u8; 4], destination: [u8; 4], ttl: u8) -> Vec<u8> {
    udp_v4_of(ether, source, destination, ttl, b"doorstep")
}

/// A UDP datagram over IPv4 with a content.
pub fn udp_v4_of(
    ether: Ether<'_>,
    source: [u8; 4],
    destination: [u8; 4],
    ttl: u8,
    content: &[u8],
) -> Vec<u8> {
    let mut ip = Vec::new();
    let packet = PacketBuilder::ipv4(source, destination, ttl).udp(40000, 80);
    packet.write(&mut ip, content).expect("a small packet");
    frame(ether, EtherType::IPV4, &ip)
}

/// A UDP datagram over IPv6.
pub fn udp_v6(ether: Ether<'_>, source: [u8; 16], destination: [u8; 16], hops: u8) -> Vec<u8> {
    udp_v6_to(ether, source, destination, hops, 80)
}

/// A UDP datagram over IPv6 to a port.
pub fn udp_v6_to(
    ether: Ether<'_>,
    source: [u8; 16],
    destination: [u8; 16],
    hops: u8,
    port: u16,
) -> Vec<u8> {
    let mut ip = Vec::new();
    let packet = PacketBuilder::ipv6(source, destination, hops).udp(40000, port);
    packet.write(&mut ip, b"doorstep").expect("a small packet");
    frame(ether, EtherType::IPV6, &ip)
}

/// A TCP segment that begins a connection, or answers one that does, offering an MSS.
pub fn syn(
    ether: Ether<'_>,
    source: IpAddr,
    destination: IpAddr,
    answer: bool,
    mss: u16,
) -> Vec<u8> {
    let options = [
        TcpOptionElement::Noop,
        TcpOptionElement::WindowScale(7),
        TcpOptionElement::MaximumSegmentSize(mss),
    ];
    let (packet, ether_type) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (
            PacketBuilder::ipv4(source.octets(), destination.octets(), 64),
            EtherType::IPV4,
        ),
        (IpAddr::V6(source), IpAddr::V6(destination)) => (
            PacketBuilder::ipv6(source.octets(), destination.octets(), 64),
            EtherType::IPV6,
        ),
        families => panic!("two families: {families:?}"),
    };
    let mut tcp = packet.tcp(40000, 80, 1, 65535).syn();
    if answer {
        tcp = tcp.ack(7);
    }
    let mut ip = Vec::new();
    let tcp = tcp.options(&options).expect("few options");
    tcp.write(&mut ip, &[]).expect("a small packet");
    frame(ether, ether_type, &ip)
}

/// The MSS that a TCP segment with a right checksum offers, and its source port.
pub fn offered_mss(frame: &[u8]) -> Option<(u16, u16)> {
    let packet = PacketHeaders::from_ethernet_slice(frame).ok()?;
    let Some(TransportHeader::Tcp(tcp)) = packet.transport else {
        return None;
    };
    let payload = packet.payload.slice();
    let checksum = match packet.net? {
        NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(&ip, payload),
        NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(&ip, payload),
        NetHeaders::Arp(_) => return None,
    };
    if checksum.ok()? != tcp.checksum {
        return None;
    }
    tcp.options_iterator().find_map(|option| match option {
        Ok(TcpOptionElement::MaximumSegmentSize(mss)) => Some((mss, tcp.source_port)),
        _ => None,
    })
}

/// The first packet of a TCP connection, or a UDP datagram.
///
/// # Panics
/// If the two addresses are of different families.
pub fn between(
    ether: Ether<'_>,
    tcp: bool,
    source: SocketAddr,
    destination: SocketAddr,
) -> Vec<u8> {
    let (from, to) = (source.port(), destination.port());
    let (ether_type, network) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (
            EtherType::IPV4,
            PacketBuilder::ipv4(source.octets(), destination.octets(), 64),
        ),
        (IpAddr::V6(source), IpAddr::V6(destination)) => (
            EtherType::IPV6,
            PacketBuilder::ipv6(source.octets(), destination.octets(), 64),
        ),
        _ => panic!("{source} and {destination} are of two families"),
    };
    let mut ip = Vec::new();
    if tcp {
        let packet = network.tcp(from, to, 1, 65_535).syn();
        packet.write(&mut ip, &[]).expect("a small packet");
    } else {
        let packet = network.udp(from, to);
        packet.write(&mut ip, b"doorstep").expect("a small packet");
    }
    frame(ether, ether_type, &ip)
}

/// An ICMP echo request with that many bytes of payload.
pub fn echo_v4(ether: Ether<'_>, source: [u8; 4], destination: [u8; 4], payload: usize) -> Vec<u8> {
    let mut ip = Vec::new();
    let packet = PacketBuilder::ipv4(source, destination, 64).icmpv4_echo_request(1, 2);
    packet
        .write(&mut ip, &vec![0x5a; payload])
        .expect("a packet");
    frame(ether, EtherType::IPV4, &ip)
}

/// What a DHCP client sends; as far as the programs look at it.
pub fn dhcp_v4(ether: Ether<'_>, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let (from, to) = ((source, 68).into(), (destination, 67).into());
    between(ether, false, from, to)
}

/// An ARP request.
pub fn arp_request(ether: Ether<'_>, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(ether.source);
    arp.extend(sender);
    arp.extend([0; 6]);
    arp.extend(target);
    frame(ether, EtherType::ARP, &arp)
}

/// A neighbour solicitation with a source link-layer option.
pub fn neighbour_solicitation(ether: Ether<'_>, source: [u8; 16], target: [u8; 16]) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(target);
    body.extend([1, 1]);
    body.extend(ether.source);
    let mut ip = Vec::new();
    let destination = [
        0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, target[13], target[14], target[15],
    ];
    let packet = PacketBuilder::ipv6(source, destination, 255)
        .icmpv6(etherparse::Icmpv6Type::NeighborSolicitation);
    packet.write(&mut ip, &body[4..]).expect("a small packet");
    frame(ether, EtherType::IPV6, &ip)
}

/// A router solicitation without options.
pub fn router_solicitation(ether: Ether<'_>, source: [u8; 16]) -> Vec<u8> {
    let all_routers = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let mut ip = Vec::new();
    let packet = PacketBuilder::ipv6(source, all_routers, 255)
        .icmpv6(etherparse::Icmpv6Type::RouterSolicitation);
    packet.write(&mut ip, &[]).expect("a small packet");
    frame(ether, EtherType::IPV6, &ip)
}

/// Puts a link layer in front.
pub fn frame(ether: Ether<'_>, ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(ether.destination);
    bytes.extend(ether.source);
    let mut types: Vec<u16> = ether.tags.iter().map(|(tpid, _)| *tpid).collect();
    types.push(ether_type.0);
    bytes.extend(types[0].to_be_bytes());
    for (i, (_, vid)) in ether.tags.iter().enumerate() {
        bytes.extend(vid.to_be_bytes());
        bytes.extend(types[i + 1].to_be_bytes());
    }
    bytes.extend(payload);
    bytes
}

/// The tags of a frame, (TPID, VLAN id), outer first.
pub fn tags(frame: &[u8]) -> Vec<(u16, u16)> {
    let tag = |(tpid, header): (u16, SingleVlanHeader)| (tpid, header.vlan_id.value());
    tag_headers(frame).into_iter().map(tag).collect()
}

/// The priorities (PCP) of a frame's tags, outer first.
pub fn priorities(frame: &[u8]) -> Vec<u8> {
    let priority = |(_, header): (u16, SingleVlanHeader)| header.pcp.value();
    tag_headers(frame).into_iter().map(priority).collect()
}

fn tag_headers(frame: &[u8]) -> Vec<(u16, SingleVlanHeader)> {
    let packet = PacketHeaders::from_ethernet_slice(frame).expect("a frame");
    let tpid = u16::from_be_bytes([frame[12], frame[13]]);
    match packet.vlan() {
        None => Vec::new(),
        Some(VlanHeader::Single(header)) => vec![(tpid, header)],
        Some(VlanHeader::Double(header)) => {
            let inner = header.outer.ether_type.0;
            vec![(tpid, header.outer), (inner, header.inner)]
        }
    }
}
