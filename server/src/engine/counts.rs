//! What can be counted only by walking over all rows, and is: aside, while whoever asks has what
//! was counted last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Engine, IdentityKey, Result, now_ms};

/// How long a count that has begun is waited for.
const PATIENCE: Duration = Duration::from_millis(100);
/// One that takes no longer is made anew for everyone who asks.
const QUICK: Duration = Duration::from_millis(20);
/// Another one is begun so many times later as it takes: most of the time none is made.
const REST: u32 = 20;

/// As of one moment.
#[derive(Clone, Debug)]
pub struct Counted {
    /// When the count began, in Unix milliseconds.
    pub at_ms: i64,
    pub receipts: u64,
    /// That this server has, the newest first, and others that rows need.
    pub identity_keys: Vec<IdentityKey>,
}

#[derive(Clone, Debug)]
struct Last {
    counted: Arc<Counted>,
    ended: Instant,
    took: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    last: watch::Sender<Option<Last>>,
    runs: AtomicBool,
}

impl Last {
    fn is_good(&self) -> bool {
        self.took > QUICK && self.ended.elapsed() < self.took * REST
    }
}

impl Engine {
    /// The newest count that is there within a moment; none: the first one is under way.
    pub async fn counted(self: &Arc<Self>) -> Result<Option<Arc<Counted>>> {
        let mut last = self.counts.last.subscribe();
        let is_good = last.borrow_and_update().as_ref().is_some_and(Last::is_good);
        if !is_good {
            let count = tokio::spawn({
                let engine = Arc::clone(self);
                async move { engine.count_once().await }
            });
            // It goes on if it is not waited for any longer.
            let done = async {
                match count.await {
                    Ok(Ok(true)) | Err(_) => Ok(()),
                    // Somebody else's is under way.
                    Ok(Ok(false)) => {
                        let _ = last.changed().await;
                        Ok(())
                    }
                    Ok(Err(error)) => Err(error),
                }
            };
            if let Ok(done) = tokio::time::timeout(PATIENCE, done).await {
                done?;
            }
        }
        let last = self.counts.last.borrow();
        Ok(last.as_ref().map(|last| Arc::clone(&last.counted)))
    }

    /// False: another one is under way.
    async fn count_once(&self) -> Result<bool> {
        /// Lets the next one begin, however this one ends.
        struct Turn<'a>(&'a AtomicBool);
        impl Drop for Turn<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        let runs = &self.counts.runs;
        if runs.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        let _turn = Turn(runs);
        let (began, at_ms) = (Instant::now(), now_ms());
        let counted = Counted {
            at_ms,
            receipts: self.store.receipt_count().await?,
            identity_keys: self.identity_keys().await?,
        };
        self.counts.last.send_replace(Some(Last {
            counted: Arc::new(counted),
            ended: Instant::now(),
            took: began.elapsed(),
        }));
        Ok(true)
    }
}
