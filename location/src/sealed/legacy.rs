//! The legacy form: what `openssl enc -des-cbc -md md5` and CryptoJS make from a passphrase.
//!
//! base64( `Salted__` || salt (8) || DES-CBC ciphertext, PKCS#7 ), key || iv = MD5(passphrase || salt).
//! It exists only for stickers that were printed long ago: 56 bits hide nothing for long, and CBC
//! does not notice changes. Every failure is the same error after about the same work, so that
//! nobody can use an operator as a padding oracle.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::{NoPadding, Pkcs7};
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use des::Des;
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use crate::LocationId;

/// The start of every seal of this form: base64 of `Salted__`, as far as it is fixed.
pub(super) const PREFIX: &str = "U2FsdGVkX1";
const HEADER: &[u8] = b"Salted__";
const SALT_LEN: usize = 8;
const BLOCK_LEN: usize = 8;
/// The long form with four-digit numbers is 54 bytes, hence 56 sealed.
const MAX_CIPHERTEXT_LEN: usize = 64;

/// A legacy seal was refused. Deliberately says nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed location id: the legacy seal was refused")]
pub struct LegacyError;

/// The passphrase of the legacy form.
pub struct LegacyKey {
    passphrase: Zeroizing<String>,
}

impl fmt::Debug for LegacyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LegacyKey(..)")
    }
}

impl LegacyKey {
    /// A key from the operator's passphrase.
    #[must_use]
    pub fn new(passphrase: impl Into<String>) -> Self {
        Self {
            passphrase: Zeroizing::new(passphrase.into()),
        }
    }

    /// Seals the long form of `location`, as the existing stickers do.
    #[must_use]
    pub fn seal(&self, location: &LocationId) -> String {
        self.seal_with_salt(location, rand::random())
    }

    fn seal_with_salt(&self, location: &LocationId, salt: [u8; SALT_LEN]) -> String {
        let (key, iv) = self.key_and_iv(salt);
        let ciphertext = cbc::Encryptor::<Des>::new(&(*key).into(), &(*iv).into())
            .encrypt_padded_vec::<Pkcs7>(location.to_long_form().as_bytes());
        STANDARD.encode([HEADER, &salt, &ciphertext].concat())
    }

    /// Opens a seal made by this project, OpenSSL or CryptoJS.
    pub fn open(&self, sealed: &str) -> Result<LocationId, LegacyError> {
        // What cannot be a seal is replaced by one that fails, so that it takes as long.
        let (salt, ciphertext) = split(sealed)
            .unwrap_or_else(|| ([0; SALT_LEN], vec![0; MAX_CIPHERTEXT_LEN - BLOCK_LEN]));
        let (key, iv) = self.key_and_iv(salt);
        let plain = cbc::Decryptor::<Des>::new(&(*key).into(), &(*iv).into())
            .decrypt_padded_vec::<NoPadding>(&ciphertext)
            .map(Zeroizing::new)
            .map_err(|_| LegacyError)?;
        let padding = usize::from(plain.last().copied().unwrap_or_default());
        let padded = (1..=BLOCK_LEN).contains(&padding)
            && plain
                .iter()
                .rev()
                .take(padding)
                .all(|&b| usize::from(b) == padding);
        let text = &plain[..plain.len() - if padded { padding } else { 0 }];
        let location = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok());
        location.filter(|_| padded).ok_or(LegacyError)
    }

    /// OpenSSL's `EVP_BytesToKey` with MD5 and one iteration: 16 bytes are one digest.
    fn key_and_iv(&self, salt: [u8; SALT_LEN]) -> (Zeroizing<[u8; 8]>, Zeroizing<[u8; 8]>) {
        let digest = Md5::new()
            .chain_update(self.passphrase.as_bytes())
            .chain_update(salt)
            .finalize();
        let (mut key, mut iv) = (Zeroizing::new([0; 8]), Zeroizing::new([0; 8]));
        key.copy_from_slice(&digest[..8]);
        iv.copy_from_slice(&digest[8..]);
        (key, iv)
    }
}

fn split(sealed: &str) -> Option<([u8; SALT_LEN], Vec<u8>)> {
    if sealed.len() > 2 * (HEADER.len() + SALT_LEN + MAX_CIPHERTEXT_LEN) {
        return None;
    }
    let bytes = STANDARD.decode(sealed).ok()?;
    let (salt, ciphertext) = bytes.strip_prefix(HEADER)?.split_first_chunk()?;
    let whole = !ciphertext.is_empty()
        && ciphertext.len() <= MAX_CIPHERTEXT_LEN
        && ciphertext.len().is_multiple_of(BLOCK_LEN);
    whole.then(|| (*salt, ciphertext.to_vec()))
}
