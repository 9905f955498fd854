//! `[retention]`: how long rows are kept that nothing depends on any more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A terminal repeats a request for at most 2^32 milliseconds, 49.7 days: as long as its answer is
/// kept, no request is ever carried out twice.
const LEAST_REQUESTS_DAYS: u32 = 50;
const MOST_DAYS: u32 = 36_500;

/// How long rows are kept that nothing depends on any more, in days; 0: for ever. The reasons are in
/// `docs/adr/0021-retention.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Steps of a session's history, from when it was released. The last one stays.
    pub steps_days: u32,
    /// Answers to requests, which the same request gets again.
    pub requests_days: u32,
    /// Receipts with the final counters of what has ended.
    pub receipts_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            steps_days: 180,
            requests_days: 60,
            receipts_days: 400,
        }
    }
}

impl Retention {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        for (key, days, least) in [
            ("steps_days", self.steps_days, 1),
            ("requests_days", self.requests_days, LEAST_REQUESTS_DAYS),
            ("receipts_days", self.receipts_days, 1),
        ] {
            if days != 0 && !(least..=MOST_DAYS).contains(&days) {
                return Err(format!(
                    "retention: {key} must be {least} to {MOST_DAYS}, or 0 to keep them for ever"
                ));
            }
        }
        Ok(())
    }
}

/// What a number of days means: nothing where it is for ever.
pub fn kept_for(days: u32) -> Option<Duration> {
    (days > 0).then(|| Duration::from_secs(u64::from(days) * 24 * 3600))
}
