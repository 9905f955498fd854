//! What the fast path needs of the host.

use std::net::IpAddr;

use doorstep_establish::Mac;
use doorstep_gateway_common::operator::MAX_OPERATORS;
use doorstep_gateway_common::{OperatorIndex, meta};
use ipnet::IpNet;
use rtnetlink::packet_route::link::LinkFlags;

use super::setting::{Hop, Route, Rule, Setting};
use crate::config::{Config, Operator, ShaperKind};
use crate::dataplane::offload::Feature;
use crate::dataplane::ports::{Port, Role};

/// Priorities of our rules, before those for the main table: from the lines, then from elsewhere.
const FROM_LINES: u32 = 5200;
const FROM_ELSEWHERE: u32 = 5201;
/// Tables of an operator, plus its index. In `HOME` are its subscribers and its next hops; in
/// `WORLD`, for packets from the lines, only the next hops, so that no subscriber reaches another
/// on the kernel's path. The next hops are the follower's (`dataplane/follow`).
const HOME_TABLE: u32 = 52_000;
const WORLD_TABLE: u32 = 52_100;

/// The settings, in the order to make them.
pub(super) fn settings(config: &Config, ports: &[Port], gateway_mac: Mac) -> Vec<Setting> {
    let mut settings = sysctls(ports);
    settings.extend(flags(ports, gateway_mac));
    // XDP must see the tags of every frame: a tag that lies beside the packet would let a frame of
    // another VLAN pass for an untagged one.
    for port in ports {
        settings.extend(Feature::ALL.map(|feature| Setting::Offload {
            port: port.name.clone(),
            feature,
            on: false,
        }));
    }
    if config.shaper == ShaperKind::Fq {
        let access = ports.iter().filter(|port| port.role == Role::Access);
        settings.extend(access.map(|port| Setting::Shaper {
            port: port.name.clone(),
            on: true,
        }));
    }
    for operator in &config.operators {
        settings.extend(operator_settings(config, operator, ports));
    }
    settings
}

fn sysctls(ports: &[Port]) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut sysctl = |name: String, value: &str| {
        settings.push(Setting::Sysctl {
            name,
            value: value.to_owned(),
        });
    };
    sysctl("net/ipv4/ip_forward".to_owned(), "1");
    sysctl("net/ipv6/conf/all/forwarding".to_owned(), "1");
    // Answers of the kernel carry the mark of what they answer, and with it the operator.
    sysctl("net/ipv4/fwmark_reflect".to_owned(), "1");
    sysctl("net/ipv6/fwmark_reflect".to_owned(), "1");
    // Off for all ports: the kernel redirects if either this or the port's own is on.
    sysctl("net/ipv4/conf/all/send_redirects".to_owned(), "0");
    for port in ports.iter().filter(|port| port.role == Role::Access) {
        let name = &port.name;
        sysctl(format!("net/ipv4/conf/{name}/send_redirects"), "0");
        // The data plane has checked the source. Where the host insists on a check of its own,
        // that follows the operator's table.
        sysctl(format!("net/ipv4/conf/{name}/rp_filter"), "0");
        sysctl(format!("net/ipv4/conf/{name}/src_valid_mark"), "1");
        sysctl(format!("net/ipv6/conf/{name}/accept_ra"), "0");
        sysctl(format!("net/ipv6/conf/{name}/autoconf"), "0");
        sysctl(format!("net/ipv6/conf/{name}/accept_dad"), "0");
    }
    settings
}

fn flags(ports: &[Port], gateway_mac: Mac) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut flag = |port: &Port, flag: LinkFlags| {
        settings.push(Setting::Flag {
            port: port.name.clone(),
            flag: flag.bits(),
            on: true,
        });
    };
    for port in ports {
        if port.role == Role::Access {
            flag(port, LinkFlags::Noarp);
            flag(port, LinkFlags::Allmulti);
            if port.mac != gateway_mac {
                flag(port, LinkFlags::Promisc);
            }
        }
        flag(port, LinkFlags::Up);
    }
    settings
}

/// Addresses, routes and rules of an operator.
fn operator_settings(config: &Config, operator: &Operator, ports: &[Port]) -> Vec<Setting> {
    let Some(access) = first_access(config, ports) else {
        return Vec::new();
    };
    let [home, world] = tables(operator.index);
    let mut settings: Vec<Setting> = own(operator)
        .into_iter()
        .flatten()
        .map(|address| Setting::Address {
            port: access.name.clone(),
            address,
            present: true,
        })
        .collect();
    let to_lines = line_routes(config, operator, ports);
    settings.extend(to_lines.map(|route| Setting::Route {
        route,
        present: true,
    }));
    for table in [home, world] {
        for v6 in [false, true] {
            settings.push(Setting::Followed {
                table,
                v6,
                present: true,
            });
            let route = Route {
                table,
                prefix: default_route(!v6),
                hop: Hop::Unreachable,
            };
            settings.push(Setting::Route {
                route,
                present: true,
            });
        }
    }
    let access_ports = ports.iter().filter(|port| port.role == Role::Access);
    let from_lines = access_ports.map(|port| (FROM_LINES, Some(port.name.clone()), world));
    for (priority, from_port, table) in from_lines.chain([(FROM_ELSEWHERE, None, home)]) {
        for v6 in [false, true] {
            let rule = Rule {
                v6,
                priority,
                mark: meta::mark(operator.index),
                from_port: from_port.clone(),
                table,
            };
            settings.push(Setting::Rule {
                rule,
                present: true,
            });
        }
    }
    settings
}

/// Whether a routing table is one of the gateway's own, of whichever operator.
pub fn is_own_table(table: u32) -> bool {
    let first = |first: u32| (first..first + MAX_OPERATORS).contains(&table);
    first(HOME_TABLE) || first(WORLD_TABLE)
}

/// The tables of an operator: home, world.
pub(in crate::dataplane) fn tables(operator: OperatorIndex) -> [u32; 2] {
    [HOME_TABLE, WORLD_TABLE].map(|first| first + u32::from(operator))
}

/// The routes to an operator's subscribers. The kernel sends to any access port; the TC program
/// finds the line's.
pub(in crate::dataplane) fn line_routes(
    config: &Config,
    operator: &Operator,
    ports: &[Port],
) -> impl Iterator<Item = Route> + use<> {
    let [home, _] = tables(operator.index);
    let (own, access) = (own(operator), first_access(config, ports));
    let ifindex = access.map(|port| port.ifindex);
    let prefixes: Vec<_> = subscribers(operator).collect();
    prefixes.into_iter().filter_map(move |prefix| {
        let mut own = own.into_iter().flatten();
        let hop = Hop::Link {
            ifindex: ifindex?,
            source: own.find(|own| own.is_ipv4() == is_v4(&prefix)),
        };
        Some(Route {
            table: home,
            prefix,
            hop,
        })
    })
}

/// The gateway's own addresses toward the operator's lines.
fn own(operator: &Operator) -> [Option<IpAddr>; 2] {
    [
        operator.gateway_v4.map(IpAddr::V4),
        operator.gateway_v6.map(IpAddr::V6),
    ]
}

fn first_access<'p>(config: &Config, ports: &'p [Port]) -> Option<&'p Port> {
    let first = config.access_ports.first()?;
    ports.iter().find(|port| port.name == first.name)
}

/// What is routed to the lines: to sessions, and to lines in the garden.
fn subscribers(operator: &Operator) -> impl Iterator<Item = IpNet> {
    let garden = operator.garden.as_ref();
    let v4 = operator.subscriber_v4.iter().copied();
    let v4 = v4.chain(garden.and_then(|garden| garden.v4));
    let v6 = operator.subscriber_v6.iter().copied();
    let v6 = v6.chain(garden.and_then(|garden| garden.v6));
    v4.map(IpNet::V4).chain(v6.map(IpNet::V6))
}

fn is_v4(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V4(_))
}

pub(in crate::dataplane) fn default_route(v4: bool) -> IpNet {
    match v4 {
        true => IpNet::V4(ipnet::Ipv4Net::default()),
        false => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}
