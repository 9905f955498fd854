//! The XDP side: frames in the driver's memory.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_meta};
use aya_ebpf::programs::XdpContext;
use doorstep_datapath::verdict::ToKernel;
use doorstep_datapath::{Frame, Verdict, Wire, downstream, parse, upstream};
use doorstep_gateway_common::meta::PassMeta;
use doorstep_gateway_common::{LineKey, Reason};

use crate::tables::{TABLES, TO_HOMES};
use crate::{count, punt, trace};

pub struct XdpFrame<'c>(pub &'c XdpContext);

impl XdpFrame<'_> {
    /// The one bounds check: a pointer to that many bytes within the frame.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.0.data();
        if start + offset + size_of::<T>() > self.0.data_end() {
            return None;
        }
        Some((start + offset) as *mut T)
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.0.data_end() - self.0.data()
    }

    #[inline(always)]
    fn load<T: Wire>(&self, offset: usize) -> Option<T> {
        // SAFETY: within the frame, and any bytes are a value of a Wire type. It may be misaligned
        // for one: the BPF machine loads from any address, and a load by bytes would cost more
        // than the lookup.
        self.at::<T>(offset).map(|value| unsafe { *value })
    }

    #[inline(always)]
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        // SAFETY: as in `load`; XDP programs own the frame.
        self.at::<T>(offset).map(|place| unsafe { *place = value })
    }

    #[inline(always)]
    fn shrink_front(&mut self, bytes: i32) -> Option<()> {
        // SAFETY: no pointer into the frame is alive: each is made anew by `at`.
        let refused = unsafe { bpf_xdp_adjust_head(self.0.as_ptr().cast(), bytes) };
        (refused == 0).then_some(())
    }
}

#[inline(always)]
fn ifindex(ctx: &XdpContext) -> u32 {
    ctx.ingress_ifindex() as u32
}

/// From a line.
#[inline(always)]
pub fn access(ctx: XdpContext) -> u32 {
    let port = ifindex(&ctx);
    trace::from_line(&ctx);
    let verdict = upstream::decide(&mut XdpFrame(&ctx), &TABLES, port);
    let (reason, action) = act(&ctx, verdict);
    trace::tell(reason);
    finish(reason, action)
}

/// From the world.
#[inline(always)]
pub fn uplink(ctx: XdpContext) -> u32 {
    let port = ifindex(&ctx);
    trace::from_world(&ctx);
    let verdict = downstream::decide(&mut XdpFrame(&ctx), &TO_HOMES, port);
    let (reason, action) = act(&ctx, verdict);
    trace::tell(reason);
    finish(reason, action)
}

/// What the driver does with the packet, and the reason under which it counts.
#[inline(always)]
fn act(ctx: &XdpContext, verdict: Verdict) -> (Reason, u32) {
    match verdict {
        // SAFETY: a plain helper call.
        Verdict::Forward(reason, port) => (reason, unsafe { bpf_redirect(port, 0) } as u32),
        Verdict::Drop(reason) => (reason, XDP_DROP),
        Verdict::Host(reason) => (reason, XDP_PASS),
        Verdict::Answer(reason) => (reason, XDP_TX),
        Verdict::Punt(reason) => (punt::punt(ctx, line_of(ctx), reason), XDP_DROP),
        Verdict::Kernel(to_kernel) => pass(ctx, &to_kernel),
    }
}

#[inline(always)]
fn finish(reason: Reason, action: u32) -> u32 {
    count::reason(reason);
    action
}

/// The line of a punted frame, which has been parsed before.
#[inline(always)]
fn line_of(ctx: &XdpContext) -> LineKey {
    let ifindex = ifindex(ctx);
    match parse::link(&XdpFrame(ctx)) {
        Ok(link) => link.line(ifindex),
        Err(_) => LineKey {
            ifindex,
            ..LineKey::default()
        },
    }
}

#[inline(always)]
fn pass(ctx: &XdpContext, to_kernel: &ToKernel) -> (Reason, u32) {
    let flags = if to_kernel.for_host {
        0
    } else {
        PassMeta::TRANSIT
    };
    if !label(ctx, PassMeta::new(to_kernel.operator, flags)) {
        return (Reason::NoMetadata, XDP_DROP);
    }
    if let Some(due) = &to_kernel.due {
        count::session(due);
    }
    (to_kernel.reason, XDP_PASS)
}

/// Tells TC whose packet it is; false where the driver has no room for metadata.
#[inline(always)]
fn label(ctx: &XdpContext, meta: PassMeta) -> bool {
    const LEN: usize = size_of::<PassMeta>();
    // SAFETY: no pointer into the frame is alive.
    if unsafe { bpf_xdp_adjust_meta(ctx.as_ptr().cast(), -(LEN as i32)) } != 0 {
        return false;
    }
    let start = ctx.metadata();
    if start + LEN > ctx.metadata_end() {
        return false;
    }
    // SAFETY: within the metadata, by the check above.
    unsafe { (start as *mut PassMeta).write_unaligned(meta) };
    true
}
