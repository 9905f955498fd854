//! A building's access switch, for kernels without VLAN links.
//!
//! Each port toward a home has up to two tags: they are added to what comes from the home, and
//! removed from what goes to it; what has other tags does not go there.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::bindings::{BPF_F_INGRESS, TC_ACT_OK, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_skb_vlan_pop, bpf_skb_vlan_push};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::{TcContext, XdpContext};

/// A port's tags: outer TPID, outer VLAN id, inner TPID, inner VLAN id; id 0 means no tag.
pub type PortTags = [u16; 4];

/// Tags by the port's ifindex.
#[map]
static PORTS: HashMap<u32, PortTags> = HashMap::with_max_entries(64, 0);

/// Whether frames that got two tags come in once more. Where a second tag moves the beginning of what
/// the bridge takes for the packet (`mac_len`, Linux 6.1), only that puts it back.
#[unsafe(no_mangle)]
static COME_AGAIN: u8 = 0;

/// Mark of a frame that comes in once more. What a home sends has none: marks end at a namespace.
const AGAIN: u32 = 1;

/// From a home.
#[classifier]
pub fn from_home(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is the program's own.
    let (mark, ifindex) = unsafe { ((*skb).mark, (*skb).ifindex) };
    if mark == AGAIN {
        // SAFETY: as above.
        unsafe { (*skb).mark = 0 };
        return TC_ACT_OK;
    }
    let Some([outer_tpid, outer, inner_tpid, inner]) = tags(&ctx) else {
        return TC_ACT_SHOT;
    };
    if !(push(&ctx, inner_tpid, inner) && push(&ctx, outer_tpid, outer)) {
        return TC_ACT_SHOT;
    }
    // SAFETY: set before the program is loaded, and never again.
    if outer == 0 || unsafe { core::ptr::read_volatile(&COME_AGAIN) } == 0 {
        return TC_ACT_OK;
    }
    // SAFETY: the context is the program's own, and so is the helper's call.
    unsafe {
        (*skb).mark = AGAIN;
        bpf_redirect(ifindex, BPF_F_INGRESS.into()) as i32
    }
}

/// To a home.
#[classifier]
pub fn to_home(ctx: TcContext) -> i32 {
    let Some([outer_tpid, outer, inner_tpid, inner]) = tags(&ctx) else {
        return TC_ACT_SHOT;
    };
    if pop(&ctx, outer_tpid, outer) && pop(&ctx, inner_tpid, inner) && !is_tagged(&ctx) {
        TC_ACT_OK
    } else {
        TC_ACT_SHOT
    }
}

/// At the far end of a gateway's port; see `hear_answers` of the lab.
#[xdp]
pub fn hear_answers(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

fn tags(ctx: &TcContext) -> Option<PortTags> {
    // SAFETY: the context is the program's own.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    // SAFETY: the value lives until the program ends, and is only ever replaced whole.
    unsafe { PORTS.get(ifindex) }.copied()
}

fn push(ctx: &TcContext, tpid: u16, vid: u16) -> bool {
    // SAFETY: a helper call on the program's own context.
    vid == 0 || unsafe { bpf_skb_vlan_push(ctx.skb.skb, tpid.to_be(), vid) } == 0
}

fn pop(ctx: &TcContext, tpid: u16, vid: u16) -> bool {
    // SAFETY: the context is the program's own.
    let (proto, tci) = unsafe { ((*ctx.skb.skb).vlan_proto, (*ctx.skb.skb).vlan_tci) };
    vid == 0
        || (is_tagged(ctx)
            && u16::from_be(proto as u16) == tpid
            && tci & 0x0fff == u32::from(vid)
            // SAFETY: a helper call on the program's own context.
            && unsafe { bpf_skb_vlan_pop(ctx.skb.skb) } == 0)
}

/// Whether there is a tag; the kernel keeps the outermost one beside the packet.
fn is_tagged(ctx: &TcContext) -> bool {
    // SAFETY: the context is the program's own.
    unsafe { (*ctx.skb.skb).vlan_present != 0 }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
