//! What the gateway's fast path does with a packet, written once.
//!
//! Everything here is generic over the packet ([`Frame`]) and over the maps ([`Tables`]): the eBPF
//! programs run it on kernel memory, tests and the `why` command on a byte slice.
//!
//! The path of a packet: [`parse`] finds tags and network header; [`upstream`], [`downstream`] or
//! [`egress`] looks it up and returns a [`Verdict`]; [`rewrite`] changes headers as the verdict
//! says; the caller counts and sends.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

pub mod arp;
pub mod downstream;
pub mod egress;
pub mod frame;
pub mod headers;
pub mod nd;
pub mod parse;
pub mod rewrite;
#[cfg(any(test, feature = "std"))]
pub mod slice;
pub mod tables;
pub mod upstream;
pub mod verdict;

pub use frame::{Frame, Wire};
pub use tables::Tables;
pub use verdict::{Forward, Verdict};
