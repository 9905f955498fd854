//! The way between the servers and lines without a session: through the operators' networks.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::Result;

use super::addresses;
use super::{HTTP_PORT, Hosts};
use crate::lab::netns::{Netns, cable};
use crate::lab::traffic::serve_http;

/// Something else that the garden lets through: web pages by IPv6, at the server's host.
pub const SERVICE_V6: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x5e, 0, 0, 0, 0, 1)),
    HTTP_PORT,
);
/// UDP, at the server's IPv4 address.
pub const DNS_PORT: u16 = 53;

/// What all operators' gardens at a gateway have in common, in its configuration.
pub(super) const LIMITS: &str = "[garden]\nlines = 16\nrate = \"4M\"\n\n";

/// All homes of the street, with a session or in a garden.
const HOMES: [&str; 3] = ["100.64.0.0/10", "2001:db8::/32", "fd00:9a::/32"];

/// A gateway's garden of an operator.
fn prefixes(operator: usize, gateway: usize) -> (String, String) {
    let (o, n) = (operator, gateway + 1);
    (
        format!("100.127.{}.0/24", 16 * o + n),
        format!("fd00:9a:{o}{n}::/48"),
    )
}

/// A cable between the servers' host and the world.
pub(super) fn connect(hosts: &Hosts) -> Result<()> {
    let (inet, srv) = (&hosts.inet, &hosts.srv);
    cable((inet, "srv0"), (srv, "world0"))?;
    inet.ip("addr add 192.0.2.253/30 dev srv0")?;
    srv.ip("addr add 192.0.2.254/30 dev world0")?;
    inet.ip("addr add 2001:db8:5e:1::1/64 dev srv0 nodad")?;
    srv.ip("addr add 2001:db8:5e:1::2/64 dev world0 nodad")?;
    srv.ip(&format!("addr add {}/128 dev lo nodad", SERVICE_V6.ip()))?;
    for operator in 0..2 {
        let server = addresses::server(operator);
        inet.ip(&format!("route add {server}/32 via 192.0.2.254"))?;
    }
    inet.ip(&format!(
        "route add {}/128 via 2001:db8:5e:1::2",
        SERVICE_V6.ip()
    ))?;
    for homes in HOMES {
        let via = if homes.contains(':') {
            "2001:db8:5e:1::1"
        } else {
            "192.0.2.253"
        };
        srv.ip(&format!("route add {homes} via {via}"))?;
    }
    inet.run(|| -> std::io::Result<()> {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
    })??;
    // What XDP redirected has no checksum to be filled in, and none may be left out.
    inet.offload("srv0", "tx off gro on")?;
    srv.offload("world0", "tx off gro on")?;
    serve_http(srv, SERVICE_V6)
}

/// Leads the gateway's garden to it.
pub(super) fn route(
    inet: &Netns,
    operator: usize,
    gateway: usize,
    near_v4: &str,
    near_v6: &str,
) -> Result<()> {
    let (v4, v6) = prefixes(operator, gateway);
    inet.ip(&format!("route add {v4} via {near_v4}"))?;
    inet.ip(&format!("route add {v6} via {near_v6}")).map(drop)
}

/// An operator's part of a gateway's configuration.
pub(super) fn config(operator: usize, gateway: usize) -> String {
    let (v4, v6) = prefixes(operator, gateway);
    let server = addresses::server(operator);
    let service = if operator == 0 {
        format!(", \"{SERVICE_V6}\"")
    } else {
        String::new()
    };
    format!(
        "\n[operator.garden]\n\
         servers = [\"{server}:7443\", \"{server}:{DNS_PORT}/udp\"{service}]\n\
         prefixes = [\"{v4}\", \"{v6}\"]\n"
    )
}
