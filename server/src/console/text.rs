//! How pages say things.

use std::fmt::Write as _;

use maud::{Markup, html};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::session::State;

/// A time of the table, in UTC; a dash for none.
pub fn when(unix_ms: i64) -> Markup {
    let time = OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000)).ok();
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    html! {
        @match text {
            Some(text) if unix_ms > 0 => {
                time datetime=(text) { (text.trim_end_matches('Z').replace('T', " ")) " UTC" }
            }
            _ => span.faint { "–" }
        }
    }
}

/// `1 234 567`, by narrow spaces that never break.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Of bits, bytes, packets: `1.23 M` and the unit; in steps of a thousand.
pub fn scaled(value: f64, unit: &str) -> String {
    let prefixes = ["", "k", "M", "G", "T", "P"];
    let (mut value, mut step) = (value.max(0.0), 0);
    while value >= 999.5 && step + 1 < prefixes.len() {
        value /= 1000.0;
        step += 1;
    }
    let digits = match value {
        _ if step == 0 && value.fract() == 0.0 => 0,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}\u{a0}{}{unit}", prefixes[step])
}

#[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
pub fn bytes(value: u64) -> String {
    scaled(value as f64, "B")
}

/// For a part of an address (RFC 3986, unreserved characters aside).
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Into a string nothing fails.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The class that a state is coloured by, never its only sign.
pub fn class(state: State) -> &'static str {
    match state {
        State::Established => "good",
        State::Connecting | State::Establishing => "busy",
        State::Disconnecting | State::DisconnectingUnconfirmed => "wait",
        State::Refused => "bad",
        State::Released => "over",
    }
}

pub fn state(state: State) -> Markup {
    html! { span class={ "state " (class(state)) } { (state.name()) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_short() {
        for (value, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1000.0, "1.00 kB"),
            (12_345.0, "12.3 kB"),
            (999_900.0, "1.00 MB"),
            (123_456_789.0, "123 MB"),
            (0.5, "0.50 B"),
        ] {
            assert_eq!(scaled(value, "B"), text.replace(' ', "\u{a0}"));
        }
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(number(12), "12");
    }

    #[test]
    fn times_are_of_utc() {
        let text = when(1_764_291_600_123).into_string();
        assert_eq!(
            text,
            "<time datetime=\"2025-11-28T01:00:00Z\">2025-11-28 01:00:00 UTC</time>"
        );
        assert!(when(0).into_string().contains('–'));
    }

    #[test]
    fn addresses_are_encoded() {
        assert_eq!(
            encode("/sessions?at=1101&x=ü"),
            "%2Fsessions%3Fat%3D1101%26x%3D%C3%BC"
        );
    }
}
