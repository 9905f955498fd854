//! Ports, offloads, next hops, forwarding.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use super::Report;
use crate::config::Config;
use crate::daemon::ifindex;
use crate::dataplane::{Feature, Offloads};

/// What a line's frames need above the IP packet's 1500 bytes: one tag is free, the second is not.
const DOUBLE_TAGGED_MTU: u32 = 1504;

pub(super) fn check(report: &mut Report, config: &Config, double_tagged: bool) {
    for access in &config.access_ports {
        let needed = if double_tagged {
            DOUBLE_TAGGED_MTU
        } else {
            1500
        };
        if port(report, "access port", &access.name, needed) {
            offloads(report, &access.name);
        }
    }
    let mut uplinks: Vec<&str> = Vec::new();
    for operator in &config.operators {
        if !uplinks.contains(&operator.uplink.as_str()) {
            uplinks.push(&operator.uplink);
            port(report, "uplink", &operator.uplink, 1500);
        }
        let v4 = operator.next_hop_v4.map(IpAddr::V4);
        let v6 = operator.next_hop_v6.map(IpAddr::V6);
        for hop in v4.into_iter().chain(v6) {
            next_hop(report, &operator.name, hop);
        }
    }
    forwarding(report, "IPv4 forwarding", "net/ipv4/ip_forward");
    forwarding(report, "IPv6 forwarding", "net/ipv6/conf/all/forwarding");
}

/// Returns whether the port is there.
fn port(report: &mut Report, role: &str, name: &str, needed_mtu: u32) -> bool {
    let title = format!("{role} {name}");
    if ifindex(name).is_none() {
        report.fail(title, "not on this host; `ip link` lists what is");
        return false;
    }
    let carrier = attribute(name, "carrier");
    let mtu = attribute(name, "mtu").and_then(|text| text.parse::<u32>().ok());
    match (carrier.as_deref(), mtu) {
        // An interface that is down has no carrier attribute to read.
        (None | Some("0"), _) => report.warn(
            title,
            format_args!("no carrier: is the cable in, and the port up (`ip link set {name} up`)?"),
        ),
        (_, Some(mtu)) if mtu < needed_mtu => report.warn(
            title,
            format_args!(
                "MTU {mtu}: full packets with their tags need {needed_mtu}; \
                 ip link set {name} mtu {needed_mtu}"
            ),
        ),
        (_, mtu) => report.ok(
            title,
            format_args!("carrier, MTU {}", mtu.unwrap_or_default()),
        ),
    }
    true
}

fn attribute(port: &str, name: &str) -> Option<String> {
    let file = PathBuf::from("/sys/class/net").join(port).join(name);
    let text = fs::read_to_string(file).ok()?;
    Some(text.trim_end().to_owned())
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
            "on; switched off at start so that XDP sees the tags, put back by `unload`",
        ),
        Ok(_) => report.ok(title, "off"),
        Err(error) => report.warn(
            title,
            format_args!("cannot be read: {error}; XDP may not see the outer tag"),
        ),
    }
}

/// A datagram socket that is "connected" has asked the kernel for the route; nothing is sent.
fn next_hop(report: &mut Report, operator: &str, hop: IpAddr) {
    let title = format!("next hop of {operator}");
    let any: IpAddr = match hop {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let route = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(hop, 9))?;
        socket.local_addr()
    });
    match route {
        Ok(from) => report.ok(title, format_args!("{hop}, from {}", from.ip())),
        Err(error) => report.warn(
            title,
            format_args!("{hop} has no route ({error}); give the uplink an address in its network"),
        ),
    }
}

fn forwarding(report: &mut Report, title: &str, name: &str) {
    let value = fs::read_to_string(PathBuf::from("/proc/sys").join(name));
    match value.as_deref().map(str::trim) {
        Ok("0") => report.ok(title, "off; switched on at start, put back by `unload`"),
        Ok(_) => report.ok(title, "on"),
        Err(error) => report.warn(title, format_args!("/proc/sys/{name}: {error}")),
    }
}
