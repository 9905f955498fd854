//! The TC side: packets on their way through the kernel.

use aya_ebpf::bindings::{TC_ACT_OK, TC_ACT_SHOT};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::helpers::generated::bpf_skb_vlan_push;
use aya_ebpf::programs::TcContext;
use doorstep_datapath::egress::{self, Delivery};
use doorstep_datapath::headers::{ETHERNET_LEN, Ethernet, ether_type};
use doorstep_datapath::verdict::PushTag;
use doorstep_datapath::{Frame, Wire};
use doorstep_gateway_common::Reason;
use doorstep_gateway_common::meta::{self, PassMeta};

use crate::tables::KernelTables;
use crate::{count, maps, transit};

/// `PACKET_HOST` of linux/if_packet.h.
const PACKET_HOST: u32 = 0;

struct SkbFrame<'c>(&'c TcContext);

impl Frame for SkbFrame<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }

    #[inline(always)]
    fn load<T: Wire>(&self, offset: usize) -> Option<T> {
        self.0.load(offset).ok()
    }

    #[inline(always)]
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        self.0.store(offset, &value, 0).ok()
    }

    #[inline(always)]
    fn shrink_front(&mut self, _bytes: i32) -> Option<()> {
        None
    }
}

/// Marks a packet that XDP labelled, and makes it one for this host: on a line it was addressed to
/// the gateway's MAC address, which need not be the port's.
#[inline(always)]
pub fn ingress(ctx: TcContext) -> i32 {
    let Some(meta) = label(&ctx) else {
        return TC_ACT_OK;
    };
    let mark = meta::mark(meta.operator);
    if meta.flags & PassMeta::TRANSIT != 0 && transit::ends_here(&ctx, &SkbFrame(&ctx), mark) {
        count::reason(Reason::HostAddress);
        return TC_ACT_SHOT;
    }
    ctx.set_mark(mark);
    // It fails only for types that XDP does not pass on.
    let _ = ctx.change_type(PACKET_HOST);
    TC_ACT_OK
}

#[inline(always)]
fn label(ctx: &TcContext) -> Option<PassMeta> {
    // SAFETY: the context is the program's own.
    let (start, end) = unsafe {
        (
            (*ctx.skb.skb).data_meta as usize,
            (*ctx.skb.skb).data as usize,
        )
    };
    if start + size_of::<PassMeta>() > end {
        return None;
    }
    // SAFETY: within the metadata, by the check above.
    let meta = unsafe { (start as *const PassMeta).read_unaligned() };
    meta.is_valid().then_some(meta)
}

/// Gives a packet of the kernel's its line's tags and MAC addresses.
#[inline(always)]
pub fn egress(ctx: TcContext) -> i32 {
    if is_tagged(&ctx) {
        return TC_ACT_OK;
    }
    match deliver(&ctx) {
        Ok(action) => action,
        Err(reason) => {
            count::reason(reason);
            TC_ACT_SHOT
        }
    }
}

/// Whether the frame has its tags already: it was sent by the daemon, or came here by the redirect
/// below.
#[inline(always)]
fn is_tagged(ctx: &TcContext) -> bool {
    // SAFETY: the context is the program's own.
    let (present, protocol) = unsafe { ((*ctx.skb.skb).vlan_present, (*ctx.skb.skb).protocol) };
    present != 0
        || matches!(
            u16::from_be(protocol as u16),
            ether_type::C_TAG | ether_type::S_TAG
        )
}

#[inline(always)]
fn deliver(ctx: &TcContext) -> Result<i32, Reason> {
    // SAFETY: the context is the program's own.
    let (mark, ifindex) = unsafe { ((*ctx.skb.skb).mark, (*ctx.skb.skb).ifindex) };
    let operator = meta::operator_of_mark(mark).unwrap_or_else(|| maps::globals().default_operator);
    let delivery = egress::decide(&SkbFrame(ctx), &KernelTables, operator)?;
    relink(ctx, &delivery)?;
    let elsewhere = delivery.ifindex != ifindex;
    // The other port's egress program passes a tagged frame, and looks an untagged one up again.
    let counts_there = elsewhere && delivery.link.inner.vid == 0 && delivery.link.outer.vid == 0;
    if !counts_there {
        count::session(&delivery.account);
        count::reason(Reason::EgressToLine);
    }
    if elsewhere {
        // SAFETY: a plain helper call.
        return Ok(unsafe { bpf_redirect(delivery.ifindex, 0) as i32 });
    }
    Ok(TC_ACT_OK)
}

#[inline(always)]
fn relink(ctx: &TcContext, delivery: &Delivery) -> Result<(), Reason> {
    let header: Ethernet = SkbFrame(ctx).load(0).ok_or(Reason::Truncated)?;
    let header = Ethernet {
        destination: delivery.link.destination,
        source: delivery.link.source,
        ..header
    };
    const _: () = assert!(ETHERNET_LEN == size_of::<Ethernet>());
    SkbFrame(ctx).store(0, header).ok_or(Reason::ResizeFailed)?;
    push(ctx, delivery.link.inner)?;
    push(ctx, delivery.link.outer)
}

#[inline(always)]
fn push(ctx: &TcContext, tag: PushTag) -> Result<(), Reason> {
    if tag.vid == 0 {
        return Ok(());
    }
    // SAFETY: a helper call on the program's own context; no pointer into the packet is alive.
    let refused = unsafe { bpf_skb_vlan_push(ctx.skb.skb, tag.tpid.to_be(), tag.vid) };
    if refused == 0 {
        Ok(())
    } else {
        Err(Reason::ResizeFailed)
    }
}
