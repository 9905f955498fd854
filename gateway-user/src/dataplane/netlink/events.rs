//! What changes in the kernel, as it happens.

use futures::StreamExt as _;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::task::JoinHandle;

use super::{Link, Neighbour, parse, socket};
use crate::dataplane::DataplaneError;

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
];

/// Something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dataplane) enum Event {
    /// The link is there, or is another now.
    Link(Link),
    /// The link of this index is gone.
    LinkGone(u32),
    Neighbour(Neighbour),
    /// A default route of this table has come, gone or changed.
    DefaultRoute {
        table: u32,
    },
    /// A link's addresses: the kernel takes the routes of an address with it and says nothing.
    Address {
        ifindex: u32,
    },
}

/// A socket that hears of every change.
pub(in crate::dataplane) struct Events {
    messages: futures::channel::mpsc::UnboundedReceiver<(
        NetlinkMessage<RouteNetlinkMessage>,
        rtnetlink::sys::SocketAddr,
    )>,
    connection: JoinHandle<()>,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Events {
    pub(in crate::dataplane) fn open() -> Result<Self, DataplaneError> {
        let (connection, _, messages) = new_multicast_connection(&GROUPS).map_err(socket)?;
        Ok(Self {
            messages,
            connection: tokio::spawn(connection),
        })
    }

    /// Hears no more. What is dropped without this has the connection complain of every message
    /// that nobody takes from it any more.
    pub(in crate::dataplane) async fn close(mut self) {
        self.connection.abort();
        // That it was aborted is no news.
        let _ = (&mut self.connection).await;
    }

    /// The next change; none when events may have been lost: listen and list anew.
    pub(in crate::dataplane) async fn next(&mut self) -> Option<Event> {
        loop {
            let (message, _) = self.messages.next().await?;
            match message.payload {
                NetlinkPayload::InnerMessage(message) => {
                    if let Some(event) = event(message) {
                        return Some(event);
                    }
                }
                NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_) => return None,
                _ => {}
            }
        }
    }
}

fn event(message: RouteNetlinkMessage) -> Option<Event> {
    use RouteNetlinkMessage as Message;
    match message {
        Message::NewLink(message) => parse::link(message).map(Event::Link),
        Message::DelLink(message) => parse::link(message).map(|link| Event::LinkGone(link.index)),
        Message::NewNeighbour(message) => parse::neighbour(&message).map(Event::Neighbour),
        Message::DelNeighbour(message) => parse::neighbour(&message).map(|neighbour| {
            Event::Neighbour(Neighbour {
                mac: None,
                ..neighbour
            })
        }),
        Message::NewRoute(message) | Message::DelRoute(message) => {
            let table = parse::default_route(&message)?.table;
            Some(Event::DefaultRoute { table })
        }
        Message::NewAddress(message) | Message::DelAddress(message) => Some(Event::Address {
            ifindex: message.header.index,
        }),
        _ => None,
    }
}
