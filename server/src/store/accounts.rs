//! Accounts of the operator's people: rows to values and back.

use std::fmt;

use super::sql::{Reader, Row, Value};
use super::{Result, Store, StoreError};
use crate::account::{Name, Role};

#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    pub name: Name,
    pub role: Role,
    /// A PHC string.
    pub password_hash: String,
    pub password_ms: i64,
    pub is_disabled: bool,
    pub created_ms: i64,
    /// Of the row as it was loaded; 0: it is not there yet.
    version: i64,
}

/// Without the hash.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("is_disabled", &self.is_disabled)
            .finish_non_exhaustive()
    }
}

macro_rules! select_accounts {
    ($rest:literal) => {
        concat!(
            "SELECT name, version, role, password_hash, password_ms, disabled, created_ms \
             FROM accounts ",
            $rest
        )
    };
}
pub(super) use select_accounts;

/// Compare and set, as sessions are written.
pub(super) const WRITE: (&str, &str) = (
    "INSERT INTO accounts (name, version, role, password_hash, password_ms, disabled, created_ms)",
    "ON CONFLICT (name) DO UPDATE SET version = excluded.version, role = excluded.role, \
     password_hash = excluded.password_hash, password_ms = excluded.password_ms, \
     disabled = excluded.disabled WHERE accounts.version = excluded.version - 1 RETURNING name",
);

impl Account {
    #[must_use]
    pub fn new(name: Name, role: Role, password_hash: String, at_ms: i64) -> Self {
        Account {
            name,
            role,
            password_hash,
            password_ms: at_ms,
            is_disabled: false,
            created_ms: at_ms,
            version: 0,
        }
    }

    pub(super) fn values(&self) -> Vec<Value> {
        vec![
            self.name.as_str().into(),
            (self.version + 1).into(),
            self.role.name().into(),
            self.password_hash.as_str().into(),
            self.password_ms.into(),
            i64::from(self.is_disabled).into(),
            self.created_ms.into(),
        ]
    }
}

/// In the order of `select_accounts`.
pub(super) fn read(row: &Row) -> Result<Account> {
    let row = &mut row.read();
    Ok(Account {
        name: row.parsed()?,
        version: row.int()?,
        role: read_role(row)?,
        password_hash: row.text()?,
        password_ms: row.int()?,
        is_disabled: row.int()? != 0,
        created_ms: row.int()?,
    })
}

fn read_role(row: &mut Reader<'_>) -> Result<Role> {
    let role = row.text()?;
    Role::from_name(&role)
        .ok_or_else(|| StoreError::Failed(format!("an account has the unknown role {role}")))
}

impl Store {
    pub async fn account(&self, name: Name) -> Result<Option<Account>> {
        let values = vec![name.as_str().into()];
        let rows = self
            .select(select_accounts!("WHERE name = ?"), values)
            .await?;
        rows.first().map(read).transpose()
    }

    /// All of them, by name.
    pub async fn accounts(&self) -> Result<Vec<Account>> {
        self.select(select_accounts!("ORDER BY name"), vec![])
            .await?
            .iter()
            .map(read)
            .collect()
    }
}
