//! Lists of the kernel's, whole or not at all.

use std::time::Duration;

use futures::StreamExt as _;
use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Error, Handle};
use tokio::time::sleep;

/// How often a list is asked for that changes while it is read, and the pause in between.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// What the kernel lists. A list that something changed meanwhile may lack rows or have them
/// twice: it is asked for again.
pub(super) async fn dump(
    handle: &Handle,
    what: RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>, Error> {
    for _ in 1..ATTEMPTS {
        if let Some(rows) = attempt(handle, what.clone()).await? {
            return Ok(rows);
        }
        sleep(PAUSE).await;
    }
    let last = attempt(handle, what).await?;
    last.ok_or(Error::RequestFailed)
}

/// The rows; none if the list was interrupted.
async fn attempt(
    handle: &Handle,
    what: RouteNetlinkMessage,
) -> Result<Option<Vec<RouteNetlinkMessage>>, Error> {
    let mut request = NetlinkMessage::from(what);
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut answer = handle.clone().request(request)?;
    let (mut rows, mut whole) = (Vec::new(), true);
    while let Some(message) = answer.next().await {
        whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
        match message.payload {
            NetlinkPayload::InnerMessage(row) => rows.push(row),
            NetlinkPayload::Error(error) => return Err(Error::NetlinkError(error)),
            NetlinkPayload::Overrun(_) => whole = false,
            _ => {}
        }
    }
    Ok(whole.then_some(rows))
}
