//! Ports, offloads, next hops, forwarding.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use futures::TryStreamExt as _;
use nix::net::if_::InterfaceFlags;
use rtnetlink::packet_route::link::LinkAttribute;

use super::Report;
use crate::config::{Config, Operator};
use crate::dataplane::{Feature, Offloads, next_hops};

/// What a line's frames need above the IP packet's 1500 bytes: one tag is free, the second is not.
const DOUBLE_TAGGED_MTU: u32 = 1504;

/// A port, as the kernel tells it.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    mtu: u32,
    carrier: bool,
}

pub(super) async fn check(report: &mut Report, config: &Config, double_tagged: bool) {
    let links = match links().await {
        Ok(links) => links,
        Err(error) => {
            report.fail("ports", format_args!("cannot be listed: {error}"));
            HashMap::new()
        }
    };
    for access in &config.access_ports {
        let needed = if double_tagged {
            DOUBLE_TAGGED_MTU
        } else {
            1500
        };
        if port(report, &links, "access port", &access.name, needed) {
            offloads(report, &access.name);
        }
    }
    let mut uplinks: Vec<&str> = Vec::new();
    for operator in &config.operators {
        if !uplinks.contains(&operator.uplink.as_str()) {
            uplinks.push(&operator.uplink);
            port(report, &links, "uplink", &operator.uplink, 1500);
        }
        let v4 = operator.next_hop_v4.map(IpAddr::V4);
        let v6 = operator.next_hop_v6.map(IpAddr::V6);
        for hop in v4.into_iter().chain(v6) {
            next_hop(report, operator, hop);
        }
    }
    routed_next_hops(report, config).await;
    forwarding(report, "IPv4 forwarding", "net/ipv4/ip_forward");
    forwarding(report, "IPv6 forwarding", "net/ipv6/conf/all/forwarding");
}

/// All ports of this network namespace; /sys may show those of another.
async fn links() -> Result<HashMap<String, Link>, rtnetlink::Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|_| rtnetlink::Error::RequestFailed)?;
    let connection = tokio::spawn(connection);
    let messages: Result<Vec<_>, _> = handle.link().get().execute().try_collect().await;
    connection.abort();
    let links = messages?.into_iter().filter_map(|message| {
        let mut link = Link::default();
        let mut name = None;
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(found) => name = Some(found),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Carrier(carrier) => link.carrier = carrier != 0,
                _ => {}
            }
        }
        Some((name?, link))
    });
    Ok(links.collect())
}

/// Returns whether the port is there.
fn port(
    report: &mut Report,
    links: &HashMap<String, Link>,
    role: &str,
    name: &str,
    needed_mtu: u32,
) -> bool {
    let title = format!("{role} {name}");
    let Some(Link { mtu, carrier }) = links.get(name).copied() else {
        report.fail(title, "not on this host; `ip link` lists what is");
        return false;
    };
    if !carrier {
        report.warn(
            title,
            format_args!("no carrier: is the cable in, and the port up (`ip link set {name} up`)?"),
        );
    } else if mtu < needed_mtu {
        report.warn(
            title,
            format_args!(
                "MTU {mtu}: full packets with their tags need {needed_mtu}; \
                 ip link set {name} mtu {needed_mtu}"
            ),
        );
    } else {
        report.ok(title, format_args!("carrier, MTU {mtu}"));
    }
    true
}

fn offloads(report: &mut Report, port: &str) {
    let title = format!("VLAN offload of {port}");
    let states = Offloads::open().and_then(|offloads| {
        let states = Feature::ALL.map(|feature| offloads.get(port, feature));
        states.into_iter().collect::<Result<Vec<_>, _>>()
    });
    match states {
        Ok(states) if states.contains(&Some(true)) => report.ok(
            title,
            "on; switched off at start so that XDP sees the tags, put back by `detach`",
        ),
        Ok(_) => report.ok(title, "off"),
        Err(error) => report.warn(
            title,
            format_args!("cannot be read: {error}; XDP may not see the outer tag"),
        ),
    }
}

/// A datagram socket that is "connected" has asked the kernel for the route; nothing is sent.
fn next_hop(report: &mut Report, operator: &Operator, hop: IpAddr) {
    let title = format!("next hop of {}", operator.name);
    let any: IpAddr = match hop {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let route = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(hop, 9))?;
        socket.local_addr()
    });
    match route.map(|from| (from, interface_of(from.ip()))) {
        // On a VLAN the addresses are of a link of the kernel's, whatever its name.
        Ok((_, Some(port))) if operator.uplink_vlan == 0 && port != operator.uplink => report.warn(
            title,
            format_args!(
                "{hop} is reached by {port}, not by {uplink}; give {uplink} an address in its network",
                uplink = operator.uplink
            ),
        ),
        Ok((from, _)) => report.ok(title, format_args!("{hop}, from {}", from.ip())),
        Err(error) => report.warn(
            title,
            format_args!("{hop} has no route ({error}); give the uplink an address in its network"),
        ),
    }
}

/// Which port has an address; one that leads nowhere, such as the loopback interface, is none.
fn interface_of(address: IpAddr) -> Option<String> {
    let nowhere = InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_NOARP;
    let mut all = nix::ifaddrs::getifaddrs().ok()?;
    let found = all.find(|interface| {
        let storage = interface.address.as_ref();
        storage.is_some_and(|storage| match address {
            IpAddr::V4(wanted) => storage.as_sockaddr_in().map(|own| own.ip()) == Some(wanted),
            IpAddr::V6(wanted) => storage.as_sockaddr_in6().map(|own| own.ip()) == Some(wanted),
        })
    });
    let found = found.filter(|interface| !interface.flags.intersects(nowhere));
    found.map(|interface| interface.interface_name)
}

/// What the operators' routing tables say now; the daemon follows them.
async fn routed_next_hops(report: &mut Report, config: &Config) {
    let mut operators = config.operators.iter();
    if operators.all(|operator| operator.routing_table.is_none()) {
        return;
    }
    let hops = match next_hops(config).await {
        Ok(hops) => hops,
        Err(error) => return report.warn("routing tables", error),
    };
    for operator in &config.operators {
        let Some(table) = operator.routing_table else {
            continue;
        };
        let title = format!("next hop of {}", operator.name);
        let own = hops.iter().filter(|hop| hop.operator == operator.index);
        let found: Vec<_> = own.map(|hop| hop.address.to_string()).collect();
        let uplink = &operator.uplink;
        match found.is_empty() {
            false => report.ok(
                title,
                format_args!("{}, by table {table}", found.join(", ")),
            ),
            true => report.warn(
                title,
                format_args!(
                    "table {table} has no default route with a gateway over {uplink} yet; \
                     `ip route show table {table}` lists what it has"
                ),
            ),
        }
    }
}

fn forwarding(report: &mut Report, title: &str, name: &str) {
    let value = fs::read_to_string(PathBuf::from("/proc/sys").join(name));
    match value.as_deref().map(str::trim) {
        Ok("0") => report.ok(title, "off; switched on at start, put back by `detach`"),
        Ok(_) => report.ok(title, "on"),
        Err(error) => report.warn(title, format_args!("/proc/sys/{name}: {error}")),
    }
}
