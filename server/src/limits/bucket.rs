//! Rates by key, in memory that does not grow.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, StateStore};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::config::Rate;

/// Keys remembered at least; twice as many at most.
const KEYS: usize = 32_768;

type Limiter<K, C> = RateLimiter<K, Latest<K>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// One token bucket for each key, or no limit at all.
///
/// Of keys the latest are remembered. To have its own bucket forgotten, and so filled, a client
/// would have to come from [`KEYS`] other sources first.
pub struct Buckets<K: Hash + Eq + Clone, C: Clock = MonotonicClock> {
    limiter: Option<Limiter<K, C>>,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub fn new(rate: Rate) -> Self {
        Self::with_clock(rate, KEYS, MonotonicClock)
    }
}

impl<K: Hash + Eq + Clone, C: Clock> Buckets<K, C> {
    fn with_clock(rate: Rate, keys: usize, clock: C) -> Self {
        let limiter = quota(rate).map(|quota| RateLimiter::new(quota, Latest::new(keys), clock));
        Buckets { limiter }
    }

    /// Takes a token, or says how long it takes until there is one.
    pub fn take(&self, key: &K) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        limiter
            .check_key(key)
            .map_err(|until| until.wait_time_from(limiter.clock().now()))
    }
}

/// One token bucket.
pub struct Bucket {
    limiter: Option<DefaultDirectRateLimiter>,
}

impl Bucket {
    pub fn new(rate: Rate) -> Self {
        let limiter = quota(rate).map(|quota| {
            DefaultDirectRateLimiter::new(quota, InMemoryState::default(), MonotonicClock)
        });
        Bucket { limiter }
    }

    /// Takes a token, or says how long it takes until there is one.
    pub fn take(&self) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        limiter
            .check()
            .map_err(|until| until.wait_time_from(limiter.clock().now()))
    }
}

fn quota(rate: Rate) -> Option<Quota> {
    let (per_minute, burst) = rate.limited()?;
    Some(Quota::per_minute(per_minute).allow_burst(burst))
}

/// The state of the latest keys: when the young are as many as may be, they become the old ones,
/// and what was old is forgotten.
struct Latest<K> {
    keys: usize,
    maps: Mutex<Generations<K>>,
}

struct Generations<K> {
    young: HashMap<K, Option<Nanos>>,
    old: HashMap<K, Option<Nanos>>,
}

impl<K> Latest<K> {
    fn new(keys: usize) -> Self {
        let maps = Mutex::new(Generations {
            young: HashMap::new(),
            old: HashMap::new(),
        });
        Latest { keys, maps }
    }
}

impl<K: Hash + Eq + Clone> StateStore for Latest<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let maps = &mut *maps;
        if !maps.young.contains_key(key) && maps.young.len() >= self.keys {
            maps.old = mem::take(&mut maps.young);
        }
        let former = &mut maps.old;
        let state = maps
            .young
            .entry(key.clone())
            .or_insert_with(|| former.remove(key).flatten());
        let (result, new) = decide(*state)?;
        *state = Some(new);
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn buckets(
        per_minute: u32,
        burst: u32,
    ) -> (Buckets<u32, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rate = Rate::new(per_minute, burst);
        (Buckets::with_clock(rate, 4, clock.clone()), clock)
    }

    #[test]
    fn a_burst_then_the_rate_for_each_key() {
        let (buckets, clock) = buckets(60, 3);
        for key in [1, 2] {
            for _ in 0..3 {
                assert_eq!(buckets.take(&key), Ok(()));
            }
            assert_eq!(buckets.take(&key), Err(Duration::from_secs(1)), "key {key}");
        }
        clock.advance(Duration::from_secs(1));
        assert_eq!(buckets.take(&1), Ok(()));
        assert_eq!(buckets.take(&1), Err(Duration::from_secs(1)));
        assert_eq!(buckets.take(&2), Ok(()));
    }

    #[test]
    fn who_keeps_coming_is_not_forgotten_and_memory_does_not_grow() {
        let (buckets, _clock) = buckets(60, 1);
        assert_eq!(buckets.take(&0), Ok(()));
        for other in 1..1000 {
            assert_eq!(buckets.take(&other), Ok(()));
            assert!(buckets.take(&0).is_err(), "forgotten after {other} others");
        }
        let latest = buckets.limiter.unwrap().into_state_store();
        let maps = latest.maps.into_inner().unwrap();
        let held = maps.young.len() + maps.old.len();
        assert!(held <= 8, "{held} keys held");
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let (buckets, _clock) = buckets(0, 0);
        assert!((0..10_000).all(|_| buckets.take(&1).is_ok()));
    }
}
