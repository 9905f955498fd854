//! The tests that anyone can run: unit, property and documentation tests.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context as _, Result};

use super::report::Layer;
use crate::{
    cargo::{BENCH, Metadata, TESTS, cargo},
    process::describe,
};

pub fn run(filter: Option<&str>) -> Result<Layer> {
    let start = Instant::now();
    let metadata = Metadata::read()?;
    let mut layer = Layer::new("unit");
    let members: Vec<&str> = metadata
        .default_members()
        .filter(|package| ![TESTS, BENCH].contains(package))
        .collect();
    cargo_test(&mut layer, &[], &members, filter)?;
    if metadata.has_target(TESTS, "lib", None) {
        cargo_test(&mut layer, &["--lib"], &[TESTS], filter)?;
    }
    if metadata.has_target(BENCH, "bin", None) {
        cargo_test(&mut layer, &["--bins"], &[BENCH], filter)?;
    }
    layer.duration = start.elapsed();
    Ok(layer)
}

/// Runs `cargo test` for some packages, shows what it prints and counts the tests.
fn cargo_test(
    layer: &mut Layer,
    options: &[&str],
    packages: &[&str],
    filter: Option<&str>,
) -> Result<()> {
    let mut test = cargo();
    test.args(["test", "--no-fail-fast"]).args(options);
    for package in packages {
        test.args(["--package", package]);
    }
    test.arg("--").args(filter).stdout(Stdio::piped());
    let mut child = test
        .spawn()
        .with_context(|| format!("cannot run `{}`", describe(&test)))?;
    let output = child.stdout.take().context("cargo's output is piped")?;
    let failed_before = layer.failed;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(counts) = Counts::parse(&line) {
            layer.passed += counts.passed;
            layer.failed += counts.failed;
            layer.skipped += counts.ignored;
        }
    }
    let status = child.wait()?;
    if !status.success() && layer.failed == failed_before {
        // It did not even come to run a test: the code does not compile, or a test crashed.
        layer.failed += 1;
        layer.note(format!("`cargo test` failed: {status}"));
    }
    Ok(())
}

/// The numbers in the last line of each test binary.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Counts {
    fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("test result: ")?;
        let (_, numbers) = rest.split_once(". ")?;
        let number = |word: &str| {
            numbers
                .split("; ")
                .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
        };
        Some(Self {
            passed: number(" passed")?,
            failed: number(" failed")?,
            ignored: number(" ignored")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let line = "test result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured; \
                    3 filtered out; finished in 0.01s";
        let counts = Counts {
            passed: 10,
            failed: 2,
            ignored: 1,
        };
        assert_eq!(Counts::parse(line), Some(counts));
        assert_eq!(Counts::parse("test a ... ok"), None);
        assert_eq!(Counts::parse("test result: "), None);
    }
}
