//! Sealed location ids, and the keys that open them.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorstep_location::LocationId;
use doorstep_location::sealed::{
    Form, HpkeError, KeyId, Keyring, LegacyKey, OpenError, OpeningKey, SealingKey,
};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeS, Serializable as _};

use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "seal",
    about: "sealed location ids and keys as text: what was changed never opens",
    check,
    seeds,
    shape: Shape::Text,
    words: &["d1.", "dk1.", "ds1.", "U2FsdGVkX1", "=", "-", "_"],
    inputs: 4_000,
};

pub const CONTENT: Target = Target {
    name: "seal_content",
    about: "what stands in an intact seal: nothing but a canonical location id opens",
    check: check_content,
    seeds: content_seeds,
    shape: Shape::Bytes,
    words: &["110103-xinjingjiayuan-001-002-004", "0", "-"],
    inputs: 1_000,
};

/// For these inputs alone.
const KEY: &str = "ds1.QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8";
const LOCATION: &str = "110103-xinjingjiayuan-001-002-004";
/// Two seals of `LOCATION` for `KEY`: nobody without a random number generator makes another.
const SEALS: [&str; 2] = [
    include_str!("../../corpus/seal/hpke-1"),
    include_str!("../../corpus/seal/hpke-2"),
];
/// As `SEALS`, of the legacy form.
const LEGACY: &str = "U2FsdGVkX1";
const PASSPHRASE: &str = "1234";

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    let key = OpeningKey::from_text(KEY).expect("a key");
    Keyring::new(vec![key]).with_legacy(LegacyKey::new(PASSPHRASE))
});

fn seeds() -> Vec<Vec<u8>> {
    let key = KEYRING.keys()[0].sealing_key().to_string();
    vec![KEY.into(), key.into()]
}

fn check(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    match KEYRING.open(text) {
        Ok(opened) if opened.form == Form::Hpke => {
            assert!(SEALS.contains(&text), "a changed seal opens: {text}");
            assert_eq!(opened.location.as_str(), LOCATION);
        }
        // DES notices no changes: what comes out is at least a location id.
        Ok(opened) => {
            assert!(text.starts_with(LEGACY));
            let again = LegacyKey::new(PASSPHRASE).seal(&opened.location);
            let again = KEYRING.open(&again).map(|opened| opened.location);
            assert_eq!(again, Ok(opened.location));
            assert!(KEYRING.allows_legacy());
        }
        Err(error) => {
            assert!(!SEALS.contains(&text), "{error}");
            position(text, &error);
        }
    }
    if let Err(error) = Keyring::default().open(text) {
        let is_legacy = text.starts_with(LEGACY);
        assert_eq!(error == OpenError::LegacyOff, is_legacy);
    } else {
        panic!("opened without a key");
    }
    if let Ok(key) = text.parse::<SealingKey>() {
        assert_eq!(key.to_string(), text.trim());
    }
    if let Ok(key) = OpeningKey::from_text(text) {
        // X25519 knows one number by several texts (RFC 7748, section 5).
        let again = OpeningKey::from_text(&key.to_text()).expect("a key");
        assert_eq!(*again.to_text(), *key.to_text());
        assert_eq!(again.id(), key.id());
    }
}

fn position(text: &str, error: &OpenError) {
    if let OpenError::Hpke(HpkeError::NotBase64 { position }) = error {
        assert!(text.is_char_boundary(*position), "{error}");
    }
}

/// Length of what is sealed, always the same.
const PLAIN_LEN: usize = 56;

fn content_seeds() -> Vec<Vec<u8>> {
    let plain = |text: &str| {
        let mut plain = vec![0; PLAIN_LEN];
        plain[0] = u8::try_from(text.len()).expect("short");
        plain[1..=text.len()].copy_from_slice(text.as_bytes());
        plain
    };
    let long = "110103-abcdefghijklmnopqrstuvwxyz012345-0001-0002-0704";
    vec![
        plain(LOCATION),
        plain(long),
        plain("110103-xinjingjiayuan000000000000000000-001-002-004"),
    ]
}

fn check_content(data: &[u8]) {
    let mut plain = [0; PLAIN_LEN];
    for (to, from) in plain.iter_mut().zip(data) {
        *to = *from;
    }
    assert_eq!(
        KEYRING.open(&seal(&plain)).map(|opened| opened.location),
        content(&plain).ok_or(OpenError::Hpke(HpkeError::Content)),
    );
}

/// A byte of length, the canonical text, zeros.
fn content(plain: &[u8; PLAIN_LEN]) -> Option<LocationId> {
    let [len, rest @ ..] = plain;
    let (text, zeros) = rest.split_at_checked(usize::from(*len))?;
    let text = std::str::from_utf8(text).ok()?;
    let location: LocationId = text.parse().ok()?;
    let canonical = location.as_str() == text && zeros.iter().all(|zero| *zero == 0);
    canonical.then_some(location)
}

/// As whoever has the operator's public key may seal.
fn seal(plain: &[u8]) -> String {
    let public = KEYRING.keys()[0].sealing_key();
    let id = key_id(public.id());
    let text = public.to_string();
    let encoded = text.strip_prefix("dk1.").expect("a public key");
    let bytes = URL_SAFE_NO_PAD.decode(encoded).expect("base64");
    let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&bytes).expect("a point");
    let info = [&b"doorstep sealed location id d1"[..], &id].concat();
    let (enc, mut context) = hpke::setup_sender::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        &info,
    )
    .expect("a good key");
    let mut sealed = [&id[..], &enc.to_bytes()].concat();
    let body = context.seal(plain, &sealed).expect("seals");
    sealed.extend(body);
    format!("d1.{}", URL_SAFE_NO_PAD.encode(sealed))
}

fn key_id(id: KeyId) -> [u8; 4] {
    let id = u32::from_str_radix(&id.to_string(), 16).expect("eight hex digits");
    id.to_be_bytes()
}
