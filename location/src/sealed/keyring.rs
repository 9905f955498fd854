//! What a server opens seals with: its keys of now and before, and perhaps the legacy passphrase.

use super::hpke::{self, HpkeError, OpeningKey};
use super::legacy::{self, LegacyError, LegacyKey};
use crate::LocationId;

/// Which form a seal had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `d1.`
    Hpke,
    /// `U2FsdGVkX1…`; to be counted and audited by whoever opens it.
    Legacy,
}

/// An opened seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The home it names.
    pub location: LocationId,
    /// The form it had.
    pub form: Form,
}

/// Why a seal was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Neither form.
    #[error("sealed location id: unknown form; expected text that starts with `d1.`")]
    UnknownForm,
    /// The operator does not allow the legacy form.
    #[error("sealed location id: the legacy form is switched off; ask for a new sticker")]
    LegacyOff,
    /// A `d1.` seal was refused.
    #[error(transparent)]
    Hpke(#[from] HpkeError),
    /// A legacy seal was refused.
    #[error(transparent)]
    Legacy(#[from] LegacyError),
}

/// Several opening keys, so that keys can be rotated, and the legacy passphrase if allowed.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: Vec<OpeningKey>,
    legacy: Option<LegacyKey>,
}

impl Keyring {
    /// A keyring that opens seals made for any of `keys`.
    #[must_use]
    pub fn new(keys: Vec<OpeningKey>) -> Self {
        Self { keys, legacy: None }
    }

    /// Also opens the legacy form.
    #[must_use]
    pub fn with_legacy(mut self, key: LegacyKey) -> Self {
        self.legacy = Some(key);
        self
    }

    /// The opening keys, in the order given.
    #[must_use]
    pub fn keys(&self) -> &[OpeningKey] {
        &self.keys
    }

    /// Whether the legacy form is opened.
    #[must_use]
    pub fn allows_legacy(&self) -> bool {
        self.legacy.is_some()
    }

    /// Opens a seal of either form.
    pub fn open(&self, sealed: &str) -> Result<Opened, OpenError> {
        if sealed.starts_with(hpke::PREFIX) {
            let location = hpke::open(&self.keys, sealed)?;
            return Ok(Opened {
                location,
                form: Form::Hpke,
            });
        }
        match &self.legacy {
            Some(key) => Ok(Opened {
                location: key.open(sealed)?,
                form: Form::Legacy,
            }),
            None if sealed.starts_with(legacy::PREFIX) => Err(OpenError::LegacyOff),
            None => Err(OpenError::UnknownForm),
        }
    }
}
