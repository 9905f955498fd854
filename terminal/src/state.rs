//! What a restarted daemon must still know: credentials and sessions. Only root may read it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorstep_establish::{Establishment, SessionKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::DEFAULT_OPERATOR;
use crate::links::journal::{Durability, replace};

/// Who the subscriber is, as the server said at registration.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// UUID.
    pub subscriber_id: String,
    /// 32 bytes.
    pub secret: Secret,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.subscriber_id)
    }
}

/// Bytes that are wiped on drop, never shown, and base64 in the file.
#[derive(Clone)]
pub struct Secret(pub Zeroizing<Vec<u8>>);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // The error of the decoder would show a part of the secret.
        let bytes = STANDARD
            .decode(&*text)
            .map_err(|_| de::Error::custom("not base64"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

/// A session, as kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedSession {
    /// The server's name for it.
    pub session_id: Uuid,
    /// Whose it is. Older files know one operator.
    #[serde(default = "default_operator")]
    pub operator: String,
    /// The session that is to end when this one is established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Uuid>,
    /// The newest generation known.
    pub generation: u64,
    /// Its key.
    #[serde(with = "key")]
    pub key: SessionKey,
    /// Chooses its routing table.
    pub slot: u32,
    /// When it was established first: the oldest one has the home's default route.
    pub since_unix_ms: Option<i64>,
    /// What it was established with last.
    pub line: Option<SavedLine>,
}

/// The establishment that a session's links are made for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedLine {
    /// The WAN port.
    pub port: String,
    /// What was agreed.
    pub establishment: Establishment,
    /// When the gateway confirmed it.
    pub confirmed_at_unix_ms: Option<i64>,
    /// Where the gateway has it, if it answers questions whether it is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_slot: Option<u32>,
}

mod key {
    use super::*;

    pub(super) fn serialize<S: Serializer>(key: &SessionKey, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&Zeroizing::new(STANDARD.encode(key.as_bytes())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SessionKey, D::Error> {
        let Secret(bytes) = Secret::deserialize(d)?;
        SessionKey::from_slice(&bytes).map_err(de::Error::custom)
    }
}

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// The first connection.
    Connect,
    /// The same session elsewhere.
    Move,
    /// One more session.
    Additional,
    /// One more session, at whose beginning another ends.
    Switch,
}

/// A request for access whose answer is not known: the server may have carried it out. Asked again
/// under the same id it gets the same answer, with the session's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// Chosen by this terminal.
    pub request_id: Uuid,
    /// Of whom it is asked.
    #[serde(default = "default_operator")]
    pub operator: String,
    /// What it is.
    pub wish: Wish,
    /// Where to.
    pub sealed_location_id: String,
    /// Which session moves or is to end; empty for a move: the only one.
    pub session_id: String,
    /// Which of the operator's plans; empty: none was chosen. Older files have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plan: String,
    /// When it was asked first.
    pub asked_at_unix_ms: i64,
}

impl OpenRequest {
    /// Whether the same is asked.
    pub fn is_like(&self, other: &Self) -> bool {
        self.operator == other.operator
            && self.wish == other.wish
            && self.sealed_location_id == other.sealed_location_id
            && self.session_id == other.session_id
            && self.plan == other.plan
    }
}

fn default_operator() -> String {
    DEFAULT_OPERATOR.into()
}

/// Everything kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The operators at which the home is registered.
    #[serde(default)]
    pub operators: BTreeMap<String, Credentials>,
    /// Only in older files, which know one operator; [`State::parse`] puts it among the others.
    #[serde(default, skip_serializing)]
    pub credentials: Option<Credentials>,
    /// The sessions.
    #[serde(default)]
    pub sessions: Vec<SavedSession>,
    /// The sealed location id of the last request, for `qr`.
    pub last_sealed: Option<String>,
    /// Requests that are under way. Older files have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<OpenRequest>,
}

/// The state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Reading or writing failed.
    #[error("state {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a state.
    #[error("state {path}: {source}; restore it from a backup, or remove it and register again")]
    Content {
        /// The file.
        path: PathBuf,
        /// Where.
        source: Malformed,
    },
}

/// A text is not a state. Only the place is told: the parser's own words quote values, which may be
/// secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed at line {line}, column {column}")]
pub struct Malformed {
    /// From 1.
    pub line: usize,
    /// In bytes, from 1; 0 at a line's end.
    pub column: usize,
}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self {
            line: error.line(),
            column: error.column(),
        }
    }
}

impl State {
    /// Reads the text of a state file.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let mut state: Self = serde_json::from_slice(text)?;
        if let Some(credentials) = state.credentials.take() {
            let operator = state.operators.entry(default_operator());
            operator.or_insert(credentials);
        }
        Ok(state)
    }
}

/// The file in which the state is kept.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// A store in `state_dir`, which is made if needed.
    pub fn open(state_dir: &Path) -> Result<(Self, State), StateError> {
        fs::create_dir_all(state_dir).map_err(|source| StateError::Io {
            path: state_dir.to_owned(),
            source,
        })?;
        let path = state_dir.join("state.json");
        let state = match fs::read(&path).map(Zeroizing::new) {
            Ok(bytes) => State::parse(&bytes).map_err(|source| StateError::Content {
                path: path.clone(),
                source,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        Ok((Self { path }, state))
    }

    /// Replaces what is kept.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let bytes = serde_json::to_vec_pretty(state)
            .map(Zeroizing::new)
            .map_err(|error| StateError::Content {
                path: self.path.clone(),
                source: error.into(),
            })?;
        replace(&self.path, &bytes, Durability::Power).map_err(|source| StateError::Io {
            path: self.path.clone(),
            source,
        })
    }
}
