//! What a seed stands for: what subscribers wish, and what breaks meanwhile.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::homes::{GATEWAYS, HOMES, SERVER, TERMINALS, terminal_name};

/// When everything works again, for good.
pub const MENDED: Duration = Duration::from_secs(50);
/// From when until when something may break, in milliseconds.
const BREAKS: Range<u64> = 2_000..48_000;
const WISHES: RangeInclusive<usize> = 8..=14;
const FAULTS: RangeInclusive<usize> = 12..=28;
/// Requests of all terminals, at least.
const REQUESTS: usize = 40;

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

/// Something that breaks and is mended again.
#[derive(Clone, Debug)]
pub struct Fault {
    pub begins: Begins,
    pub breaks: Act,
    pub lasts: Duration,
    pub mends: Act,
}

#[derive(Clone, Copy, Debug)]
pub enum Begins {
    At(Duration),
    /// So long after the request with this number: while it is carried out, most likely.
    After(usize, Duration),
}

#[derive(Debug)]
pub struct Scenario {
    /// Of each terminal, with the pause before each.
    pub wishes: Vec<Vec<(Duration, Wish)>>,
    pub faults: Vec<Fault>,
    /// The longest that a message takes while nothing is broken.
    pub latency: Duration,
    /// Of the frames on lines, until everything is mended.
    pub loss: f64,
}

impl Scenario {
    pub fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let wishes = (0..TERMINALS).map(|_| wishes(&mut rng)).collect();
        let faults = rng.random_range(FAULTS);
        Scenario {
            wishes,
            faults: (0..faults).map(|_| fault(&mut rng)).collect(),
            latency: Duration::from_millis(rng.random_range(5..=150)),
            loss: rng.random_range(0.0..0.3),
        }
    }
}

fn millis(rng: &mut StdRng, range: Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

fn wishes(rng: &mut StdRng) -> Vec<(Duration, Wish)> {
    let first = Wish::Connect {
        home: rng.random_range(0..HOMES),
    };
    let mut all = vec![(millis(rng, 0..3_000), first)];
    for _ in 0..rng.random_range(WISHES) {
        let (session, home) = (rng.random_range(0..8), rng.random_range(0..HOMES));
        let wish = match rng.random_range(0..20) {
            0 => Wish::Connect { home },
            1..=3 => Wish::Additional { home },
            4..=6 => Wish::Release { session },
            _ => Wish::Move { session, home },
        };
        // Some change their minds at once.
        let longest = if rng.random_bool(0.3) { 500 } else { 6_000 };
        all.push((millis(rng, 0..longest), wish));
    }
    all
}

fn fault(rng: &mut StdRng) -> Fault {
    let begins = match rng.random_bool(0.5) {
        true => Begins::At(millis(rng, BREAKS)),
        false => Begins::After(rng.random_range(0..REQUESTS), millis(rng, 0..200)),
    };
    let longest = *[300, 3_000, 20_000].choose(rng).unwrap_or(&3_000);
    let lasts = millis(rng, 50..longest);
    let gateway = *GATEWAYS.choose(rng).unwrap_or(&GATEWAYS[0]);
    let (breaks, mends) = match rng.random_bool(0.5) {
        true => of_host(rng, gateway),
        false => of_link(rng, gateway),
    };
    Fault {
        begins,
        breaks,
        lasts,
        mends,
    }
}

fn of_host(rng: &mut StdRng, gateway: &'static str) -> (Act, Act) {
    let host = *[SERVER, gateway].choose(rng).unwrap_or(&SERVER);
    let end = match rng.random_bool(0.7) {
        true => Act::Kill,
        false => Act::Stop,
    };
    (end(host), Act::Start(host))
}

fn of_link(rng: &mut StdRng, gateway: &'static str) -> (Act, Act) {
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
    let breaks = match rng.random_range(0..8) {
        0..=2 => Act::Cut(from, to),
        3..=4 => Act::CutOneWay(from, to),
        5..=6 => Act::Hold(from, to),
        _ => Act::Slow(from, to, millis(rng, 500..4_000)),
    };
    (breaks, Act::Mend(one, other))
}
