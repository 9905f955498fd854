//! Frames of subscribers chosen at random.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_xdp_adjust_tail};
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;

use crate::shared::{MIX, Order, WORLD, address, mac, vlans};

#[map]
static ORDER: Array<Order> = Array::with_max_entries(1, 0);

/// Shortest frame without its check sequence (IEEE 802.3 clause 4.4.2); all headers fit.
const MIN_FRAME: usize = 60;
const UDP_HEADER_AND_IP: u16 = 28;

/// EtherType IPv4; version 4, five words of header, no type of service.
const IPV4: u64 = 0x0800_4500;
/// Identification 0, do not fragment, TTL 64, UDP.
const IPV4_MIDDLE: u64 = 0x0000_4000_4011;
/// Ports 40000 and 80.
const PORTS: u64 = 0x9c40_0050;

#[inline(always)]
pub fn up(ctx: &XdpContext) -> Option<u32> {
    let (order, i, len) = next(ctx)?;
    let (s, c) = vlans(i);
    let ip = Ip::new(address(i), WORLD, len - 22);
    let mac = mac(i);
    write(
        ctx,
        [
            order.destination << 16 | mac >> 32,
            mac << 32 | 0x88a8 << 16 | u64::from(s),
            0x8100 << 48 | u64::from(c) << 32 | IPV4,
            u64::from(ip.total_len) << 48 | IPV4_MIDDLE,
            ip.addresses[0],
            ip.addresses[1],
        ],
    )?;
    Some(send(order))
}

#[inline(always)]
pub fn up_untagged(ctx: &XdpContext) -> Option<u32> {
    let (order, i, len) = next(ctx)?;
    untagged(ctx, order, mac(i), Ip::new(address(i), WORLD, len - 14))
}

#[inline(always)]
pub fn down(ctx: &XdpContext) -> Option<u32> {
    let (order, i, len) = next(ctx)?;
    let ip = Ip::new(WORLD, address(i), len - 14);
    untagged(ctx, order, order.source, ip)
}

#[inline(always)]
fn untagged(ctx: &XdpContext, order: &Order, source: u64, ip: Ip) -> Option<u32> {
    write(
        ctx,
        [
            order.destination << 16 | source >> 32,
            source << 32 | IPV4,
            u64::from(ip.total_len) << 48 | IPV4_MIDDLE,
            ip.addresses[0],
            ip.addresses[1],
        ],
    )?;
    Some(send(order))
}

/// The order, the next subscriber, and the length of the frame, which is made so long.
#[inline(always)]
fn next(ctx: &XdpContext) -> Option<(&'static Order, u32, u16)> {
    let order = ORDER.get_ptr_mut(0)?;
    // SAFETY: an element of an array map lives as long as the map, and generators run on one CPU.
    let order = unsafe {
        // Knuth's constants for a period of 2⁶⁴; the high bits are the random ones.
        (*order).state = (*order)
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*order).made += 1;
        if (*order).made == 1 {
            (*order).first_ns = bpf_ktime_get_ns();
        }
        if (*order).made == (*order).packets {
            (*order).last_ns = bpf_ktime_get_ns();
        }
        &*order
    };
    let i = ((order.state >> 32) * u64::from(order.sessions)) >> 32;
    let given = ctx.data_end() - ctx.data();
    if order.mix == 0 {
        return Some((order, i as u32, given as u16));
    }
    let len = mixed((order.state >> 16) as u16);
    // SAFETY: no pointer into the frame is alive.
    let refused = unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), len as i32 - given as i32) };
    (refused == 0).then_some((order, i as u32, len as u16))
}

/// A length of the mix.
#[inline(always)]
fn mixed(random: u16) -> u32 {
    let of_twelve = (u32::from(random) * 12) >> 16;
    let [(small, short), (medium, middle), (_, long)] = MIX;
    if of_twelve < small {
        short
    } else if of_twelve < small + medium {
        middle
    } else {
        long
    }
}

/// What differs between IPv4 headers, and what follows them.
struct Ip {
    total_len: u16,
    /// From the checksum to the length of the UDP datagram; its checksum, which may be 0, is left.
    addresses: [u64; 2],
}

impl Ip {
    #[inline(always)]
    fn new(source: u32, destination: u32, total_len: u16) -> Self {
        let mut sum = 0x4500 + 0x4000 + 0x4011 + u32::from(total_len);
        sum += (source >> 16) + (source & 0xffff);
        sum += (destination >> 16) + (destination & 0xffff);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        let checksum = u64::from(!(sum as u16));
        let udp_len = u64::from(total_len - UDP_HEADER_AND_IP + 8);
        Self {
            total_len,
            addresses: [
                checksum << 48 | u64::from(source) << 16 | u64::from(destination >> 16),
                u64::from(destination & 0xffff) << 48 | PORTS << 16 | udp_len,
            ],
        }
    }
}

/// Writes the headers, given as words in network order, and the UDP checksum behind them.
#[inline(always)]
fn write<const N: usize>(ctx: &XdpContext, words: [u64; N]) -> Option<()> {
    let start = ctx.data();
    if start + MIN_FRAME > ctx.data_end() {
        return None;
    }
    let mut k = 0;
    while k < N {
        // SAFETY: at most 48 of the 60 bytes, by the check above.
        unsafe { *((start + 8 * k) as *mut u64) = words[k].to_be() };
        k += 1;
    }
    // SAFETY: within the 60 bytes, by the check above.
    unsafe { *((start + 8 * N) as *mut u16) = 0 };
    Some(())
}

#[inline(always)]
fn send(order: &Order) -> u32 {
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(order.ifindex, 0) as u32 }
}
