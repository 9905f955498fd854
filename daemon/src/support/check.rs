//! The last look at what is about to be told: nothing that could be a person's number, a key or a seal,
//! and none of the secrets that this host is known to have, in whatever form.
//!
//! The shapes see to it already. What is found here is a mistake in them, so nothing is written.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::shape::{is_address, is_id, is_location, is_time};

/// Longer runs of letters and digits are keys, tokens or seals.
const OPAQUE: usize = 40;
/// What is shorter would be found anywhere, as would a plain word.
const SHORTEST_SECRET: usize = 8;
/// Characters of a key of 96 bits.
const SHORTEST_KEY: usize = 16;
/// Digits of the shortest number that could be a subscriber's.
const PHONE: usize = 11;
/// How seals and keys begin.
const MARKS: [&str; 4] = ["PRIVATE KEY", "-----BEGIN", "U2FsdGVkX1", "d1."];

/// Secrets that must not be in it.
#[derive(Default)]
pub struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// A secret, as it is and in the forms that it may be written in.
    pub fn add(&mut self, secret: &[u8]) {
        let a_word = secret.len() < SHORTEST_KEY && secret.iter().all(u8::is_ascii_alphabetic);
        if secret.len() < SHORTEST_SECRET || a_word {
            return;
        }
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.extend([
            secret.to_vec(),
            hex.to_uppercase().into_bytes(),
            hex.into_bytes(),
            STANDARD_NO_PAD.encode(secret).into_bytes(),
            URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        ]);
    }

    /// The content of a file with a secret: each text of JSON that is as long as a key, each line of
    /// another text, or all of it.
    pub fn add_file(&mut self, content: &[u8]) {
        if let Ok(value) = serde_json::from_slice::<Value>(content)
            && (value.is_object() || value.is_array())
        {
            return self.add_json(&value);
        }
        match std::str::from_utf8(content) {
            Ok(text) => {
                let lines = text.lines().filter(|line| !line.starts_with("-----"));
                lines.for_each(|line| self.add(line.trim().as_bytes()));
            }
            Err(_) => self.add(content),
        }
    }

    fn add_json(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => fields.values().for_each(|field| self.add_json(field)),
            Value::Array(items) => items.iter().for_each(|item| self.add_json(item)),
            Value::String(text) if text.len() < SHORTEST_KEY => {}
            Value::String(text) if is_id(text) || is_address(text) => {}
            Value::String(text) => self.add(text.as_bytes()),
            _ => {}
        }
    }

    fn find_in(&self, text: &[u8]) -> bool {
        let mut secrets = self.0.iter();
        secrets.any(|secret| text.windows(secret.len()).any(|part| part == secret))
    }
}

/// Where something is that must not be told; locations are only where that was asked for.
pub fn find(value: &Value, secrets: &Secrets, locations: bool) -> Option<String> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(key, field)| {
            if is_suspect(key, secrets, false) {
                return Some("a key of an object".to_owned());
            }
            find(field, secrets, locations).map(|place| format!("{key}: {place}"))
        }),
        Value::Array(items) => {
            let mut items = items.iter();
            items.find_map(|item| find(item, secrets, locations))
        }
        Value::String(text) => is_suspect(text, secrets, locations).then(|| "a text".to_owned()),
        Value::Number(_) | Value::Bool(_) | Value::Null => None,
    }
}

fn is_suspect(text: &str, secrets: &Secrets, locations: bool) -> bool {
    if is_location(text) {
        return !locations;
    }
    if secrets.find_in(text.as_bytes()) || MARKS.iter().any(|mark| text.contains(mark)) {
        return true;
    }
    if is_time(text) || is_address(text) {
        return false;
    }
    // Digits stand together in an id by chance.
    let words = text.split(' ').filter(|word| !is_id(word));
    let text = words.collect::<Vec<_>>().join(" ");
    has_number(&text) || has_opaque(&text)
}

/// As many digits as a phone or ID-card number has, also with blanks or hyphens between them.
fn has_number(text: &str) -> bool {
    let mut digits = 0;
    for c in text.chars() {
        match c {
            '0'..='9' => digits += 1,
            ' ' | '-' => {}
            _ => digits = 0,
        }
        if digits >= PHONE {
            return true;
        }
    }
    false
}

fn has_opaque(text: &str) -> bool {
    let mut runs = text.split(|c: char| !c.is_ascii_alphanumeric() && !"+=".contains(c));
    runs.any(|run| run.len() >= OPAQUE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOME: &str = "110103-garden12-001-002-004";

    #[test]
    fn numbers_seals_and_keys_are_found() {
        for text in [
            "13800138000",
            "+86 138 0013 8000",
            "register of 138-0013-8000 failed",
            "11010519491231002X",
            "d1.AAECAwQ",
            "U2FsdGVkX19xyz",
            "-----BEGIN CERTIFICATE-----",
            "4f6d0c2a9be31577d08a4f6d0c2a9be34f6d0c2a9be31577",
            HOME,
            "of 0190f2c4-5a1e-7c3b-9d2e-123456789012 138-0013-8000",
        ] {
            let found = find(&json!({"a": [text]}), &Secrets::default(), false);
            assert_eq!(found.as_deref(), Some("a: a text"), "{text}");
            let found = find(&json!({ text: 1 }), &Secrets::default(), false);
            assert!(found.is_some(), "{text}");
        }
        for text in [
            "0190f2c4-5a1e-7c3b-9d2e-123456789012",
            "session 01902148-5012-7012-9020-123456789012",
            "2023-11-14T22:13:20.123456789Z",
            "2001:db8:1000::/40",
            "linux-image-6.12.48+deb12-cloud-amd64",
            "the terminal's acceptance arrived",
        ] {
            assert_eq!(
                find(&json!([text]), &Secrets::default(), false),
                None,
                "{text}"
            );
        }
        let number = json!(13_800_138_000_u64);
        assert_eq!(find(&number, &Secrets::default(), false), None);
        assert_eq!(find(&json!(HOME), &Secrets::default(), true), None);
    }

    #[test]
    fn secrets_are_found_in_every_form() {
        let mut secrets = Secrets::default();
        secrets.add(&[7, 77, 177, 250, 7, 77, 177, 250]);
        secrets.add_file(b"-----BEGIN KEY-----\nMC4CAQAwBQYDK2\n");
        secrets.add(b"short");
        secrets.add(b"doorstep");
        secrets.add_file(
            br#"{"id": "0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e", "keys": ["c2VjcmV0IHNlY3JldA"]}"#,
        );
        for text in [
            "x 074db1fa074db1fa",
            "074DB1FA074DB1FA",
            "B02x+gdNsfo",
            "B02x-gdNsfo",
            "xMC4CAQAwBQYDK2x",
            "c2VjcmV0IHNlY3JldA",
        ] {
            assert!(find(&json!(text), &secrets, false).is_some(), "{text}");
        }
        for text in [
            "short doorstep BEGIN KEY",
            "0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e",
        ] {
            assert_eq!(find(&json!(text), &secrets, false), None, "{text}");
        }
    }
}
