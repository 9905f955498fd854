//! The README's hosts: a server, a gateway, a terminal that adds two tags, and the operator's router.
//!
//! ```text
//!  term ──wan0── street (bridge) ──access0── gw ──uplink0── inet ──eth0── srv
//!    └────────────────────phone0─────────────────────────────┘
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::Result;
use doorstep_tests::lab::netns::{Netns, cable, run};

/// Somebody in the world.
pub const WORLD: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// Room for two tags.
const TAGGED_MTU: u32 = 1504;

pub struct Hosts {
    pub srv: Netns,
    pub gw: Netns,
    pub term: Netns,
    /// The operator's router, and the world behind it.
    pub inet: Netns,
    _street: Netns,
}

impl Hosts {
    /// With cables and addresses as the README has them, and no daemon.
    pub fn new() -> Result<Self> {
        let hosts = Self {
            srv: Netns::new("srv")?,
            gw: Netns::new("gw")?,
            term: Netns::new("term")?,
            inet: Netns::new("inet")?,
            _street: Netns::new("street")?,
        };
        let Self {
            srv,
            gw,
            term,
            inet,
            _street: street,
        } = &hosts;
        inet.ip(&format!("addr add {WORLD}/32 dev lo"))?;
        inet.sysctl("net/ipv4/ip_forward", "1")?;

        cable((srv, "eth0"), (inet, "srv0"))?;
        srv.ip("addr add 198.51.100.10/24 dev eth0")?;
        inet.ip("addr add 198.51.100.1/24 dev srv0")?;
        srv.ip("route add default via 198.51.100.1")?;

        cable((gw, "uplink0"), (inet, "gw0"))?;
        gw.ip("addr add 192.0.2.2/30 dev uplink0")?;
        gw.ip("addr add 2001:db8:ff::2/64 dev uplink0 nodad")?;
        gw.ip("route add default via 192.0.2.1")?;
        inet.ip("addr add 192.0.2.1/30 dev gw0")?;
        inet.ip("addr add 2001:db8:ff::1/64 dev gw0 nodad")?;
        inet.ip("route add 100.64.1.0/24 via 192.0.2.2")?;
        inet.ip("route add 2001:db8:1000::/40 via 2001:db8:ff::2")?;
        // What XDP redirects needs NAPI at the other end, and whole checksums.
        inet.offload("gw0", "tx off gro on")?;

        street.ip("link add building type bridge mcast_snooping 0")?;
        street.ip("link set building up")?;
        cable((gw, "access0"), (street, "trunk"))?;
        cable((term, "wan0"), (street, "home"))?;
        gw.ip(&format!("link set access0 mtu {TAGGED_MTU}"))?;
        for port in ["trunk", "home"] {
            street.ip(&format!("link set {port} mtu {TAGGED_MTU} master building"))?;
        }
        // Tags lie in the packet, as on a wire.
        street.offload("trunk", "txvlan off tx-vlan-stag-hw-insert off gro on")?;
        term.ip(&format!("link set wan0 mtu {TAGGED_MTU}"))?;
        term.offload("wan0", "tx off")?;

        // The phone's network, by which the terminal reaches the server until it has a session.
        cable((term, "phone0"), (inet, "phone0"))?;
        term.ip("addr add 172.16.0.2/24 dev phone0")?;
        inet.ip("addr add 172.16.0.1/24 dev phone0")?;
        term.ip("route add 198.51.100.0/24 via 172.16.0.1")?;
        for room in ["lan0", "lan1"] {
            term.ip(&format!("link add {room} type dummy"))?;
            term.ip(&format!("link set {room} up"))?;
        }
        Ok(hosts)
    }
}

/// Everything that daemons may change at a host.
pub fn state(host: &Netns) -> Result<String> {
    let mut state = String::new();
    for words in [
        "-br link",
        "-br addr",
        "-4 route show table all",
        "-6 route show table all",
        "-4 rule",
        "-6 rule",
    ] {
        // Those the kernel joins anew where a port answers ARP again, and leaves once.
        let lines = host.ip(words)?;
        let lines = lines.lines().filter(|line| !line.starts_with("anycast "));
        state.extend(lines.map(|line| format!("{line}\n")));
    }
    for words in [
        &["nft", "list", "tables"][..],
        &[
            "sysctl",
            "net.ipv4.ip_forward",
            "net.ipv6.conf.all.forwarding",
        ],
        &["tc", "qdisc", "show"],
    ] {
        state.push_str(&run(host.command(words[0])?.args(&words[1..]))?);
    }
    Ok(state)
}

/// A command on a host.
pub fn on(host: &Netns, words: &[&str]) -> Result<Command> {
    let mut command = host.command(words[0])?;
    command.args(&words[1..]);
    Ok(command)
}
