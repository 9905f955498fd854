//! Links, addresses, routes and neighbours of this network namespace.

mod blocking;
mod dump;
mod events;
mod message;
mod parse;
mod qdisc;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;

use doorstep_establish::Mac;
use futures::TryStreamExt;
use rtnetlink::packet_core::ErrorMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourMessage, NeighbourState};
use rtnetlink::{Handle, LinkUnspec, new_connection, new_connection_with_strict_check};
use tokio::task::JoinHandle;

use super::DataplaneError;
use super::host::{Route, Rule};
pub(super) use blocking::Requests;
pub(super) use events::{Event, Events};
pub(super) use qdisc::Root;

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// A default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DefaultRoute {
    pub(super) v6: bool,
    pub(super) table: u32,
    pub(super) metric: u32,
    /// Whether packets go on by it; otherwise it is a blackhole or the like.
    pub(super) leads_on: bool,
    /// Several where the route is multipath.
    pub(super) ways: Vec<Way>,
}

/// One of a route's next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) ifindex: u32,
    /// None: the packets' destinations are on the link itself.
    pub(super) gateway: Option<IpAddr>,
    /// Neither dead nor without carrier.
    pub(super) usable: bool,
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
        let what = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let rows = dump::dump(&self.handle, what)
            .await
            .map_err(failed("cannot list the links"))?;
        let links = rows.into_iter().filter_map(|row| match row {
            RouteNetlinkMessage::NewLink(message) => parse::link(message),
            _ => None,
        });
        Ok(links.collect())
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
        let added = self.handle.route().add(message::route(route)).execute();
        let what = format!(
            "cannot add the route to {} in table {}",
            route.prefix, route.table
        );
        ignore(&[libc::EEXIST], added.await, what)
    }

    pub(super) async fn remove_route(&self, route: &Route) -> Result<(), DataplaneError> {
        let removed = self.handle.route().del(message::route(route)).execute();
        let what = format!(
            "cannot remove the route to {} in table {}",
            route.prefix, route.table
        );
        ignore(ABSENT, removed.await, what)
    }

    /// Adds a rule; one that is there already is left as it is.
    pub(super) async fn add_rule(&self, rule: &Rule) -> Result<(), DataplaneError> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = message::rule(rule);
        let what = format!("cannot add the rule for table {}", rule.table);
        ignore(&[libc::EEXIST], request.execute().await, what)
    }

    pub(super) async fn remove_rule(&self, rule: &Rule) -> Result<(), DataplaneError> {
        let removed = self.handle.rule().del(message::rule(rule)).execute();
        let what = format!("cannot remove the rule for table {}", rule.table);
        ignore(ABSENT, removed.await, what)
    }

    /// Adds a route, or puts it in the place of the one that is there, at once.
    pub(super) async fn replace_route(&self, route: &Route) -> Result<(), DataplaneError> {
        let request = self.handle.route().add(message::route(route)).replace();
        request.execute().await.map_err(failed(format!(
            "cannot set the route to {} in table {}",
            route.prefix, route.table
        )))
    }

    /// Removes a table's default route, wherever it leads; what comes after it stays.
    pub(super) async fn remove_default(&self, table: u32, v6: bool) -> Result<(), DataplaneError> {
        let message = message::default_route(table, v6);
        let removed = self.handle.route().del(message).execute();
        let what = format!("cannot remove the default route of table {table}");
        ignore(ABSENT, removed.await, what)
    }

    /// The default routes of a table; none if there is no such table.
    pub(super) async fn default_routes(
        &self,
        table: u32,
    ) -> Result<Vec<DefaultRoute>, DataplaneError> {
        // Only a socket that is strict has the kernel list one table instead of all.
        let (connection, handle, _) = new_connection_with_strict_check().map_err(socket)?;
        let strict = Self {
            handle,
            connection: tokio::spawn(connection),
        };
        let mut routes = Vec::new();
        for v6 in [false, true] {
            let what = RouteNetlinkMessage::GetRoute(message::routes_of(table, v6));
            let rows = match dump::dump(&strict.handle, what).await {
                Ok(rows) => rows,
                Err(rtnetlink::Error::NetlinkError(error)) if is_one_of(ABSENT, &error) => continue,
                Err(error) => {
                    return Err(failed(format!("cannot list the routes of table {table}"))(
                        error,
                    ));
                }
            };
            routes.extend(rows.iter().filter_map(|row| match row {
                RouteNetlinkMessage::NewRoute(message) => parse::default_route(message),
                _ => None,
            }));
        }
        Ok(routes)
    }

    pub(super) async fn neighbours(&self) -> Result<Vec<Neighbour>, DataplaneError> {
        let what = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let rows = dump::dump(&self.handle, what)
            .await
            .map_err(failed("cannot list the neighbours"))?;
        let neighbours = rows.iter().filter_map(|row| match row {
            RouteNetlinkMessage::NewNeighbour(message) => parse::neighbour(message),
            _ => None,
        });
        Ok(neighbours.collect())
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

fn host_len(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
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
        Err(rtnetlink::Error::NetlinkError(error)) if is_one_of(errors, &error) => Ok(()),
        other => other.map_err(failed(what)),
    }
}

fn is_one_of(errors: &[i32], error: &ErrorMessage) -> bool {
    errors.contains(&-error.raw_code())
}
