//! The suites with named cases, and those of them that run on this host: `program`, `netns` and `bench`.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use doorstep_ebpf_build::target_dir;

use super::report::{Case, CaseFile, Layer, Outcome};
use crate::{
    cargo::{BENCH as BENCH_PACKAGE, Metadata, Profile, TESTS, build_tests, folder},
    process::{command, describe},
};

pub const PROGRAM: &str = "program";
pub const NETNS: &str = "netns";
/// Runs in a virtual machine of its own only: it installs packages.
pub const PACKAGES: &str = "packages";
/// Runs on this host only: it is about speed, which a virtual machine in software has none of.
pub const BENCH: &str = "bench";

/// Each suite, the package that it is a test of, and that package's folder.
const SUITES: [(&str, &str, &str); 4] = [
    (PROGRAM, TESTS, "tests"),
    (NETNS, TESTS, "tests"),
    (PACKAGES, TESTS, "tests"),
    (BENCH, BENCH_PACKAGE, "bench"),
];

const HOST_TIMEOUT: Duration = Duration::from_secs(15 * 60);
const POLL: Duration = Duration::from_millis(50);

/// How long a suite that was told to end may take to clean up.
const GRACE: Duration = Duration::from_secs(10);

/// The suites' executables and the daemons that they start.
pub struct Built {
    pub suites: BTreeMap<&'static str, PathBuf>,
    pub bin_dir: PathBuf,
}

impl Built {
    /// Builds the suites that exist.
    pub fn new() -> Result<Self> {
        let metadata = Metadata::read()?;
        let names: Vec<&'static str> = SUITES
            .into_iter()
            .filter(|(name, package, _)| metadata.has_target(package, "test", Some(name)))
            .map(|(name, ..)| name)
            .collect();
        if names.is_empty() {
            return Ok(Self {
                suites: BTreeMap::new(),
                bin_dir: PathBuf::new(),
            });
        }
        println!("building the daemons and the suites {}", names.join(", "));
        let mut built = build_tests(&names)?;
        let suites = names
            .into_iter()
            .map(|name| {
                let executable = built
                    .remove(name)
                    .with_context(|| format!("cargo built no executable for the suite {name}"))?;
                Ok((name, executable))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            suites,
            bin_dir: Profile::Dev.bin_dir(),
        })
    }
}

/// Runs one suite on this host, as root.
pub fn on_host(built: &Built, suite: &'static str, filter: Option<&str>) -> Result<Layer> {
    let start = Instant::now();
    let mut layer = Layer::new(suite);
    let Some(executable) = built.suites.get(suite) else {
        layer.note("no tests yet");
        return Ok(layer);
    };
    let (.., home) = SUITES
        .into_iter()
        .find(|(name, ..)| *name == suite)
        .with_context(|| format!("there is no suite {suite}"))?;
    println!("{suite}: on this kernel");
    let json = target_dir().join(format!("{suite}-cases.json"));
    if json.exists() {
        std::fs::remove_file(&json)?;
    }
    let mut run = command(executable);
    run.args(filter)
        .arg("--json")
        .arg(&json)
        .current_dir(folder(home))
        .env("CARGO_MANIFEST_DIR", folder(home))
        .env("DOORSTEP_BIN_DIR", &built.bin_dir);
    let ended = wait(&mut run, HOST_TIMEOUT)?;
    let cases = std::fs::read(&json).context("it wrote no results");
    record(&mut layer, suite, cases, &ended);
    layer.duration = start.elapsed();
    Ok(layer)
}

/// How a suite ended.
pub enum Ended {
    /// By itself, with success or not.
    Code(bool),
    Timeout,
}

/// Takes over a suite's results. A suite that failed without a failed case, or gave none, is
/// itself a failed case.
pub fn record(layer: &mut Layer, suite: &'static str, cases: Result<Vec<u8>>, ended: &Ended) {
    let cases = cases.and_then(|text| {
        serde_json::from_slice::<CaseFile>(&text).context("its results cannot be read")
    });
    let trouble = match (&cases, ended) {
        (_, Ended::Timeout) => Some("it did not end in time".to_owned()),
        (Err(error), _) => Some(format!("{error:#}")),
        (Ok(file), Ended::Code(false)) if !any_failed(file) => {
            Some("it failed without naming a case".to_owned())
        }
        _ => None,
    };
    if let Ok(file) = cases {
        layer.add_suite(suite, file.cases);
    }
    if let Some(trouble) = trouble {
        layer.note(format!("{suite}: {trouble}"));
        layer.add_suite(
            suite,
            vec![Case {
                name: "(the suite itself)".to_owned(),
                outcome: Outcome::Failed,
                reason: Some(trouble),
            }],
        );
    }
}

fn any_failed(file: &CaseFile) -> bool {
    file.cases
        .iter()
        .any(|case| case.outcome == Outcome::Failed)
}

/// Waits for a suite; one that hangs is asked to end, then ended.
fn wait(run: &mut Command, timeout: Duration) -> Result<Ended> {
    let mut child = run
        .spawn()
        .with_context(|| format!("cannot run `{}`", describe(run)))?;
    if let Some(status) = wait_until(&mut child, Instant::now() + timeout)? {
        return Ok(Ended::Code(status.success()));
    }
    let id = libc::pid_t::try_from(child.id()).context("the process number is out of range")?;
    // SAFETY: the child has not been waited for, so the number is still its own.
    unsafe { libc::kill(id, libc::SIGTERM) };
    if wait_until(&mut child, Instant::now() + GRACE)?.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(Ended::Timeout)
}

fn wait_until(child: &mut std::process::Child, end: Instant) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > end {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}
