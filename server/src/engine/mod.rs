//! What the server does: each request or message becomes one transaction, and then wakes those
//! who must look again.

mod access;
mod gateway;
mod operator;
mod service;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use doorstep_location::sealed::Keyring;
use uuid::Uuid;

pub use access::{AccessKind, AccessRequest, Granted};
pub use gateway::{Applied, GatewayEvent};
pub use service::Wanted;

use crate::config::Config;
use crate::hub::Hub;
use crate::session::Session;
use crate::session::machine::{self, Change, Denied, Event, Outcome};
use crate::store::{Store, StoreError, Tx, Who};
use crate::vault::{Vault, VaultError};

/// Audit action of every legacy seal presented, accepted or refused.
pub const AUDIT_LEGACY_SEAL: &str = "legacy-seal";

/// Why a request is refused. Texts never hold numbers, secrets or locations in the clear.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("invalid request: {0}")]
    Invalid(String),
    #[error("unknown subscriber or wrong secret; register, or ask the operator for a new secret")]
    Unauthenticated,
    #[error(
        "a number given is registered already; use its credentials, or ask the operator for a new secret"
    )]
    AlreadyRegistered,
    #[error("no gateway of this operator serves this location")]
    NoGateway,
    #[error("{0}")]
    NotFound(&'static str),
    #[error("{0}")]
    Precondition(String),
    #[error("{0}")]
    Exhausted(String),
    #[error("the server is shutting down; ask again")]
    Interrupted,
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::PoolExhausted { .. } => EngineError::Exhausted(error.to_string()),
            other => EngineError::Store(other),
        }
    }
}

impl From<Denied> for EngineError {
    fn from(denied: Denied) -> Self {
        EngineError::Precondition(denied.to_string())
    }
}

pub type Result<T> = std::result::Result<T, EngineError>;

/// Shared by all services.
pub struct Engine {
    pub config: Arc<Config>,
    pub store: Store,
    pub hub: Arc<Hub>,
    keyring: Keyring,
    vault: Vault,
}

/// What is to be done once a transaction is durable.
#[derive(Default)]
struct Wakes {
    gateways: Vec<(String, Uuid)>,
    watches: Vec<Uuid>,
}

impl Engine {
    pub fn new(config: Arc<Config>, store: Store, keyring: Keyring, vault: Vault) -> Arc<Self> {
        Arc::new(Engine {
            hub: Hub::new(config.limits.watches),
            config,
            store,
            keyring,
            vault,
        })
    }

    pub fn allows_legacy_seals(&self) -> bool {
        self.keyring.allows_legacy()
    }

    /// Lets the state machine decide about one event and writes its change.
    async fn drive(
        &self,
        tx: &mut Tx,
        wakes: &mut Wakes,
        session: &Session,
        event: Event<'_>,
        who: Who,
        at_ms: i64,
    ) -> Result<Outcome> {
        let outcome = machine::apply(session, event);
        if let Outcome::Changed(change) = &outcome {
            tx.apply(session, change, who, at_ms).await?;
            wakes.add(change);
        }
        Ok(outcome)
    }

    /// Commits and wakes. A task of its own, because a caller that hangs up between the commit and
    /// the waking must not leave a gateway asleep.
    async fn commit(&self, tx: Tx, wakes: Wakes) -> Result<()> {
        let hub = Arc::clone(&self.hub);
        let task = tokio::spawn(async move {
            tx.commit().await?;
            for (gateway, session) in wakes.gateways {
                hub.wake_gateway(&gateway, session);
            }
            for session in wakes.watches {
                hub.wake_watches(session);
            }
            Ok(())
        });
        match task.await {
            Ok(committed) => committed,
            Err(_) => Err(EngineError::Interrupted),
        }
    }
}

impl Wakes {
    fn add(&mut self, change: &Change) {
        let session = &change.session;
        if change.instruct {
            self.gateways
                .push((session.connection.gateway.clone(), session.id));
        }
        if change.step {
            self.watches.push(session.id);
            tracing::info!(
                session = %session.id,
                generation = session.generation,
                state = %session.state,
                gateway = session.connection.gateway,
                "session changed"
            );
        }
    }
}

pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
