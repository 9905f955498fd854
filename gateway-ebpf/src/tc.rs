//! The TC side: packets on their way through the kernel.

use aya_ebpf::bindings::{TC_ACT_OK, TC_ACT_SHOT};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::helpers::generated::{bpf_skb_set_tstamp, bpf_skb_vlan_push};
use aya_ebpf::programs::TcContext;
use doorstep_datapath::egress::{self, Delivery, Segments};
use doorstep_datapath::headers::{ETHERNET_LEN, Ethernet, ether_type};
use doorstep_datapath::{Frame, Tables as _, Wire};
use doorstep_gateway_common::downstream::WireTag;
use doorstep_gateway_common::meta::{self, PassMeta};
use doorstep_gateway_common::{OperatorIndex, Reason};

use crate::tables::TABLES;
use crate::{count, trace, transit};

/// `BPF_SKB_TSTAMP_DELIVERY_MONO` of linux/bpf.h, since Linux 5.18.
const DELIVERY_TIME: u32 = 1;

/// `PACKET_HOST` of linux/if_packet.h.
const PACKET_HOST: u32 = 0;

pub struct SkbFrame<'c>(pub &'c TcContext);

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
        trace::to_kernel(&ctx, meta.operator);
        trace::tell(Reason::HostAddress);
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
    let operator = meta::operator_of_mark(mark).unwrap_or(TABLES.globals().default_operator);
    trace::to_line(ctx, operator);
    let result = send(ctx, operator, ifindex);
    match result {
        // The other port's program tells.
        Ok(Sent { counted: false, .. }) => {}
        Ok(_) => trace::tell(Reason::EgressToLine),
        Err(reason) => trace::tell(reason),
    }
    result.map(|sent| sent.action)
}

struct Sent {
    action: i32,
    counted: bool,
}

#[inline(always)]
fn send(ctx: &TcContext, operator: OperatorIndex, ifindex: u32) -> Result<Sent, Reason> {
    let (home, tos) = egress::find(&SkbFrame(ctx), &TABLES, operator)?;
    let elsewhere = home.ifindex != ifindex;
    // The other port's egress program passes a tagged frame, and looks an untagged one up again.
    if elsewhere && !home.inner.is_some() {
        return Ok(Sent {
            action: redirect(home.ifindex),
            counted: false,
        });
    }
    let delivery = egress::decide(&TABLES, home, tos, segments(ctx))?;
    delivery.clamp(&mut SkbFrame(ctx), &TABLES, operator);
    // Before there are tags: the helper refuses what does not look like IP.
    if let Some(at) = delivery.departure_ns {
        pace(ctx, at);
    }
    relink(ctx, &delivery)?;
    delivery.count();
    count::reason(Reason::EgressToLine);
    Ok(Sent {
        action: match elsewhere {
            true => redirect(delivery.ifindex),
            false => TC_ACT_OK,
        },
        counted: true,
    })
}

#[inline(always)]
fn redirect(port: u32) -> i32 {
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(port, 0) as i32 }
}

/// Has the port's `fq` hold the packet until its time.
#[inline(always)]
fn pace(ctx: &TcContext, at_ns: u64) {
    // SAFETY: a helper call on the program's own context. It refuses only what is not IP.
    unsafe { bpf_skb_set_tstamp(ctx.skb.skb, at_ns, DELIVERY_TIME) };
}

/// A packet of the kernel's may be many in one, to be cut up later.
#[inline(always)]
fn segments(ctx: &TcContext) -> Segments {
    const LINK: u32 = ETHERNET_LEN as u32;
    // SAFETY: the context is the program's own.
    let (len, wire_len, packets, size) = unsafe {
        let skb = ctx.skb.skb;
        (
            (*skb).len,
            (*skb).wire_len,
            (*skb).gso_segs,
            (*skb).gso_size,
        )
    };
    if packets <= 1 {
        let bytes = len.saturating_sub(LINK);
        return Segments {
            packets: 1,
            bytes,
            longest: bytes,
        };
    }
    // On the wire each has headers of its own (`qdisc_pkt_len_init` of net/core/dev.c).
    let headers = wire_len.saturating_sub(len) / (packets - 1);
    Segments {
        packets,
        bytes: wire_len.saturating_sub(LINK * packets),
        longest: (size + headers).saturating_sub(LINK),
    }
}

#[inline(always)]
fn relink(ctx: &TcContext, delivery: &Delivery<'_>) -> Result<(), Reason> {
    let header: Ethernet = SkbFrame(ctx).load(0).ok_or(Reason::Truncated)?;
    let header = Ethernet {
        destination: delivery.link.destination.bytes(),
        source: delivery.link.source.bytes(),
        ..header
    };
    const _: () = assert!(ETHERNET_LEN == size_of::<Ethernet>());
    SkbFrame(ctx).store(0, header).ok_or(Reason::ResizeFailed)?;
    push(ctx, delivery.link.inner)?;
    push(ctx, delivery.link.outer)
}

#[inline(always)]
fn push(ctx: &TcContext, tag: WireTag) -> Result<(), Reason> {
    if !tag.is_some() {
        return Ok(());
    }
    // SAFETY: a helper call on the program's own context; no pointer into the packet is alive.
    let refused = unsafe { bpf_skb_vlan_push(ctx.skb.skb, tag.tpid_be, u16::from_be(tag.tci_be)) };
    if refused == 0 {
        Ok(())
    } else {
        Err(Reason::ResizeFailed)
    }
}
