//! Tokens and revocations, with their lines in the audit log.

use uuid::Uuid;

use super::{Engine, Result, now_ms};
use crate::enroll::{Taken, TokenRow};
use crate::store::Who;

/// How long an ended token is remembered.
const REMEMBERED_MS: i64 = 30 * 24 * 3_600_000;

impl Engine {
    pub async fn add_token(&self, hash: &str, row: &TokenRow) -> Result<()> {
        let detail = format!("for gateway {}", row.gateway);
        // First: no token without its line.
        self.note(Who::Operator, "create-token", detail).await?;
        let forget_ms = row.created_ms - REMEMBERED_MS;
        Ok(self.store.insert_token(hash, row, forget_ms).await?)
    }

    /// Durable before it returns: what is taken once is never taken again.
    pub async fn take_token(&self, hash: &str, gateway: &str) -> Result<Taken> {
        let taken = self.store.take_token(hash, gateway, now_ms()).await?;
        let action = match taken {
            Taken::Now => "enroll-gateway",
            Taken::Before | Taken::Expired => "refuse-token",
            // Anybody can make these up; the log is not to grow by them.
            Taken::Unknown => return Ok(taken),
        };
        let detail = format!("gateway {gateway}: {taken:?}");
        self.note(Who::Gateway, action, detail).await?;
        Ok(taken)
    }

    /// Returns the time up to which certificates are void.
    pub async fn revoke_gateway(&self, gateway: &str) -> Result<i64> {
        let detail = format!("gateway {gateway}");
        self.note(Who::Operator, "revoke-gateway", detail).await?;
        let until_ms = now_ms();
        self.store.set_revocation(gateway, until_ms).await?;
        Ok(until_ms)
    }

    async fn note(&self, who: Who, action: &'static str, detail: String) -> Result<()> {
        let at_ms = now_ms();
        self.store
            .change(Uuid::new_v4(), move |work| {
                work.audit(who, action, None, None, &detail, at_ms);
                Ok(())
            })
            .await
    }
}
