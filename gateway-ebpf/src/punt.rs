//! Frames for the daemon.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use aya_ebpf::programs::XdpContext;
use doorstep_datapath::headers::ETHERNET_LEN;
use doorstep_gateway_common::punt::{MAX_FRAME, PuntHeader, SHORT_FRAME};
use doorstep_gateway_common::{LineKey, Reason};

use crate::maps::PUNT;

#[repr(C)]
struct Record<const N: usize> {
    header: PuntHeader,
    frame: [u8; N],
}

/// Puts the frame into the ring; the reason under which it counts.
#[inline(always)]
pub fn punt(ctx: &XdpContext, line: LineKey, reason: Reason) -> Reason {
    let len = ctx.data_end() - ctx.data();
    if len <= SHORT_FRAME {
        put::<SHORT_FRAME>(ctx, line, reason, len)
    } else if len <= MAX_FRAME {
        put::<MAX_FRAME>(ctx, line, reason, len)
    } else {
        Reason::PuntTooLong
    }
}

#[inline(always)]
fn put<const N: usize>(ctx: &XdpContext, line: LineKey, reason: Reason, len: usize) -> Reason {
    // No frame is shorter; this tells the verifier so, which refuses to copy nothing.
    let len = len.clamp(ETHERNET_LEN, N);
    let Some(mut entry) = PUNT.reserve::<Record<N>>(0) else {
        return Reason::PuntFull;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is reserved memory of a Record's size, and `len` was checked to fit.
    let copied = unsafe {
        (&raw mut (*record).header).write(PuntHeader {
            line,
            len: len as u32,
            reason: reason.number(),
            pad: 0,
        });
        let frame = (&raw mut (*record).frame).cast();
        bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, frame, len as u32)
    };
    if copied != 0 {
        entry.discard(0);
        return Reason::Truncated;
    }
    entry.submit(0);
    reason
}
