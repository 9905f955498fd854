//! Listening on one WAN port, whatever becomes of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use doorstep_establish::Mac;
use futures::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{info, warn};

use super::events::Event;
use crate::packet::{Hearing, Port};

/// Between two attempts: a port that is put back is heard again within this time.
const PAUSE: Duration = Duration::from_millis(250);

/// Opens the port again and again, as it comes and goes.
pub(super) async fn listen(
    name: String,
    hearing: Hearing,
    handle: Handle,
    events: mpsc::Sender<Event>,
) {
    let mut told = String::new();
    loop {
        let error = match hear(&name, hearing, &handle, &events, &mut told).await {
            Ok(()) => return,
            Err(error) => error.to_string(),
        };
        if error != told {
            warn!(port = name, error, "WAN port cannot be heard; trying again");
            told.clone_from(&error);
            let closed = Event::PortClosed {
                name: name.clone(),
                detail: error,
            };
            if events.send(closed).await.is_err() {
                return;
            }
        }
        sleep(PAUSE).await;
    }
}

async fn hear(
    name: &str,
    hearing: Hearing,
    handle: &Handle,
    events: &mpsc::Sender<Event>,
    told: &mut String,
) -> io::Result<()> {
    let (index, mac) = find(name, handle).await?;
    let port = Arc::new(Port::open(index, hearing)?);
    info!(port = name, %mac, "listening");
    told.clear();
    let open = Event::PortOpen {
        name: name.to_owned(),
        port: Arc::clone(&port),
        mac,
    };
    if events.send(open).await.is_err() {
        return Ok(());
    }
    loop {
        let frame = port.receive().await?;
        if events
            .send(Event::Frame {
                port: name.to_owned(),
                frame,
            })
            .await
            .is_err()
        {
            return Ok(());
        }
    }
}

async fn find(name: &str, handle: &Handle) -> io::Result<(u32, Mac)> {
    let absent = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no interface {name}"),
        )
    };
    let links = handle.link().get().match_name(name.to_owned()).execute();
    let mut links = std::pin::pin!(links);
    let link = links
        .try_next()
        .await
        .map_err(|_| absent())?
        .ok_or_else(absent)?;
    if !link.header.flags.contains(LinkFlags::Up) {
        return Err(io::Error::new(
            io::ErrorKind::NetworkDown,
            format!("{name} is down"),
        ));
    }
    let mac = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(&bytes[..]).ok().map(Mac),
            _ => None,
        });
    let mac = mac.filter(|mac| mac.is_station());
    let no_ethernet = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name} has no Ethernet address"),
        )
    };
    Ok((link.header.index, mac.ok_or_else(no_ethernet)?))
}
