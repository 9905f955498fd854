//! The default form, `d1.`: HPKE (RFC 9180) in base mode to the operator's public key, with
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305.
//!
//! `d1.` + base64url( key id (4) || encapsulated key (32) || ciphertext (56) || tag (16) ). The
//! plaintext has a fixed length, so that the length of a seal tells nothing. 108 bytes are a
//! multiple of three: there are no spare bits that could be changed unnoticed.

use std::fmt;
use std::str::FromStr;

use ::hpke::aead::ChaCha20Poly1305;
use ::hpke::kdf::HkdfSha256;
use ::hpke::kem::X25519HkdfSha256;
use ::hpke::{Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::LocationId;

type Kem = X25519HkdfSha256;
type PublicKey = <Kem as ::hpke::Kem>::PublicKey;
type PrivateKey = <Kem as ::hpke::Kem>::PrivateKey;
type EncappedKey = <Kem as ::hpke::Kem>::EncappedKey;

/// The start of every seal of this form.
pub(super) const PREFIX: &str = "d1.";
const PUBLIC_PREFIX: &str = "dk1.";
const PRIVATE_PREFIX: &str = "ds1.";
const DOMAIN: &[u8] = b"doorstep sealed location id d1";

const KEY_ID_LEN: usize = 4;
const KEY_LEN: usize = 32;
const HEAD_LEN: usize = KEY_ID_LEN + KEY_LEN;
/// One byte of length, the text, zeros.
const PLAIN_LEN: usize = 56;
const TAG_LEN: usize = 16;
const SEAL_LEN: usize = HEAD_LEN + PLAIN_LEN + TAG_LEN;
const _: () = assert!(LocationId::MAX_LEN < PLAIN_LEN && SEAL_LEN.is_multiple_of(3));

/// Why a `d1.` seal was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HpkeError {
    /// Not base64url without padding, after `d1.`.
    #[error("sealed location id: not base64url at byte {position}")]
    NotBase64 {
        /// Byte offset in the sealed text.
        position: usize,
    },
    /// The seal has another length than every `d1.` seal.
    #[error("sealed location id: {actual} bytes sealed, expected {SEAL_LEN}; was it copied whole?")]
    Length {
        /// Length after base64, in bytes.
        actual: usize,
    },
    /// Made for a key that is not in the keyring.
    #[error("sealed location id: made for key {0}, which this operator does not hold")]
    UnknownKey(KeyId),
    /// The seal was changed, or was not made for this key.
    #[error("sealed location id: the seal is broken")]
    Broken,
    /// The seal is intact, but there is no location id in it.
    #[error("sealed location id: intact, but it does not hold a location id")]
    Content,
}

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Another kind of text.
    #[error("key: expected text that starts with `{expected}`")]
    Prefix {
        /// `dk1.` for a public key, `ds1.` for a private one.
        expected: &'static str,
    },
    /// Not 32 bytes of base64url.
    #[error("key: expected 32 bytes as base64url without padding after the prefix")]
    Encoding,
    /// Not a usable point or scalar.
    #[error("key: the bytes are not an X25519 key")]
    Invalid,
}

/// The first four bytes of SHA-256 of the public key; shown as eight hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; KEY_ID_LEN]);

impl KeyId {
    fn of(public: &PublicKey) -> Self {
        let digest = Sha256::digest(public.to_bytes());
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&digest[..KEY_ID_LEN]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// The operator's public key: makes seals. As text `dk1.` + base64url.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey {
    public: PublicKey,
    id: KeyId,
}

impl SealingKey {
    fn new(public: PublicKey) -> Self {
        let id = KeyId::of(&public);
        Self { public, id }
    }

    /// The key's short name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Seals `location`. Two seals of the same location have nothing in common.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] if the key is one of the few points to which nothing can be sealed.
    pub fn seal(&self, location: &LocationId) -> Result<String, KeyError> {
        let plain = pad(location);
        let (enc, mut context) = ::hpke::setup_sender::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeS::Base,
            &self.public,
            &info(self.id),
        )
        .map_err(|_| KeyError::Invalid)?;
        let mut out = Vec::with_capacity(SEAL_LEN);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&enc.to_bytes());
        let body = context
            .seal(&plain[..], &out)
            .map_err(|_| KeyError::Invalid)?;
        out.extend_from_slice(&body);
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(out)))
    }
}

impl fmt::Display for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PUBLIC_PREFIX}{}",
            URL_SAFE_NO_PAD.encode(self.public.to_bytes())
        )
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

impl FromStr for SealingKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = key_bytes(text, PUBLIC_PREFIX)?;
        PublicKey::from_bytes(&bytes[..])
            .map(Self::new)
            .map_err(|_| KeyError::Invalid)
    }
}

/// The operator's private key: opens seals. Wiped from memory on drop, never shown.
pub struct OpeningKey {
    private: PrivateKey,
    public: SealingKey,
}

impl OpeningKey {
    /// A new key from the system's random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let (private, public) = Kem::gen_keypair();
        Self {
            private,
            public: SealingKey::new(public),
        }
    }

    /// Reads the text that [`to_text`](Self::to_text) wrote.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let bytes = key_bytes(text, PRIVATE_PREFIX)?;
        let private = PrivateKey::from_bytes(&bytes[..]).map_err(|_| KeyError::Invalid)?;
        let public = SealingKey::new(Kem::sk_to_pk(&private));
        Ok(Self { private, public })
    }

    /// `ds1.` + base64url: for the operator's key file, nothing else.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(self.private.to_bytes().into());
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes[..]));
        Zeroizing::new([PRIVATE_PREFIX, &encoded].concat())
    }

    /// The public half.
    #[must_use]
    pub fn sealing_key(&self) -> &SealingKey {
        &self.public
    }

    /// The key's short name, the same as that of the public half.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.public.id
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey({}, ..)", self.public.id)
    }
}

/// Opens `sealed` with the key of `keys` that it was made for.
pub(super) fn open(keys: &[OpeningKey], sealed: &str) -> Result<LocationId, HpkeError> {
    let encoded = sealed
        .strip_prefix(PREFIX)
        .ok_or(HpkeError::NotBase64 { position: 0 })?;
    let expected = SEAL_LEN / 3 * 4;
    if let Some(offset) = encoded
        .bytes()
        .position(|b| !(b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))
    {
        return Err(HpkeError::NotBase64 {
            position: PREFIX.len() + offset,
        });
    }
    if encoded.len() != expected {
        return Err(HpkeError::Length {
            actual: encoded.len() * 3 / 4,
        });
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| HpkeError::NotBase64 {
            position: PREFIX.len(),
        })?;
    let (head, body) = bytes.split_at(HEAD_LEN);
    let (id, enc) = head.split_at(KEY_ID_LEN);
    let id = KeyId([id[0], id[1], id[2], id[3]]);

    // Four bytes may be shared by two keys; then the tag decides.
    let mut held = keys.iter().filter(|key| key.id() == id).peekable();
    if held.peek().is_none() {
        return Err(HpkeError::UnknownKey(id));
    }
    let enc = EncappedKey::from_bytes(enc).map_err(|_| HpkeError::Broken)?;
    let plain = held
        .find_map(|key| {
            let mut context = ::hpke::setup_receiver::<ChaCha20Poly1305, HkdfSha256, Kem>(
                &OpModeR::Base,
                &key.private,
                &enc,
                &info(id),
            )
            .ok()?;
            context.open(body, head).ok().map(Zeroizing::new)
        })
        .ok_or(HpkeError::Broken)?;
    unpad(&plain).ok_or(HpkeError::Content)
}

fn info(id: KeyId) -> Vec<u8> {
    [DOMAIN, &id.0].concat()
}

fn pad(location: &LocationId) -> Zeroizing<[u8; PLAIN_LEN]> {
    let text = location.as_str().as_bytes();
    let mut plain = Zeroizing::new([0; PLAIN_LEN]);
    // At most LocationId::MAX_LEN = 54, asserted above to fit.
    plain[0] = u8::try_from(text.len()).unwrap_or(u8::MAX);
    plain[1..=text.len()].copy_from_slice(text);
    plain
}

/// Accepts exactly what [`pad`] makes: a canonical text and zeros.
fn unpad(plain: &[u8]) -> Option<LocationId> {
    let (&len, rest) = plain.split_first()?;
    let (text, zeros) = rest.split_at_checked(len.into())?;
    if zeros.iter().any(|&b| b != 0) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let location: LocationId = text.parse().ok()?;
    (location.as_str() == text).then_some(location)
}

fn key_bytes(text: &str, prefix: &'static str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let encoded = text
        .trim()
        .strip_prefix(prefix)
        .ok_or(KeyError::Prefix { expected: prefix })?;
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    match URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes[..]) {
        Ok(KEY_LEN) => Ok(bytes),
        _ => Err(KeyError::Encoding),
    }
}
