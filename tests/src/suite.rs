//! Named cases that run one after the other, as root, with their results as text and JSON.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use serde::Serialize;

/// This kernel or host lacks what the case needs; it must run elsewhere.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Skip(pub String);

/// An error that is a [`Skip`] skips the case; every other one, and a panic, fails it.
pub type CaseResult = anyhow::Result<()>;

/// A case.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub run: fn() -> CaseResult,
}

/// The cases of a suite.
#[derive(Clone, Copy)]
pub struct Suite {
    /// What a kernel may do in its own way: they run on every kernel that is tested.
    pub each_kernel: &'static [Case],
    /// The same where the oldest kernel is left out: one of each kind of thing that a kernel may do in
    /// its own way, as machines in software are slow.
    pub newer_kernels: &'static [Case],
    /// What no kernel has a say in: once is enough.
    pub any_kernel: &'static [Case],
}

/// Makes a list of cases from functions, named like them.
#[macro_export]
macro_rules! cases {
    ($($module:ident :: { $($name:ident),+ $(,)? }),+ $(,)?) => {
        &[$($($crate::suite::Case {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: $module::$name,
        },)+)+]
    };
}

#[derive(Parser)]
struct Args {
    /// Run only the cases whose name contains this.
    filter: Option<String>,
    /// Only those for a kernel that is tested besides the host's; without it, all.
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// Only one part of them, such as 1/2: the first, the third, and so on.
    #[arg(long, default_value = "1/1")]
    part: Part,
    /// Write the results there.
    #[arg(long)]
    json: Option<PathBuf>,
    /// List the cases.
    #[arg(long)]
    list: bool,
}

/// What a kernel is among those that are tested.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kernel {
    Oldest,
    Newer,
}

/// One of several parts that are about as large: where cases run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    number: usize,
    of: usize,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (number, of) = text.split_once('/')?;
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&number).then_some(Self { number, of })
        };
        parsed().ok_or_else(|| "a number, a slash and how many there are, such as 1/2".to_owned())
    }
}

impl Part {
    fn has(self, at: usize) -> bool {
        at % self.of == self.number - 1
    }
}

#[derive(Serialize)]
struct Results {
    cases: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    outcome: &'static str,
    reason: Option<String>,
    ms: u64,
}

/// Runs the cases that the command line asks for.
pub fn main(suite: Suite) -> ExitCode {
    let args = Args::parse();
    let wanted = |case: &&Case| {
        args.filter
            .as_ref()
            .is_none_or(|filter| case.name.contains(&**filter))
    };
    let mut out = std::io::stdout();
    let mut lines = Vec::new();
    let oldest_too = suite.each_kernel.iter();
    let newer = suite.newer_kernels.iter();
    let newer = newer.filter(|_| args.kernel != Some(Kernel::Oldest));
    let once = suite.any_kernel.iter().filter(|_| args.kernel.is_none());
    let all = oldest_too.chain(newer).chain(once).filter(wanted);
    let ours = all.enumerate().filter(|(at, _)| args.part.has(*at));
    for (_, case) in ours {
        if args.list {
            let _ = writeln!(out, "{}", case.name);
            continue;
        }
        let _ = write!(out, "case {} ... ", case.name);
        let _ = out.flush();
        let line = run(case);
        let _ = match (&line.reason, line.outcome) {
            (Some(reason), "skipped") => writeln!(out, "skipped: {reason}"),
            (Some(reason), _) => writeln!(out, "FAILED: {reason}"),
            (None, _) => writeln!(out, "ok ({} ms)", line.ms),
        };
        lines.push(line);
    }
    let failed = lines.iter().any(|line| line.outcome == "failed");
    if let Some(path) = &args.json {
        let json = serde_json::to_vec_pretty(&Results { cases: lines });
        if let Err(error) = json
            .map_err(Into::into)
            .and_then(|json| std::fs::write(path, json))
        {
            let _ = writeln!(out, "cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn run(case: &Case) -> Line {
    let start = Instant::now();
    let (outcome, reason) = match catch_unwind(AssertUnwindSafe(case.run)) {
        Ok(Ok(())) => ("passed", None),
        Ok(Err(error)) => match error.downcast_ref::<Skip>() {
            Some(skip) => ("skipped", Some(skip.to_string())),
            None => ("failed", Some(format!("{error:#}"))),
        },
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            ("failed", Some(text.unwrap_or("panicked").to_owned()))
        }
    };
    Line {
        name: case.name,
        outcome,
        reason,
        ms: start.elapsed().as_millis() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_is_in_one_part() {
        let parts = ["1/3", "2/3", "3/3"].map(|text| text.parse::<Part>().unwrap());
        for at in 0..10 {
            let having = parts.iter().filter(|part| part.has(at));
            assert_eq!(having.count(), 1, "{at}");
        }
        for wrong in ["", "1", "0/2", "3/2", "1/0", "a/2"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }
}
