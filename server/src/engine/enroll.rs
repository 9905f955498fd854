//! Tokens and revocations, each in one transaction with its line in the audit log.

use doorstep_daemon::dry_run::Run;

use super::{Engine, EngineError, Result, now_ms};
use crate::enroll::{Taken, TokenRow};
use crate::store::Who;

/// How long an ended token is remembered.
const REMEMBERED_MS: i64 = 30 * 24 * 3_600_000;

impl Engine {
    pub async fn add_token(&self, hash: &str, row: &TokenRow, run: Run) -> Result<()> {
        if !run.is_dry() {
            let forget_ms = row.created_ms - REMEMBERED_MS;
            self.store.forget_tokens(forget_ms).await?;
        }
        let (hash, row) = (hash.to_owned(), row.clone());
        self.store
            .change_or_try(run, move |work| {
                work.write_token(&hash, row.clone());
                let detail = format!("for gateway {}", row.gateway);
                let action = "create-token";
                work.audit(Who::Operator, action, None, None, &detail, row.created_ms);
                Ok(())
            })
            .await
    }

    /// Durable before it returns: what is taken once is never taken again.
    pub async fn take_token(&self, hash: &str, gateway: &str) -> Result<Taken> {
        let (hash, gateway) = (hash.to_owned(), gateway.to_owned());
        let at_ms = now_ms();
        self.store
            .change(move |work| {
                let Some(row) = work.token(&hash)? else {
                    // Anybody can make these up; the log is not to grow by them.
                    return Ok::<_, EngineError>(Taken::Unknown);
                };
                let is_good = row.gateway == gateway && row.expires_ms > at_ms;
                let (taken, action) = match row.used_ms {
                    Some(_) => (Taken::Before, "refuse-token"),
                    None if is_good => (Taken::Now, "enroll-gateway"),
                    None => (Taken::Expired, "refuse-token"),
                };
                if taken == Taken::Now {
                    let used_ms = Some(at_ms);
                    work.write_token(&hash, TokenRow { used_ms, ..row });
                }
                let detail = format!("gateway {gateway}: {taken:?}");
                work.audit(Who::Gateway, action, None, None, &detail, at_ms);
                Ok(taken)
            })
            .await
    }

    /// Returns the time up to which certificates are void.
    pub async fn revoke_gateway(&self, gateway: &str, run: Run) -> Result<i64> {
        let gateway = gateway.to_owned();
        let until_ms = now_ms();
        self.store
            .change_or_try(run, move |work| {
                work.revoke(&gateway, until_ms);
                let detail = format!("gateway {gateway}");
                let action = "revoke-gateway";
                work.audit(Who::Operator, action, None, None, &detail, until_ms);
                Ok::<_, EngineError>(until_ms)
            })
            .await
    }
}
