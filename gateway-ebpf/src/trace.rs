//! Tells of packets that somebody follows.
//!
//! The kernel's verifier knows `GLOBALS` for constant: in programs that are loaded without
//! [`Globals::TRACE`] it removes all of this.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use doorstep_datapath::headers::{ETHERNET_LEN, Ethernet};
use doorstep_datapath::trace::{self, Seen};
use doorstep_datapath::{Frame, Tables as _};
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::trace::{MAX_FILTERS, Point, SNAP, TraceEvent};
use doorstep_gateway_common::{OperatorIndex, Reason};

use crate::maps::{TRACE, TRACE_FILTERS, TRACE_SCRATCH};
use crate::tables::KernelTables;

/// Whether a packet's event is waiting in the scratch space for its reason.
#[derive(Clone, Copy)]
pub struct Followed(bool);

#[inline(always)]
fn is_on() -> bool {
    KernelTables.globals().flags & Globals::TRACE != 0
}

#[inline(always)]
pub fn from_line<F: Frame>(ctx: &XdpContext, frame: &F, ifindex: u32) -> Followed {
    if !is_on() {
        return Followed(false);
    }
    follow_from_line(ctx, frame, ifindex)
}

#[inline(never)]
fn follow_from_line<F: Frame>(ctx: &XdpContext, frame: &F, ifindex: u32) -> Followed {
    let seen = trace::from_line(frame, &KernelTables, ifindex);
    follow_xdp(ctx, &seen, Point::Access, ifindex)
}

#[inline(always)]
pub fn from_world<F: Frame>(ctx: &XdpContext, frame: &F, ifindex: u32) -> Followed {
    if !is_on() {
        return Followed(false);
    }
    follow_from_world(ctx, frame, ifindex)
}

#[inline(never)]
fn follow_from_world<F: Frame>(ctx: &XdpContext, frame: &F, ifindex: u32) -> Followed {
    let seen = trace::from_world(frame, &KernelTables, ifindex);
    follow_xdp(ctx, &seen, Point::Uplink, ifindex)
}

#[inline(always)]
pub fn to_line<F: Frame>(ctx: &TcContext, frame: &F, operator: OperatorIndex) -> Followed {
    if !is_on() {
        return Followed(false);
    }
    follow_to_line(ctx, frame, operator)
}

#[inline(never)]
fn follow_to_line<F: Frame>(ctx: &TcContext, frame: &F, operator: OperatorIndex) -> Followed {
    let ether_type = match frame.load::<Ethernet>(0) {
        Some(header) => u16::from_be(header.ether_type_be),
        None => 0,
    };
    let seen = trace::to_line(frame, &KernelTables, operator, ether_type, ETHERNET_LEN);
    // SAFETY: the context is the program's own.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let len = frame.len();
    let Some(event) = begin(&seen, Point::Egress, ifindex, len) else {
        return Followed(false);
    };
    let snapped = snapped(len);
    // SAFETY: the scratch space has room for `snapped` bytes.
    let copied = unsafe {
        let to = (&raw mut (*event).frame).cast();
        bpf_skb_load_bytes(ctx.skb.skb.cast(), 0, to, snapped)
    };
    Followed(copied == 0)
}

#[inline(always)]
fn follow_xdp(ctx: &XdpContext, seen: &Seen, point: Point, ifindex: u32) -> Followed {
    let len = ctx.data_end() - ctx.data();
    let Some(event) = begin(seen, point, ifindex, len) else {
        return Followed(false);
    };
    let snapped = snapped(len);
    // SAFETY: the scratch space has room for `snapped` bytes.
    let copied = unsafe {
        let to = (&raw mut (*event).frame).cast();
        bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, to, snapped)
    };
    Followed(copied == 0)
}

/// Bytes to copy; at least an Ethernet header, which the verifier must know.
#[inline(always)]
fn snapped(len: usize) -> u32 {
    len.clamp(ETHERNET_LEN, SNAP) as u32
}

/// Fills the scratch space, all but the packet's bytes, if somebody follows it.
#[inline(always)]
fn begin(seen: &Seen, point: Point, ifindex: u32, len: usize) -> Option<*mut TraceEvent> {
    let mut index = 0;
    let mut fits = false;
    while index < MAX_FILTERS {
        if let Some(filter) = TRACE_FILTERS.get(index) {
            fits |= seen.fits(filter);
        }
        index += 1;
    }
    if !fits {
        return None;
    }
    let event = TRACE_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: this CPU's own element, of that type.
    unsafe {
        (*event).at_ns = bpf_ktime_get_ns();
        (*event).line = seen.line;
        (*event).ifindex = ifindex;
        (*event).slot = seen.slot;
        (*event).operator = seen.operator;
        (*event).point = point as u16;
        (*event).snapped = snapped(len) as u16;
        (*event).len = len as u32;
        (*event).flags = u32::from(seen.flags);
    }
    Some(event)
}

/// Tells what became of the packet.
#[inline(always)]
pub fn tell(followed: Followed, reason: Reason) {
    if !is_on() || !followed.0 {
        return;
    }
    if let Some(event) = TRACE_SCRATCH.get_ptr_mut(0) {
        // SAFETY: this CPU's own element; what was not filled is of an earlier event.
        let event = unsafe {
            (*event).reason = reason.number();
            &*event
        };
        // A full ring loses events, not packets.
        let _ = TRACE.output::<TraceEvent>(event, 0);
    }
}
