//! The terminal's side of liveness: when to ask, and when the gateway is silent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::{PROBE_LEN, Probe, ProbeKey};

/// The longest pause between two questions. Each is shortened by up to a quarter at random, so that
/// the homes of a gateway that has just come back do not speak in step.
const INTERVAL: Duration = Duration::from_secs(1);
/// Without an answer for so long the gateway is silent. Two questions have been asked by then.
pub const SILENT_AFTER: Duration = Duration::from_millis(2500);
/// So many questions must have gone unanswered: a terminal that was suspended, or had no time, has
/// asked none.
const MISSED: usize = 2;
/// A question counts as unanswered after this.
const PATIENCE: Duration = Duration::from_millis(400);
/// Answers that come later than this many questions are too late.
const OUTSTANDING: usize = 4;

/// Asks the gateway of one establishment whether the session is alive.
///
/// Send what [`poll`](Self::poll) returns, again at [`next_deadline`](Self::next_deadline), and give it
/// what comes back. It never decides that a session has ended: only the two ends' authenticated
/// messages do that.
#[derive(Debug)]
pub struct Prober {
    key: ProbeKey,
    slot: u32,
    sequence: u64,
    ask_at: Instant,
    /// Nonces of questions, and when they were asked.
    outstanding: VecDeque<(u64, Instant)>,
    heard: Instant,
    silent: bool,
}

/// The gateway has become silent, or is heard again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has not answered for [`SILENT_AFTER`].
    Silent,
    /// It has answered after that.
    Heard,
}

impl Prober {
    /// The gateway was heard at `now`, and has the session in `slot`.
    #[must_use]
    pub fn new(key: ProbeKey, slot: u32, now: Instant) -> Self {
        Self {
            key,
            slot,
            sequence: 0,
            ask_at: now,
            outstanding: VecDeque::new(),
            heard: now,
            silent: false,
        }
    }

    /// Whether it goes on unchanged for an establishment with this key and slot.
    #[must_use]
    pub fn is_for(&self, key: &ProbeKey, slot: u32) -> bool {
        self.key == *key && self.slot == slot
    }

    /// Whether the gateway is silent.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// When the gateway was heard last.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// The question to send at `now`, if it is time, and whether the gateway has become silent.
    pub fn poll(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
    ) -> (Option<[u8; PROBE_LEN]>, Option<Change>) {
        let ask = (now >= self.ask_at).then(|| self.ask(now, rng));
        let silent = !self.silent && self.silent_at().is_some_and(|at| at <= now);
        self.silent |= silent;
        (ask, silent.then_some(Change::Silent))
    }

    fn ask(&mut self, now: Instant, rng: &mut impl Rng) -> [u8; PROBE_LEN] {
        self.ask_at = now + INTERVAL.mul_f64(rng.random_range(0.75..=1.0));
        self.sequence += 1;
        let probe = Probe {
            slot: self.slot,
            sequence: self.sequence,
            nonce: rng.random(),
        };
        if self.outstanding.len() == OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((probe.nonce, now));
        probe.ask(&self.key)
    }

    /// From when on the gateway is silent, if nothing is heard; none if too little has been asked.
    fn silent_at(&self) -> Option<Instant> {
        let (_, asked) = self.outstanding.get(MISSED - 1)?;
        Some((self.heard + SILENT_AFTER).max(*asked + PATIENCE))
    }

    /// When to call [`poll`](Self::poll) next.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let silent_at = self.silent_at().filter(|_| !self.silent);
        silent_at.map_or(self.ask_at, |at| at.min(self.ask_at))
    }

    /// Takes a datagram that came at `now`: whether it is an answer to a question of this
    /// establishment, and whether the gateway was silent before.
    pub fn on_datagram(&mut self, datagram: &[u8], now: Instant) -> Option<Option<Change>> {
        let answer = Probe::open_answer(datagram, &self.key)?;
        let mut asked = self.outstanding.iter();
        let at = asked.position(|(nonce, _)| *nonce == answer.nonce)?;
        if answer.slot != self.slot {
            return None;
        }
        // What was asked before is of no interest any more, and what was asked after it may come.
        self.outstanding.drain(..=at);
        self.heard = now;
        // A terminal that has started anew does not know what it has asked before.
        self.sequence = self.sequence.max(answer.sequence);
        let was_silent = std::mem::take(&mut self.silent);
        Some(was_silent.then_some(Change::Heard))
    }
}

#[cfg(test)]
mod tests;
