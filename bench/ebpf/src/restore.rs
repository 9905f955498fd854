//! Test runs hand a program the frame as the run before left it; here it is made as it was.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::XDP_ABORTED;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_meta};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::XdpContext;

use crate::shared::{FRAME_LEN, Template};

#[map]
static TEMPLATE: Array<Template> = Array::with_max_entries(1, 0);
#[map]
static NEXT: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[inline(always)]
pub fn then_run(ctx: &XdpContext) -> Option<u32> {
    let meta = ctx.data() - ctx.metadata();
    // SAFETY: no pointer into the frame is alive.
    if meta != 0 && unsafe { bpf_xdp_adjust_meta(ctx.as_ptr().cast(), meta as i32) } != 0 {
        return None;
    }
    let excess = (ctx.data_end() - ctx.data()) as i32 - FRAME_LEN as i32;
    // SAFETY: as above.
    if excess != 0 && unsafe { bpf_xdp_adjust_head(ctx.as_ptr().cast(), excess) } != 0 {
        return None;
    }
    let template = TEMPLATE.get(0)?;
    let start = ctx.data();
    if start + FRAME_LEN > ctx.data_end() {
        return None;
    }
    let mut k = 0;
    while k < FRAME_LEN / 8 {
        // SAFETY: within the frame, by the check above.
        unsafe { *((start + 8 * k) as *mut u64) = template.words[k] };
        k += 1;
    }
    // SAFETY: nothing here needs to be dropped.
    unsafe { NEXT.tail_call(ctx, 0) };
    Some(XDP_ABORTED)
}
