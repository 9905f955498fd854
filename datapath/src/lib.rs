//! What the gateway's fast path does with a packet, written once.
//!
//! Everything here is generic over the packet ([`Frame`]) and over the maps ([`Tables`]): the eBPF
//! programs run it on kernel memory, tests and the `why` command on a byte slice.
//!
//! The path of a packet: [`parse`] finds tags and network header; [`upstream`], [`downstream`] or
//! [`egress`] looks it up, has [`meter`] hold it against the session's rate and [`rewrite`] make it
//! ready to leave, and returns a [`Verdict`]; the caller counts the reason and sends.
//!
//! What packets need seldom is not inlined, so that the shortest way stays short; such a function has
//! at most five arguments, as the BPF machine wants it, and is not marked cold: that would put it into
//! a section of its own, which the loader does not tell from `.text`.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

pub mod arp;
mod deliver;
mod dhcp;
pub mod downstream;
pub mod egress;
pub mod frame;
mod garden;
pub mod headers;
mod meter;
mod mss;
pub mod nd;
pub mod parse;
pub mod probe;
pub mod rewrite;
#[cfg(any(test, feature = "std"))]
pub mod slice;
pub mod tables;
pub mod trace;
pub mod upstream;
pub mod verdict;

pub use frame::{Frame, Wire};
pub use tables::Tables;
pub use verdict::Verdict;
