//! Sealed forms: round trips, refusal of every change, and vectors made by other programs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorstep_location::LocationId;
use doorstep_location::sealed::{
    Form, HpkeError, KeyError, Keyring, LegacyKey, OpenError, OpeningKey, SealingKey,
};
use proptest::prelude::*;

fn home() -> LocationId {
    "110103-xinjingjiayuan-001-002-004".parse().unwrap()
}

#[test]
fn every_flipped_bit_is_refused() {
    let key = OpeningKey::generate();
    let sealed = key.sealing_key().seal(&home()).unwrap();
    let ring = Keyring::new(vec![key]);
    let bytes = URL_SAFE_NO_PAD.decode(&sealed["d1.".len()..]).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let text = format!("d1.{}", URL_SAFE_NO_PAD.encode(changed));
        assert!(ring.open(&text).is_err(), "bit {bit} of the sealed bytes");
    }
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone().into_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(text) = String::from_utf8(changed) {
            assert!(ring.open(&text).is_err(), "bit {bit} of the text");
        }
    }
}

#[test]
fn faults_of_a_seal_are_told_apart() {
    let key = OpeningKey::generate();
    let other = OpeningKey::generate();
    let (id, other_id) = (key.id(), other.id());
    let sealed = key.sealing_key().seal(&home()).unwrap();
    let ring = Keyring::new(vec![other]);
    assert_eq!(ring.open(&sealed), Err(HpkeError::UnknownKey(id).into()));
    assert_ne!(id, other_id);

    let ring = Keyring::new(vec![key]);
    let cut = &sealed[..sealed.len() - 1];
    let spaced = sealed.replacen("d1.", "d1. ", 1);
    let cases = [
        ("", OpenError::UnknownForm),
        ("d2.AAAA", OpenError::UnknownForm),
        ("d1.", HpkeError::Length { actual: 0 }.into()),
        (cut, HpkeError::Length { actual: 107 }.into()),
        (&spaced, HpkeError::NotBase64 { position: 3 }.into()),
        ("U2FsdGVkX18AAQIDBAUGBw==", OpenError::LegacyOff),
    ];
    for (text, expected) in cases {
        assert_eq!(ring.open(text), Err(expected), "{text:?}");
    }
}

#[test]
fn keys_rotate_and_survive_their_text_form() {
    let (old, new) = (OpeningKey::generate(), OpeningKey::generate());
    let sticker = old.sealing_key().seal(&home()).unwrap();
    let again = OpeningKey::from_text(&old.to_text()).unwrap();
    let ring = Keyring::new(vec![new, again]);
    assert_eq!(ring.open(&sticker).unwrap().location, home());

    let public: SealingKey = old.sealing_key().to_string().parse().unwrap();
    assert_eq!(&public, old.sealing_key());
    assert!(!format!("{old:?}{ring:?}").contains(&old.to_text()["ds1.".len()..]));

    let text = old.sealing_key().to_string();
    assert_eq!(
        old.to_text().parse::<SealingKey>(),
        Err(KeyError::Prefix { expected: "dk1." })
    );
    assert_eq!(
        text[..text.len() - 1].parse::<SealingKey>(),
        Err(KeyError::Encoding)
    );
}

#[test]
fn length_tells_nothing() {
    let key = OpeningKey::generate();
    let long: LocationId = format!("110103-{}-0001-0002-0004", "a".repeat(32))
        .parse()
        .unwrap();
    let seals = [home(), long].map(|home| key.sealing_key().seal(&home).unwrap());
    assert_eq!(seals[0].len(), seals[1].len());
    // Nothing but the version, the key id and chance: two seals of one home differ.
    assert_ne!(key.sealing_key().seal(&home()).unwrap(), seals[0]);
}

#[test]
fn legacy_vectors() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../testdata/legacy-des.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let text = |name: &str| case[name].as_str().unwrap();
        let key = LegacyKey::new(text("passphrase"));
        let location: LocationId = text("plaintext").parse().unwrap();
        assert_eq!(
            key.open(text("sealed")).unwrap(),
            location,
            "{}",
            text("made_by")
        );
        assert_eq!(key.open(&key.seal(&location)).unwrap(), location);
        let ring = Keyring::default().with_legacy(LegacyKey::new(text("passphrase")));
        assert_eq!(ring.open(text("sealed")).unwrap().form, Form::Legacy);
        assert!(LegacyKey::new("another").open(text("sealed")).is_err());
    }
    let must_fail = vectors["must_fail"].as_array().unwrap();
    assert_eq!(must_fail.len(), 4);
    for case in must_fail {
        let opened = LegacyKey::new("1234").open(case["sealed"].as_str().unwrap());
        assert!(opened.is_err(), "{}", case["why"]);
    }
    // The founding document's example has the form, but not this passphrase.
    let example = &vectors["seed_example"];
    let sealed = example["sealed"].as_str().unwrap();
    assert!(
        LegacyKey::new(example["passphrase"].as_str().unwrap())
            .open(sealed)
            .is_err()
    );
}

proptest! {
    #[test]
    fn sealed_is_opened(
        area in "[0-9]{6}", community in "[a-z0-9]{0,31}[a-z1-9]", room in "[0-9]{3,4}",
        passphrase in "\\PC{0,20}",
    ) {
        let home: LocationId = format!("{area}-{community}-001-0002-{room}").parse().unwrap();
        let key = OpeningKey::generate();
        let legacy = LegacyKey::new(passphrase);
        let seals = [(key.sealing_key().seal(&home).unwrap(), Form::Hpke), (legacy.seal(&home), Form::Legacy)];
        let ring = Keyring::new(vec![key]).with_legacy(legacy);
        for (sealed, form) in seals {
            let opened = ring.open(&sealed).unwrap();
            prop_assert_eq!(&opened.location, &home);
            prop_assert_eq!(opened.form, form);
        }
    }

    #[test]
    fn any_text_is_refused(text in ".{0,300}") {
        let ring = Keyring::new(vec![OpeningKey::generate()]).with_legacy(LegacyKey::new("1234"));
        prop_assert!(ring.open(&text).is_err());
        let marked = format!("d1.{text}");
        prop_assert!(ring.open(&marked).is_err());
    }
}
