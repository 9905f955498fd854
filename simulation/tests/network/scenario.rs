//! What a seed stands for: what subscribers wish, and what breaks meanwhile.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::homes::{GATEWAYS, HOMES, SERVER, TERMINALS, terminal_name};

/// When everything works again, for good.
pub const MENDED: Duration = Duration::from_secs(62);
/// From when until when something may break.
const BREAKS: (u64, u64) = (3_000, 58_000);
const WISHES: std::ops::RangeInclusive<usize> = 5..=9;
const FAULTS: std::ops::RangeInclusive<usize> = 6..=14;

/// Of a terminal's homes by number, and of its sessions in their order.
#[derive(Clone, Copy, Debug)]
pub enum Wish {
    Connect { home: usize },
    Move { session: usize, home: usize },
    Additional { home: usize },
    Release { session: usize },
}

/// What happens to hosts and the links between them.
#[derive(Clone, Debug)]
pub enum Act {
    /// Nothing comes through, and nothing is sent again.
    Cut(String, String),
    CutOneWay(String, String),
    /// What is sent comes later.
    Hold(String, String),
    Slow(String, String, Duration),
    Mend(String, String),
    Kill(&'static str),
    /// Ends in order.
    Stop(&'static str),
    /// Again, from what is on its disk.
    Start(&'static str),
}

#[derive(Debug)]
pub struct Scenario {
    /// Of each terminal, with the pause before each.
    pub wishes: Vec<Vec<(Duration, Wish)>>,
    /// In the order of their times.
    pub acts: Vec<(Duration, Act)>,
    /// The longest that a message takes while nothing is broken.
    pub latency: Duration,
    /// Of the frames on lines, until everything is mended.
    pub loss: f64,
}

impl Scenario {
    pub fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let wishes = (0..TERMINALS).map(|_| wishes(&mut rng)).collect();
        let mut acts = Vec::new();
        for _ in 0..rng.random_range(FAULTS) {
            fault(&mut rng, &mut acts);
        }
        acts.sort_by_key(|(at, _)| *at);
        Scenario {
            wishes,
            acts,
            latency: Duration::from_millis(rng.random_range(5..=150)),
            loss: rng.random_range(0.0..0.3),
        }
    }
}

fn wishes(rng: &mut StdRng) -> Vec<(Duration, Wish)> {
    let first = Wish::Connect {
        home: rng.random_range(0..HOMES),
    };
    let mut all = vec![(Duration::from_millis(rng.random_range(0..3_000)), first)];
    for _ in 0..rng.random_range(WISHES) {
        let (session, home) = (rng.random_range(0..8), rng.random_range(0..HOMES));
        let wish = match rng.random_range(0..10) {
            0 => Wish::Connect { home },
            1..=2 => Wish::Additional { home },
            3 => Wish::Release { session },
            _ => Wish::Move { session, home },
        };
        // Some change their minds at once.
        let longest = if rng.random_bool(0.3) { 500 } else { 10_000 };
        all.push((Duration::from_millis(rng.random_range(0..longest)), wish));
    }
    all
}

/// One that begins, and the end of it.
fn fault(rng: &mut StdRng, acts: &mut Vec<(Duration, Act)>) {
    let begins = rng.random_range(BREAKS.0..BREAKS.1);
    let longest = *[300, 3_000, 20_000].choose(rng).unwrap_or(&3_000);
    let ends = (begins + rng.random_range(50..longest)).min(MENDED.as_millis() as u64);
    let (begins, ends) = (Duration::from_millis(begins), Duration::from_millis(ends));
    let gateway = *GATEWAYS.choose(rng).unwrap_or(&GATEWAYS[0]);
    if rng.random_bool(0.4) {
        let host = if rng.random_bool(0.5) {
            SERVER
        } else {
            gateway
        };
        let end = if rng.random_bool(0.7) {
            Act::Kill
        } else {
            Act::Stop
        };
        acts.push((begins, end(host)));
        acts.push((ends, Act::Start(host)));
        return;
    }
    let terminal = terminal_name(rng.random_range(0..TERMINALS));
    let (one, other) = match rng.random_range(0..10) {
        0..=5 => (gateway.to_owned(), SERVER.to_owned()),
        6..=7 => (terminal, SERVER.to_owned()),
        _ => (gateway.to_owned(), terminal),
    };
    let (from, to) = match rng.random_bool(0.5) {
        true => (one.clone(), other.clone()),
        false => (other.clone(), one.clone()),
    };
    acts.push((
        begins,
        match rng.random_range(0..8) {
            0..=2 => Act::Cut(from, to),
            3..=4 => Act::CutOneWay(from, to),
            5..=6 => Act::Hold(from, to),
            _ => Act::Slow(
                from,
                to,
                Duration::from_millis(rng.random_range(500..4_000)),
            ),
        },
    ));
    acts.push((ends, Act::Mend(one, other)));
}
