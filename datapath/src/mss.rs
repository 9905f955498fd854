//! The maximum segment size of TCP connections, clamped to what fits the path.

use doorstep_gateway_common::OperatorIndex;
use doorstep_gateway_common::operator::UplinkKey;

use crate::headers::{IPV6_LEN, Ipv4, Ipv6, Tcp, ether_type, protocol};
use crate::verdict::Family;
use crate::{Frame, Tables, downstream, parse};

const IPV4_LEN: usize = 20;
const TCP_LEN: usize = size_of::<Tcp>();
/// Options looked at. The first of a SYN is the MSS in every stack of note.
const OPTIONS: usize = 6;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;

/// A TCP segment that begins a connection.
struct Syn {
    family: Family,
    /// The only tag's VLAN id, or 0.
    vid: u16,
    /// Where IP and TCP begin, and where TCP's options end.
    ip: usize,
    tcp: usize,
    end: usize,
    checksum_be: u16,
}

/// Lowers the MSS that a home offers to what both its line and the uplink take. The frame is ready
/// to leave by that uplink, whose port and MTU are given. Anything that is not such a packet, or has
/// something wrong with it, stays as it is: that is for the receiver to say.
#[inline(never)]
pub(crate) fn clamp_upstream<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    ifindex: u32,
    uplink_mtu: u16,
) {
    let Some(syn) = syn(frame) else { return };
    // What comes back has to pass the line. Only few packets look for it.
    let mtu = match line_mtu(frame, tables, ifindex, &syn) {
        Some(line_mtu) => uplink_mtu.min(line_mtu),
        None => uplink_mtu,
    };
    lower(frame, &syn, mtu);
}

/// The MTU of the line that a connection is begun from.
#[inline(always)]
fn line_mtu<F: Frame, T: Tables>(frame: &F, tables: &T, ifindex: u32, syn: &Syn) -> Option<u16> {
    const SOURCE_V4: usize = 12;
    const SOURCE_V6: usize = 8;
    let uplink = tables.uplink(&UplinkKey {
        ifindex,
        vid: syn.vid,
        pad: 0,
    })?;
    let home = match syn.family {
        Family::V4 => {
            let source = frame.load(syn.ip + SOURCE_V4)?;
            downstream::home_v4(tables, uplink.operator, &source)?
        }
        Family::V6 => {
            let source = frame.load(syn.ip + SOURCE_V6)?;
            downstream::home_v6(tables, uplink.operator, &source)?
        }
    };
    Some(home.mtu)
}

/// Lowers the MSS that is offered to a home, likewise.
#[inline(never)]
pub(crate) fn clamp_downstream<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    operator: OperatorIndex,
    line_mtu: u16,
) {
    let Some(syn) = syn(frame) else { return };
    let mtu = match tables.operator(operator) {
        Some(operator) => line_mtu.min(operator.mtu),
        None => line_mtu,
    };
    lower(frame, &syn, mtu);
}

#[inline(always)]
fn syn<F: Frame>(frame: &F) -> Option<Syn> {
    let link = parse::link(frame).ok()?;
    let ip = link.len;
    let (ip_len, family) = match link.ether_type {
        ether_type::IPV4 => {
            const OFFSET: u16 = 0x1fff;
            let ip: Ipv4 = frame.load(ip)?;
            if ip.protocol != protocol::TCP || u16::from_be(ip.fragment_be) & OFFSET != 0 {
                return None;
            }
            (usize::from(ip.version_ihl & 0x0f) * 4, Family::V4)
        }
        _ => {
            let ip: Ipv6 = frame.load(ip)?;
            if ip.next_header != protocol::TCP {
                return None;
            }
            (IPV6_LEN, Family::V6)
        }
    };
    let start = ip + ip_len;
    let tcp: Tcp = frame.load(start)?;
    (tcp.flags & Tcp::SYN != 0).then_some(Syn {
        family,
        vid: link.c_vid,
        ip,
        tcp: start,
        end: start + usize::from(tcp.offset >> 4) * 4,
        checksum_be: tcp.checksum_be,
    })
}

/// Lowers the MSS to what an MTU takes: without headers, options not counted (RFC 9293 section
/// 3.7.1).
#[inline(always)]
fn lower<F: Frame>(frame: &mut F, syn: &Syn, mtu: u16) -> Option<()> {
    let headers = match syn.family {
        Family::V4 => IPV4_LEN + TCP_LEN,
        Family::V6 => IPV6_LEN + TCP_LEN,
    };
    let largest = mtu.saturating_sub(headers as u16);
    let mut at = syn.tcp + TCP_LEN;
    let mut looked = 0;
    while looked < OPTIONS && at + 4 <= syn.end {
        let kind: u8 = frame.load(at)?;
        if kind == END {
            return None;
        }
        if kind == NO_OPERATION {
            at += 1;
        } else {
            let len: u8 = frame.load(at + 1)?;
            if kind == MSS && len == 4 {
                return replace(frame, syn, at + 2, largest);
            }
            if len < 2 {
                return None;
            }
            at += usize::from(len);
        }
        looked += 1;
    }
    None
}

#[inline(always)]
fn replace<F: Frame>(frame: &mut F, syn: &Syn, at: usize, largest: u16) -> Option<()> {
    const CHECKSUM: usize = 16;
    let offered: [u8; 2] = frame.load(at)?;
    let old = u16::from_be_bytes(offered);
    if old <= largest {
        return None;
    }
    let is_odd = !(at - syn.tcp).is_multiple_of(2);
    let checksum = adjusted(u16::from_be(syn.checksum_be), old, largest, is_odd);
    frame.store(at, largest.to_be_bytes())?;
    frame.store(syn.tcp + CHECKSUM, checksum.to_be_bytes())
}

/// RFC 1624, equation 3. A value at an odd offset counts with its bytes exchanged.
#[inline(always)]
const fn adjusted(checksum: u16, old: u16, new: u16, odd: bool) -> u16 {
    let (old, new) = if odd {
        (old.swap_bytes(), new.swap_bytes())
    } else {
        (old, new)
    };
    let mut sum = !checksum as u32 + !old as u32 + new as u32;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
