//! `cargo xtask test`: all tests, in layers, with one summary.

mod gate;
mod machine;
mod report;
mod suites;
mod unit;

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::{process::is_root, setup, vm::kernel::Kernel};
use machine::{Machine, Select};
use report::{Layer, Summary};
pub use suites::NETNS;
use suites::{BENCH, Built, PROGRAM};

/// Run the tests: all layers, or one.
#[derive(clap::Args)]
pub struct Args {
    /// Run only this layer.
    #[arg(long, value_enum)]
    layer: Option<LayerName>,
    /// The virtual machine's kernel, for all of the cases. Without it, each kernel gets those that
    /// it may have a say in.
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// Run only the tests whose names contain this; the gate is left out.
    filter: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LayerName {
    /// Format, lints and documentation.
    Gate,
    /// Unit, property and documentation tests.
    Unit,
    /// The loaded eBPF programs, by test runs; needs root.
    Program,
    /// Real daemons and packets between network namespaces; needs root.
    Netns,
    /// The benchmark with few packets, so that it does not rot; needs root.
    Bench,
    /// The program and netns layers on a distribution's kernel, in a virtual machine; packages, in one
    /// that systemd runs.
    Vm,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let kernels = args.kernel.map_or(Kernel::ALL.to_vec(), |only| vec![only]);
    setup::ensure(&kernels)?;
    let filter = args.filter.as_deref();
    let asked = |name| args.layer.is_none_or(|only| only == name);
    let mut layers = Vec::new();
    if asked(LayerName::Gate) && filter.is_none() {
        layers.push(gate::run()?);
    }
    if asked(LayerName::Unit) {
        layers.push(unit::run(filter)?);
    }
    let on_host: Vec<&'static str> = [
        (LayerName::Program, PROGRAM),
        (LayerName::Netns, NETNS),
        (LayerName::Bench, BENCH),
    ]
    .into_iter()
    .filter(|(name, _)| asked(*name))
    .map(|(_, suite)| suite)
    .collect();
    if !on_host.is_empty() || asked(LayerName::Vm) {
        with_root(args, &on_host, &mut layers)?;
    }
    let summary = Summary::new(layers, args.layer.is_none());
    summary.print();
    Ok(if summary.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the layers that need root; without it, those that can be in the virtual machine.
fn with_root(args: &Args, on_host: &[&'static str], layers: &mut Vec<Layer>) -> Result<()> {
    let filter = args.filter.as_deref();
    let built = match Built::new() {
        Ok(built) => built,
        Err(error) => {
            eprintln!("error: {error:#}");
            let mut layer = Layer::new("build");
            layer.count(report::Outcome::Failed);
            layer.note("the suites could not be built; see above");
            layers.push(layer);
            return Ok(());
        }
    };
    let mut needs_vm = args.layer.is_none_or(|only| only == LayerName::Vm);
    let mut select = match (args.kernel, filter) {
        (None, None) => Select::ByKernel,
        _ => Select::All(filter),
    };
    for suite in on_host {
        if is_root() {
            layers.push(suites::on_host(&built, suite, filter)?);
        } else if *suite == BENCH {
            let mut layer = Layer::new(suite);
            layer.note("not root: left out");
            layers.push(layer);
        } else {
            let mut layer = Layer::new(suite);
            layer.note("not root: run in the virtual machine");
            layers.push(layer);
            needs_vm = true;
            select = Select::All(filter);
        }
    }
    if needs_vm {
        let machines = machines(&built, args, select)?;
        if machines.is_empty() {
            let mut layer = Layer::new("vm");
            layer.note("no case of that name");
            layers.push(layer);
        }
        layers.extend(machine::run(&built, &machines));
    }
    Ok(())
}

/// The virtual machines that the command line asks for, those that take longest first.
fn machines(built: &Built, args: &Args, select: Select<'_>) -> Result<Vec<Machine>> {
    let filter = args.filter.as_deref();
    let default = args.kernel.unwrap_or_default();
    let mut machines = machine::with_suites(built, default, select)?;
    if args.kernel.is_none() && filter.is_none() {
        for kernel in Kernel::ALL.into_iter().filter(|kernel| *kernel != default) {
            machines.extend(machine::with_suites(built, kernel, Select::ByKernel)?);
        }
    }
    if default == Kernel::default() {
        machines.extend(machine::with_packages(built, default, filter)?);
    }
    Ok(machines)
}
