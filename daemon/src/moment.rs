//! Moments as people write them: a time, or how long ago.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Unix milliseconds of `2026-03-01T12:00:00Z`, `30m`, `2h` or `7d`.
///
/// # Errors
/// If it is neither, or before 1970.
pub fn since(text: &str) -> Result<i64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];
    let ago = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds).map(Duration::from_secs)
    });
    let at = match ago {
        Some(ago) => SystemTime::now().checked_sub(ago),
        None => OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .map(SystemTime::from),
    };
    at.and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .ok_or_else(|| {
            "must be a time like 2026-03-01T12:00:00Z, or how long ago, like 30m, 2h or 7d"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_either_form() {
        assert_eq!(since("2026-03-01T12:00:00Z"), Ok(1_772_366_400_000));
        let hour = since("1h").unwrap() - since("2h").unwrap();
        assert!((3_540_000..=3_600_000).contains(&hour), "{hour}");
        for bad in [
            "",
            "yesterday",
            "2026-03-01",
            "1960-01-01T00:00:00Z",
            "99999999999999d",
            "-1h",
        ] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
