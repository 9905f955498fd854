//! How a command ends: 0, or 1 after `error: …` on standard error. (2 is for wrong usage, and is
//! the argument parser's.)

use std::fmt::Display;
use std::io::{Write as _, stderr};
use std::process::ExitCode;

/// The exit code of a result; an error is reported with its causes.
#[must_use]
pub fn code(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        report(format_args!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// Says on standard error what went wrong.
pub fn report(what: impl Display) {
    // Nobody is left to be told if it is closed.
    let _ = writeln!(stderr(), "error: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        // ExitCode cannot be compared, but shows itself.
        for (result, expected) in [
            (Ok(ExitCode::SUCCESS), ExitCode::SUCCESS),
            (Ok(ExitCode::from(3)), ExitCode::from(3)),
            (Err(anyhow::anyhow!("no")), ExitCode::FAILURE),
        ] {
            assert_eq!(format!("{:?}", code(result)), format!("{expected:?}"));
        }
    }
}
