//! From valid inputs to nearly valid ones.
//!
//! Random bytes fail at the first check. What finds faults is a valid input with a few changes that
//! respect how it is put together: a protobuf field taken out, a line of a file written twice.

mod bytes;
mod proto;
mod text;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// How inputs are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Fields at fixed places, or unknown.
    Bytes,
    /// UTF-8 in lines and words.
    Text,
    /// A protobuf message.
    Protobuf,
}

/// Longest input made, in bytes; seeds may be longer.
pub const MAX_LEN: usize = 8192;

/// Makes inputs that follow from a seed.
pub struct Mutator {
    rng: StdRng,
    shape: Shape,
    words: &'static [&'static str],
}

impl Mutator {
    /// The same arguments give the same inputs.
    #[must_use]
    pub fn new(shape: Shape, words: &'static [&'static str], seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            shape,
            words,
        }
    }

    /// One of `pool`, changed in one place or a few.
    pub fn mutate(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let none = Vec::new();
        let mut input = pool.choose(&mut self.rng).unwrap_or(&none).clone();
        let other = pool.choose(&mut self.rng).unwrap_or(&none);
        // Mostly one or two changes: each further one makes it likelier that the first check fails.
        loop {
            self.change(&mut input, other);
            if self.rng.random_bool(0.5) {
                break;
            }
        }
        input.truncate(MAX_LEN);
        input
    }

    /// Changes an input in one place.
    pub fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let Self { rng, words, .. } = self;
        match self.shape {
            Shape::Text if rng.random_bool(0.9) => text::change(rng, words, input, other),
            Shape::Protobuf if rng.random_bool(0.9) => proto::change(rng, words, input, other),
            _ => bytes::change(rng, words, input, other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_and_another_gives_others() {
        let pool = [b"one = 1\ntwo = [2, 3]\n".to_vec(), vec![8, 1, 18, 2, 8, 5]];
        for shape in [Shape::Bytes, Shape::Text, Shape::Protobuf] {
            let inputs = |seed| {
                let mut mutator = Mutator::new(shape, &["word"], seed);
                (0..500).map(|_| mutator.mutate(&pool)).collect::<Vec<_>>()
            };
            assert_eq!(inputs(1), inputs(1), "{shape:?}");
            assert_ne!(inputs(1), inputs(2), "{shape:?}");
            let distinct: HashSet<_> = inputs(1).into_iter().collect();
            assert!(distinct.len() > 200, "{shape:?}: {}", distinct.len());
        }
    }

    #[test]
    fn nothing_to_begin_with_is_no_obstacle() {
        for shape in [Shape::Bytes, Shape::Text, Shape::Protobuf] {
            let mut mutator = Mutator::new(shape, &[], 3);
            assert!(
                (0..100).any(|_| !mutator.mutate(&[]).is_empty()),
                "{shape:?}"
            );
        }
    }
}
