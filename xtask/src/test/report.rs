//! What the layers found, merged into one summary.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

/// What a test binary writes with `--json FILE`.
#[derive(Debug, Default, Deserialize)]
pub struct CaseFile {
    pub cases: Vec<Case>,
}

/// One named case.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    pub name: String,
    pub outcome: Outcome,
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// One line of the summary.
#[derive(Debug, Default)]
pub struct Layer {
    pub name: &'static str,
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    pub duration: Duration,
    /// What a reader should know besides the numbers.
    pub note: Option<String>,
    /// The suites with named cases, by name.
    pub suites: BTreeMap<&'static str, Vec<Case>>,
}

impl Layer {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// Counts one check that is not a named case.
    pub fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Failed => &mut self.failed,
            Outcome::Skipped => &mut self.skipped,
        } += 1;
    }

    /// Counts a suite's named cases.
    pub fn add_suite(&mut self, suite: &'static str, cases: Vec<Case>) {
        for case in &cases {
            self.count(case.outcome);
        }
        self.suites.entry(suite).or_default().extend(cases);
    }

    /// Takes over what another machine found of the same layer. The seconds are those of all machines.
    pub fn join(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.duration += other.duration;
        for (suite, cases) in other.suites {
            self.suites.entry(suite).or_default().extend(cases);
        }
        if let Some(note) = other.note {
            self.note(note);
        }
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.note = Some(match self.note.take() {
            Some(before) => format!("{before}; {}", note.into()),
            None => note.into(),
        });
    }
}

/// The whole run.
pub struct Summary {
    layers: Vec<Layer>,
    /// Cases that were skipped in one place and passed in the other, by suite and name.
    elsewhere: Vec<String>,
    /// Cases that passed nowhere and failed nowhere, with why.
    nowhere: Vec<String>,
}

impl Summary {
    /// Merges the layers. A case that one layer skipped and another passed is not a skipped one; a
    /// case that was skipped wherever it could have run is a failed one, if `complete`: if all the
    /// layers were asked for.
    pub fn new(mut layers: Vec<Layer>, complete: bool) -> Self {
        let mut elsewhere = Vec::new();
        let mut nowhere = BTreeMap::new();
        let ran = |layers: &[Layer], suite: &str, name: &str| {
            layers
                .iter()
                .filter_map(|layer| layer.suites.get(suite))
                .flatten()
                .any(|case| case.name == name && case.outcome != Outcome::Skipped)
        };
        for at in 0..layers.len() {
            let skipped: Vec<(&str, Case)> = layers[at]
                .suites
                .iter()
                .flat_map(|(suite, cases)| cases.iter().map(|case| (*suite, case.clone())))
                .filter(|(_, case)| case.outcome == Outcome::Skipped)
                .collect();
            for (suite, case) in skipped {
                let name = format!("{suite}::{}", case.name);
                if ran(&layers, suite, &case.name) {
                    layers[at].skipped -= 1;
                    elsewhere.push(name);
                } else if complete {
                    layers[at].skipped -= 1;
                    nowhere.insert(name, case.reason.unwrap_or_default());
                }
            }
        }
        Self {
            layers,
            elsewhere,
            nowhere: nowhere
                .into_iter()
                .map(|(name, reason)| format!("{name} ({reason})"))
                .collect(),
        }
    }

    pub fn is_success(&self) -> bool {
        self.failed() == 0
    }

    fn failed(&self) -> usize {
        self.layers.iter().map(|layer| layer.failed).sum::<usize>() + self.nowhere.len()
    }

    pub fn print(&self) {
        println!();
        println!(
            "{:<10}{:>8}{:>8}{:>9}{:>9}",
            "layer", "passed", "failed", "skipped", "seconds"
        );
        for layer in &self.layers {
            println!(
                "{:<10}{:>8}{:>8}{:>9}{:>9.1}{}",
                layer.name,
                layer.passed,
                layer.failed,
                layer.skipped,
                layer.duration.as_secs_f64(),
                layer
                    .note
                    .as_ref()
                    .map_or_else(String::new, |note| format!("  {note}"))
            );
        }
        for layer in &self.layers {
            for (suite, cases) in &layer.suites {
                for case in cases {
                    if case.outcome == Outcome::Failed {
                        println!("failed in {}: {suite}::{}", layer.name, case.name);
                    }
                }
            }
        }
        if !self.elsewhere.is_empty() {
            println!(
                "one kernel could not run these, the other did: {}",
                self.elsewhere.join(", ")
            );
        }
        for case in &self.nowhere {
            println!("ran nowhere, so it failed: {case}");
        }
        let passed: usize = self.layers.iter().map(|layer| layer.passed).sum();
        let skipped: usize = self.layers.iter().map(|layer| layer.skipped).sum();
        println!();
        println!(
            "{passed} passed, {} failed, {skipped} skipped",
            self.failed()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &'static str, cases: &[(&str, Outcome)]) -> Layer {
        let mut layer = Layer::new(name);
        let cases = cases
            .iter()
            .map(|(name, outcome)| Case {
                name: (*name).to_owned(),
                outcome: *outcome,
                reason: Some("no 8021q".to_owned()),
            })
            .collect();
        layer.add_suite("netns", cases);
        layer
    }

    #[test]
    fn case_that_ran_nowhere_fails_a_complete_run_only() {
        use Outcome::{Failed, Passed, Skipped};
        for (host, vm, complete, success) in [
            (Passed, Passed, true, true),
            (Skipped, Passed, true, true),
            (Passed, Skipped, true, true),
            (Skipped, Skipped, true, false),
            (Skipped, Skipped, false, true),
            (Skipped, Failed, true, false),
            (Failed, Passed, true, false),
        ] {
            let layers = vec![layer("netns", &[("a", host)]), layer("vm", &[("a", vm)])];
            let summary = Summary::new(layers, complete);
            assert_eq!(summary.is_success(), success, "{host:?} {vm:?} {complete}");
        }
    }

    #[test]
    fn case_that_ran_nowhere_is_one_failure() {
        let skipped = [("a", Outcome::Skipped)];
        let layers = vec![layer("netns", &skipped), layer("vm", &skipped)];
        let summary = Summary::new(layers, true);
        assert_eq!(summary.failed(), 1);
        assert_eq!(summary.nowhere, ["netns::a (no 8021q)"]);
    }

    #[test]
    fn parts_of_a_layer_are_joined() {
        use Outcome::{Failed, Passed, Skipped};
        let mut whole = layer("vm", &[("a", Passed), ("c", Skipped)]);
        whole.note("first");
        let mut other = layer("vm", &[("b", Failed)]);
        other.note("second");
        whole.join(other);
        assert_eq!((whole.passed, whole.failed, whole.skipped), (1, 1, 1));
        assert_eq!(whole.suites["netns"].len(), 3);
        assert_eq!(whole.note.as_deref(), Some("first; second"));
    }

    #[test]
    fn case_file_is_read() {
        let file: CaseFile = serde_json::from_str(
            r#"{"cases":[{"name":"a","outcome":"skipped","reason":"r","ms":3},
                         {"name":"b","outcome":"passed","reason":null,"ms":1}]}"#,
        )
        .unwrap();
        assert_eq!(file.cases[0].outcome, Outcome::Skipped);
        assert_eq!(file.cases[1].reason, None);
    }
}
