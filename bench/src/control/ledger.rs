//! Who forwards what, over all gateways: two at once must never be.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

const SHARDS: usize = 64;

/// Sessions by the gateway that forwards them.
#[derive(Debug)]
pub struct Ledger {
    shards: [Mutex<HashMap<Uuid, u32>>; SHARDS],
    doubled: AtomicU64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            doubled: AtomicU64::new(0),
        }
    }
}

impl Ledger {
    pub fn begins(&self, session: Uuid, gateway: u32) {
        let former = self.shard(session).insert(session, gateway);
        if former.is_some_and(|former| former != gateway) {
            self.doubled.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn ends(&self, session: Uuid, gateway: u32) {
        let mut shard = self.shard(session);
        if shard.get(&session) == Some(&gateway) {
            shard.remove(&session);
        }
    }

    /// Sessions that are forwarded.
    pub fn forwarded(&self) -> usize {
        let locked = |shard: &Mutex<HashMap<Uuid, u32>>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        self.shards.iter().map(locked).sum()
    }

    /// How often a gateway began to forward what another one still forwarded.
    pub fn doubled(&self) -> u64 {
        self.doubled.load(Ordering::Relaxed)
    }

    fn shard(&self, session: Uuid) -> MutexGuard<'_, HashMap<Uuid, u32>> {
        // The last byte of a UUID of version 4 or 7 is random.
        let shard = usize::from(session.as_bytes()[15]) % SHARDS;
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_at_once_are_noticed() {
        let ledger = Ledger::default();
        let session = Uuid::from_u128(7);
        ledger.begins(session, 1);
        ledger.begins(session, 1);
        ledger.ends(session, 2);
        assert_eq!((ledger.forwarded(), ledger.doubled()), (1, 0));
        ledger.ends(session, 1);
        ledger.begins(session, 2);
        assert_eq!((ledger.forwarded(), ledger.doubled()), (1, 0));
        ledger.begins(session, 3);
        assert_eq!((ledger.forwarded(), ledger.doubled()), (1, 1));
    }
}
