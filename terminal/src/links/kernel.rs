//! The kernel's side: reading what is there, making and undoing one thing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::VlanProtocol;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBridge, LinkUnspec, LinkVlan, RouteMessageBuilder,
};

use super::actual::Actual;
use super::{Item, Owned, Route, nat};
use crate::links::desired::MAIN_TABLE;

mod read;
mod rules;

/// A connection to the kernel of the network namespace in which it was opened.
#[derive(Debug, Clone)]
pub struct Kernel {
    handle: Handle,
}

/// The kernel refused a change.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {item}: {source}")]
pub struct ChangeError {
    verb: &'static str,
    item: Box<Item>,
    source: io::Error,
}

impl ChangeError {
    fn already_there(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }
}

/// What making a thing led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It was made.
    Now,
    /// Something else made it meanwhile.
    AlreadyThere,
}

impl Kernel {
    /// Uses a connection whose task has been spawned.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// Reads everything that `items` are about.
    pub async fn read<'a>(&self, items: impl Iterator<Item = &'a Item>) -> io::Result<Actual> {
        let mut actual = read::actual(&self.handle).await.map_err(to_io)?;
        for item in items {
            match item {
                Item::Setting { path, .. } => {
                    if let Ok(value) = fs::read_to_string(setting(path)) {
                        actual
                            .settings
                            .insert(path.clone(), value.trim().to_owned());
                    }
                }
                Item::File { path, .. } => {
                    if let Ok(text) = fs::read_to_string(path) {
                        actual.files.insert(path.clone(), text);
                    }
                }
                _ => {}
            }
        }
        Ok(actual)
    }

    /// Makes a thing.
    pub async fn make(&self, item: &Item) -> Result<Made, ChangeError> {
        let failed = |source| ChangeError {
            verb: "make",
            item: Box::new(item.clone()),
            source,
        };
        match self.try_make(item).await.map_err(failed) {
            Ok(()) => Ok(Made::Now),
            Err(error) if error.already_there() => Ok(Made::AlreadyThere),
            Err(error) => Err(error),
        }
    }

    /// Undoes a thing; one that is not there is undone already.
    pub async fn undo(&self, own: &Owned) -> Result<(), ChangeError> {
        match self.try_undo(own).await {
            Err(error) if !is_gone(&error) => Err(ChangeError {
                verb: "undo",
                item: Box::new(own.item.clone()),
                source: error,
            }),
            _ => Ok(()),
        }
    }

    async fn index(&self, name: &str) -> io::Result<u32> {
        let links = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        let mut links = std::pin::pin!(links);
        let none = || {
            let text = format!("there is no interface {name}; check the configuration");
            io::Error::new(io::ErrorKind::NotFound, text)
        };
        match links.try_next().await.map_err(to_io) {
            Ok(Some(link)) => Ok(link.header.index),
            Ok(None) => Err(none()),
            Err(error) if is_gone(&error) => Err(none()),
            Err(error) => Err(error),
        }
    }

    async fn try_make(&self, item: &Item) -> io::Result<()> {
        let handle = &self.handle;
        match item {
            Item::Vlan { name, parent, tag } => {
                let vlan = LinkVlan::new(name, self.index(parent).await?, tag.vid)
                    .protocol(VlanProtocol::from(tag.tpid))
                    .build();
                let added = handle.link().add(vlan).execute().await.map_err(to_io);
                added.map_err(|error| match error.raw_os_error() {
                    Some(libc::EOPNOTSUPP) => io::Error::new(
                        io::ErrorKind::Unsupported,
                        "the kernel has no VLAN interfaces; load its module 8021q",
                    ),
                    _ => error,
                })
            }
            Item::Bridge { name } => handle
                .link()
                .add(LinkBridge::new(name).build())
                .execute()
                .await
                .map_err(to_io),
            Item::Mtu { link, bytes } => self.set_mtu(link, *bytes).await,
            Item::Setting { path, value } => fs::write(setting(path), value),
            Item::Port { link, bridge } => self.set_bridge(link, Some(bridge)).await,
            Item::Up { link } => {
                let link = LinkUnspec::new_with_index(self.index(link).await?)
                    .up()
                    .build();
                handle.link().set(link).execute().await.map_err(to_io)
            }
            Item::Address { link, address } => {
                let index = self.index(link).await?;
                let mut request = handle
                    .address()
                    .add(index, address.addr(), address.prefix_len());
                if address.addr().is_ipv6() {
                    // Waiting for duplicates would hold up a move by a second; the prefix is ours.
                    let flags = AddressAttribute::Flags(AddressFlags::Nodad);
                    request.message_mut().attributes.push(flags);
                }
                request.execute().await.map_err(to_io)
            }
            Item::Neighbour { link, address, mac } => {
                let index = self.index(link).await?;
                let request = handle.neighbours().add(index, *address);
                // A resolved entry may be there; the one from the request is authenticated.
                request
                    .link_layer_address(&mac.0)
                    .replace()
                    .execute()
                    .await
                    .map_err(to_io)
            }
            Item::Route(route) => {
                let message = self.route(route).await?;
                handle.route().add(message).execute().await.map_err(to_io)
            }
            Item::Rule(rule) => rules::add(handle, rule).await.map_err(to_io),
            Item::Nat { rules } => nat::make(rules).await,
            Item::File { path, text } => write_file(path, text),
        }
    }

    async fn try_undo(&self, Owned { item, former }: &Owned) -> io::Result<()> {
        let handle = &self.handle;
        match item {
            Item::Vlan { name, .. } | Item::Bridge { name } => {
                let index = self.index(name).await?;
                handle.link().del(index).execute().await.map_err(to_io)
            }
            Item::Mtu { link, .. } => match former.as_ref().and_then(|text| text.parse().ok()) {
                Some(bytes) => self.set_mtu(link, bytes).await,
                None => Ok(()),
            },
            Item::Setting { path, .. } => match former {
                Some(value) => fs::write(setting(path), value),
                None => Ok(()),
            },
            Item::Port { link, .. } => self.set_bridge(link, former.as_ref()).await,
            Item::Up { link } => {
                let link = LinkUnspec::new_with_index(self.index(link).await?)
                    .down()
                    .build();
                handle.link().set(link).execute().await.map_err(to_io)
            }
            Item::Address { link, address } => {
                let (index, len) = (self.index(link).await?, address.prefix_len());
                let message = match address.addr() {
                    IpAddr::V4(a) => AddressMessageBuilder::<Ipv4Addr>::new()
                        .index(index)
                        .address(a, len)
                        .build(),
                    IpAddr::V6(a) => AddressMessageBuilder::<Ipv6Addr>::new()
                        .index(index)
                        .address(a, len)
                        .build(),
                };
                handle.address().del(message).execute().await.map_err(to_io)
            }
            Item::Neighbour { link, address, mac } => {
                let index = self.index(link).await?;
                let mut request = handle
                    .neighbours()
                    .add(index, *address)
                    .link_layer_address(&mac.0);
                let message = request.message_mut().clone();
                handle
                    .neighbours()
                    .del(message)
                    .execute()
                    .await
                    .map_err(to_io)
            }
            Item::Route(route) => {
                let message = self.route(route).await?;
                handle.route().del(message).execute().await.map_err(to_io)
            }
            Item::Rule(rule) => rules::delete(handle, rule).await.map_err(to_io),
            Item::Nat { .. } => nat::undo().await,
            Item::File { path, .. } => match former {
                Some(text) => write_file(path, text),
                None => fs::remove_file(path),
            },
        }
    }

    async fn set_mtu(&self, link: &str, bytes: u32) -> io::Result<()> {
        let link = LinkUnspec::new_with_index(self.index(link).await?)
            .mtu(bytes)
            .build();
        self.handle.link().set(link).execute().await.map_err(to_io)
    }

    async fn set_bridge(&self, link: &str, bridge: Option<&String>) -> io::Result<()> {
        let link = LinkUnspec::new_with_index(self.index(link).await?);
        let link = match bridge {
            Some(bridge) => link.controller(self.index(bridge).await?),
            None => link.nocontroller(),
        };
        self.handle
            .link()
            .set(link.build())
            .execute()
            .await
            .map_err(to_io)
    }

    async fn route(&self, route: &Route) -> io::Result<RouteMessage> {
        let index = match &route.link {
            Some(link) => Some(self.index(link).await?),
            None => None,
        };
        let len = route.destination.prefix_len();
        let mut message = match route.destination.addr() {
            IpAddr::V4(a) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(a, len)
                .build(),
            IpAddr::V6(a) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(a, len)
                .build(),
        };
        message.header.table = u8::try_from(route.table).unwrap_or(0);
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Table(route.table));
        attributes.push(RouteAttribute::Priority(route.metric));
        if let Some(via) = route.via {
            attributes.push(RouteAttribute::Gateway(RouteAddress::from(via)));
            message.header.flags |= rtnetlink::packet_route::route::RouteFlags::Onlink;
        }
        if let Some(source) = route.source {
            attributes.push(RouteAttribute::PrefSource(RouteAddress::from(source)));
        }
        match index {
            Some(index) => attributes.push(RouteAttribute::Oif(index)),
            None => message.header.kind = RouteType::Unreachable,
        }
        Ok(message)
    }
}

fn setting(path: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(path)
}

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Not replaced by a rename: a resolver file may be bind-mounted.
    fs::write(path, text)
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [libc::ENOENT, libc::ENODEV, libc::ESRCH, libc::EADDRNOTAVAIL];
    error.kind() == io::ErrorKind::NotFound
        || error
            .raw_os_error()
            .is_some_and(|code| gone.contains(&code))
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// Interface names by number.
type Names = BTreeMap<u32, String>;
