//! A gateway host and its building.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::addresses::{self, Pool, Uplink, line_tags, location};
use super::garden;
use super::operator::Operator;
use super::{Hosts, Plan, TAGGED_MTU};
use crate::lab::bpffs;
use crate::lab::cleanup::Guard;
use crate::lab::daemon::Daemon;
use crate::lab::netns::{Netns, cable};

/// A gateway host.
pub struct Gateway {
    pub daemon: Daemon,
    pub config: PathBuf,
    pub id: String,
    pub netns: Netns,
    _bpffs: Guard,
}

impl Gateway {
    pub(super) fn new(
        dir: &Path,
        plan: Plan,
        number: usize,
        hosts: &Hosts,
        operators: &[Operator],
    ) -> Result<Self> {
        let id = format!("gw{}", number + 1);
        let netns = Netns::new(&id)?;
        hosts.join_mgmt(&netns, 10 + number)?;
        building(number, &netns, &hosts.street)?;
        let folder = dir.join(&id);
        std::fs::create_dir(&folder)?;
        let bpffs = bpffs::mount(&folder.join("bpf"))?;
        std::fs::write(folder.join("inventory.csv"), inventory(plan, number)?)?;
        let garden = if plan.garden { garden::LIMITS } else { "" };
        let metrics = match plan.metrics {
            true => "[metrics]\nlisten = \"127.0.0.1:9464\"\n\n",
            false => "",
        };
        let traces = plan.traces();
        let mut text = format!(
            "id = \"{id}\"\n\
             state_dir = \"state\"\n\
             pin_path = \"bpf/doorstep\"\n\
             admin_socket = \"gateway.sock\"\n\
             inventory = \"inventory.csv\"\n\
             delegated_prefix_len = 56\n\
             line_prefixes = {}\n\
             max_sessions = {}\n\n\
             {garden}{metrics}{traces}\
             [[access_port]]\n\
             name = \"access0\"\n",
            plan.line_prefixes, plan.max_sessions
        );
        for (operator, owner) in operators.iter().enumerate() {
            let uplink = connect_uplink(operator, number, &netns, &hosts.inet)?;
            owner.enroll(&id, &netns, &folder.join(format!("op{operator}")))?;
            let Pool {
                v4,
                gateway: own,
                v6,
                lines,
                ..
            } = addresses::pool(operator, number);
            let Uplink {
                near_port,
                near_v4,
                far_v4,
                near_v6,
                far_v6,
                ..
            } = uplink;
            let (name, server) = (owner.name, addresses::server(operator));
            let options = plan.options;
            write!(
                text,
                "\n[[operator]]\n\
                 name = \"{name}\"\n\
                 uplink = \"{near_port}\"\n\
                 next_hops = [\"{far_v4}\", \"{far_v6}\"]\n\
                 subscriber_prefixes = [\"{v4}\", \"{v6}\", \"{lines}\"]\n\
                 gateway_addresses = [\"{own}\"]\n\
                 {options}\n\n\
                 [operator.server]\n\
                 url = \"https://{server}:7443\"\n\
                 server_name = \"{name}\"\n\
                 ca = \"op{operator}/ca.pem\"\n\
                 cert = \"op{operator}/{id}.pem\"\n"
            )?;
            if plan.garden {
                text.push_str(&garden::config(operator, number));
                garden::route(&hosts.inet, operator, number, &near_v4, &near_v6)?;
            }
        }
        let config = folder.join("gateway.toml");
        std::fs::write(&config, text)?;
        let socket = config.with_extension("sock");
        let daemon = Daemon::start("doorstep-gateway", &netns, &config, &socket)?;
        Ok(Self {
            daemon,
            config,
            id,
            netns,
            _bpffs: bpffs,
        })
    }

    /// Replaces a text of its configuration, which takes effect with the next start.
    pub fn reconfigure(&self, from: &str, to: &str) -> Result<()> {
        let text = std::fs::read_to_string(&self.config)?;
        ensure!(text.contains(from), "no '{from}' in {text}");
        Ok(std::fs::write(&self.config, text.replace(from, to))?)
    }

    /// Starts the daemon again.
    pub(super) fn restart(&mut self) -> Result<()> {
        let socket = self.config.with_extension("sock");
        self.daemon = Daemon::start("doorstep-gateway", &self.netns, &self.config, &socket)?;
        Ok(())
    }
}

/// The building's bridge, and the trunk between it and the gateway.
fn building(number: usize, gateway: &Netns, street: &Netns) -> Result<()> {
    let bridge = format!("br{number}");
    street.ip(&format!("link add {bridge} type bridge mcast_snooping 0"))?;
    street.ip(&format!("link set {bridge} up"))?;
    connect_access(number, gateway, street)
}

/// The trunk between a building's bridge and the gateway.
pub(super) fn connect_access(number: usize, gateway: &Netns, street: &Netns) -> Result<()> {
    let (bridge, trunk) = (format!("br{number}"), format!("trunk{number}"));
    cable((gateway, "access0"), (street, &trunk))?;
    // Tagged frames are longer than the packets in them.
    gateway.ip(&format!("link set access0 mtu {TAGGED_MTU}"))?;
    street.ip(&format!(
        "link set {trunk} mtu {TAGGED_MTU} master {bridge}"
    ))?;
    // Tags lie in the packet, as on a wire; and what XDP redirects needs NAPI at the other end.
    street.offload(&trunk, "txvlan off tx-vlan-stag-hw-insert off gro on")
}

/// The cable to an operator's router, which the world's host plays, and the routes over it.
pub(super) fn connect_uplink(
    operator: usize,
    number: usize,
    gateway: &Netns,
    inet: &Netns,
) -> Result<Uplink> {
    let uplink = addresses::uplink(operator, number);
    let Uplink {
        near_port,
        far_port,
        near_v4,
        far_v4,
        near_v6,
        far_v6,
    } = &uplink;
    cable((gateway, near_port), (inet, far_port))?;
    inet.offload(far_port, "tx off gro on")?;
    inet.ip(&format!("addr add {far_v4}/30 dev {far_port}"))?;
    inet.ip(&format!("addr add {far_v6}/64 dev {far_port} nodad"))?;
    gateway.ip(&format!("addr add {near_v4}/30 dev {near_port}"))?;
    gateway.ip(&format!("addr add {near_v6}/64 dev {near_port} nodad"))?;
    let pool = addresses::pool(operator, number);
    inet.ip(&format!("route add {} via {near_v4}", pool.v4))?;
    for net in [pool.v6, pool.lines] {
        inet.ip(&format!("route add {net} via {near_v6}"))?;
    }
    if operator == 0 {
        gateway.ip(&format!("route add default via {far_v4}"))?;
        gateway.ip(&format!("route add default via {far_v6}"))?;
    }
    Ok(uplink)
}

fn inventory(plan: Plan, number: usize) -> Result<String> {
    let mut text = "location,port,s_vlan,c_vlan\n".to_owned();
    let homes = if plan.tags == 0 { 1 } else { plan.homes.max(2) };
    for home in 0..homes {
        let tags = line_tags(plan.tags, number, home);
        let vid = |tag: Option<&(u16, u16)>| tag.map(|tag| tag.1.to_string()).unwrap_or_default();
        let (s, c) = match tags.as_slice() {
            [s, c] => (vid(Some(s)), vid(Some(c))),
            rest => (String::new(), vid(rest.first())),
        };
        writeln!(text, "{},access0,{s},{c}", location(number, home))?;
    }
    Ok(text)
}
