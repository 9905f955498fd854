//! The gateway's XDP and TC programs.
//!
//! The path of a packet:
//!
//! ```text
//! line ──▶ xdp_access ──redirect──▶ uplink          decided by doorstep_datapath::upstream
//!              │ pass, untagged, with metadata
//!              ▼
//!          tc_ingress ──mark──▶ the kernel ──▶ tc_egress ──tags, MACs──▶ line
//!              ▲                                    decided by doorstep_datapath::egress
//!              │ pass, with metadata
//! world ─▶ xdp_uplink ──redirect──▶ line            decided by doorstep_datapath::downstream
//! ```
//!
//! Each program decides, counts under one reason, and acts. Where packets are followed, programs
//! are loaded that also tell of them (`trace.rs`); in the others the verifier removes that.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod count;
mod layouts;
mod maps;
mod punt;
mod tables;
mod tc;
mod trace;
mod transit;
mod xdp;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use doorstep_gateway_common::names;

/// On an access port: from the lines.
#[xdp]
#[inline(always)] // a function of its own would have a stack frame of its own
pub fn xdp_access(ctx: XdpContext) -> u32 {
    xdp::access(ctx)
}

/// On an uplink: from the world.
#[xdp]
pub fn xdp_uplink(ctx: XdpContext) -> u32 {
    xdp::uplink(ctx)
}

/// On every port: marks what XDP hands to the kernel with its operator.
#[classifier]
pub fn tc_ingress(ctx: TcContext) -> i32 {
    tc::ingress(ctx)
}

/// On an access port: what the kernel sends to the lines.
#[classifier]
pub fn tc_egress(ctx: TcContext) -> i32 {
    tc::egress(ctx)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Tells whoever is to load this which maps it works with; in [`names::SCHEMA_SECTION`].
#[unsafe(link_section = "doorstep_schema")]
#[unsafe(no_mangle)]
static SCHEMA: [u8; 4] = names::SCHEMA_VERSION.to_le_bytes();

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
