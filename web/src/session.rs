//! Who is signed in: kept in memory, each by a cookie's value, until it has not been used for a while,
//! until its time is over whatever it does, or until it is ended.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::token::{NoRandom, Token, digest};

/// How long sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Without a use.
    pub idle: Duration,
    /// Altogether.
    pub absolute: Duration,
}

/// Whether a request is a person's, or a page's that looks for news by itself. The latter keeps nobody
/// signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Person,
    Page,
}

/// Sessions of people, each with what is known of them.
#[derive(Debug)]
pub struct Sessions<T> {
    lifetimes: Lifetimes,
    most: usize,
    /// By the digest of the cookie's value.
    open: Mutex<HashMap<[u8; 32], Open<T>>>,
}

#[derive(Debug)]
struct Open<T> {
    who: T,
    csrf: Token,
    began: Instant,
    used: Instant,
}

/// A session that was found.
#[derive(Clone, Debug)]
pub struct Session<T> {
    pub who: T,
    /// Stands in each form of the session's pages.
    pub csrf: Token,
}

impl<T: Clone> Sessions<T> {
    /// At most `most` at a time: of more, the one that was not used for the longest time ends.
    #[must_use]
    pub fn new(lifetimes: Lifetimes, most: usize) -> Self {
        Sessions {
            lifetimes,
            most: most.max(1),
            open: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Open<T>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self, session: &Open<T>, now: Instant) -> bool {
        now.duration_since(session.used) >= self.lifetimes.idle
            || now.duration_since(session.began) >= self.lifetimes.absolute
    }

    /// Begins a session and returns the cookie's value.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn begin(&self, who: T, now: Instant) -> Result<Token, NoRandom> {
        let (cookie, csrf) = (Token::new()?, Token::new()?);
        let mut open = self.lock();
        open.retain(|_, session| !self.has_ended(session, now));
        if open.len() >= self.most {
            let oldest = open.iter().min_by_key(|(_, session)| session.used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                open.remove(&key);
            }
        }
        let session = Open {
            who,
            csrf,
            began: now,
            used: now,
        };
        open.insert(digest(cookie.as_str()), session);
        Ok(cookie)
    }

    /// The session of a cookie, if it has not ended.
    #[must_use]
    pub fn find(&self, cookie: &str, now: Instant, by: Use) -> Option<Session<T>> {
        let key = digest(cookie);
        let mut open = self.lock();
        let session = open.get_mut(&key)?;
        if self.has_ended(session, now) {
            open.remove(&key);
            return None;
        }
        if by == Use::Person {
            session.used = now;
        }
        Some(Session {
            who: session.who.clone(),
            csrf: session.csrf.clone(),
        })
    }

    pub fn end(&self, cookie: &str) {
        self.lock().remove(&digest(cookie));
    }

    /// Ends the sessions of all of whom this is true.
    pub fn end_those(&self, are: impl Fn(&T) -> bool) {
        self.lock().retain(|_, session| !are(&session.who));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes {
        idle: Duration::from_secs(10),
        absolute: Duration::from_secs(25),
    };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_session_ends_idle_and_in_the_end() {
        let start = Instant::now();
        // Times at which somebody comes, and whether the last one is let in.
        let cases: [(&[u64], bool); 5] = [
            (&[9], true),
            (&[10], false),
            (&[9, 18], true),
            (&[9, 18, 24], true),
            (&[9, 18, 25], false),
        ];
        for (uses, is_in) in cases {
            let sessions = Sessions::new(LIFETIMES, 8);
            let cookie = sessions.begin("li", start).unwrap();
            let mut found = None;
            for at in uses {
                found = sessions.find(cookie.as_str(), after(start, *at), Use::Person);
            }
            assert_eq!(found.is_some(), is_in, "{uses:?}");
        }
    }

    #[test]
    fn a_page_that_looks_for_news_keeps_nobody_signed_in() {
        let start = Instant::now();
        let sessions = Sessions::new(LIFETIMES, 8);
        let cookie = sessions.begin("li", start).unwrap();
        let find = |at| sessions.find(cookie.as_str(), after(start, at), Use::Page);
        assert!(find(5).is_some());
        assert!(find(9).is_some());
        assert!(find(11).is_none());
    }

    #[test]
    fn the_one_unused_for_the_longest_time_makes_room() {
        let start = Instant::now();
        let sessions = Sessions::new(LIFETIMES, 2);
        let first = sessions.begin(1, start).unwrap();
        let second = sessions.begin(2, after(start, 1)).unwrap();
        let who = |cookie: &Token, at| {
            let found = sessions.find(cookie.as_str(), after(start, at), Use::Person);
            found.map(|session| session.who)
        };
        assert_eq!(who(&first, 2), Some(1));
        let third = sessions.begin(3, after(start, 3)).unwrap();
        assert_eq!(who(&second, 4), None);
        assert_eq!((who(&first, 4), who(&third, 4)), (Some(1), Some(3)));
    }

    #[test]
    fn ended_is_ended() {
        let start = Instant::now();
        let sessions = Sessions::new(LIFETIMES, 8);
        let [one, other] = ["li", "wang"].map(|who| sessions.begin(who, start).unwrap());
        let is_in = |cookie: &Token| sessions.find(cookie.as_str(), start, Use::Person).is_some();
        sessions.end(one.as_str());
        assert!(!is_in(&one));
        assert!(is_in(&other));
        sessions.end_those(|who| *who == "wang");
        assert!(!is_in(&other));
        assert!(sessions.find("", start, Use::Person).is_none());
    }
}
