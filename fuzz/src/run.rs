//! The loops around a target, without coverage guidance.

use std::panic;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::mutate::Mutator;
use crate::{Target, corpus};

/// What the inputs of the tests follow from.
pub const SEED: u64 = 52_525;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many mutated inputs.
    Inputs(u64),
    /// After this time.
    Time(Duration),
}

/// An input of which something does not hold. The panic has said what.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the corpus of target {target} cannot be read: {source}")]
    Corpus {
        target: &'static str,
        source: std::io::Error,
    },
    #[error(
        "target {target}: {which} failed: {:?}\nit is kept in {}; run it again with\n  \
         cargo xtask fuzz {target} --input {}",
        String::from_utf8_lossy(input), file.display(), file.display()
    )]
    Input {
        target: &'static str,
        /// Where the input comes from, with the seed.
        which: String,
        input: Vec<u8>,
        file: PathBuf,
    },
    #[error("target {target}: an input failed and cannot be kept: {source}: {input:?}")]
    Lost {
        target: &'static str,
        input: Vec<u8>,
        source: std::io::Error,
    },
}

/// The corpus, then the target's number of mutations.
///
/// # Errors
/// The first input that fails.
pub fn briefly(target: &Target) -> Result<(), Failure> {
    run(target, SEED, Until::Inputs(target.inputs.into())).map(drop)
}

/// The corpus, then mutations of it that follow from `seed`; returns how many.
///
/// # Errors
/// The first input that fails.
pub fn run(target: &Target, seed: u64, until: Until) -> Result<u64, Failure> {
    let inputs = corpus::load(target).map_err(|source| Failure::Corpus {
        target: target.name,
        source,
    })?;
    for (number, input) in inputs.iter().enumerate() {
        check(target, input, || format!("input {number} of its corpus"))?;
    }
    let begin = Instant::now();
    let mut mutator = Mutator::new(target.shape, target.words, seed);
    let mut count = 0;
    loop {
        let done = match until {
            Until::Inputs(inputs) => count >= inputs,
            Until::Time(time) => begin.elapsed() >= time,
        };
        if done {
            return Ok(count);
        }
        count += 1;
        let input = mutator.mutate(&inputs);
        check(target, &input, || {
            format!("mutation {count} of seed {seed}")
        })?;
    }
}

/// One input.
///
/// # Errors
/// If it fails.
pub fn check(target: &Target, input: &[u8], which: impl FnOnce() -> String) -> Result<(), Failure> {
    if panic::catch_unwind(|| (target.check)(input)).is_ok() {
        return Ok(());
    }
    let input = input.to_vec();
    Err(match corpus::keep(target, &input) {
        Ok(file) => Failure::Input {
            target: target.name,
            which: which(),
            input,
            file,
        },
        Err(source) => Failure::Lost {
            target: target.name,
            input,
            source,
        },
    })
}
