//! Terminals that are silent, by the word of the gateway whose stream this is.
//!
//! A gateway says with each account what is so, and gives a receipt for each session that ends. So what
//! is kept here needs no row and no clock, and lasts as long as the stream.

use std::collections::HashMap;
use std::sync::Mutex;

use uuid::Uuid;

use super::lock;

/// Whether a session's terminal is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// No gateway has said so to this server.
    Unknown,
    /// Heard, or it is none that asks.
    NotSilent,
    /// Not heard since then, in milliseconds of Unix time by the gateway's clock.
    SilentSince(i64),
}

/// What one account says of a session.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub session: Uuid,
    pub generation: u64,
    pub silent_since_ms: Option<i64>,
}

/// Session to generation and since when; nothing at all before the first account.
#[derive(Debug, Default)]
pub struct Silence(Mutex<Option<HashMap<Uuid, (u64, i64)>>>);

impl Silence {
    /// Takes a gateway's word, in the order of its stream.
    pub fn take(&self, said: impl Iterator<Item = Said>) {
        let mut silent = lock(&self.0);
        let silent = silent.get_or_insert_default();
        for said in said {
            match said.silent_since_ms {
                Some(since_ms) => {
                    silent.insert(said.session, (said.generation, since_ms));
                }
                None => {
                    silent.remove(&said.session);
                }
            }
        }
    }

    /// These have ended, or are not the gateway's to speak of.
    pub fn forget(&self, sessions: impl Iterator<Item = Uuid>) {
        if let Some(silent) = &mut *lock(&self.0) {
            for session in sessions {
                silent.remove(&session);
            }
        }
    }

    /// Of a session in that generation.
    pub fn of(&self, session: Uuid, generation: u64) -> Liveness {
        match &*lock(&self.0) {
            None => Liveness::Unknown,
            Some(silent) => match silent.get(&session) {
                Some((of, since_ms)) if *of == generation => Liveness::SilentSince(*since_ms),
                _ => Liveness::NotSilent,
            },
        }
    }

    pub fn count(&self) -> usize {
        lock(&self.0).as_ref().map_or(0, HashMap::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Uuid = Uuid::from_u128(1);

    fn said(generation: u64, silent_since_ms: Option<i64>) -> std::iter::Once<Said> {
        std::iter::once(Said {
            session: SESSION,
            generation,
            silent_since_ms,
        })
    }

    #[test]
    fn the_last_word_counts_and_only_of_its_generation() {
        let silence = Silence::default();
        assert_eq!(silence.of(SESSION, 1), Liveness::Unknown);
        silence.take(said(1, Some(500)));
        assert_eq!(silence.of(SESSION, 1), Liveness::SilentSince(500));
        assert_eq!(silence.of(SESSION, 2), Liveness::NotSilent);
        assert_eq!(silence.count(), 1);
        silence.take(said(1, None));
        assert_eq!(silence.of(SESSION, 1), Liveness::NotSilent);
        silence.take(said(2, Some(900)));
        silence.forget(std::iter::once(SESSION));
        assert_eq!(silence.of(SESSION, 2), Liveness::NotSilent);
        assert_eq!(silence.count(), 0);
    }
}
