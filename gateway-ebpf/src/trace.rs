//! Tells of packets that somebody follows.
//!
//! The kernel's verifier knows `GLOBALS` for constant: in programs that are loaded without
//! [`Globals::TRACE`] it removes all of this. What is told is put together in memory of this CPU's,
//! before the packet is decided on; its reason is added, and the whole sent, afterwards. So nothing of
//! it lies on the stack of the deciding code, which has no room for it, and no state of the verifier's
//! depends on whether anybody follows the packet.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use doorstep_datapath::headers::ETHERNET_LEN;
use doorstep_datapath::{Tables as _, trace};
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::trace::{MAX_FILTERS, Point, SNAP, TraceEvent, TraceScratch};
use doorstep_gateway_common::{OperatorIndex, Reason};

use crate::maps::{TRACE, TRACE_FILTERS, TRACE_SCRATCH};
use crate::tables::TABLES;
use crate::tc::SkbFrame;
use crate::xdp::XdpFrame;

#[inline(always)]
fn is_on() -> bool {
    TABLES.globals().flags & Globals::TRACE != 0
}

/// A frame from a line, as it came.
#[inline(always)]
pub fn from_line(ctx: &XdpContext) {
    if is_on() {
        note_from_line(ctx.ctx);
    }
}

#[inline(never)]
fn note_from_line(ctx: *mut xdp_md) {
    let ctx = XdpContext::new(ctx);
    if let Some(scratch) = scratch() {
        let event = &mut scratch.event;
        event.ifindex = ctx.ingress_ifindex() as u32;
        trace::from_line(&XdpFrame(&ctx), &TABLES, event.ifindex, event);
        note_frame(&ctx, event, Point::Access);
    }
}

/// A frame from the world, as it came.
#[inline(always)]
pub fn from_world(ctx: &XdpContext) {
    if is_on() {
        note_from_world(ctx.ctx);
    }
}

#[inline(never)]
fn note_from_world(ctx: *mut xdp_md) {
    let ctx = XdpContext::new(ctx);
    if let Some(scratch) = scratch() {
        let event = &mut scratch.event;
        event.ifindex = ctx.ingress_ifindex() as u32;
        trace::from_world(&XdpFrame(&ctx), &TABLES, event.ifindex, event);
        note_frame(&ctx, event, Point::Uplink);
    }
}

#[inline(always)]
fn note_frame(ctx: &XdpContext, event: &mut TraceEvent, point: Point) {
    let len = ctx.data_end() - ctx.data();
    let snapped = snapped(len);
    // SAFETY: the event has room for `snapped` bytes.
    let refused = unsafe {
        let to = (&raw mut event.frame).cast();
        bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, to, snapped)
    };
    if refused == 0 {
        event.snapped = snapped as u16;
    }
    complete(event, point, len);
}

/// A packet of the kernel's to a line.
#[inline(always)]
pub fn to_line(ctx: &TcContext, operator: OperatorIndex) {
    if is_on() {
        note_to_line(ctx.skb.skb, operator);
    }
}

#[inline(never)]
fn note_to_line(ctx: *mut __sk_buff, operator: OperatorIndex) {
    let ctx = TcContext::new(ctx);
    if let Some(scratch) = scratch() {
        let event = &mut scratch.event;
        trace::to_line(&SkbFrame(&ctx), &TABLES, operator, event);
        note_packet(&ctx, event, Point::Egress);
    }
}

/// A packet that XDP handed to the kernel, which is not to have it.
#[inline(always)]
pub fn to_kernel(ctx: &TcContext, operator: OperatorIndex) {
    if is_on() {
        note_to_kernel(ctx.skb.skb, operator);
    }
}

#[inline(never)]
fn note_to_kernel(ctx: *mut __sk_buff, operator: OperatorIndex) {
    let ctx = TcContext::new(ctx);
    if let Some(scratch) = scratch() {
        let event = &mut scratch.event;
        trace::to_kernel(&SkbFrame(&ctx), &TABLES, operator, event);
        note_packet(&ctx, event, Point::Ingress);
    }
}

#[inline(always)]
fn note_packet(ctx: &TcContext, event: &mut TraceEvent, point: Point) {
    // SAFETY: the context is the program's own.
    event.ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let len = ctx.len() as usize;
    let snapped = snapped(len);
    // SAFETY: the event has room for `snapped` bytes.
    let refused = unsafe {
        let to = (&raw mut event.frame).cast();
        bpf_skb_load_bytes(ctx.skb.skb.cast(), 0, to, snapped)
    };
    if refused == 0 {
        event.snapped = snapped as u16;
    }
    complete(event, point, len);
}

/// Bytes to copy; at least an Ethernet header, which the verifier must know.
#[inline(always)]
fn snapped(len: usize) -> u32 {
    len.clamp(ETHERNET_LEN, SNAP) as u32
}

/// Whoever follows the packet is noted in the event, not in a variable: of that the verifier would
/// go through the rest of the program once for each value.
#[inline(always)]
fn complete(event: &mut TraceEvent, point: Point, len: usize) {
    event.point = point as u16;
    event.len = len as u32;
    // SAFETY: a plain helper call.
    event.at_ns = unsafe { bpf_ktime_get_ns() };
    let mut index = 0;
    while index < MAX_FILTERS {
        if let Some(filter) = TRACE_FILTERS.get(index)
            && trace::fits(event, filter)
        {
            event.filters |= 1 << index;
        }
        index += 1;
    }
}

#[inline(always)]
fn scratch() -> Option<&'static mut TraceScratch> {
    // SAFETY: this CPU's own element; programs on one CPU do not preempt each other here.
    TRACE_SCRATCH
        .get_ptr_mut(0)
        .map(|scratch| unsafe { &mut *scratch })
}

/// Tells what became of the packet that was noted.
#[inline(always)]
pub fn tell(reason: Reason) {
    if is_on() {
        send(reason.number());
    }
}

#[inline(never)]
fn send(reason: u16) {
    let Some(scratch) = scratch() else {
        return;
    };
    if scratch.event.filters == 0 {
        return;
    }
    scratch.event.reason = reason;
    // A full ring loses events, not packets.
    if TRACE.output::<TraceEvent>(&scratch.event, 0).is_err() {
        scratch.lost += 1;
    }
}
