//! Enrollment tokens and revocations. Each change is one statement that decides by itself, so it
//! needs no version: of several servers at once, one succeeds.

use super::sql::Statement;
use super::{Result, Store};
use crate::enroll::{Taken, TokenRow};

impl Store {
    /// Records a new token, and forgets those that ended before a time.
    pub async fn insert_token(&self, hash: &str, row: &TokenRow, forget_ms: i64) -> Result<()> {
        self.backend
            .write(vec![
                Statement::marks(
                    "DELETE FROM enrollments WHERE expires_ms < ?",
                    vec![forget_ms.into()],
                ),
                Statement::marks(
                    "INSERT INTO enrollments (token_hash, gateway, created_ms, expires_ms) \
                     VALUES (?, ?, ?, ?)",
                    vec![
                        hash.into(),
                        row.gateway.as_str().into(),
                        row.created_ms.into(),
                        row.expires_ms.into(),
                    ],
                ),
            ])
            .await
            .map(drop)
    }

    /// Uses a token up, if it is good; durable when it returns.
    pub async fn take_token(&self, hash: &str, gateway: &str, now_ms: i64) -> Result<Taken> {
        let returned = self
            .backend
            .write(vec![
                Statement::marks(
                    "UPDATE enrollments SET used_ms = ? WHERE token_hash = ? AND gateway = ? \
                     AND used_ms IS NULL AND expires_ms > ? RETURNING token_hash",
                    vec![now_ms.into(), hash.into(), gateway.into(), now_ms.into()],
                ),
                Statement::marks(
                    "SELECT used_ms FROM enrollments WHERE token_hash = ?",
                    vec![hash.into()],
                ),
            ])
            .await?;
        if returned.first().is_some_and(|rows| !rows.is_empty()) {
            return Ok(Taken::Now);
        }
        match returned.get(1).and_then(|rows| rows.first()) {
            None => Ok(Taken::Unknown),
            Some(row) => Ok(match row.read().optional_int()? {
                Some(_) => Taken::Before,
                None => Taken::Expired,
            }),
        }
    }

    pub async fn set_revocation(&self, gateway: &str, issued_until_ms: i64) -> Result<()> {
        self.backend
            .write(vec![Statement::marks(
                "INSERT INTO revocations (gateway, issued_until_ms) VALUES (?, ?) \
                 ON CONFLICT (gateway) DO UPDATE SET issued_until_ms = excluded.issued_until_ms",
                vec![gateway.into(), issued_until_ms.into()],
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
