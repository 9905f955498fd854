//! How a command ends: by a code that programs go by, after `error: …` on standard error unless it has
//! done what it was asked.

use std::fmt::{self, Display};
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::output;

/// All ways for a command to end. Numbers are part of the interface: none is used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// Whatever has no code of its own.
    Failed = 1,
    /// Also the argument parser's.
    Usage = 2,
    /// The command has looked, and what it has found is not well.
    Finding = 3,
    Unreachable = 4,
    NotFound = 5,
    Refused = 6,
    TimedOut = 7,
    NotNow = 8,
}

impl Exit {
    pub const ALL: [Exit; 9] = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Finding,
        Exit::Unreachable,
        Exit::NotFound,
        Exit::Refused,
        Exit::TimedOut,
        Exit::NotNow,
    ];

    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// As `docs/reference/cli.md` and the man pages have it.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done; of a question: answered, and all is well",
            Exit::Failed => {
                "failed: what the command needs is wrong or does not work, such as a configuration, a file, the \
                 database or the kernel"
            }
            Exit::Usage => "wrong usage: an option, or a value that cannot be one",
            Exit::Finding => {
                "answered, and something is wrong: a broken link, a check that fails, a log that was changed"
            }
            Exit::Unreachable => "the daemon cannot be reached",
            Exit::NotFound => "what was named is not there",
            Exit::Refused => {
                "refused as things stand, or by a limit; of many rows: at least one was refused"
            }
            Exit::TimedOut => "not done within the time given; what was asked for stands",
            Exit::NotNow => {
                "not now: the daemon has too much to do, is stopping, or does not reach its server; try again later"
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.number())
    }
}

/// What a daemon's answer comes to.
impl From<&Status> for Exit {
    fn from(status: &Status) -> Self {
        match status.code() {
            // A limit of the moment says when to come again.
            Code::ResourceExhausted if status.get_details_retry_info().is_some() => Exit::NotNow,
            code => code.into(),
        }
    }
}

impl From<Code> for Exit {
    fn from(code: Code) -> Self {
        match code {
            Code::Ok => Exit::Done,
            Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
            Code::NotFound => Exit::NotFound,
            Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted => Exit::Refused,
            Code::DeadlineExceeded => Exit::TimedOut,
            Code::Unavailable | Code::Cancelled => Exit::NotNow,
            Code::Aborted
            | Code::Unknown
            | Code::Internal
            | Code::DataLoss
            | Code::Unimplemented => Exit::Failed,
        }
    }
}

/// An error that a command ends with in another way than by [`Exit::Failed`].
#[derive(Debug)]
struct Ending {
    exit: Exit,
    text: String,
}

impl Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Ending {}

/// An error that the command ends with by this code; context may be added to it.
#[must_use]
pub fn because(exit: Exit, what: impl Display) -> anyhow::Error {
    let text = format!("{what:#}");
    Ending { exit, text }.into()
}

/// Ends a function with what is refused as things stand, as `bail!` does with what fails.
#[macro_export]
macro_rules! refuse {
    ($($text:tt)*) => {
        return Err($crate::exit::because(
            $crate::exit::Exit::Refused,
            format_args!($($text)*),
        ))
    };
}

/// How a command ends by an error.
#[must_use]
pub fn of(error: &anyhow::Error) -> Exit {
    let ending = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Ending>());
    ending.map_or(Exit::Failed, |ending| ending.exit)
}

/// The exit code of a result; an error is reported with its causes.
#[must_use]
pub fn code(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        let text = format!("{error:#}");
        if !text.is_empty() {
            report(text);
        }
        of(&error).into()
    })
}

/// Says on standard error what went wrong.
pub fn report(what: impl Display) {
    output::note(format_args!("error: {what}"));
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use anyhow::{Context as _, anyhow};
    use doorstep_test_docs::Document;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn codes() {
        let absent = || because(Exit::NotFound, "no such line");
        // ExitCode cannot be compared, but shows itself.
        for (result, expected) in [
            (Ok(ExitCode::SUCCESS), Exit::Done),
            (Ok(ExitCode::from(3)), Exit::Finding),
            (Err(anyhow!("no")), Exit::Failed),
            (Err(absent()), Exit::NotFound),
            (Err(absent()).context("line 7"), Exit::NotFound),
        ] {
            let expected = ExitCode::from(expected);
            assert_eq!(format!("{:?}", code(result)), format!("{expected:?}"));
        }
        let told = Err::<(), _>(absent()).context("line 7").unwrap_err();
        assert_eq!(format!("{told:#}"), "line 7: no such line");
    }

    #[test]
    fn a_limit_of_the_moment_is_no_refusal() {
        let full = Status::resource_exhausted("ten sessions are the limit");
        assert_eq!(Exit::from(&full), Exit::Refused);
        let delay = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let busy = Status::with_error_details(Code::ResourceExhausted, "busy", delay);
        assert_eq!(Exit::from(&busy), Exit::NotNow);
    }

    #[test]
    fn numbers_are_their_places() {
        for (index, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.number()), index, "{exit:?}");
        }
    }

    #[test]
    fn the_reference_has_them_all() {
        let all = Document::all();
        let reference = all
            .iter()
            .find(|document| document.path == Path::new("docs/reference/cli.md"));
        let text = &reference.expect("the reference").text;
        let table = text.split("## Exit codes\n").nth(1).expect("the section");
        let table = table.split("\n#").next().expect("its text");
        let rows: Vec<&str> = table
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let expected =
            Exit::ALL.map(|exit| format!("| `{}` | {} |", exit.number(), exit.meaning()));
        assert_eq!(rows, expected);
    }
}
