//! Rows for the store's tests.

use uuid::Uuid;

use crate::session::service::Grant;
use crate::session::{Addresses, Connection, Establishment, SealedSecret, Session, State};

/// A session of the first subscriber's, about to be connected.
pub fn session(id: Uuid) -> Session {
    Session {
        id,
        subscriber: Uuid::from_u128(1),
        generation: 1,
        state: State::Connecting,
        establishment: Establishment::Terminal,
        connection: Connection {
            location: "110103-xinjingjiayuan-001-002-004".parse().unwrap(),
            gateway: "gw1".to_owned(),
            addresses: Addresses::default(),
            key: SealedSecret(vec![1]),
        },
        target: None,
        service: Grant::default(),
        detail: String::new(),
    }
}
