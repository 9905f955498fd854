//! Changes to a frame that a verdict asks for.

use doorstep_gateway_common::Reason;

use crate::headers::{ETHERNET_LEN, Ethernet, TAG_LEN, Tag};
use crate::verdict::{Family, NewLink, PushTag};
use crate::{Forward, Frame};

/// Makes a frame ready to leave as the verdict says.
#[inline(always)]
pub fn forward<F: Frame>(frame: &mut F, forward: &Forward) -> Result<(), Reason> {
    match forward.family {
        Family::V4 => decrement_ttl(frame, forward.old_link_len)?,
        Family::V6 => decrement_hop_limit(frame, forward.old_link_len)?,
    }
    relink(
        frame,
        forward.old_link_len,
        &forward.link,
        forward.family.ether_type(),
    )
}

/// RFC 1624: the checksum rises by what the TTL's word falls.
#[inline(always)]
fn decrement_ttl<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason> {
    const TTL: usize = 8;
    const CHECKSUM: usize = 10;
    let ttl: u8 = frame.load(offset + TTL).ok_or(Reason::Truncated)?;
    let checksum: u16 = frame.load(offset + CHECKSUM).ok_or(Reason::Truncated)?;
    let sum = u32::from(u16::from_be(checksum)) + 0x0100;
    let checksum = (sum + (sum >> 16)) as u16;
    frame
        .store(offset + TTL, ttl.wrapping_sub(1))
        .ok_or(Reason::Truncated)?;
    frame
        .store(offset + CHECKSUM, checksum.to_be())
        .ok_or(Reason::Truncated)
}

#[inline(always)]
fn decrement_hop_limit<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason> {
    const HOP_LIMIT: usize = 7;
    let hops: u8 = frame.load(offset + HOP_LIMIT).ok_or(Reason::Truncated)?;
    frame
        .store(offset + HOP_LIMIT, hops.wrapping_sub(1))
        .ok_or(Reason::Truncated)
}

/// Puts another link layer in front of the network header.
#[inline(always)]
fn relink<F: Frame>(
    frame: &mut F,
    old_len: usize,
    link: &NewLink,
    ether_type: u16,
) -> Result<(), Reason> {
    let tags = usize::from(link.outer.vid != 0) + usize::from(link.inner.vid != 0);
    let new_len = ETHERNET_LEN + TAG_LEN * tags;
    if new_len != old_len {
        frame
            .shrink_front(old_len as i32 - new_len as i32)
            .ok_or(Reason::ResizeFailed)?;
    }
    let mut at = ETHERNET_LEN;
    let mut first_type = ether_type;
    if link.inner.vid != 0 {
        first_type = link.inner.tpid;
    }
    if link.outer.vid != 0 {
        let next = if link.inner.vid != 0 {
            link.inner.tpid
        } else {
            ether_type
        };
        store_tag(frame, at, link.outer, next)?;
        at += TAG_LEN;
        first_type = link.outer.tpid;
    }
    if link.inner.vid != 0 {
        store_tag(frame, at, link.inner, ether_type)?;
    }
    let header = Ethernet {
        destination: link.destination,
        source: link.source,
        ether_type_be: first_type.to_be(),
    };
    frame.store(0, header).ok_or(Reason::ResizeFailed)
}

#[inline(always)]
fn store_tag<F: Frame>(
    frame: &mut F,
    at: usize,
    tag: PushTag,
    ether_type: u16,
) -> Result<(), Reason> {
    let tag = Tag {
        tci_be: tag.vid.to_be(),
        ether_type_be: ether_type.to_be(),
    };
    frame.store(at, tag).ok_or(Reason::ResizeFailed)
}

/// Replaces a tagged link layer by a plain Ethernet header, for the kernel.
#[inline(always)]
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
