//! Rates as people write them: bits per second, or with a decimal suffix.

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// Below, a single full packet takes a fifth of a second; above, no gateway's port is.
const MIN_BPS: u64 = 64_000;
const MAX_BPS: u64 = 1_000_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    #[error(
        "must be bits per second as a whole number, or a number with k, M or G, like \"300M\" or \"2.5G\""
    )]
    Syntax,
    #[error("must be at least 64k, or 0 for no limit")]
    TooSlow,
    #[error("must be at most 1000G, or 0 for no limit")]
    TooFast,
}

/// Whether a rate in bits per second makes sense; 0 stands for no limit.
pub fn check(bps: u64) -> Result<(), RateError> {
    match bps {
        0 | MIN_BPS..=MAX_BPS => Ok(()),
        1..MIN_BPS => Err(RateError::TooSlow),
        _ => Err(RateError::TooFast),
    }
}

/// Reads `64000`, `50M`, `2.5G`, `0` or `unlimited`.
pub fn parse(text: &str) -> Result<u64, RateError> {
    if text == "unlimited" {
        return Ok(0);
    }
    let (number, unit) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return Err(RateError::Syntax);
    }
    let whole: u64 = whole.parse().map_err(|_| RateError::TooFast)?;
    let mut bps = whole.checked_mul(unit).ok_or(RateError::TooFast)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        // Nothing is rounded: a part of a bit per second is a slip of the pen.
        if place % 10 != 0 {
            return Err(RateError::Syntax);
        }
        place /= 10;
        bps = bps
            .checked_add(u64::from(digit - b'0') * place)
            .ok_or(RateError::TooFast)?;
    }
    check(bps)?;
    Ok(bps)
}

/// For people, exactly: `300M`, `1500k`, `unlimited`.
pub fn show(bps: u64) -> String {
    if bps == 0 {
        return "unlimited".to_owned();
    }
    for (unit, suffix) in [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")] {
        if bps.is_multiple_of(unit) {
            return format!("{}{suffix}", bps / unit);
        }
    }
    bps.to_string()
}

/// A rate in the configuration: a number, or text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate(pub u64);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Rate;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a rate like \"300M\"")
            }

            fn visit_i64<E: de::Error>(self, bps: i64) -> Result<Rate, E> {
                self.visit_u64(u64::try_from(bps).map_err(|_| E::custom(RateError::TooSlow))?)
            }

            fn visit_u64<E: de::Error>(self, bps: u64) -> Result<Rate, E> {
                check(bps).map_err(E::custom)?;
                Ok(Rate(bps))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                parse(text).map(Rate).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_people_write_them() {
        for (text, expected) in [
            ("64000", Ok(64_000)),
            ("64k", Ok(64_000)),
            ("50M", Ok(50_000_000)),
            ("2.5G", Ok(2_500_000_000)),
            ("0.064M", Ok(64_000)),
            ("1.000064M", Ok(1_000_064)),
            ("1000G", Ok(1_000_000_000_000)),
            ("0", Ok(0)),
            ("unlimited", Ok(0)),
            ("63999", Err(RateError::TooSlow)),
            ("1", Err(RateError::TooSlow)),
            ("1001G", Err(RateError::TooFast)),
            ("99999999999999999999", Err(RateError::TooFast)),
            ("99999999999999G", Err(RateError::TooFast)),
            ("1.0000001M", Err(RateError::Syntax)),
            ("64000.5", Err(RateError::Syntax)),
            ("", Err(RateError::Syntax)),
            ("M", Err(RateError::Syntax)),
            (".5G", Err(RateError::Syntax)),
            ("5.G", Err(RateError::Syntax)),
            ("-5M", Err(RateError::Syntax)),
            ("5m", Err(RateError::Syntax)),
            ("5 M", Err(RateError::Syntax)),
            ("5MB", Err(RateError::Syntax)),
            ("５M", Err(RateError::Syntax)),
        ] {
            assert_eq!(parse(text), expected, "{text}");
            if let Ok(bps) = expected {
                assert_eq!(parse(&show(bps)), Ok(bps), "{text}");
            }
        }
    }
}
