//! Which certificates are void, in memory: read from the database again and again, because
//! another replica may have been told.

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;

use crate::store::{self, Store};

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the certificate of gateway {0} is revoked; enroll it anew with a token of `doorstep-server pki token {0}`"
)]
pub struct Revoked(pub String);

#[derive(Clone, Debug)]
pub struct Revocations(Arc<watch::Sender<HashMap<String, i64>>>);

impl Revocations {
    pub async fn load(store: &Store) -> store::Result<Self> {
        let this = Revocations(Arc::new(watch::Sender::default()));
        this.refresh(store).await?;
        Ok(this)
    }

    pub async fn refresh(&self, store: &Store) -> store::Result<()> {
        let rows: HashMap<_, _> = store.revocations().await?.into_iter().collect();
        self.0.send_if_modified(|known| {
            let changed = *known != rows;
            *known = rows;
            changed
        });
        Ok(())
    }

    /// Refuses a certificate of this gateway that was issued at this time.
    pub fn check(&self, gateway: &str, issued_ms: i64) -> Result<(), Revoked> {
        match self.0.borrow().get(gateway) {
            Some(until_ms) if issued_ms <= *until_ms => Err(Revoked(gateway.to_owned())),
            _ => Ok(()),
        }
    }

    /// Returns once it is refused.
    pub async fn until_refused(&self, gateway: &str, issued_ms: i64) -> Revoked {
        let mut changes = self.0.subscribe();
        loop {
            changes.mark_unchanged();
            if let Err(revoked) = self.check(gateway, issued_ms) {
                return revoked;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
