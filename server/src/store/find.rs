//! Subscribers by their numbers.

use std::collections::HashMap;

use uuid::Uuid;

use super::numbers::SELECT_CLAIMS;
use super::sql::{Statement, Value};
use super::{Result, Store};

impl Store {
    /// Who has which of these claims, as of now.
    pub async fn owners(
        &self,
        claims: impl IntoIterator<Item = &[u8]>,
    ) -> Result<HashMap<Vec<u8>, Uuid>> {
        let claims = claims.into_iter().map(Value::from).collect();
        let rows = self
            .read_one(Statement::keys(SELECT_CLAIMS, claims))
            .await?;
        rows.iter()
            .map(|row| {
                let row = &mut row.read();
                Ok((row.bytes()?, row.id()?))
            })
            .collect()
    }
}
