//! The maximum segment size of TCP connections, clamped to what fits the path.

use doorstep_gateway_common::Reason;

use crate::headers::{IPV6_LEN, Ipv4, Ipv6, Tcp, ether_type, protocol};
use crate::{Frame, parse};

const IPV4_LEN: usize = 20;
const TCP_LEN: usize = size_of::<Tcp>();
/// Options looked at. The first of a SYN is the MSS in every stack of note.
const OPTIONS: usize = 6;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;

/// Lowers the MSS that a SYN offers to what an MTU takes. Anything that is not such a packet, or
/// has something wrong with it, stays as it is.
#[inline(never)]
pub(crate) fn clamp<F: Frame>(frame: &mut F, mtu: u16) {
    // What is wrong with it is for the receiver to say.
    let _ = try_clamp(frame, mtu);
}

#[inline(always)]
fn try_clamp<F: Frame>(frame: &mut F, mtu: u16) -> Result<(), Reason> {
    let link = parse::link(frame)?;
    let offset = link.len;
    let (ip_len, header_len) = match link.ether_type {
        ether_type::IPV4 => {
            const OFFSET: u16 = 0x1fff;
            let ip: Ipv4 = frame.load(offset).ok_or(Reason::Truncated)?;
            if ip.protocol != protocol::TCP || u16::from_be(ip.fragment_be) & OFFSET != 0 {
                return Ok(());
            }
            (usize::from(ip.version_ihl & 0x0f) * 4, IPV4_LEN)
        }
        _ => {
            let ip: Ipv6 = frame.load(offset).ok_or(Reason::Truncated)?;
            if ip.next_header != protocol::TCP {
                return Ok(());
            }
            (IPV6_LEN, IPV6_LEN)
        }
    };
    let start = offset + ip_len;
    let tcp: Tcp = frame.load(start).ok_or(Reason::Truncated)?;
    if tcp.flags & Tcp::SYN == 0 {
        return Ok(());
    }
    let largest = mtu.saturating_sub((header_len + TCP_LEN) as u16);
    let end = start + usize::from(tcp.offset >> 4) * 4;
    let mut at = start + TCP_LEN;
    let mut looked = 0;
    while looked < OPTIONS && at + 4 <= end {
        let kind: u8 = frame.load(at).ok_or(Reason::Truncated)?;
        if kind == END {
            return Ok(());
        }
        if kind == NO_OPERATION {
            at += 1;
        } else {
            let len: u8 = frame.load(at + 1).ok_or(Reason::Truncated)?;
            if kind == MSS && len == 4 {
                return replace(frame, start, at + 2, tcp.checksum_be, largest);
            }
            if len < 2 {
                return Ok(());
            }
            at += usize::from(len);
        }
        looked += 1;
    }
    Ok(())
}

#[inline(always)]
fn replace<F: Frame>(
    frame: &mut F,
    tcp: usize,
    at: usize,
    checksum_be: u16,
    largest: u16,
) -> Result<(), Reason> {
    const CHECKSUM: usize = 16;
    let offered: [u8; 2] = frame.load(at).ok_or(Reason::Truncated)?;
    let old = u16::from_be_bytes(offered);
    if old <= largest {
        return Ok(());
    }
    let checksum = adjusted(
        u16::from_be(checksum_be),
        old,
        largest,
        !(at - tcp).is_multiple_of(2),
    );
    frame
        .store(at, largest.to_be_bytes())
        .ok_or(Reason::Truncated)?;
    frame
        .store(tcp + CHECKSUM, checksum.to_be_bytes())
        .ok_or(Reason::Truncated)
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
