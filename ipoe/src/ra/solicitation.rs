//! What a client asks.

use std::net::Ipv6Addr;

use etherparse::Icmpv6Type;
use etherparse::icmpv6::{NdpOptionSlice, NdpOptionsIterator};

use super::Ignored;
use crate::frame::{Body, HOP_LIMIT, Mac, Packet, group_mac};
use crate::line6::{ALL_ROUTERS, Gateway};

/// A solicitation that RFC 4861, 6.1.1, lets a router answer.
#[derive(Debug)]
pub(super) struct Solicitation<'a> {
    pub mac: Mac,
    /// None if the client has no address yet.
    pub source: Option<Ipv6Addr>,
    pub tags: &'a [u8],
}

impl<'a> Solicitation<'a> {
    pub fn read(frame: &'a [u8], gateway: &Gateway) -> Result<Self, Ignored> {
        let packet = Packet::parse(frame)?;
        let Body::Icmp {
            header,
            payload,
            intact,
        } = packet.body
        else {
            return Err(Ignored::NotSolicitation);
        };
        match header {
            Icmpv6Type::RouterSolicitation => {}
            Icmpv6Type::RouterAdvertisement(_) | Icmpv6Type::Redirect => {
                return Err(Ignored::FromRouter);
            }
            _ => return Err(Ignored::NotSolicitation),
        }
        if packet.hop_limit != HOP_LIMIT {
            return Err(Ignored::Forwarded);
        }
        if !intact {
            return Err(Ignored::Checksum);
        }
        let link = [gateway.mac, group_mac(ALL_ROUTERS)].contains(&packet.destination_mac);
        if !link || ![gateway.address, ALL_ROUTERS].contains(&packet.destination) {
            return Err(Ignored::NotForRouter);
        }
        let source = Some(packet.source).filter(|source| !source.is_unspecified());
        if packet.source.is_multicast() || packet.source.is_loopback() {
            return Err(Ignored::Source);
        }
        for option in NdpOptionsIterator::from_slice(payload) {
            let option = option.map_err(|_| Ignored::Options)?;
            if let (NdpOptionSlice::SourceLinkLayerAddress(_), None) = (option, source) {
                return Err(Ignored::Source);
            }
        }
        Ok(Self {
            mac: packet.source_mac,
            source,
            tags: packet.tags,
        })
    }
}
