//! The listeners of the WAN ports, as many as are configured.

use std::collections::BTreeMap;

use doorstep_establish::Tags;
use rtnetlink::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::events::Event;
use super::port;
use crate::config::{Wan, WanTags};
use crate::packet::Hearing;

pub(super) struct Ears {
    handle: Handle,
    pub events: mpsc::Sender<Event>,
    hearing: Option<Hearing>,
    ports: BTreeMap<String, AbortOnDropHandle<()>>,
}

impl Ears {
    pub(super) fn new(handle: Handle, events: mpsc::Sender<Event>) -> Self {
        Self {
            handle,
            events,
            hearing: None,
            ports: BTreeMap::new(),
        }
    }

    /// Hears on these ports and on no others; those that it hears on already are not disturbed.
    pub(super) fn hear(&mut self, wan: &Wan) {
        let hearing = match wan.tags {
            WanTags::Fixed(Tags::NONE) => Hearing::Multicast,
            _ => Hearing::Everything,
        };
        if self.hearing != Some(hearing) {
            self.hearing = Some(hearing);
            self.ports.clear();
        }
        self.ports.retain(|name, _| wan.ports.contains(name));
        for name in &wan.ports {
            let listen = || {
                let (handle, events) = (self.handle.clone(), self.events.clone());
                let listen = port::listen(name.clone(), hearing, handle, events);
                AbortOnDropHandle::new(tokio::spawn(listen))
            };
            self.ports.entry(name.clone()).or_insert_with(listen);
        }
    }
}
