//! Changes to a frame on its way.

use doorstep_gateway_common::downstream::WireTag;
use doorstep_gateway_common::{MacWord, Reason};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Frame;
use crate::headers::{ETHERNET_LEN, Ethernet, TAG_LEN, Tag};
use crate::verdict::Family;

/// The link layer that a packet leaves with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewLink {
    pub destination: MacWord,
    pub source: MacWord,
    /// Only beside an inner one.
    pub outer: WireTag,
    pub inner: WireTag,
}

/// Bytes of a link layer by its number of tags.
pub const NO_TAG: usize = ETHERNET_LEN;
pub const ONE_TAG: usize = ETHERNET_LEN + TAG_LEN;
pub const TWO_TAGS: usize = ETHERNET_LEN + 2 * TAG_LEN;

/// Makes a frame with a link layer of `OLD` bytes ready to leave: another link layer, and one hop
/// less to live.
#[inline(always)]
pub fn forward<F: Frame, const OLD: usize>(
    frame: &mut F,
    link: &NewLink,
    family: Family,
) -> Result<(), Reason> {
    if !link.inner.is_some() {
        resize::<F, OLD, ETHERNET_LEN>(frame)?;
        addresses(frame, link, family.ether_type().to_be())?;
        return hop(frame, ETHERNET_LEN, family);
    }
    if !link.outer.is_some() {
        resize::<F, OLD, ONE_TAG>(frame)?;
        addresses(frame, link, link.inner.tpid_be)?;
        tag(frame, ETHERNET_LEN, link.inner, family.ether_type().to_be())?;
        return hop(frame, ONE_TAG, family);
    }
    resize::<F, OLD, TWO_TAGS>(frame)?;
    addresses(frame, link, link.outer.tpid_be)?;
    tag(frame, ETHERNET_LEN, link.outer, link.inner.tpid_be)?;
    tag(frame, ONE_TAG, link.inner, family.ether_type().to_be())?;
    hop(frame, TWO_TAGS, family)
}

#[inline(always)]
fn resize<F: Frame, const OLD: usize, const NEW: usize>(frame: &mut F) -> Result<(), Reason> {
    if OLD == NEW {
        return Ok(());
    }
    frame
        .shrink_front(OLD as i32 - NEW as i32)
        .ok_or(Reason::ResizeFailed)
}

/// Writes the Ethernet header in two words, which overlap by two bytes.
#[inline(always)]
fn addresses<F: Frame>(frame: &mut F, link: &NewLink, type_be: u16) -> Result<(), Reason> {
    const SOURCE: usize = 6;
    frame
        .store(SOURCE, link.source.with_next(type_be))
        .ok_or(Reason::ResizeFailed)?;
    frame
        .store(0, link.destination.with_next(link.source.first_two_be()))
        .ok_or(Reason::ResizeFailed)
}

#[inline(always)]
fn tag<F: Frame>(frame: &mut F, at: usize, tag: WireTag, type_be: u16) -> Result<(), Reason> {
    let tag = Tag {
        tci_be: tag.tci_be,
        ether_type_be: type_be,
    };
    frame.store(at, tag).ok_or(Reason::ResizeFailed)
}

#[inline(always)]
fn hop<F: Frame>(frame: &mut F, offset: usize, family: Family) -> Result<(), Reason> {
    match family {
        Family::V4 => decrement_ttl(frame, offset),
        Family::V6 => decrement_hop_limit(frame, offset),
    }
}

/// The third word of an IPv4 header.
#[repr(C, align(4))]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct TtlWord {
    ttl: u8,
    protocol: u8,
    checksum_be: u16,
}

/// RFC 1624: the checksum rises by what the TTL's word falls. One's complement addition does not
/// mind the order of bytes.
#[inline(always)]
fn decrement_ttl<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason> {
    const WORD: usize = 8;
    let word: TtlWord = frame.load(offset + WORD).ok_or(Reason::Truncated)?;
    let sum = u32::from(word.checksum_be) + u32::from(0x0100_u16.to_be());
    let word = TtlWord {
        ttl: word.ttl.wrapping_sub(1),
        checksum_be: (sum + (sum >> 16)) as u16,
        ..word
    };
    frame.store(offset + WORD, word).ok_or(Reason::Truncated)
}

#[inline(always)]
fn decrement_hop_limit<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason> {
    const HOP_LIMIT: usize = 7;
    let hops: u8 = frame.load(offset + HOP_LIMIT).ok_or(Reason::Truncated)?;
    frame
        .store(offset + HOP_LIMIT, hops.wrapping_sub(1))
        .ok_or(Reason::Truncated)
}

/// Replaces a tagged link layer by a plain Ethernet header, for the kernel.
#[inline(never)]
pub fn strip_tags<F: Frame>(frame: &mut F, link_len: usize, family: Family) -> Result<(), Reason> {
    if link_len == ETHERNET_LEN {
        return Ok(());
    }
    let header: Ethernet = frame.load(0).ok_or(Reason::Truncated)?;
    frame
        .shrink_front((link_len - ETHERNET_LEN) as i32)
        .ok_or(Reason::ResizeFailed)?;
    let header = Ethernet {
        ether_type_be: family.ether_type().to_be(),
        ..header
    };
    frame.store(0, header).ok_or(Reason::ResizeFailed)
}
