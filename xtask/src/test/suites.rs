//! The suites with named cases: `program`, `netns` and `bench`, on this host and, without `bench`,
//! in virtual machines; `packages` in one with systemd.

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
    cargo::{BENCH as BENCH_PACKAGE, DAEMONS, Metadata, Profile, TESTS, build_tests, folder},
    dist::{self, Making},
    folder::make_anew,
    process::{command, describe, text},
    vm::{self, First, Guest, kernel::Kernel},
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
const VM_TIMEOUT: Duration = Duration::from_secs(50 * 60);
const POLL: Duration = Duration::from_millis(50);

/// How long a suite that was told to end may take to clean up.
const GRACE: Duration = Duration::from_secs(10);

/// The suites' executables and the daemons that they start.
pub struct Built {
    suites: BTreeMap<&'static str, PathBuf>,
    bin_dir: PathBuf,
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

/// Which of the cases a virtual machine runs.
#[derive(Clone, Copy)]
pub enum Select<'a> {
    /// Those whose names contain this.
    All(Option<&'a str>),
    /// Those that this kernel has a say in.
    ByKernel,
}

/// Runs these suites in a virtual machine.
pub fn in_vm(
    built: &Built,
    kernel: Kernel,
    suites: &[&'static str],
    select: Select<'_>,
) -> Result<Layer> {
    println!("vm: on Debian's kernel {kernel}");
    let daemons = DAEMONS.iter().map(|name| built.bin_dir.join(name));
    let besides = Besides {
        files: daemons.collect(),
        first: First::Script,
    };
    boot(
        built,
        kernel,
        Layer::new(kernel.layer()),
        suites,
        select,
        besides,
    )
}

/// Installs the daemons' packages in a virtual machine that systemd runs, and upgrades the gateway's.
/// None if no case has that in its name.
pub fn packages_in_vm(
    built: &Built,
    kernel: Kernel,
    filter: Option<&str>,
) -> Result<Option<Layer>> {
    let Some(suite) = built.suites.get(PACKAGES) else {
        return Ok(None);
    };
    if text(command(suite).arg("--list").args(filter))?.is_empty() {
        return Ok(None);
    }
    println!("vm: packages, under systemd on Debian's kernel {kernel}");
    let folder = target_dir().join("vm").join(PACKAGES);
    make_anew(&folder)?;
    let gateway = [DAEMONS[0].to_owned()];
    let mut files = Vec::new();
    for (revision, only) in [(1, &[][..]), (2, &gateway)] {
        files.extend(dist::make(&Making {
            bin_dir: &built.bin_dir,
            out: &folder,
            revision,
            uncompressed: true,
            only,
        })?);
    }
    let besides = Besides {
        files,
        first: First::Systemd,
    };
    let layer = Layer::new("systemd");
    boot(
        built,
        kernel,
        layer,
        &[PACKAGES],
        Select::All(filter),
        besides,
    )
    .map(Some)
}

/// What suites are run with in a virtual machine.
struct Besides {
    files: Vec<PathBuf>,
    first: First,
}

fn boot(
    built: &Built,
    kernel: Kernel,
    mut layer: Layer,
    suites: &[&'static str],
    select: Select<'_>,
    besides: Besides,
) -> Result<Layer> {
    let start = Instant::now();
    let suites = || {
        let built = built.suites.iter();
        built.filter(|(suite, _)| suites.contains(suite))
    };
    if suites().next().is_none() {
        layer.note("no tests yet");
        return Ok(layer);
    }
    let mut programs = besides.files;
    let mut script = String::new();
    for (suite, executable) in suites() {
        programs.push(executable.clone());
        let mut words = vec![vm::in_guest(executable)?];
        match select {
            Select::All(filter) => words.extend(filter.map(str::to_owned)),
            Select::ByKernel => words.extend(["--kernel", kernel.place()].map(str::to_owned)),
        }
        words.extend(["--json".to_owned(), format!("/out/{suite}.json")]);
        script.push_str(&vm::line(&words));
        script.push_str(&format!("echo $? > /out/{suite}.code\n"));
    }
    let guest = vm::run_guest(&Guest {
        kernel,
        programs: &programs,
        script: &script,
        first: besides.first,
        timeout: VM_TIMEOUT,
        kvm: false,
    });
    match guest {
        Ok(finished) => {
            for (suite, _) in suites() {
                let code = finished.file(&format!("{suite}.code"))?;
                let cases = finished.file(&format!("{suite}.json"));
                record(&mut layer, suite, cases, &Ended::Code(code == b"0\n"));
            }
        }
        Err(error) => {
            eprintln!("vm: {error:#}");
            layer.count(Outcome::Failed);
            layer.note("the virtual machine failed; see above");
        }
    }
    layer.duration = start.elapsed();
    Ok(layer)
}

/// How a suite ended.
enum Ended {
    /// By itself, with success or not.
    Code(bool),
    Timeout,
}

/// Takes over a suite's results. A suite that failed without a failed case, or gave none, is
/// itself a failed case.
fn record(layer: &mut Layer, suite: &'static str, cases: Result<Vec<u8>>, ended: &Ended) {
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
