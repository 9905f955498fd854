//! What the server takes on, and what it refuses so that the rest is served in time.
//!
//! The order is that of the costs: connections before the handshake, requests before their message
//! is read (`admission.rs`), credentials before they are looked up, and only then seals and tables.

mod admission;
mod answered;
mod bucket;
mod places;
mod refusal;
mod source;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

pub use admission::Admission;
pub use answered::Answered;
pub use bucket::{Bucket, Buckets};
pub use places::Place;
use places::{Full, Places};
pub use refusal::{Reason, Refusals, exhausted};
pub use source::Source;
use tonic::Status;
use uuid::Uuid;

use crate::config::{Limits, Rate};
use crate::vault::Secret;

/// The limits of a running server, with what has been used of them.
pub struct Guard {
    pub refusals: Refusals,
    pub answered: Arc<Answered>,
    connections: Arc<Places<Source>>,
    requests: Arc<Places<Source>>,
    watches: Arc<Places<Uuid>>,
    sources: Buckets<Source>,
    registrations: Buckets<Source>,
    credentials: Buckets<u64>,
    gateway_streams: Buckets<String>,
    gateway_messages: Rate,
    /// Makes keys of credentials, other ones in each process.
    hasher: RandomState,
}

impl Guard {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Guard {
            refusals: Refusals::default(),
            answered: Arc::default(),
            connections: Places::new(limits.connections, limits.connections_per_source),
            requests: Places::new(
                limits.concurrent_requests,
                limits.concurrent_requests_per_source,
            ),
            // Of all together the hub keeps count.
            watches: Places::new(usize::MAX, limits.watches_per_subscriber),
            sources: Buckets::new(limits.source_rate),
            registrations: Buckets::new(limits.registration_rate),
            credentials: Buckets::new(limits.subscriber_rate),
            gateway_streams: Buckets::new(limits.gateway_stream_rate),
            gateway_messages: limits.gateway_message_rate,
            hasher: RandomState::new(),
        })
    }

    /// A connection's place, or `None`: then it is closed before it costs a handshake.
    pub fn connection(&self, source: Source) -> Option<Place<Source>> {
        let full = match self.connections.take(source) {
            Ok(place) => return Some(place),
            Err(full) => full,
        };
        self.refusals.count(match full {
            Full::Altogether => Reason::Connections,
            Full::ForKey => Reason::SourceConnections,
        });
        None
    }

    /// Before credentials are looked up. The secret is a part of the key, so that nobody can use up
    /// what is another's, whose id is all that they know.
    pub fn credentials(&self, subscriber: Uuid, secret: &Secret) -> Result<(), Status> {
        let key = self.hasher.hash_one((subscriber, secret.as_bytes()));
        self.credentials
            .take(&key)
            .map_err(|after| self.refusals.refuse(Reason::SubscriberRate, Some(after)))
    }

    /// Before a phone is looked up that shows this.
    pub fn phone(&self, token: &str) -> Result<(), Status> {
        let key = self.hasher.hash_one(("phone", token));
        self.credentials
            .take(&key)
            .map_err(|after| self.refusals.refuse(Reason::SubscriberRate, Some(after)))
    }

    /// A place for one of an authenticated subscriber's Watch streams.
    pub fn watch(&self, subscriber: Uuid) -> Result<Place<Uuid>, Status> {
        self.watches
            .take(subscriber)
            .map_err(|_| self.refusals.refuse(Reason::SubscriberWatches, None))
    }

    /// Before anything of a gateway's stream is read.
    pub fn gateway_stream(&self, gateway: &str) -> Result<(), Status> {
        self.gateway_streams
            .take(&gateway.to_owned())
            .map_err(|after| self.refusals.refuse(Reason::GatewayStreams, Some(after)))
    }

    /// The messages of one gateway's stream.
    pub fn gateway_messages(&self) -> Bucket {
        Bucket::new(self.gateway_messages)
    }
}
