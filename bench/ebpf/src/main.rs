//! The programs around the gateway's in a benchmark.
//!
//! Generators run by `BPF_PROG_TEST_RUN` with live frames. The kernel recycles their pages, and
//! resets a frame's length but not its content, so that they write every header of every frame.
#![no_std]
#![no_main]

mod generate;
mod restore;
mod shared;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::XdpContext;

use self::shared::Seen;

#[map]
static SEEN: PerCpuArray<Seen> = PerCpuArray::with_max_entries(1, 0);

/// The port that `redirect` sends to. Set by the loader.
#[unsafe(no_mangle)]
static OUT_IFINDEX: u32 = 0;

/// From homes, with two tags.
#[xdp]
pub fn generate_up(ctx: XdpContext) -> u32 {
    generate::up(&ctx).unwrap_or(XDP_ABORTED)
}

/// From homes, without tags.
#[xdp]
pub fn generate_up_untagged(ctx: XdpContext) -> u32 {
    generate::up_untagged(&ctx).unwrap_or(XDP_ABORTED)
}

/// From the world.
#[xdp]
pub fn generate_down(ctx: XdpContext) -> u32 {
    generate::down(&ctx).unwrap_or(XDP_ABORTED)
}

/// Counts what arrives, and drops it.
#[xdp]
pub fn sink(ctx: XdpContext) -> u32 {
    if let Some(seen) = SEEN.get_ptr_mut(0) {
        // SAFETY: this CPU's own element.
        unsafe {
            (*seen).packets += 1;
            (*seen).bytes += (ctx.data_end() - ctx.data()) as u64;
        }
    }
    XDP_DROP
}

/// Sends on what arrives, as it is, by the helper that the gateway uses.
#[xdp]
pub fn redirect(_ctx: XdpContext) -> u32 {
    // SAFETY: a live static; volatile because the loader changes what the compiler sees as zero.
    let ifindex = unsafe { core::ptr::read_volatile(&raw const OUT_IFINDEX) };
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(ifindex, 0) as u32 }
}

/// Puts a frame back to what it was, then runs the program that is timed.
#[xdp]
pub fn restore(ctx: XdpContext) -> u32 {
    restore::then_run(&ctx).unwrap_or(XDP_ABORTED)
}

/// What is timed to know what `restore` itself costs.
#[xdp]
pub fn nothing(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
