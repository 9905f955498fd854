//! The kernel's links, neighbours and default routes, as far as they concern the gateway: plain
//! data, kept up by events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use doorstep_establish::Mac;
use rtnetlink::packet_route::link::LinkFlags;

use crate::dataplane::netlink::{DefaultRoute, Event, Link, Neighbour};

/// What is known of the kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Kernel {
    pub(super) links: BTreeMap<u32, Link>,
    /// Those that are resolved.
    neighbours: HashMap<(u32, IpAddr), Mac>,
    /// Of the tables that are followed.
    pub(super) routes: Vec<DefaultRoute>,
}

/// What an event asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// Something else may follow from what is known.
    pub(super) decide: bool,
    /// The kernel may have changed routes without a word: list them anew.
    pub(super) list_routes: bool,
    /// Routes of the gateway's own may be gone with their link.
    pub(super) put_routes: bool,
}

impl Effect {
    const NONE: Self = Self {
        decide: false,
        list_routes: false,
        put_routes: false,
    };
    const DECIDE: Self = Self {
        decide: true,
        ..Self::NONE
    };
    const LIST: Self = Self {
        list_routes: true,
        ..Self::NONE
    };
    const ALL: Self = Self {
        decide: true,
        list_routes: true,
        put_routes: true,
    };
}

impl Kernel {
    pub(super) fn new(links: Vec<Link>, neighbours: Vec<Neighbour>) -> Self {
        let mut this = Self::default();
        this.links
            .extend(links.into_iter().map(|link| (link.index, link)));
        for neighbour in neighbours {
            this.set(neighbour);
        }
        this
    }

    /// Takes note of an event; `tables` are those that are followed.
    pub(super) fn take(&mut self, event: Event, tables: &BTreeSet<u32>) -> Effect {
        match event {
            Event::Link(link) => {
                let index = link.index;
                let before = self.links.insert(index, link);
                let now = &self.links[&index];
                match before {
                    Some(before) if before == *now => Effect::NONE,
                    // The kernel drops IPv4 routes with their link in silence.
                    Some(before) if is_up(&before) == is_up(now) => Effect::DECIDE,
                    _ => Effect::ALL,
                }
            }
            Event::LinkGone(index) => {
                self.neighbours.retain(|(ifindex, _), _| *ifindex != index);
                match self.links.remove(&index) {
                    Some(_) => Effect::ALL,
                    None => Effect::NONE,
                }
            }
            Event::Neighbour(neighbour) => match self.set(neighbour) {
                true => Effect::DECIDE,
                false => Effect::NONE,
            },
            Event::DefaultRoute { table } if tables.contains(&table) => Effect::LIST,
            Event::DefaultRoute { .. } => Effect::NONE,
            Event::Address { ifindex } if self.links.contains_key(&ifindex) => Effect {
                put_routes: true,
                ..Effect::LIST
            },
            Event::Address { .. } => Effect::NONE,
        }
    }

    /// Returns whether that is news.
    fn set(&mut self, neighbour: Neighbour) -> bool {
        let key = (neighbour.ifindex, neighbour.address);
        let before = match neighbour.mac {
            Some(mac) => self.neighbours.insert(key, mac),
            None => self.neighbours.remove(&key),
        };
        before != neighbour.mac
    }

    pub(super) fn named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The link that carries a VLAN of a port (0: untagged, the port itself).
    pub(super) fn carrier<'k>(&'k self, port: &'k Link, vid: u16) -> Option<&'k Link> {
        match vid {
            0 => Some(port),
            _ => self
                .links
                .values()
                .find(|link| link.vlan == Some((vid, port.index))),
        }
    }

    pub(super) fn mac_of(&self, ifindex: u32, address: IpAddr) -> Option<Mac> {
        self.neighbours.get(&(ifindex, address)).copied()
    }
}

/// Whether packets can leave by a link: it is up, and so is the wire.
pub(super) fn is_up(link: &Link) -> bool {
    link.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
}
