//! What the server does: each request or message becomes one transaction, and then wakes those
//! who must look again.

mod access;
mod accounts;
mod bulk;
pub mod contact;
mod counts;
mod enroll;
mod gateway;
mod identity;
mod operator;
mod phones;
mod places;
mod plans;
mod refused;
mod retention;
mod service;
mod why;

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use access::{AccessKind, AccessRequest, Granted};
pub use accounts::AccountChange;
pub use bulk::{Bound, Imported, ToBind, ToImport, Which};
pub use counts::Counted;
use doorstep_location::sealed::Keyring;
pub use gateway::{Applied, GatewayEvent};
pub use identity::{IdentityKey, retire_offline};
pub use phones::{CODE_MS, SignedIn};
pub use plans::Reloaded;
pub use retention::Pruned;
pub use service::Wanted;
use tokio::sync::{Mutex, Notify};
pub use why::{Explained, Subject};

use crate::account::Right;
use crate::config::{Config, Plans};
use crate::hub::Hub;
use crate::keys::Keys;
use crate::limits::Guard;
use crate::session::Session;
use crate::session::machine::{self, Denied, Event, Outcome};
use crate::store::{Database, Store, StoreError, Who, Work};
use crate::vault::{Vault, VaultError};

/// For an answer of the database in this process.
const ALIVE_PATIENCE: Duration = Duration::from_secs(5);

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
    #[error("this account's role may not {}; it needs the role {}", .0.name(), .0.least())]
    Forbidden(Right),
    #[error("no gateway of this operator serves this location")]
    NoGateway,
    #[error("{0}")]
    NotFound(&'static str),
    #[error("{0}")]
    Precondition(String),
    #[error("{0}")]
    Exhausted(String),
    #[error("the server has more to do than it can; ask again a little later")]
    Busy,
    #[error("{0}")]
    Interrupted(&'static str),
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::PoolExhausted { .. } => EngineError::Exhausted(error.to_string()),
            StoreError::Busy => EngineError::Busy,
            StoreError::Closed => {
                EngineError::Interrupted("the server is shutting down; ask again")
            }
            StoreError::Conflict => EngineError::Interrupted(
                "other servers changed the same rows again and again; ask again",
            ),
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
    pub guard: Arc<Guard>,
    keyring: Keyring,
    /// As the key files were when they were last looked at.
    vault: RwLock<Arc<Vault>>,
    /// As the configuration's were when they were last taken up.
    plans: RwLock<Arc<Plans>>,
    plans_changed: Notify,
    unfollowed: std::sync::Mutex<BTreeSet<String>>,
    reload_turn: Mutex<()>,
    refused_requests: refused::RefusedRequests,
    /// Has the walk over rows of older identity keys begin at once.
    walk_now: Notify,
    counts: counts::Counts,
}

impl Engine {
    /// Opens the database and brings what it says up to the configuration.
    pub async fn open(config: Arc<Config>, database: &Database, keys: Keys) -> Result<Arc<Self>> {
        let hub = Hub::new(config.limits.watches);
        let (own, others) = (Arc::clone(&hub), Arc::clone(&hub));
        let store = Store::open(
            database,
            keys.audit,
            move |committed| own.committed(committed),
            move |hint| others.hear(hint),
        )
        .await?;
        let guard = Guard::new(&config.limits);
        let plans = config.plans.iter().map(|plan| plan.name.clone());
        let engine = Arc::new(Engine {
            unfollowed: std::sync::Mutex::new(plans.collect()),
            plans: RwLock::new(Arc::new(config.plans.clone())),
            plans_changed: Notify::new(),
            reload_turn: Mutex::default(),
            refused_requests: refused::RefusedRequests::default(),
            config,
            store,
            hub,
            guard,
            keyring: keys.keyring,
            vault: RwLock::new(Arc::new(keys.vault)),
            walk_now: Notify::new(),
            counts: counts::Counts::default(),
        });
        engine.follow_pools().await?;
        Ok(engine)
    }

    pub fn allows_legacy_seals(&self) -> bool {
        self.keyring.allows_legacy()
    }

    /// Whether the server's own parts work. An error of the database is an answer; and one elsewhere
    /// that says nothing is not brought back by a new start of this server.
    pub async fn is_alive(&self) -> bool {
        let asked = tokio::time::timeout(ALIVE_PATIENCE, self.store.answers());
        asked.await.is_ok() || matches!(self.config.database, Database::Postgres(_))
    }

    /// Lets the state machine decide about one event and makes its change.
    fn drive(
        work: &mut Work<'_>,
        session: &Session,
        event: Event<'_>,
        who: Who,
        at_ms: i64,
    ) -> Result<Outcome> {
        let outcome = machine::apply(session, event);
        if let Outcome::Changed(change) = &outcome {
            work.apply(session, change, who, at_ms)?;
        }
        Ok(outcome)
    }
}

pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
