//! The JSON forms of keys and certificates: field names are part of the interface.

use std::path::PathBuf;

use serde::Serialize;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Keys {
    pub sealing_key: String,
    pub sealing_key_id: String,
    pub ca: PathBuf,
    pub ca_sha256: String,
    pub server_sha256: String,
    pub server_until_unix_ms: i64,
    pub server_names: Vec<String>,
}

/// Of a dry run of `pki init`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct KeysToBe {
    pub folder: PathBuf,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Issued {
    pub gateway_id: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IdentityKey {
    pub key: u32,
    /// `next`, `current`, `old` or `retired`.
    pub state: &'static str,
    pub file: PathBuf,
    /// Rows that need it; null: of the current key, and where the database cannot be read.
    pub subscribers: Option<u64>,
    pub sessions: Option<u64>,
    pub answers: Option<u64>,
}

/// Of a dry run, as it would be.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IdentityKeyToBe {
    pub key: u32,
    pub state: &'static str,
    pub file: PathBuf,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sealed {
    pub location_id: String,
    pub sealed: String,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Token<'a> {
    pub gateway_id: String,
    /// Null: it is in the file, or of a dry run.
    pub token: Option<&'a str>,
    pub file: Option<PathBuf>,
    pub expires_unix_ms: i64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TokenRow {
    pub gateway_id: String,
    pub created_unix_ms: i64,
    pub expires_unix_ms: i64,
    /// Null: it was not used.
    pub used_unix_ms: Option<i64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Revoked {
    pub gateway_id: String,
    pub issued_until_unix_ms: i64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rotated {
    pub trusted_sha256: Vec<String>,
    /// What to do next.
    pub next: &'static str,
}
