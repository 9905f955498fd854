//! Terminals that are silent and lines that are blocked, by the word of the gateway whose stream this is.
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
    pub blocked: bool,
}

/// Sessions of which there is something to say, with what was said last; nothing at all before the first
/// account.
#[derive(Debug, Default)]
pub struct Silence(Mutex<Option<HashMap<Uuid, Said>>>);

impl Silence {
    /// Takes a gateway's word, in the order of its stream.
    pub fn take(&self, said: impl Iterator<Item = Said>) {
        let mut silent = lock(&self.0);
        let silent = silent.get_or_insert_default();
        for said in said {
            if said.silent_since_ms.is_some() || said.blocked {
                silent.insert(said.session, said);
            } else {
                silent.remove(&said.session);
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
        let silent = lock(&self.0);
        let Some(silent) = &*silent else {
            return Liveness::Unknown;
        };
        let said = silent.get(&session);
        let said = said.filter(|said| said.generation == generation);
        said.and_then(|said| said.silent_since_ms)
            .map_or(Liveness::NotSilent, Liveness::SilentSince)
    }

    /// Whether its line is blocked.
    pub fn is_blocked(&self, session: Uuid, generation: u64) -> bool {
        let silent = lock(&self.0);
        let said = silent.as_ref().and_then(|all| all.get(&session));
        said.is_some_and(|said| said.generation == generation && said.blocked)
    }

    /// How many terminals are silent.
    pub fn count(&self) -> usize {
        let silent = lock(&self.0);
        let all = silent.iter().flat_map(HashMap::values);
        all.filter(|said| said.silent_since_ms.is_some()).count()
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
            blocked: false,
        })
    }

    #[test]
    fn a_blocked_line_is_no_silence() {
        let silence = Silence::default();
        let blocked = Said {
            session: SESSION,
            generation: 1,
            silent_since_ms: None,
            blocked: true,
        };
        silence.take(std::iter::once(blocked));
        assert!(silence.is_blocked(SESSION, 1) && !silence.is_blocked(SESSION, 2));
        assert_eq!(
            (silence.of(SESSION, 1), silence.count()),
            (Liveness::NotSilent, 0)
        );
        silence.take(said(1, None));
        assert!(!silence.is_blocked(SESSION, 1));
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
