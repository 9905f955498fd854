//! Fuzz targets for every parser of what comes from outside: the network, files that people write,
//! files that an earlier version wrote.
//!
//! A [`Target`] is a plain function on bytes that panics where something that must always hold does
//! not. Each runs in two ways: briefly among the tests ([`run::briefly`]: its corpus and a fixed
//! number of mutations that follow from a fixed seed), and for as long as one likes by `cargo xtask
//! fuzz` (`src/main.rs`, or libFuzzer with coverage guidance, `src/bin/libfuzzer.rs`).
//!
//! | module | what it does |
//! |---|---|
//! | [`targets`] | the targets, a file for each subject |
//! | [`mutate`] | from valid inputs to nearly valid ones: bytes, text, protobuf |
//! | [`corpus`] | the files of `fuzz/corpus` and `fuzz/artifacts` |
//! | [`run`] | the loops |
#![forbid(unsafe_code)]

pub mod corpus;
pub mod mutate;
pub mod run;
pub mod targets;

use mutate::Shape;

/// A parser, and what must hold of it.
pub struct Target {
    /// As in `cargo xtask fuzz NAME`, and the folder of its corpus.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Panics if something does not hold of this input.
    pub check: fn(&[u8]),
    /// Valid inputs, made by code; `fuzz/corpus/NAME` has more.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How inputs are put together.
    pub shape: Shape,
    /// Words that mean something in its inputs.
    pub words: &'static [&'static str],
    /// Mutated inputs of a brief run.
    pub inputs: u32,
}

impl Target {
    /// The target of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        targets::ALL.into_iter().find(|target| target.name == name)
    }
}
