//! One identity key.

use std::fmt;
use std::num::NonZeroU32;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Purpose;

/// Which identity key: a number from 1 that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(NonZeroU32);

impl KeyId {
    /// Bytes in front of a sealed value or an index.
    pub const LEN: usize = 4;

    /// None for 0.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(KeyId)
    }

    #[must_use]
    pub fn number(self) -> u32 {
        self.0.get()
    }

    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(KeyId)
    }

    /// Big-endian, so that values compare as their keys' ids do: those of keys before this one are
    /// less than these bytes, in SQLite and in PostgreSQL.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        self.0.get().to_be_bytes()
    }

    /// The id in front of a sealed value or an index, and what follows it.
    #[must_use]
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (id, rest) = bytes.split_first_chunk()?;
        Some((Self::new(u32::from_be_bytes(*id))?, rest))
    }
}

/// Four digits at least, as in the file's name.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.0)
    }
}

/// An identity key. Of its 32 bytes two keys are derived, one for indexes and one for sealing.
pub struct IdentityKey {
    id: KeyId,
    index: Zeroizing<[u8; 32]>,
    seal: Zeroizing<[u8; 32]>,
}

impl IdentityKey {
    #[must_use]
    pub fn new(id: KeyId, secret: &Zeroizing<[u8; 32]>) -> Self {
        IdentityKey {
            id,
            index: derive(secret, b"doorstep-server/2/identity-index"),
            seal: derive(secret, b"doorstep-server/2/identity-seal"),
        }
    }

    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn seal_key(&self) -> &[u8; 32] {
        &self.seal
    }

    /// The id, then HMAC-SHA256 over the kind of number and the number.
    pub(super) fn index(&self, purpose: Purpose, value: &str) -> Vec<u8> {
        let mac = mac(
            &self.index,
            &[&purpose.bytes(self.id, Uuid::nil()), value.as_bytes()],
        );
        [self.id.to_bytes().as_slice(), mac.as_slice()].concat()
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({}, hidden)", self.id)
    }
}

/// HMAC as a pseudo-random function: the secret is 32 random bytes, so nothing has to be extracted
/// first.
fn derive(secret: &Zeroizing<[u8; 32]>, label: &[u8]) -> Zeroizing<[u8; 32]> {
    mac(secret, &[label])
}

fn mac(key: &Zeroizing<[u8; 32]>, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
pub(super) fn testing(id: u32, byte: u8) -> IdentityKey {
    IdentityKey::new(KeyId::new(id).unwrap(), &Zeroizing::new([byte; 32]))
}
