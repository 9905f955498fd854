//! What should be there for a terminal in the garden: addresses on its line, and routes to the
//! operators' servers. Pure.

use std::net::IpAddr;

use doorstep_establish::{GATEWAY_LINK_LOCAL, GardenOffer, Mac, Tags};

use super::desired::{MAIN_TABLE, host, interface, ipv6, neighbour};
use super::{Item, Route};
use crate::config::Wan;

/// A terminal without a session in a gateway's garden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// The WAN port on which the offer came.
    pub port: String,
    /// The tags of its frames.
    pub tags: Tags,
    /// The gateway's Ethernet address on this line.
    pub gateway_mac: Mac,
    /// What the gateway offers.
    pub offer: GardenOffer,
}

/// What the visit needs.
#[must_use]
pub fn desired(wan: &Wan, visit: &Visit) -> Vec<Item> {
    let mut items = Vec::new();
    let link = interface(&mut items, &visit.port, visit.tags, visit.offer.mtu);
    let route = |to: IpAddr, via, source: IpAddr| {
        Item::Route(Route {
            destination: host(to),
            table: MAIN_TABLE,
            via,
            link: Some(link.clone()),
            source: Some(source),
            metric: wan.route_metric,
        })
    };
    for way in &visit.offer.ways {
        if let Some(own) = way.ipv4 {
            items.push(Item::Address {
                link: link.clone(),
                address: host(own.into()),
            });
            // As if they were on the line: an operator need not have a gateway address.
            for server in way.servers.iter().filter(|server| server.is_ipv4()) {
                items.push(neighbour(&link, *server, visit.gateway_mac));
                items.push(route(*server, None, own.into()));
            }
        }
        if let Some(own) = way.ipv6 {
            ipv6(&mut items, &link, own, visit.gateway_mac);
            let via = Some(GATEWAY_LINK_LOCAL.into());
            let servers = way.servers.iter().filter(|server| server.is_ipv6());
            items.extend(servers.map(|server| route(*server, via, own.into())));
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use doorstep_establish::Way;

    use super::*;
    use crate::config::WanTags;

    #[test]
    fn each_server_has_a_route_from_the_own_address_of_its_operator() {
        let wan = Wan {
            ports: vec!["wan0".into()],
            tags: WanTags::Auto,
            route_metric: 52,
            garden: true,
        };
        let way = |v4: &str, servers: &[&str]| Way {
            ipv4: v4.parse().ok(),
            ipv6: Some("fd00:0:0:1::1".parse().unwrap()),
            servers: servers.iter().map(|own| own.parse().unwrap()).collect(),
        };
        let visit = Visit {
            port: "wan0".into(),
            tags: Tags::from_vids(&[101]).unwrap(),
            gateway_mac: Mac([2, 0, 0, 0, 0, 1]),
            offer: GardenOffer {
                gateway_id: "gw1".into(),
                lifetime: Duration::from_secs(600),
                mtu: 1492,
                ways: vec![
                    way("100.127.0.9", &["198.51.100.9", "2001:db8::9"]),
                    // A server of a family without an own address is not reached.
                    way("", &["198.51.100.10"]),
                ],
            },
        };
        let items = desired(&wan, &visit);
        let routes: Vec<String> = items
            .iter()
            .filter_map(|item| match item {
                Item::Route(route) => Some(format!("{route} from {}", route.source.unwrap())),
                _ => None,
            })
            .collect();
        assert_eq!(
            routes,
            [
                "198.51.100.9/32 dev wan0.101 table 254 metric 52 from 100.127.0.9",
                "2001:db8::9/128 via fe80::1 dev wan0.101 table 254 metric 52 from fd00:0:0:1::1",
            ]
        );
        let mtu = Item::Mtu {
            link: "wan0.101".into(),
            bytes: 1492,
        };
        assert!(items.contains(&mtu), "{items:?}");
    }
}
