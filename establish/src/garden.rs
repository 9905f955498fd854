//! The garden: how a terminal without a session gets addresses with which it reaches the operators'
//! servers over its line, and nothing else.
//!
//! Nothing of it is authenticated, because the terminal has no key yet: it is worth what a router
//! advertisement is. Who answers at a server's address proves it by TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::establish_datagram::Garden as Pb;
use prost::Message as _;

use crate::wire::{MAX_DATAGRAM_LEN, MAX_TEXT_LEN, shortened};

/// What is said about the garden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Garden {
    /// Terminal → gateway: what can be reached without a session?
    Ask,
    /// Gateway → terminal.
    Offer(GardenOffer),
}

/// What a line without a session reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GardenOffer {
    /// The gateway's name, for people.
    pub gateway_id: String,
    /// How long the terminal may use the addresses without asking again, in whole seconds.
    pub lifetime: Duration,
    /// Bytes of IP on the line.
    pub mtu: u32,
    /// One for each operator.
    pub ways: Vec<Way>,
}

/// The way to the servers of one operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The terminal's own address for it.
    pub ipv4: Option<Ipv4Addr>,
    /// The terminal's own address for it.
    pub ipv6: Option<Ipv6Addr>,
    /// The servers' addresses, of families in which there is an own one.
    pub servers: Vec<IpAddr>,
}

impl Garden {
    /// The datagram that says it; none if it would be too long.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let garden = match self {
            Self::Ask => Pb::GardenAsk(pb::GardenAsk {}),
            Self::Offer(offer) => Pb::GardenOffer(to_proto(offer)),
        };
        let datagram = pb::EstablishDatagram {
            garden: Some(garden),
            ..pb::EstablishDatagram::default()
        };
        let bytes = datagram.encode_to_vec();
        (bytes.len() <= MAX_DATAGRAM_LEN).then_some(bytes)
    }

    /// Reads a datagram; none if it says nothing about the garden, or not in this way.
    #[must_use]
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > MAX_DATAGRAM_LEN {
            return None;
        }
        let datagram = pb::EstablishDatagram::decode(datagram).ok()?;
        match datagram.garden? {
            Pb::GardenAsk(pb::GardenAsk {}) => Some(Self::Ask),
            Pb::GardenOffer(offer) => from_proto(offer).map(Self::Offer),
        }
    }
}

fn to_proto(offer: &GardenOffer) -> pb::GardenOffer {
    let bytes = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let ways = offer.ways.iter().map(|way| pb::GardenWay {
        ipv4_address: way.ipv4.map_or(Vec::new(), |own| own.octets().to_vec()),
        ipv6_address: way.ipv6.map_or(Vec::new(), |own| own.octets().to_vec()),
        servers: way.servers.iter().map(bytes).collect(),
    });
    pb::GardenOffer {
        gateway_id: shortened(&offer.gateway_id),
        lifetime_s: u32::try_from(offer.lifetime.as_secs()).unwrap_or(u32::MAX),
        mtu: offer.mtu,
        ways: ways.collect(),
    }
}

fn from_proto(offer: pb::GardenOffer) -> Option<GardenOffer> {
    if offer.gateway_id.len() > MAX_TEXT_LEN {
        return None;
    }
    let ways = offer.ways.into_iter().map(way);
    Some(GardenOffer {
        gateway_id: offer.gateway_id,
        lifetime: Duration::from_secs(offer.lifetime_s.into()),
        mtu: offer.mtu,
        ways: ways.collect::<Option<_>>()?,
    })
}

fn way(way: pb::GardenWay) -> Option<Way> {
    let own = |bytes: &[u8]| match bytes {
        [] => Some(None),
        bytes => address(bytes).map(Some),
    };
    let ipv4 = match own(&way.ipv4_address)? {
        None => None,
        Some(IpAddr::V4(own)) => Some(own),
        Some(IpAddr::V6(_)) => return None,
    };
    let ipv6 = match own(&way.ipv6_address)? {
        None => None,
        Some(IpAddr::V6(own)) => Some(own),
        Some(IpAddr::V4(_)) => return None,
    };
    let servers = way.servers.iter().map(|bytes| address(bytes));
    Some(Way {
        ipv4,
        ipv6,
        servers: servers.collect::<Option<_>>()?,
    })
}

/// An address that a host may have.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let address = if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        let address = Ipv4Addr::from(octets);
        let ok = !address.is_link_local() && !address.is_broadcast() && octets[0] != 0;
        ok.then_some(IpAddr::V4(address))
    } else {
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
        (!address.is_unicast_link_local()).then_some(IpAddr::V6(address))
    }?;
    let nobody = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    (!nobody).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> GardenOffer {
        GardenOffer {
            gateway_id: "gw1".to_owned(),
            lifetime: Duration::from_secs(600),
            mtu: 1500,
            ways: vec![
                Way {
                    ipv4: Some(Ipv4Addr::new(100, 127, 0, 9)),
                    ipv6: None,
                    servers: vec![Ipv4Addr::new(198, 51, 100, 9).into()],
                },
                Way {
                    ipv4: None,
                    ipv6: Some("fd00:0:9:41::1".parse().unwrap()),
                    servers: vec!["2001:db8:ff00::9".parse().unwrap()],
                },
            ],
        }
    }

    #[test]
    fn what_is_said_is_heard() {
        for said in [Garden::Ask, Garden::Offer(offer())] {
            let datagram = said.encode().unwrap();
            assert_eq!(Garden::decode(&datagram), Some(said));
            assert_eq!(
                crate::session_of(&datagram),
                None,
                "it is no session's datagram"
            );
        }
    }

    #[test]
    fn an_exchange_of_sessions_is_not_of_the_garden() {
        let body = crate::Body {
            generation: 1,
            nonce: crate::Nonce([0; 16]),
            message: crate::Message::Confirm { slot: Some(1) },
        };
        let key = crate::SessionKey::generate();
        let datagram = crate::seal(&key, uuid::Uuid::from_u128(1), &body);
        assert_eq!(Garden::decode(&datagram), None);
        assert_eq!(Garden::decode(&[]), None);
        assert_eq!(Garden::decode(&[0xff; 40]), None);
    }

    #[test]
    fn addresses_are_hosts() {
        for bad in [
            &[127, 0, 0, 1][..],
            &[0, 0, 0, 0],
            &[0, 1, 2, 3],
            &[224, 0, 0, 5],
            &[255, 255, 255, 255],
            &[169, 254, 0, 1],
            &[10, 0, 0],
            &[10, 0, 0, 1, 2],
            &Ipv6Addr::LOCALHOST.octets(),
            &Ipv6Addr::UNSPECIFIED.octets(),
            &crate::GATEWAY_LINK_LOCAL.octets(),
            &crate::ALL_NODES.octets(),
        ] {
            assert_eq!(address(bad), None, "{bad:?}");
            let way = pb::GardenWay {
                servers: vec![bad.to_vec()],
                ..pb::GardenWay::default()
            };
            let datagram = pb::EstablishDatagram {
                garden: Some(Pb::GardenOffer(pb::GardenOffer {
                    ways: vec![way],
                    ..pb::GardenOffer::default()
                })),
                ..pb::EstablishDatagram::default()
            };
            assert_eq!(Garden::decode(&datagram.encode_to_vec()), None, "{bad:?}");
        }
    }

    #[test]
    fn too_much_is_not_said() {
        let mut long = offer();
        long.ways[0].servers = vec![Ipv4Addr::new(198, 51, 100, 9).into(); 300];
        assert_eq!(Garden::Offer(long).encode(), None);
    }
}
