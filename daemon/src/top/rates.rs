//! Rates from counters that were read twice.

use std::time::Duration;

/// The time between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Between(pub Duration);

impl Between {
    /// Per second. None if there is no former reading, or the counter has begun anew.
    #[expect(
        clippy::cast_precision_loss,
        reason = "rates are shown with three digits"
    )]
    #[must_use]
    pub fn rate(self, before: Option<u64>, now: u64) -> Option<f64> {
        let seconds = self.0.as_secs_f64();
        let grown = now.checked_sub(before?)?;
        (seconds > 0.0).then(|| grown as f64 / seconds)
    }
}

/// Bits per second of a rate in bytes; `-` if it is not known.
#[must_use]
pub fn bits(bytes: Option<f64>) -> String {
    shown(bytes.map(|bytes| bytes * 8.0), "bit/s")
}

/// Things per second.
#[must_use]
pub fn count(rate: Option<f64>) -> String {
    shown(rate, "/s")
}

fn shown(rate: Option<f64>, unit: &str) -> String {
    let Some(mut rate) = rate else {
        return "-".to_owned();
    };
    let prefixes = ["", "k", "M", "G", "T"];
    let mut prefix = 0;
    while rate >= 999.5 && prefix + 1 < prefixes.len() {
        rate /= 1000.0;
        prefix += 1;
    }
    let digits = match rate {
        rate if prefix == 0 && rate.fract() == 0.0 => 0,
        rate if rate < 9.995 => 2,
        rate if rate < 99.95 => 1,
        _ => 0,
    };
    format!("{rate:.digits$} {}{unit}", prefixes[prefix])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_over_time() {
        let elapsed = Between(Duration::from_secs(4));
        for (before, now, expected) in [
            (Some(100), 300, Some(50.0)),
            (Some(100), 100, Some(0.0)),
            (Some(300), 100, None),
            (None, 100, None),
        ] {
            assert_eq!(elapsed.rate(before, now), expected, "{before:?} {now}");
        }
        assert_eq!(Between(Duration::ZERO).rate(Some(1), 2), None);
    }

    #[test]
    fn rates_have_three_digits() {
        for (bytes, expected) in [
            (None, "-"),
            (Some(0.0), "0 bit/s"),
            (Some(0.3125), "2.50 bit/s"),
            (Some(124.9), "999 bit/s"),
            (Some(125.0), "1.00 kbit/s"),
            (Some(1_543_209.0), "12.3 Mbit/s"),
            (Some(125e6), "1.00 Gbit/s"),
            (Some(125e9), "1.00 Tbit/s"),
            (Some(125e15), "1000000 Tbit/s"),
        ] {
            assert_eq!(bits(bytes), expected, "{bytes:?}");
        }
        assert_eq!(count(Some(17.0)), "17 /s");
        assert_eq!(count(Some(1234.0)), "1.23 k/s");
    }
}
