//! The keys that stand between the database and what it may not show: a keyed index to find
//! numbers by, and authenticated encryption to read them (and session keys) back.
//!
//! | module | what it does |
//! |---|---|
//! | [`key`] | one identity key: its id, and the two keys that follow from it |
//! | [`rotation`] | brings a row from older keys to the current one |
//!
//! There may be several identity keys. One is *current*: what is written is sealed with it. All of
//! them open, and numbers are claimed and looked for under every one of them. Each sealed value and
//! each index begins with its key's id:
//!
//! ```text
//! sealed value   key id (4, big-endian) || nonce (12) || ciphertext || tag (16)
//! index          key id (4, big-endian) || HMAC-SHA256 (32)
//! ```

pub mod key;
pub mod rotation;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use rand::TryRngCore as _;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

pub use key::{IdentityKey, KeyId};
pub use rotation::{Number, Renewed, Rotation};

const NONCE_LEN: usize = 12;

/// What a sealed value is; part of what is authenticated, so that values cannot change places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Phone,
    IdCard,
    SessionKey {
        generation: u64,
    },
    /// What a subscriber's phone keeps.
    PhoneToken,
    /// That the operator has sent a code.
    CodeSent,
}

impl Purpose {
    fn bytes(self, key: KeyId, owner: Uuid) -> Vec<u8> {
        let mut aad = b"doorstep-server/2/".to_vec();
        aad.extend_from_slice(&key.to_bytes());
        match self {
            Purpose::Phone => aad.extend_from_slice(b"phone"),
            Purpose::IdCard => aad.extend_from_slice(b"id-card"),
            Purpose::SessionKey { generation } => {
                aad.extend_from_slice(b"session-key");
                aad.extend_from_slice(&generation.to_be_bytes());
            }
            Purpose::PhoneToken => aad.extend_from_slice(b"phone-token"),
            Purpose::CodeSent => aad.extend_from_slice(b"code-sent"),
        }
        aad.extend_from_slice(owner.as_bytes());
        aad
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error(
        "a sealed value in the database does not open with identity key {0}: the key is not the one \
         it was made with, or the value was changed; restore keys and database from the same backup"
    )]
    Broken(KeyId),
    #[error(
        "a sealed value in the database needs identity key {0}, which is not among this server's \
         keys: copy its file from another replica or a backup, or make `identity-{0}.retired` a \
         `.key` again, then restart"
    )]
    UnknownKey(KeyId),
    #[error(
        "a sealed value in the database is none, or does not hold what it should: it was changed; \
         restore the database"
    )]
    Open,
    #[error("the system's random number source failed")]
    Random,
}

/// The identity keys, or a choice of them that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error("there is no identity key to seal with")]
    NoCurrent,
    #[error("identity key {0} is there twice")]
    Twice(KeyId),
}

/// The identity keys.
pub struct Vault {
    /// At least one; the first is the current one, then the others, newest first.
    keys: Vec<IdentityKey>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(hidden)")
    }
}

impl Vault {
    /// `current` seals; `others`, older ones and those that will be current, only open and index.
    pub fn new(current: IdentityKey, mut others: Vec<IdentityKey>) -> Result<Self, KeysError> {
        others.sort_by_key(|key| std::cmp::Reverse(key.id()));
        let mut keys = vec![current];
        for key in others {
            if keys.iter().any(|known| known.id() == key.id()) {
                return Err(KeysError::Twice(key.id()));
            }
            keys.push(key);
        }
        Ok(Vault { keys })
    }

    fn current(&self) -> &IdentityKey {
        &self.keys[0]
    }

    /// Of the key that seals.
    pub fn current_id(&self) -> KeyId {
        self.current().id()
    }

    /// All of them, the current one first, then the others, newest first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(IdentityKey::id)
    }

    /// Those before the current one, the oldest first.
    pub fn older_ids(&self) -> Vec<KeyId> {
        let mut ids: Vec<KeyId> = self.ids().filter(|id| *id < self.current_id()).collect();
        ids.sort_unstable();
        ids
    }

    /// Under the current key.
    pub fn index(&self, purpose: Purpose, value: &str) -> Vec<u8> {
        self.current().index(purpose, value)
    }

    /// Under every key, the current one first: a number is known if any of them is.
    ///
    /// A number that is claimed under all keys that a replica has cannot be claimed again by a
    /// replica with other keys, as long as they share one.
    pub fn indexes(&self, purpose: Purpose, value: &str) -> Vec<Vec<u8>> {
        self.keys
            .iter()
            .map(|key| key.index(purpose, value))
            .collect()
    }

    /// With the current key.
    pub fn seal(&self, purpose: Purpose, owner: Uuid, value: &[u8]) -> Result<Vec<u8>, VaultError> {
        let key = self.current();
        let nonce: [u8; NONCE_LEN] = random()?;
        let aad = purpose.bytes(key.id(), owner);
        let payload = Payload {
            msg: value,
            aad: &aad,
        };
        let sealed = cipher(key)
            .encrypt(Nonce::from_slice(&nonce), payload)
            .map_err(|_| VaultError::Broken(key.id()))?;
        Ok([key.id().to_bytes().as_slice(), &nonce, &sealed].concat())
    }

    /// With the key that it was sealed with.
    pub fn open(
        &self,
        purpose: Purpose,
        owner: Uuid,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (id, rest) = KeyId::split(sealed).ok_or(VaultError::Open)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN).ok_or(VaultError::Open)?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id() == id)
            .ok_or(VaultError::UnknownKey(id))?;
        let aad = purpose.bytes(id, owner);
        let payload = Payload {
            msg: rest,
            aad: &aad,
        };
        cipher(key)
            .decrypt(Nonce::from_slice(nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| VaultError::Broken(id))
    }
}

/// It wipes its key when it is dropped.
fn cipher(key: &IdentityKey) -> ChaCha20Poly1305 {
    use chacha20poly1305::KeyInit as _;
    ChaCha20Poly1305::new(key.seal_key().into())
}

/// 32 secret bytes: a subscriber's secret or a session key.
#[derive(Clone, PartialEq, Eq, zeroize::ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    pub fn generate() -> Result<Self, VaultError> {
        random().map(Secret)
    }

    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Secret)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What is stored of a subscriber's secret. It is 32 random bytes, so a plain hash suffices.
    pub fn hash(&self) -> Vec<u8> {
        let mut hasher = Sha256::new();
        hasher.update(b"doorstep-server/1/secret");
        hasher.update(self.0);
        hasher.finalize().to_vec()
    }

    pub fn matches(&self, hash: &[u8]) -> bool {
        bool::from(self.hash().as_slice().ct_eq(hash))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Random bytes of the operating system.
pub fn random<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    match rand::rngs::OsRng.try_fill_bytes(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => {
            bytes.zeroize();
            Err(VaultError::Random)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(byte: u8) -> Vault {
        Vault::new(key::testing(1, byte), Vec::new()).unwrap()
    }

    #[test]
    fn sealed_values_open_only_where_they_belong() {
        let (owner, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let sealed = vault(1)
            .seal(Purpose::Phone, owner, b"13800000000")
            .unwrap();
        let again = vault(1)
            .seal(Purpose::Phone, owner, b"13800000000")
            .unwrap();
        assert_ne!(sealed, again, "the nonce is random");
        assert_eq!(
            vault(1)
                .open(Purpose::Phone, owner, &sealed)
                .unwrap()
                .as_slice(),
            b"13800000000"
        );
        let mut flipped = sealed.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let one = KeyId::new(1).unwrap();
        for (name, result, error) in [
            (
                "other owner",
                vault(1).open(Purpose::Phone, other, &sealed),
                VaultError::Broken(one),
            ),
            (
                "other purpose",
                vault(1).open(Purpose::IdCard, owner, &sealed),
                VaultError::Broken(one),
            ),
            (
                "other key of the same id",
                vault(2).open(Purpose::Phone, owner, &sealed),
                VaultError::Broken(one),
            ),
            (
                "changed",
                vault(1).open(Purpose::Phone, owner, &flipped),
                VaultError::Broken(one),
            ),
            (
                "cut short",
                vault(1).open(Purpose::Phone, owner, &sealed[..5]),
                VaultError::Open,
            ),
        ] {
            assert_eq!(result, Err(error), "{name}");
        }
    }

    #[test]
    fn values_open_with_their_own_key_wherever_it_stands() {
        let owner = Uuid::from_u128(1);
        let (one, two) = (|| key::testing(1, 1), || key::testing(2, 2));
        let old = Vault::new(one(), Vec::new()).unwrap();
        let sealed = old.seal(Purpose::Phone, owner, b"12345").unwrap();
        let open = |vault: &Vault, sealed: &[u8]| vault.open(Purpose::Phone, owner, sealed);
        let both = Vault::new(two(), vec![one()]).unwrap();
        assert_eq!(open(&both, &sealed).unwrap().as_slice(), b"12345");
        let newer = both.seal(Purpose::Phone, owner, b"12345").unwrap();
        // One that is not current yet opens, too.
        let waiting = Vault::new(one(), vec![two()]).unwrap();
        assert_eq!(open(&waiting, &newer).unwrap().as_slice(), b"12345");
        let two_id = KeyId::new(2).unwrap();
        assert_eq!(open(&old, &newer), Err(VaultError::UnknownKey(two_id)));
        // A value that claims to be another key's.
        let mut renamed = sealed.clone();
        renamed[..KeyId::LEN].copy_from_slice(&two_id.to_bytes());
        assert_eq!(open(&both, &renamed), Err(VaultError::Broken(two_id)));
        assert!(matches!(
            Vault::new(one(), vec![two(), one()]),
            Err(KeysError::Twice(_))
        ));
    }

    #[test]
    fn numbers_are_found_under_every_key() {
        let (one, two, three) = (
            || key::testing(1, 1),
            || key::testing(2, 2),
            || key::testing(3, 3),
        );
        let old = Vault::new(one(), Vec::new()).unwrap();
        let both = Vault::new(two(), vec![one(), three()]).unwrap();
        let indexes = both.indexes(Purpose::Phone, "12345");
        assert_eq!(indexes.len(), 3);
        assert_eq!(indexes[0], both.index(Purpose::Phone, "12345"));
        assert_eq!(indexes[2], old.index(Purpose::Phone, "12345"));
        assert_ne!(
            indexes[2],
            both.indexes(Purpose::IdCard, "12345")[2],
            "the kind of number counts"
        );
    }

    #[test]
    fn the_index_depends_on_key_kind_and_value() {
        let base = vault(1).index(Purpose::Phone, "12345");
        assert_eq!(base, vault(1).index(Purpose::Phone, "12345"));
        assert_ne!(base, vault(1).index(Purpose::Phone, "12346"));
        assert_ne!(base, vault(1).index(Purpose::IdCard, "12345"));
        assert_ne!(base, vault(2).index(Purpose::Phone, "12345"));
    }

    #[test]
    fn secrets_match_their_own_hash_only() {
        let secret = Secret::generate().unwrap();
        assert!(secret.matches(&secret.hash()));
        assert!(!Secret::generate().unwrap().matches(&secret.hash()));
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
    }
}
