//! Suites in virtual machines: `program` and `netns`, and `packages` in one with systemd.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;
use doorstep_ebpf_build::target_dir;

use super::{
    report::{Layer, Outcome},
    suites::{Built, Ended, PACKAGES, record},
};
use crate::{
    cargo::DAEMONS,
    dist::{self, Making},
    folder::make_anew,
    process::{command, text},
    vm::{self, First, Guest, kernel::Kernel},
};

const TIMEOUT: Duration = Duration::from_secs(50 * 60);

/// Which of the cases a virtual machine runs.
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
    let select = Select::All(filter);
    match built.suites.get(PACKAGES) {
        Some(suite) if select.has_case(suite)? => {}
        _ => return Ok(None),
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
    boot(built, kernel, layer, &[PACKAGES], select, besides).map(Some)
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
    let mut asked = Vec::new();
    for (suite, executable) in &built.suites {
        if suites.contains(suite) && select.has_case(executable)? {
            asked.push((*suite, executable));
        }
    }
    if asked.is_empty() {
        layer.note("no case of that name");
        return Ok(layer);
    }
    let mut programs = besides.files;
    let mut script = String::new();
    for (suite, executable) in &asked {
        programs.push((*executable).clone());
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
        timeout: TIMEOUT,
        kvm: false,
    });
    match guest {
        Ok(finished) => {
            for (suite, _) in asked {
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
