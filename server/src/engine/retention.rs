//! Old rows go, while everything else goes on.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Engine, Result};
use crate::config::kept_for;
use crate::store::{Aged, StoreError};

/// How many times as long as it worked a walk rests: it never takes more than a tenth of the time
/// of whoever writes to the database.
const REST: u32 = 9;
/// The least that it rests between two pieces.
const LEAST_REST: Duration = Duration::from_millis(1);
/// How much faster than time itself the clock may go while the server runs. One that was set
/// forward by more makes nothing old.
const CLOCK_SLACK_MS: i64 = 24 * 3_600 * 1_000;

/// Rows that a walk has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub steps: u64,
    pub requests: u64,
    pub receipts: u64,
}

impl Engine {
    /// Removes what is old at this time (Unix milliseconds), in one walk over everything, in pieces
    /// between which others have their turn.
    ///
    /// # Errors
    ///
    /// Where the database fails: what has been removed by then is gone, and the next walk begins
    /// anew.
    pub async fn prune(&self, at_ms: i64) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let kept = self.config.retention;
        for (what, days, count) in [
            (Aged::Steps, kept.steps_days, &mut pruned.steps),
            (Aged::Requests, kept.requests_days, &mut pruned.requests),
            (Aged::Receipts, kept.receipts_days, &mut pruned.receipts),
        ] {
            let Some(kept) = kept_for(days) else { continue };
            let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
            *count += self.walk(what, at_ms.saturating_sub(kept_ms)).await?;
        }
        Ok(pruned)
    }

    async fn walk(&self, what: Aged, before_ms: i64) -> Result<u64> {
        let mut removed = 0;
        let mut after = Some(Uuid::nil());
        let mut met = 0;
        while let Some(from) = after {
            let began = Instant::now();
            match self.store.prune(what, before_ms, from).await {
                Ok(piece) => {
                    removed += piece.removed;
                    after = piece.next;
                    met = 0;
                }
                // Another server is at the same rows; it may have removed them by now.
                Err(StoreError::Conflict) if met < 3 => met += 1,
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep((began.elapsed() * REST).max(LEAST_REST)).await;
        }
        Ok(removed)
    }

    /// Walks again and again until stopped, by a clock in Unix milliseconds. Several servers may:
    /// each begins at a time of its own.
    pub async fn prune_for_ever(
        &self,
        every: Duration,
        clock: fn() -> i64,
        stop: CancellationToken,
    ) {
        let mut pause = every.mul_f64(rand::random::<f64>() / 6.0);
        let (start, start_ms) = (Instant::now(), clock());
        loop {
            let walk = async {
                tokio::time::sleep(pause).await;
                let ran_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
                let latest = start_ms
                    .saturating_add(ran_ms)
                    .saturating_add(CLOCK_SLACK_MS);
                self.prune(clock().min(latest)).await
            };
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = walk => done,
            };
            match done {
                Ok(Pruned {
                    steps: 0,
                    requests: 0,
                    receipts: 0,
                }) => {}
                Ok(pruned) => tracing::info!(
                    steps = pruned.steps,
                    requests = pruned.requests,
                    receipts = pruned.receipts,
                    "old rows removed"
                ),
                Err(error) => {
                    tracing::error!(%error, "cannot remove old rows; tried again later");
                }
            }
            pause = every.mul_f64(0.75 + rand::random::<f64>() / 2.0);
        }
    }
}
