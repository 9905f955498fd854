//! How long a target runs, and what its inputs follow from.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

const DEFAULT_SECONDS: u64 = 60;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Seconds(u64),
    Inputs(u64),
}

impl Limit {
    /// A number of inputs goes before a time.
    pub fn of(seconds: Option<u64>, inputs: Option<u64>) -> Self {
        match inputs {
            Some(inputs) => Self::Inputs(inputs),
            None => Self::Seconds(seconds.unwrap_or(DEFAULT_SECONDS)),
        }
    }

    /// As arguments of `doorstep-fuzz`.
    pub fn plain(self) -> [String; 2] {
        match self {
            Self::Seconds(seconds) => ["--seconds".to_owned(), seconds.to_string()],
            Self::Inputs(inputs) => ["--inputs".to_owned(), inputs.to_string()],
        }
    }

    /// As arguments of libFuzzer.
    pub fn guided(self) -> [String; 1] {
        [match self {
            Self::Seconds(seconds) => format!("-max_total_time={seconds}"),
            Self::Inputs(inputs) => format!("-runs={inputs}"),
        }]
    }
}

/// Reads `90`, `90s`, `10m` or `2h`, in seconds.
pub fn time(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        // Zero would be for ever.
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "a time is written like 60s, 10m or 2h".to_owned())
}

/// The one given, or one that no run before had.
pub fn seed(given: Option<u64>) -> Result<u64> {
    match given {
        Some(seed) => Ok(seed),
        None => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        for (text, expected) in [
            ("60s", Some(60)),
            ("90", Some(90)),
            ("10m", Some(600)),
            ("2h", Some(7200)),
            ("0s", None),
            ("s", None),
            ("", None),
            ("-1m", None),
            ("99999999999999999999h", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(time(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn inputs_go_before_a_time() {
        assert_eq!(Limit::of(None, None), Limit::Seconds(60));
        assert_eq!(Limit::of(Some(5), None).guided(), ["-max_total_time=5"]);
        assert_eq!(Limit::of(Some(5), Some(7)).plain(), ["--inputs", "7"]);
    }
}
