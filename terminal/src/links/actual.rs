//! What is there: plain data, as read from the kernel.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use doorstep_establish::{Mac, Tag};
use ipnet::IpNet;

use super::{Former, Item, Route, Rule};

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its Ethernet address; zero if it has none.
    pub mac: Mac,
    /// Whether it is up.
    pub up: bool,
    /// Whether there is somebody at the other end.
    pub carrier: bool,
    /// Bytes of IP.
    pub mtu: u32,
    /// The bridge it is a port of.
    pub bridge: Option<String>,
    /// Whether it is a bridge.
    pub is_bridge: bool,
    /// For a VLAN interface, its parent and tag.
    pub vlan: Option<(String, Tag)>,
}

/// Everything that an [`Item`] may be about.
#[derive(Debug, Clone, Default)]
pub struct Actual {
    /// Interfaces by name.
    pub links: BTreeMap<String, Link>,
    /// Addresses by interface.
    pub addresses: HashSet<(String, IpNet)>,
    /// Permanent neighbours.
    pub neighbours: HashSet<(String, IpAddr, Mac)>,
    /// Routes; those without an interface of their own have no `link`.
    pub routes: HashSet<Route>,
    /// Rules by source and interface.
    pub rules: HashSet<Rule>,
    /// The settings asked about.
    pub settings: BTreeMap<String, String>,
    /// The files asked about, as far as they exist.
    pub files: BTreeMap<PathBuf, String>,
}

impl Actual {
    /// Whether `item` is there. Translations cannot be seen: they are there if they are `ours`.
    #[must_use]
    pub fn holds(&self, item: &Item, ours: bool) -> bool {
        let link = |name: &str| self.links.get(name);
        match item {
            Item::Vlan { name, parent, tag } => {
                link(name).is_some_and(|l| l.vlan.as_ref() == Some(&(parent.clone(), *tag)))
            }
            Item::Bridge { name } => link(name).is_some_and(|l| l.is_bridge),
            Item::Mtu { link: name, bytes } => link(name).is_some_and(|l| l.mtu == *bytes),
            Item::Setting { path, value } => self.settings.get(path) == Some(value),
            Item::Port { link: name, bridge } => {
                link(name).is_some_and(|l| l.bridge.as_ref() == Some(bridge))
            }
            Item::Up { link: name } => link(name).is_some_and(|l| l.up),
            Item::Address { link, address } => self.addresses.contains(&(link.clone(), *address)),
            Item::Neighbour { link, address, mac } => {
                self.neighbours.contains(&(link.clone(), *address, *mac))
            }
            Item::Route(route) => self.routes.contains(route),
            Item::Rule(rule) => self.rules.contains(rule),
            Item::Nat { .. } => ours,
            Item::File { path, text } => self.files.get(path) == Some(text),
        }
    }

    /// What making `item` replaces.
    #[must_use]
    pub fn former(&self, item: &Item) -> Former {
        match item {
            Item::Mtu { link, .. } => self.links.get(link).map(|l| l.mtu.to_string()),
            Item::Setting { path, .. } => self.settings.get(path).cloned(),
            Item::Port { link, .. } => self.links.get(link).and_then(|l| l.bridge.clone()),
            Item::File { path, .. } => self.files.get(path).cloned(),
            _ => None,
        }
    }
}
