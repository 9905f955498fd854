//! Requests that were refused lately, so that somebody who is asked about one can see it.
//!
//! In memory, of this server, of a bounded number of subscribers: a refusal changes no row, and a
//! terminal that asks in vain again and again must not fill a table.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashlink::LruCache;
use uuid::Uuid;

use super::EngineError;
use crate::why::{Ground, Refusal};

/// Subscribers whose last refusal is remembered: about 1 MiB.
const REMEMBERED: usize = 4096;

pub(super) struct RefusedRequests(Mutex<LruCache<Uuid, Refusal>>);

impl Default for RefusedRequests {
    fn default() -> Self {
        RefusedRequests(Mutex::new(LruCache::new(REMEMBERED)))
    }
}

impl RefusedRequests {
    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, LruCache<Uuid, Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, subscriber: Uuid, at_ms: i64, error: &EngineError) {
        let (ground, reason) = match error {
            EngineError::Store(_) | EngineError::Vault(_) => (
                Ground::Server,
                "the server could not carry it out; its log says why".to_owned(),
            ),
            EngineError::Busy | EngineError::Interrupted(_) => (Ground::Server, error.to_string()),
            EngineError::NoGateway => (Ground::NoGateway, error.to_string()),
            EngineError::Precondition(_)
            | EngineError::Exhausted(_)
            | EngineError::NotFound(_)
            | EngineError::AlreadyRegistered => (Ground::Standing, error.to_string()),
            EngineError::Invalid(_) | EngineError::Forbidden(_) | EngineError::Unauthenticated => {
                (Ground::Request, error.to_string())
            }
        };
        let refusal = Refusal {
            at_ms,
            ground,
            reason,
        };
        self.lock().insert(subscriber, refusal);
    }

    pub(super) fn forget(&self, subscriber: Uuid) {
        self.lock().remove(&subscriber);
    }

    pub(super) fn of(&self, subscriber: Uuid) -> Option<Refusal> {
        self.lock().peek(&subscriber).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_refusal_is_remembered_until_a_request_is_granted() {
        let refused = RefusedRequests::default();
        let id = |number: usize| Uuid::from_u128(number as u128);
        for number in 0..=REMEMBERED {
            refused.note(id(number), 1, &EngineError::NoGateway);
        }
        assert_eq!(refused.of(id(0)), None, "memory is bounded");
        refused.note(id(1), 2, &EngineError::Busy);
        let last = refused.of(id(1)).unwrap();
        assert_eq!((last.at_ms, last.ground), (2, Ground::Server));
        refused.forget(id(1));
        assert_eq!(refused.of(id(1)), None);
        assert!(refused.of(id(2)).is_some());
    }
}
