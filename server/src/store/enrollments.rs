//! Enrollment tokens and revocations.

use super::sql::{Row, Statement};
use super::{Result, Store};
use crate::enroll::TokenRow;

/// Compare and set: of several servers that use a token up at the same time one succeeds.
pub(super) const WRITE_TOKENS: (&str, &str) = (
    "INSERT INTO enrollments (token_hash, gateway, created_ms, expires_ms, used_ms)",
    "ON CONFLICT (token_hash) DO UPDATE SET used_ms = excluded.used_ms \
     WHERE enrollments.used_ms IS NULL RETURNING token_hash",
);
pub(super) const SELECT_TOKENS: &str =
    "SELECT token_hash, gateway, created_ms, expires_ms, used_ms FROM enrollments WHERE token_hash";
pub(super) const WRITE_REVOCATIONS: (&str, &str) = (
    "INSERT INTO revocations (gateway, issued_until_ms)",
    "ON CONFLICT (gateway) DO UPDATE SET issued_until_ms = excluded.issued_until_ms",
);

/// A token by its hash.
pub(super) fn read_token(row: &Row) -> Result<(String, TokenRow)> {
    let row = &mut row.read();
    Ok((
        row.text()?,
        TokenRow {
            gateway: row.text()?,
            created_ms: row.int()?,
            expires_ms: row.int()?,
            used_ms: row.optional_int()?,
        },
    ))
}

impl Store {
    /// Forgets tokens that ended before a time.
    pub async fn forget_tokens(&self, before_ms: i64) -> Result<()> {
        self.backend
            .write(vec![Statement::marks(
                "DELETE FROM enrollments WHERE expires_ms < ?",
                vec![before_ms.into()],
            )])
            .await
            .map(drop)
    }

    /// The newest first.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>> {
        self.select(
            "SELECT gateway, created_ms, expires_ms, used_ms FROM enrollments \
             ORDER BY created_ms DESC LIMIT 1000",
            vec![],
        )
        .await?
        .iter()
        .map(|row| {
            let row = &mut row.read();
            Ok(TokenRow {
                gateway: row.text()?,
                created_ms: row.int()?,
                expires_ms: row.int()?,
                used_ms: row.optional_int()?,
            })
        })
        .collect()
    }

    pub async fn revocations(&self) -> Result<Vec<(String, i64)>> {
        self.select("SELECT gateway, issued_until_ms FROM revocations", vec![])
            .await?
            .iter()
            .map(|row| {
                let row = &mut row.read();
                Ok((row.text()?, row.int()?))
            })
            .collect()
    }
}
