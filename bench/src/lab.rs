//! Three hosts: the generator's, the gateway's, the sink's.

use anyhow::{Context as _, Result};
use doorstep_establish::Mac;
use doorstep_tests::lab::netns::{Netns, cable};
use nix::net::if_::if_nametoindex;

use crate::subscriber;

pub const GEN: &str = "gen0";
pub const ACCESS: &str = "access0";
pub const UPLINK: &str = "uplink0";
pub const SINK: &str = "sink0";

/// Room for full packets with two tags, in bytes of IP.
const TAGGED_MTU: u16 = 1508;

/// A port of one of the hosts.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    pub ifindex: u32,
    pub mac: Mac,
}

/// `gen0`–`access0`, `uplink0`–`sink0`; the ports between them are the gateway's.
pub struct Lab {
    pub homes: Netns,
    pub gateway: Netns,
    pub world: Netns,
    /// `gen0`
    pub home_port: Port,
    /// `access0`
    pub access: Port,
    /// `uplink0`
    pub uplink: Port,
    /// `sink0`
    pub world_port: Port,
}

impl Lab {
    pub fn new() -> Result<Self> {
        let (homes, gateway, world) = (Netns::new("gen")?, Netns::new("gw")?, Netns::new("sink")?);
        for netns in [&homes, &world] {
            // They speak only when asked to.
            netns.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
            netns.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        }
        cable((&homes, GEN), (&gateway, ACCESS))?;
        cable((&gateway, UPLINK), (&world, SINK))?;
        Ok(Self {
            home_port: port(&homes, GEN, 1)?,
            access: port(&gateway, ACCESS, 2)?,
            uplink: port(&gateway, UPLINK, 3)?,
            world_port: port(&world, SINK, 4)?,
            homes,
            gateway,
            world,
        })
    }
}

/// Sets a port up; its MAC address is ours to choose.
fn port(netns: &Netns, name: &'static str, number: u8) -> Result<Port> {
    let mac = Mac([0x02, 0xd0, 0, 0, 0, number]);
    netns.ip(&format!("link set {name} address {mac} mtu {TAGGED_MTU}"))?;
    let ifindex = netns
        .run(move || if_nametoindex(name))?
        .with_context(|| format!("the ifindex of {name}"))?;
    Ok(Port { ifindex, mac })
}

/// The configuration of a gateway between the lab's ports. `more` are further lines of its own,
/// `operator` of the operator's, `server` those that say where the server is; the certificate is
/// `gateway.pem`.
pub fn gateway_config(
    id: &str,
    max_sessions: u32,
    more: &str,
    operator: &str,
    server: &str,
) -> String {
    format!(
        "id = \"{id}\"\n\
         state_dir = \"state\"\n\
         pin_path = \"bpf/doorstep\"\n\
         inventory = \"inventory.csv\"\n\
         delegated_prefix_len = {}\n\
         max_sessions = {max_sessions}\n\
         xdp_mode = \"native\"\n\
         {more}\n\n\
         [[access_port]]\n\
         name = \"{ACCESS}\"\n\n\
         [[operator]]\n\
         name = \"bench\"\n\
         index = {}\n\
         uplink = \"{UPLINK}\"\n\
         next_hops = [\"192.0.2.1\", \"2001:db8:ff00::1\"]\n\
         subscriber_prefixes = [\"100.64.0.0/10\", \"2001:db8::/33\"]\n\
         {operator}\n\n\
         [operator.server]\n\
         {server}\n\
         ca = \"ca.pem\"\n\
         cert = \"gateway.pem\"\n\
         key = \"gateway.key\"\n",
        subscriber::DELEGATED_LEN,
        subscriber::OPERATOR,
    )
}
