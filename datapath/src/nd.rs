//! Control traffic over IPv6 on a line: neighbour discovery, the establishment exchange, DHCP.

use doorstep_gateway_common::names::ESTABLISH_PORT;
use doorstep_gateway_common::{LineKey, LineValue, Reason};

use crate::arp::turn_around;
use crate::headers::{IPV6_LEN, Ipv6, LinkLayerOption, Neighbour, Udp, protocol};
use crate::upstream::Arrival;
use crate::{Frame, Tables, Verdict, meter, parse, probe};

/// fe80::1, the gateway on every line.
pub const GATEWAY_LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// ff02::2, whom a terminal asks that does not know the gateway yet.
const ALL_ROUTERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// ff02::1:2, whom a client of DHCP asks (RFC 8415, 7.1).
const ALL_DHCP: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
/// UDP port of DHCPv6 servers.
const DHCP_PORT: u16 = 547;

const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const TARGET_LINK_LAYER: u8 = 2;
/// Router, solicited, override.
const FLAGS: u32 = 0xe000_0000;
/// No router has forwarded it (RFC 4861 section 7.1, RFC 5082).
const HOP_LIMIT: u8 = 255;

/// Fields of the IPv6 header.
const PAYLOAD_LEN: usize = 4;
const NEXT_HEADER: usize = 6;
const SOURCE: usize = 8;
const DESTINATION: usize = 24;

const NEIGHBOUR_LEN: usize = size_of::<Neighbour>();
const ADVERTISEMENT_LEN: usize = NEIGHBOUR_LEN + size_of::<LinkLayerOption>();

/// Whether a packet is control traffic of the line: neighbour discovery, or from a link-local
/// address. None of it is ever forwarded.
#[inline(always)]
pub(crate) fn is_control<F: Frame>(frame: &F, offset: usize) -> Result<bool, Reason> {
    let start: u16 = frame.load(offset + SOURCE).ok_or(Reason::Truncated)?;
    let next: u8 = frame.load(offset + NEXT_HEADER).ok_or(Reason::Truncated)?;
    if u16::from_be(start) & 0xffc0 == 0xfe80 {
        return Ok(true);
    }
    if next != protocol::ICMPV6 {
        return Ok(false);
    }
    let kind: u8 = frame.load(offset + IPV6_LEN).ok_or(Reason::Truncated)?;
    Ok(is_discovery(kind))
}

#[inline(always)]
fn is_discovery(kind: u8) -> bool {
    (ROUTER_SOLICITATION..=REDIRECT).contains(&kind)
}

/// Treats a packet that is control traffic of the line.
#[inline(never)]
pub(crate) fn control<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    ifindex: u32,
) -> Result<Verdict, Reason> {
    let arrival = &Arrival::of(frame, ifindex)?;
    let Arrival { link, line } = arrival;
    let (header, _) = parse::ipv6(frame, link.len)?;
    let body = link.len + IPV6_LEN;
    if header.next_header == protocol::ICMPV6 {
        let kind: u8 = frame.load(body).ok_or(Reason::Truncated)?;
        if is_discovery(kind) {
            check_line(tables, line)?;
            return match kind {
                NEIGHBOUR_SOLICITATION => advertise(frame, tables, arrival, &header),
                ROUTER_SOLICITATION => {
                    meter::punt(tables, line)?;
                    Ok(Verdict::Punt(Reason::PuntSolicitation))
                }
                _ => Err(Reason::NdIgnored),
            };
        }
    }
    // For the gateway, or for nobody.
    let (gateway, otherwise) = match link.destination.is_multicast() {
        true => (ALL_ROUTERS, Reason::Multicast),
        false => (GATEWAY_LINK_LOCAL, Reason::LinkLocal),
    };
    let is_dhcp = header.destination == ALL_DHCP;
    if (header.destination != gateway && !is_dhcp) || header.next_header != protocol::UDP {
        return Err(otherwise);
    }
    let udp: Udp = frame.load(body).ok_or(Reason::Truncated)?;
    let (port, reason) = match is_dhcp {
        true => (DHCP_PORT, Reason::PuntDhcp),
        false => (ESTABLISH_PORT, Reason::PuntEstablish),
    };
    if udp.destination_be != port.to_be() || (!is_dhcp && header.hop_limit != HOP_LIMIT) {
        return Err(otherwise);
    }
    if !is_dhcp && !link.destination.is_multicast() && probe::is_probe(frame, body, &udp) {
        // Answered by the caller, whose stack has room for it.
        return Err(Reason::ProbeRefused);
    }
    check_line(tables, line)?;
    meter::punt(tables, line)?;
    Ok(Verdict::Punt(reason))
}

#[inline(always)]
pub(crate) fn check_line<T: Tables>(tables: &T, line: &LineKey) -> Result<(), Reason> {
    match tables.line(line) {
        None => Err(Reason::UnknownLine),
        Some(value) if value.flags & LineValue::BLOCKED != 0 => Err(Reason::BlockedLine),
        Some(_) => Ok(()),
    }
}

/// Turns a solicitation for the gateway's link-local address into the advertisement.
#[inline(always)]
fn advertise<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    arrival: &Arrival,
    header: &Ipv6,
) -> Result<Verdict, Reason> {
    let Arrival { link, line } = arrival;
    let body = link.len + IPV6_LEN;
    let solicitation: Neighbour = frame.load(body).ok_or(Reason::Truncated)?;
    // An unspecified source is a probe for duplicate addresses: fe80::1 is ours, but whoever
    // probes for it is told so by nobody being able to use it.
    if header.hop_limit != HOP_LIMIT
        || solicitation.code != 0
        || solicitation.target != GATEWAY_LINK_LOCAL
        || header.source == [0; 16]
        || header.source[0] == 0xff
    {
        return Err(Reason::NdIgnored);
    }
    meter::answer(tables, line)?;
    let gateway_mac = tables.globals().gateway_mac;
    let mut advertisement = Neighbour {
        kind: NEIGHBOUR_ADVERTISEMENT,
        code: 0,
        checksum_be: 0,
        flags_be: FLAGS.to_be(),
        target: GATEWAY_LINK_LOCAL,
    };
    let option = LinkLayerOption {
        kind: TARGET_LINK_LAYER,
        len: 1,
        mac: gateway_mac.bytes(),
    };
    // A solicitation without an option leaves no room for ours, and needs none: RFC 4861 section
    // 7.2.4 asks for it only in answer to multicast, where the solicitation has one too.
    let has_room = u16::from_be(header.payload_len_be) as usize >= ADVERTISEMENT_LEN;
    let len = if has_room {
        ADVERTISEMENT_LEN
    } else {
        NEIGHBOUR_LEN
    };
    advertisement.checksum_be = checksum(
        &header.source,
        &advertisement,
        has_room.then_some(&option),
        len,
    );
    if has_room {
        frame
            .store(body + NEIGHBOUR_LEN, option)
            .ok_or(Reason::Truncated)?;
    }
    frame.store(body, advertisement).ok_or(Reason::Truncated)?;
    // In place, because the machine's stack is small: what else the header says stays.
    frame
        .store(link.len + PAYLOAD_LEN, (len as u16).to_be())
        .ok_or(Reason::Truncated)?;
    frame
        .store(link.len + DESTINATION, header.source)
        .ok_or(Reason::Truncated)?;
    frame
        .store(link.len + SOURCE, GATEWAY_LINK_LOCAL)
        .ok_or(Reason::Truncated)?;
    turn_around(frame, link, gateway_mac)?;
    Ok(Verdict::Answer(Reason::NdAnswered))
}

/// RFC 4443 section 2.3, in wire order. One's complement addition does not mind the order of bytes,
/// so that all words are added as the machine reads them.
#[inline(always)]
fn checksum(
    destination: &[u8; 16],
    advertisement: &Neighbour,
    option: Option<&LinkLayerOption>,
    len: usize,
) -> u16 {
    let mut sum = halves(&GATEWAY_LINK_LOCAL) + halves(destination);
    sum += u64::from((len as u16).to_be()) + u64::from(u16::from(protocol::ICMPV6).to_be());
    sum += u64::from(u16::from_ne_bytes([NEIGHBOUR_ADVERTISEMENT, 0]));
    sum += u64::from(FLAGS.to_be());
    sum += halves(&advertisement.target);
    if let Some(option) = option {
        let [a, b, c, d, e, f] = option.mac;
        sum += u64::from(u32::from_ne_bytes([option.kind, option.len, a, b]));
        sum += u64::from(u32::from_ne_bytes([c, d, e, f]));
    }
    fold(sum)
}

/// The complement of a one's complement sum, in sixteen bits.
#[inline(always)]
pub(crate) fn fold(mut sum: u64) -> u16 {
    let mut folds = 0;
    while folds < 4 {
        sum = (sum & 0xffff) + (sum >> 16);
        folds += 1;
    }
    !(sum as u16)
}

/// The sum of an address's four words.
#[inline(always)]
pub(crate) fn halves(address: &[u8; 16]) -> u64 {
    const LOW: u64 = 0xffff_ffff;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let second = u64::from_ne_bytes([i, j, k, l, m, n, o, p]);
    (first & LOW) + (first >> 32) + (second & LOW) + (second >> 32)
}
