//! Places that are taken and given back: so many altogether, and so many for each key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which of the two limits has been met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Altogether,
    ForKey,
}

/// Remembers only the keys that have a place, so its memory is bounded by the places.
pub struct Places<K: Hash + Eq> {
    most: usize,
    most_for_key: usize,
    taken: Mutex<Taken<K>>,
}

struct Taken<K> {
    altogether: usize,
    by_key: HashMap<K, usize>,
}

impl<K: Hash + Eq + Clone> Places<K> {
    pub fn new(most: usize, most_for_key: usize) -> Arc<Self> {
        let taken = Mutex::new(Taken {
            altogether: 0,
            by_key: HashMap::new(),
        });
        Arc::new(Places {
            most,
            most_for_key,
            taken,
        })
    }

    /// Takes a place, which is given back when it is dropped.
    pub fn take(self: &Arc<Self>, key: K) -> Result<Place<K>, Full> {
        let mut taken = self.lock();
        let held = taken.by_key.get(&key).copied().unwrap_or(0);
        if held >= self.most_for_key {
            return Err(Full::ForKey);
        }
        if taken.altogether >= self.most {
            return Err(Full::Altogether);
        }
        taken.altogether += 1;
        taken.by_key.insert(key.clone(), held + 1);
        Ok(Place {
            places: Arc::clone(self),
            key,
        })
    }
}

impl<K: Hash + Eq> Places<K> {
    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place, held until it is dropped.
pub struct Place<K: Hash + Eq> {
    places: Arc<Places<K>>,
    key: K,
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.altogether -= 1;
        if let Some(held) = taken.by_key.get_mut(&self.key) {
            *held -= 1;
            if *held == 0 {
                taken.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_by_key_and_altogether_and_come_back() {
        let places = Places::new(3, 2);
        let a = places.take("a").ok().unwrap();
        let _a = places.take("a").ok().unwrap();
        assert_eq!(places.take("a").err(), Some(Full::ForKey));
        let b = places.take("b").ok().unwrap();
        assert_eq!(places.take("b").err(), Some(Full::Altogether));
        assert_eq!(places.take("a").err(), Some(Full::ForKey));
        drop(b);
        assert_eq!(places.lock().by_key.len(), 1, "b is forgotten");
        drop(a);
        let _again = places.take("a").ok().unwrap();
        let _c = places.take("c").ok().unwrap();
        assert_eq!(places.take("d").err(), Some(Full::Altogether));
    }
}
