//! What the kernel tells of links, addresses and routes, as far as it may concern this terminal's.

use futures::StreamExt as _;
use rtnetlink::packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::events::Event;

/// Where changes are told.
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

pub(super) type Changes = futures::channel::mpsc::UnboundedReceiver<(
    NetlinkMessage<RouteNetlinkMessage>,
    rtnetlink::sys::SocketAddr,
)>;

/// A way to ask the kernel, what it tells by itself, and what must be kept for both.
pub(super) fn netlink() -> std::io::Result<(Handle, Changes, AbortOnDropHandle<()>)> {
    let (connection, handle, changes) = rtnetlink::new_multicast_connection(&GROUPS)?;
    Ok((
        handle,
        changes,
        AbortOnDropHandle::new(tokio::spawn(connection)),
    ))
}

/// Passes on what may mean that something of ours is not as it was.
pub(super) async fn follow(mut changes: Changes, events: mpsc::Sender<Event>) {
    while let Some((message, _)) = changes.next().await {
        let Some(event) = event(&message) else {
            continue;
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// What a neighbour's state becomes, and what is added beside ours, happens all the time.
fn event(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    let NetlinkPayload::InnerMessage(inner) = &message.payload else {
        return None;
    };
    match inner {
        RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_) => {
            Some(Event::LinksChanged)
        }
        RouteNetlinkMessage::DelAddress(_)
        | RouteNetlinkMessage::DelRoute(_)
        | RouteNetlinkMessage::DelRule(_)
        | RouteNetlinkMessage::DelNeighbour(_) => Some(Event::Disturbed),
        RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::NewNeighbour(_)
            if message.header.flags & NLM_F_REPLACE != 0 =>
        {
            Some(Event::Disturbed)
        }
        _ => None,
    }
}
