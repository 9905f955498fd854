//! The same job done by Linux without us: forwarding, a source check and policing by nftables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use doorstep_tests::lab::cleanup::Folder;
use doorstep_tests::lab::netns::{Netns, run};
use serde::Serialize;

use crate::lab::{ACCESS, Lab, UPLINK};
use crate::{rates, shared, subscriber};

const TABLE: &str = "ip doorstep_bench";
/// Elements that one transaction adds.
const CHUNK: u32 = 100_000;

/// What the row of Linux without us stands for.
#[derive(Clone, Debug, Serialize)]
pub struct LinuxPath {
    pub frames: &'static str,
    pub has_vlan_links: bool,
    pub policing: String,
    pub setup: &'static str,
    /// The rules of the one chain (hook forward, policy drop) for so many subscribers, as `nft`
    /// reads them. The sets are `ipv4_addr` with an element per subscriber.
    pub rules: BTreeMap<u32, Vec<String>>,
}

/// The gateway's host set up as a router.
pub struct Router {
    folder: Folder,
    policing: Result<(), String>,
}

impl Router {
    /// Routes, neighbours, and a set of subscribers for each of these numbers.
    pub fn new(lab: &Lab, sessions: &[u32]) -> Result<Self> {
        let gateway = &lab.gateway;
        for (name, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            (&format!("net/ipv4/conf/{ACCESS}/rp_filter"), "0"),
        ] {
            gateway.sysctl(name, value)?;
        }
        let mac = lab.world_port.mac;
        let world = std::net::Ipv4Addr::from(shared::WORLD);
        gateway.ip(&format!("addr add 192.0.2.2/30 dev {UPLINK}"))?;
        gateway.ip(&format!(
            "neigh add 192.0.2.1 lladdr {mac} dev {UPLINK} nud permanent"
        ))?;
        gateway.ip(&format!("route add {world}/32 via 192.0.2.1"))?;
        // What XDP redirects to a port needs NAPI at its peer, where no program is now.
        gateway.offload(ACCESS, "gro on")?;
        let mut router = Self {
            folder: Folder::new()?,
            policing: Ok(()),
        };
        router.nft(
            gateway,
            &format!(
                "add table {TABLE}\n\
                 add chain {TABLE} forward \
                 {{ type filter hook forward priority filter; policy drop; }}\n"
            ),
        )?;
        router.probe_policing(gateway);
        for sessions in sessions {
            router.fill(gateway, *sessions)?;
        }
        Ok(router)
    }

    /// The rules for so many subscribers, in words of `nft`.
    pub fn rules(&self, sessions: u32) -> Vec<String> {
        let (iif, oif) = (format!("iif {ACCESS}"), format!("oif {UPLINK}"));
        let mut rules = vec![format!("{iif} ip saddr != @subscribers_{sessions} drop")];
        if self.policing.is_ok() {
            let limit = limit(sessions);
            rules.push(format!(
                "{iif} {oif} update @policers_{sessions} {{ ip saddr {limit} }} drop"
            ));
        }
        rules.push(format!("{iif} {oif} accept"));
        rules
    }

    /// What this kernel let us set up.
    pub fn describe(&self, lab: &Lab, sessions: &[u32]) -> LinuxPath {
        let has_vlan_links = has_vlan_links(&lab.gateway);
        let tags = if has_vlan_links {
            "untagged: a million VLAN links are more than a kernel should have"
        } else {
            "untagged: this kernel has no VLAN links (8021q)"
        };
        LinuxPath {
            frames: tags,
            has_vlan_links,
            policing: match &self.policing {
                Ok(()) => "a token bucket per subscriber, `limit rate over` in a dynamic set, \
                           every element there before the first packet"
                    .to_owned(),
                Err(error) => format!("none: this kernel refused it: {error}"),
            },
            setup: "static neighbour, one route, rp_filter off (the set checks the source), GRO \
                    on at the access port, no connection tracking, no XDP program at the gateway",
            rules: sessions
                .iter()
                .map(|count| (*count, self.rules(*count)))
                .collect(),
        }
    }

    /// Makes these rules the ones that apply.
    pub fn select(&self, gateway: &Netns, sessions: u32) -> Result<()> {
        let mut text = format!("flush chain {TABLE} forward\n");
        for rule in self.rules(sessions) {
            writeln!(text, "add rule {TABLE} forward {rule}")?;
        }
        self.nft(gateway, &text)
    }

    fn probe_policing(&mut self, gateway: &Netns) {
        let set = "policers_1";
        let probe = format!(
            "add set {TABLE} {set} {{ type ipv4_addr; size 1; flags dynamic; }}\n\
             add element {TABLE} {set} {{ 0.0.0.0 {} }}\n\
             delete set {TABLE} {set}\n",
            limit(1)
        );
        self.policing = self
            .nft(gateway, &probe)
            .map_err(|error| format!("{error:#}"));
    }

    /// A set of the subscribers' addresses, and one of their token buckets.
    fn fill(&self, gateway: &Netns, sessions: u32) -> Result<()> {
        let subscribers = format!("{TABLE} subscribers_{sessions}");
        let policers = format!("{TABLE} policers_{sessions}");
        let mut text = format!("add set {subscribers} {{ type ipv4_addr; size {sessions}; }}\n");
        if self.policing.is_ok() {
            writeln!(
                text,
                "add set {policers} {{ type ipv4_addr; size {sessions}; flags dynamic; }}"
            )?;
        }
        self.nft(gateway, &text)?;
        let limit = limit(sessions);
        for first in (0..sessions).step_by(CHUNK as usize) {
            let chunk = first..sessions.min(first.saturating_add(CHUNK));
            let mut text = format!("add element {subscribers} {{ ");
            for i in chunk.clone() {
                write!(text, "{}, ", subscriber::ipv4(i))?;
            }
            text.push_str("}\n");
            if self.policing.is_ok() {
                write!(text, "add element {policers} {{ ")?;
                for i in chunk {
                    write!(text, "{} {limit}, ", subscriber::ipv4(i))?;
                }
                text.push_str("}\n");
            }
            self.nft(gateway, &text)?;
        }
        Ok(())
    }

    /// Runs `nft` inside, from a file: a million elements are no command line.
    fn nft(&self, gateway: &Netns, text: &str) -> Result<()> {
        let file = self.folder.path().join("rules.nft");
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        nft(gateway, &file)
    }
}

fn nft(gateway: &Netns, file: &Path) -> Result<()> {
    let mut command = gateway.command("nft")?;
    command.arg("-f").arg(file);
    run(&mut command).map(drop).map_err(|error| {
        // It quotes the line at fault, which may be megabytes long.
        let text: String = format!("{error:#}").chars().take(600).collect();
        anyhow::anyhow!(text)
    })
}

/// A token bucket of a hundredth of a second.
fn limit(sessions: u32) -> String {
    let bytes = rates::bps(sessions) / 8;
    format!(
        "limit rate over {bytes} bytes/second burst {} bytes",
        bytes / 100
    )
}

/// Whether the kernel has VLAN links; without them it cannot take two tags off.
fn has_vlan_links(netns: &Netns) -> bool {
    let made = netns.ip(&format!(
        "link add link {ACCESS} name bench-probe type vlan id 2"
    ));
    made.is_ok() && netns.ip("link del bench-probe").is_ok()
}
