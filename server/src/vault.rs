//! The keys that stand between the database and what it may not show: a keyed index to find
//! numbers by, and authenticated encryption to read them (and session keys) back.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hmac::{Hmac, KeyInit as _, Mac};
use rand::TryRngCore as _;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

const NONCE_LEN: usize = 12;

/// What a sealed value is; part of what is authenticated, so that values cannot change places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Phone,
    IdCard,
    SessionKey { generation: u64 },
}

impl Purpose {
    fn bytes(self, owner: Uuid) -> Vec<u8> {
        let mut aad = b"doorstep-server/1/".to_vec();
        match self {
            Purpose::Phone => aad.extend_from_slice(b"phone"),
            Purpose::IdCard => aad.extend_from_slice(b"id-card"),
            Purpose::SessionKey { generation } => {
                aad.extend_from_slice(b"session-key");
                aad.extend_from_slice(&generation.to_be_bytes());
            }
        }
        aad.extend_from_slice(owner.as_bytes());
        aad
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error(
        "a sealed value in the database does not open: the identity keys are not those it was made \
         with, or it was changed; restore keys and database from the same backup"
    )]
    Open,
    #[error("the system's random number source failed")]
    Random,
}

/// The two identity keys.
pub struct Vault {
    index_key: Zeroizing<[u8; 32]>,
    cipher: ChaCha20Poly1305,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(hidden)")
    }
}

impl Vault {
    pub fn new(index_key: Zeroizing<[u8; 32]>, seal_key: &Zeroizing<[u8; 32]>) -> Self {
        Vault {
            index_key,
            cipher: ChaCha20Poly1305::new(Key::from_slice(seal_key.as_slice())),
        }
    }

    /// HMAC-SHA256 over the kind of number and the number.
    pub fn index(&self, purpose: Purpose, value: &str) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.index_key.as_slice())
            .expect("HMAC takes keys of any length");
        mac.update(&purpose.bytes(Uuid::nil()));
        mac.update(value.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }

    /// Nonce, then ciphertext and tag.
    pub fn seal(&self, purpose: Purpose, owner: Uuid, value: &[u8]) -> Result<Vec<u8>, VaultError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let aad = purpose.bytes(owner);
        let sealed = self
            .cipher
            .encrypt(
                Nonce::from_slice(&nonce),
                Payload {
                    msg: value,
                    aad: &aad,
                },
            )
            .map_err(|_| VaultError::Open)?;
        let mut out = nonce.to_vec();
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    pub fn open(
        &self,
        purpose: Purpose,
        owner: Uuid,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(VaultError::Open)?;
        let aad = purpose.bytes(owner);
        self.cipher
            .decrypt(
                Nonce::from_slice(nonce),
                Payload {
                    msg: rest,
                    aad: &aad,
                },
            )
            .map(Zeroizing::new)
            .map_err(|_| VaultError::Open)
    }
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
        Vault::new(Zeroizing::new([byte; 32]), &Zeroizing::new([byte; 32]))
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
        flipped[NONCE_LEN] ^= 1;
        for (name, result) in [
            ("other owner", vault(1).open(Purpose::Phone, other, &sealed)),
            (
                "other purpose",
                vault(1).open(Purpose::IdCard, owner, &sealed),
            ),
            ("other key", vault(2).open(Purpose::Phone, owner, &sealed)),
            ("changed", vault(1).open(Purpose::Phone, owner, &flipped)),
            (
                "cut short",
                vault(1).open(Purpose::Phone, owner, &sealed[..5]),
            ),
        ] {
            assert_eq!(result, Err(VaultError::Open), "{name}");
        }
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
