//! Commands that tell what they would change, and change nothing.

use clap::{Args, Command};
use serde::Serialize;

use crate::commands::leaves;
use crate::output;

/// Whether something is carried out. A dry run reads, decides and is refused as a real one, and answers what
/// would be; nothing of it is written, told to anybody or kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    Real,
    Dry,
}

impl Run {
    #[must_use]
    pub fn is_dry(self) -> bool {
        self == Run::Dry
    }
}

/// As requests have it.
impl From<bool> for Run {
    fn from(dry_run: bool) -> Self {
        if dry_run { Run::Dry } else { Run::Real }
    }
}

/// The option of every command that changes something.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct DryRun {
    /// Do all but the change itself, tell what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl DryRun {
    /// Says on standard error, before the result, what kind of result it is.
    pub fn tell(self) {
        if self.dry_run {
            output::note("dry run: nothing was changed; it would be so:");
        }
    }

    /// A result as JSON has it.
    #[must_use]
    pub fn with<T: Serialize>(self, result: T) -> Told<T> {
        Told {
            result,
            dry_run: self.dry_run,
        }
    }
}

impl From<DryRun> for Run {
    fn from(given: DryRun) -> Self {
        given.dry_run.into()
    }
}

/// What a command has changed, or would.
#[derive(Debug, Serialize)]
pub struct Told<T> {
    #[serde(flatten)]
    result: T,
    /// Nothing was changed; otherwise it is left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

/// What of a command line, hidden commands and all, is neither without `--dry-run` for a reason that is given
/// nor has it; and what is given and is not so. `without` are the names below the binary's, such as
/// `sessions list`, each with the reason. For tests.
#[must_use]
pub fn unaccounted(command: &Command, without: &[(&str, &str)]) -> Vec<String> {
    let leaves = leaves(command);
    let wrong = leaves.iter().filter_map(|(name, command)| {
        let has_it = command.get_arguments().any(|arg| arg.get_id() == "dry_run");
        let reason = without.iter().find(|(other, _)| other == name);
        match (reason, has_it) {
            (None, false) => Some(format!("{name}: has no --dry-run")),
            (Some(_), true) => Some(format!("{name}: has --dry-run")),
            (Some((_, "")), _) => Some(format!("{name}: no reason is given")),
            _ => None,
        }
    });
    let gone = without
        .iter()
        .filter(|(name, _)| !leaves.contains_key(*name));
    let gone = gone.map(|(name, _)| format!("{name}: there is no such command"));
    wrong.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool() -> Command {
        let block = DryRun::augment_args(Command::new("block"));
        let lines = Command::new("lines").subcommands([Command::new("list"), block]);
        Command::new("tool").subcommands([lines, Command::new("secret").hide(true)])
    }

    #[test]
    fn every_command_is_accounted_for() {
        let all = [("lines list", "reads"), ("secret", "writes pages")];
        assert_eq!(unaccounted(&tool(), &all), [""; 0]);
        for (without, wrong) in [
            (&all[..1], &["secret: has no --dry-run"][..]),
            (
                &[all[0], all[1], ("lines block", "reads"), ("gone", "reads")],
                &[
                    "lines block: has --dry-run",
                    "gone: there is no such command",
                ],
            ),
            (
                &[("lines list", ""), all[1]],
                &["lines list: no reason is given"],
            ),
        ] {
            assert_eq!(unaccounted(&tool(), without), wrong);
        }
    }

    #[test]
    fn only_a_dry_run_says_so() {
        let result = serde_json::json!({ "account": "li" });
        for (dry_run, expected) in [
            (false, r#"{"account":"li"}"#),
            (true, r#"{"account":"li","dry_run":true}"#),
        ] {
            let told = DryRun { dry_run }.with(&result);
            assert_eq!(serde_json::to_string(&told).unwrap(), expected);
        }
    }
}
