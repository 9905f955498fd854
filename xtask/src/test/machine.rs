//! Suites in virtual machines: `program` and `netns`, and `packages` in one with systemd. A machine
//! without KVM uses one CPU, so as many run at once as there are CPUs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use doorstep_ebpf_build::target_dir;

use super::{
    report::{Layer, Outcome},
    suites::{Built, Ended, NETNS, PACKAGES, PROGRAM, record},
};
use crate::{
    cargo::DAEMONS,
    dist::{self, Making},
    folder::make_anew,
    process::{command, text},
    vm::{self, First, Guest, kernel::Kernel},
};

const TIMEOUT: Duration = Duration::from_secs(50 * 60);

/// Which of the cases virtual machines run.
#[derive(Clone, Copy)]
pub enum Select<'a> {
    /// Those whose names contain this.
    All(Option<&'a str>),
    /// Those that this kernel has a say in.
    ByKernel,
}

impl Select<'_> {
    /// Whether any of a suite's cases is to run.
    fn has_case(self, suite: &Path) -> Result<bool> {
        match self {
            Self::All(Some(filter)) => {
                let listed = text(command(suite).args(["--list", filter]))?;
                Ok(!listed.is_empty())
            }
            Self::All(None) | Self::ByKernel => Ok(true),
        }
    }

    /// How many machines share a kernel's cases: the newer kernel has the most.
    fn parts(self, kernel: Kernel) -> usize {
        match (self, kernel) {
            (Self::All(Some(_)), _) | (Self::ByKernel, Kernel::V6_1) => 1,
            (Self::All(None), _) | (Self::ByKernel, Kernel::V6_12) => 2,
        }
    }

    fn words(self, kernel: Kernel) -> Vec<String> {
        match self {
            Self::All(filter) => filter.map(str::to_owned).into_iter().collect(),
            Self::ByKernel => ["--kernel", kernel.place()].map(str::to_owned).to_vec(),
        }
    }
}

/// A virtual machine that is to run suites.
pub struct Machine {
    layer: &'static str,
    label: String,
    kernel: Kernel,
    suites: Vec<&'static str>,
    /// Which of their cases, as their command lines say it.
    cases: Vec<String>,
    /// What it has besides the suites.
    files: Vec<PathBuf>,
    first: First,
}

/// The machines that run the suites `program` and `netns` on a kernel; none if no case is selected.
pub fn with_suites(built: &Built, kernel: Kernel, select: Select<'_>) -> Result<Vec<Machine>> {
    let mut suites = Vec::new();
    for suite in [PROGRAM, NETNS] {
        if let Some(executable) = built.suites.get(suite)
            && select.has_case(executable)?
        {
            suites.push(suite);
        }
    }
    if suites.is_empty() {
        return Ok(Vec::new());
    }
    let parts = select.parts(kernel);
    let machine = |number| {
        let mut cases = select.words(kernel);
        cases.extend(["--part".to_owned(), format!("{number}/{parts}")]);
        Machine {
            layer: kernel.layer(),
            label: match parts {
                1 => kernel.to_string(),
                _ => format!("{kernel} {number}/{parts}"),
            },
            kernel,
            suites: suites.clone(),
            cases,
            files: DAEMONS.map(|name| built.bin_dir.join(name)).to_vec(),
            first: First::Script,
        }
    };
    Ok((1..=parts).map(machine).collect())
}

/// The machine, run by systemd, that installs the daemons' packages and upgrades the gateway's. None
/// if no case has that in its name.
pub fn with_packages(
    built: &Built,
    kernel: Kernel,
    filter: Option<&str>,
) -> Result<Option<Machine>> {
    let select = Select::All(filter);
    match built.suites.get(PACKAGES) {
        Some(suite) if select.has_case(suite)? => {}
        _ => return Ok(None),
    }
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
    Ok(Some(Machine {
        layer: "systemd",
        label: format!("{kernel} systemd"),
        kernel,
        suites: vec![PACKAGES],
        cases: select.words(kernel),
        files,
        first: First::Systemd,
    }))
}

/// Runs the machines, as many at once as there are CPUs, and tells of them by layer.
pub fn run(built: &Built, machines: &[Machine]) -> Vec<Layer> {
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let waiting = Mutex::new(machines.iter().enumerate());
    let next = || waiting.lock().ok()?.next();
    let ran = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..at_once.min(machines.len()) {
            scope.spawn(|| {
                while let Some((at, machine)) = next() {
                    let layer = machine.run(built);
                    if let Ok(mut ran) = ran.lock() {
                        ran.insert(at, layer);
                    }
                }
            });
        }
    });
    let mut layers: Vec<Layer> = Vec::new();
    for layer in ran.into_inner().unwrap_or_default().into_values() {
        match layers.last_mut() {
            Some(last) if last.name == layer.name => last.join(layer),
            _ => layers.push(layer),
        }
    }
    layers
}

impl Machine {
    fn run(&self, built: &Built) -> Layer {
        println!(
            "{}: a virtual machine with Debian's kernel boots",
            self.label
        );
        let start = Instant::now();
        let mut layer = Layer::new(self.layer);
        if let Err(error) = self.boot(built, &mut layer) {
            eprintln!("{}: {error:#}", self.label);
            layer.count(Outcome::Failed);
            layer.note(format!(
                "{}: the virtual machine failed; see above",
                self.label
            ));
        }
        layer.duration = start.elapsed();
        layer
    }

    fn boot(&self, built: &Built, layer: &mut Layer) -> Result<()> {
        let mut programs = self.files.clone();
        let mut script = String::new();
        for suite in &self.suites {
            let executable = &built.suites[suite];
            programs.push(executable.clone());
            let mut words = vec![vm::in_guest(executable)?];
            words.extend(self.cases.iter().cloned());
            words.extend(["--json".to_owned(), format!("/out/{suite}.json")]);
            script.push_str(&vm::line(&words));
            script.push_str(&format!("echo $? > /out/{suite}.code\n"));
        }
        let finished = vm::run_guest(&Guest {
            label: Some(&self.label),
            kernel: self.kernel,
            programs: &programs,
            script: &script,
            first: self.first,
            timeout: TIMEOUT,
            kvm: false,
        })?;
        for suite in &self.suites {
            let code = finished.file(&format!("{suite}.code"))?;
            let cases = finished.file(&format!("{suite}.json"));
            record(layer, suite, cases, &Ended::Code(code == b"0\n"));
            // It was selected because it has some.
            let ran = layer
                .suites
                .get(suite)
                .is_some_and(|cases| !cases.is_empty());
            ensure!(ran, "{suite} ran no case");
        }
        Ok(())
    }
}
