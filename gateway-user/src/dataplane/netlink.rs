//! Links, addresses, routes and neighbours of this network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use doorstep_establish::Mac;
use doorstep_gateway_common::meta;
use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{
    Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder, new_connection,
    new_multicast_connection,
};
use tokio::task::JoinHandle;

use super::DataplaneError;
use super::host::{Hop, Route, Rule};

/// A request socket. Its connection ends with it.
pub(super) struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What the gateway wants to know of a link.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
    pub(super) flags: LinkFlags,
    /// A VLAN link's id and the index of the link below it.
    pub(super) vlan: Option<(u16, u32)>,
}

/// A neighbour and, while it is resolved, its MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
    pub(super) mac: Option<Mac>,
}

impl Netlink {
    pub(super) fn open() -> Result<Self, DataplaneError> {
        let (connection, handle, _) = new_connection().map_err(socket)?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    pub(super) async fn links(&self) -> Result<Vec<Link>, DataplaneError> {
        let links: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("cannot list the links"))?;
        Ok(links.into_iter().filter_map(link).collect())
    }

    /// Sets a link's flags: up, ARP, all multicast, promiscuous.
    pub(super) async fn set_flags(
        &self,
        ifindex: u32,
        flags: LinkFlags,
        on: bool,
    ) -> Result<(), DataplaneError> {
        let mut message = LinkUnspec::new_with_index(ifindex).build();
        message.header.flags = if on { flags } else { LinkFlags::empty() };
        message.header.change_mask = flags;
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(failed(format!("cannot set {flags:?} of link {ifindex}")))
    }

    /// Whether the link has the address.
    pub(super) async fn has_address(
        &self,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<bool, DataplaneError> {
        let mut found = Box::pin(
            self.handle
                .address()
                .get()
                .set_link_index_filter(ifindex)
                .set_address_filter(address)
                .execute(),
        );
        let first = found.try_next().await;
        Ok(first
            .map_err(failed(format!(
                "cannot list the addresses of link {ifindex}"
            )))?
            .is_some())
    }

    pub(super) async fn add_address(
        &self,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<(), DataplaneError> {
        let request = self
            .handle
            .address()
            .add(ifindex, address, host_len(address));
        request
            .replace()
            .execute()
            .await
            .map_err(failed(format!("cannot add address {address}")))
    }

    pub(super) async fn remove_address(
        &self,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<(), DataplaneError> {
        let mut request = self
            .handle
            .address()
            .add(ifindex, address, host_len(address));
        let message = std::mem::take(request.message_mut());
        ignore(
            ABSENT,
            self.handle.address().del(message).execute().await,
            format!("cannot remove address {address}"),
        )
    }

    /// Adds a route; one that is there already is left as it is.
    pub(super) async fn add_route(&self, route: &Route) -> Result<(), DataplaneError> {
        let added = self.handle.route().add(route_message(route)).execute();
        let what = format!(
            "cannot add the route to {} in table {}",
            route.prefix, route.table
        );
        ignore(&[libc::EEXIST], added.await, what)
    }

    pub(super) async fn remove_route(&self, route: &Route) -> Result<(), DataplaneError> {
        let removed = self.handle.route().del(route_message(route)).execute();
        let what = format!(
            "cannot remove the route to {} in table {}",
            route.prefix, route.table
        );
        ignore(ABSENT, removed.await, what)
    }

    /// Adds a rule; one that is there already is left as it is.
    pub(super) async fn add_rule(&self, rule: &Rule) -> Result<(), DataplaneError> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule_message(rule);
        let what = format!("cannot add the rule for table {}", rule.table);
        ignore(&[libc::EEXIST], request.execute().await, what)
    }

    pub(super) async fn remove_rule(&self, rule: &Rule) -> Result<(), DataplaneError> {
        let removed = self.handle.rule().del(rule_message(rule)).execute();
        let what = format!("cannot remove the rule for table {}", rule.table);
        ignore(ABSENT, removed.await, what)
    }

    pub(super) async fn neighbours(&self) -> Result<Vec<Neighbour>, DataplaneError> {
        let all: Vec<_> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("cannot list the neighbours"))?;
        Ok(all.iter().filter_map(neighbour).collect())
    }

    /// Has the kernel find a neighbour, or confirm it.
    pub(super) async fn probe(&self, ifindex: u32, address: IpAddr) -> Result<(), DataplaneError> {
        self.handle
            .neighbours()
            .add(ifindex, address)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace()
            .execute()
            .await
            .map_err(failed(format!("cannot look for neighbour {address}")))
    }
}

/// Changes of neighbours, as they happen.
pub(super) struct NeighbourEvents {
    messages: futures::channel::mpsc::UnboundedReceiver<(
        rtnetlink::packet_core::NetlinkMessage<RouteNetlinkMessage>,
        rtnetlink::sys::SocketAddr,
    )>,
    connection: JoinHandle<()>,
}

impl Drop for NeighbourEvents {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl NeighbourEvents {
    pub(super) fn open() -> Result<Self, DataplaneError> {
        let (connection, _, messages) =
            new_multicast_connection(&[MulticastGroup::Neigh]).map_err(socket)?;
        Ok(Self {
            messages,
            connection: tokio::spawn(connection),
        })
    }

    /// The next change; none when events may have been lost: subscribe and list anew.
    pub(super) async fn next(&mut self) -> Option<Neighbour> {
        loop {
            let (message, _) = self.messages.next().await?;
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => {
                    if let Some(neighbour) = neighbour(&message) {
                        return Some(neighbour);
                    }
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => {
                    if let Some(neighbour) = neighbour(&message) {
                        return Some(Neighbour {
                            mac: None,
                            ..neighbour
                        });
                    }
                }
                NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_) => return None,
                _ => {}
            }
        }
    }
}

fn link(message: LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        flags: message.header.flags,
        vlan: None,
    };
    let (mut vid, mut below) = (None, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(bytes) => link.mac = mac(&bytes),
            LinkAttribute::Link(index) => below = Some(index),
            LinkAttribute::LinkInfo(infos) => vid = vid.or_else(|| vlan_id(&infos)),
            _ => {}
        }
    }
    link.vlan = vid.zip(below);
    (!link.name.is_empty()).then_some(link)
}

fn vlan_id(infos: &[LinkInfo]) -> Option<u16> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => data.iter().find_map(|item| match item {
            InfoVlan::Id(vid) => Some(*vid),
            _ => None,
        }),
        _ => None,
    })
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let (mut address, mut lladdr) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::V4(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::V6(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => lladdr = mac(bytes),
            _ => {}
        }
    }
    Some(Neighbour {
        ifindex: message.header.ifindex,
        address: address?,
        mac: lladdr.filter(|_| usable),
    })
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}

fn host_len(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The metric of a route that is taken when no other fits.
const LAST: u32 = 4_278_198_272;

fn route_message(route: &Route) -> RouteMessage {
    match route.prefix {
        IpNet::V4(prefix) => {
            let builder = RouteMessageBuilder::<Ipv4Addr>::new()
                .table_id(route.table)
                .destination_prefix(prefix.network(), prefix.prefix_len());
            match route.hop {
                Hop::Link { ifindex, source } => {
                    let builder = builder.output_interface(ifindex).scope(RouteScope::Link);
                    match source {
                        Some(IpAddr::V4(source)) => builder.pref_source(source),
                        _ => builder,
                    }
                    .build()
                }
                Hop::Via {
                    ifindex,
                    address: IpAddr::V4(address),
                } => builder
                    .output_interface(ifindex)
                    .gateway(address)
                    .onlink()
                    .build(),
                _ => builder.kind(RouteType::Unreachable).priority(LAST).build(),
            }
        }
        IpNet::V6(prefix) => {
            let builder = RouteMessageBuilder::<Ipv6Addr>::new()
                .table_id(route.table)
                .destination_prefix(prefix.network(), prefix.prefix_len());
            match route.hop {
                Hop::Link { ifindex, source } => {
                    let builder = builder.output_interface(ifindex);
                    match source {
                        Some(IpAddr::V6(source)) => builder.pref_source(source),
                        _ => builder,
                    }
                    .build()
                }
                Hop::Via {
                    ifindex,
                    address: IpAddr::V6(address),
                } => builder
                    .output_interface(ifindex)
                    .gateway(address)
                    .onlink()
                    .build(),
                _ => builder.kind(RouteType::Unreachable).priority(LAST).build(),
            }
        }
    }
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match rule.v6 {
        true => AddressFamily::Inet6,
        false => AddressFamily::Inet,
    };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::FwMark(rule.mark),
        RuleAttribute::FwMask(meta::MARK_MASK),
        RuleAttribute::Table(rule.table),
    ];
    message
        .attributes
        .extend(rule.from_port.clone().map(RuleAttribute::Iifname));
    message
}

fn socket(source: io::Error) -> DataplaneError {
    DataplaneError::Kernel {
        what: "cannot open a netlink socket".to_owned(),
        source,
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> DataplaneError {
    let what = what.into();
    move |source| DataplaneError::Netlink {
        what,
        source: Box::new(source),
    }
}

/// What the kernel says of something that is not there.
const ABSENT: &[i32] = &[libc::ESRCH, libc::ENOENT, libc::EADDRNOTAVAIL, libc::ENODEV];

/// Takes some errors of the kernel for success.
fn ignore(
    errors: &[i32],
    result: Result<(), rtnetlink::Error>,
    what: String,
) -> Result<(), DataplaneError> {
    match result {
        Err(rtnetlink::Error::NetlinkError(error)) if errors.contains(&-error.raw_code()) => Ok(()),
        other => other.map_err(failed(what)),
    }
}
