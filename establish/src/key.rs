//! The key that both ends of a session share.

use std::fmt;

use rand::RngCore as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

/// 32 bytes from the server, for one generation of one session. Wiped on drop, never shown.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct SessionKey([u8; Self::LEN]);

/// A session key has another length than 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("session key: {actual} bytes, expected 32")]
pub struct KeyLengthError {
    /// The length given, in bytes.
    pub actual: usize,
}

impl SessionKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A new key from the system's random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0; Self::LEN];
        rand::rng().fill_bytes(&mut bytes);
        let key = Self(bytes);
        bytes.zeroize();
        key
    }

    /// The key in `bytes`, as it comes over the wire or from the store.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, KeyLengthError> {
        bytes.try_into().map(Self).map_err(|_| KeyLengthError {
            actual: bytes.len(),
        })
    }

    /// The bytes, for the wire or the store and nothing else.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}
