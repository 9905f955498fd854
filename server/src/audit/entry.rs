//! An entry of the audit log, and its canonical encoding.

use std::borrow::Cow;

use uuid::Uuid;

/// What has happened, before it has a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// On whose account: `subscriber`, `gateway`, `operator` or `server`.
    pub who: Cow<'static, str>,
    /// What was done, a short name such as `forced`.
    pub action: Cow<'static, str>,
    pub subscriber: Option<Uuid>,
    pub session: Option<Uuid>,
    /// For people. Never a phone number, an ID-card number or a secret.
    pub detail: String,
}

/// An event at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From 1, without a gap.
    pub number: u64,
    pub event: Event,
}

/// Of the encoding, and the first byte of it: entries of another version would have other links.
pub const VERSION: u8 = 1;

impl Entry {
    /// Appends the bytes that stand for this entry in its link. Integers are big-endian:
    ///
    /// ```text
    /// version     1   VERSION
    /// number      8
    /// at_ms       8   two's complement
    /// who         8   length in bytes, then so many bytes of UTF-8
    /// action      8   likewise
    /// subscriber  1   0: none; 1: 16 bytes follow
    /// session     1   likewise
    /// detail      8   like who
    /// ```
    ///
    /// Every field has a fixed length or says its own, so no two entries have the same bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let event = &self.event;
        out.push(VERSION);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&event.at_ms.to_be_bytes());
        text(out, &event.who);
        text(out, &event.action);
        id(out, event.subscriber);
        id(out, event.session);
        text(out, &event.detail);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn id(out: &mut Vec<u8>, id: Option<Uuid>) {
    match id {
        None => out.push(0),
        Some(id) => {
            out.push(1);
            out.extend_from_slice(id.as_bytes());
        }
    }
}
