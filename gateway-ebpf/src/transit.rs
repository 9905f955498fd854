//! Whether the kernel would take a packet for itself.
//!
//! A subscriber's packet that only passes through (its TTL has expired, its next hop is not
//! resolved, it is too big) must not reach a service of this host, whatever its destination.

use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_NOT_FWDED, bpf_fib_lookup};
use aya_ebpf::helpers::generated;
use aya_ebpf::programs::TcContext;
use doorstep_datapath::Frame;
use doorstep_datapath::headers::{ETHERNET_LEN, Ethernet, Ipv4, Ipv6, ether_type};

// linux/socket.h
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `BPF_FIB_LOOKUP_MARK` of linux/bpf.h, since Linux 6.10: follow the rules for the mark, too.
const WITH_MARK: u32 = 1 << 5;

/// Whether the kernel's routes deliver the packet to this host, or to nobody.
#[inline(always)]
pub fn ends_here<F: Frame>(ctx: &TcContext, frame: &F, mark: u32) -> bool {
    let Some(mut query) = query(ctx, frame) else {
        return true;
    };
    let [a, b, c, d] = mark.to_ne_bytes();
    query.smac = [a, b, c, d, 0, 0];
    let mut answer = lookup(ctx, &mut query, WITH_MARK);
    if answer < 0 {
        // An older kernel: the rules for unmarked packets tell as well what is this host's.
        answer = lookup(ctx, &mut query, 0);
    }
    answer < 0 || answer == i64::from(BPF_FIB_LKUP_RET_NOT_FWDED)
}

/// Zero or a positive `BPF_FIB_LKUP_RET_*`, or a negative error.
#[inline(always)]
fn lookup(ctx: &TcContext, query: &mut bpf_fib_lookup, flags: u32) -> i64 {
    // SAFETY: the query outlives the call, and its size is given.
    unsafe {
        generated::bpf_fib_lookup(
            ctx.skb.skb.cast(),
            &raw mut *query,
            size_of::<bpf_fib_lookup>() as i32,
            flags,
        )
    }
}

#[inline(always)]
fn query<F: Frame>(ctx: &TcContext, frame: &F) -> Option<bpf_fib_lookup> {
    // SAFETY: all zero is a value of this structure of integers.
    let mut query: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    // SAFETY: the context is the program's own.
    query.ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let header: Ethernet = frame.load(0)?;
    match u16::from_be(header.ether_type_be) {
        ether_type::IPV4 => {
            let ip: Ipv4 = frame.load(ETHERNET_LEN)?;
            query.family = AF_INET;
            query.l4_protocol = ip.protocol;
            query.__bindgen_anon_2.tos = ip.tos;
            query.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(ip.source);
            query.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(ip.destination);
        }
        ether_type::IPV6 => {
            let ip: Ipv6 = frame.load(ETHERNET_LEN)?;
            query.family = AF_INET6;
            query.l4_protocol = ip.next_header;
            query.__bindgen_anon_3.ipv6_src = words(&ip.source);
            query.__bindgen_anon_4.ipv6_dst = words(&ip.destination);
        }
        _ => return None,
    }
    Some(query)
}

#[inline(always)]
fn words(address: &[u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    let mut i = 0;
    while i < 4 {
        let at = i * 4;
        words[i] = u32::from_ne_bytes([
            address[at],
            address[at + 1],
            address[at + 2],
            address[at + 3],
        ]);
        i += 1;
    }
    words
}
