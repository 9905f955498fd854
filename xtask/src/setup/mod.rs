//! `cargo xtask setup`: finds or installs what building and testing need.
//!
//! Each tool is a [`Need`]; one that is there costs a file lookup, so that a second run ends at
//! once. What is missing is installed with apt as root, or listed as commands to type.

pub mod apt;
pub mod dhcp6c;
mod linker;
mod needs;
mod postgres;
mod promtool;

use std::process::ExitCode;

use anyhow::Result;
use doorstep_ebpf_build::find_linker;

use crate::{
    process::is_root,
    vm::kernel::{self, Kernel},
};
use needs::Need;

/// Find or install what building and testing need.
#[derive(clap::Args)]
pub struct Args {
    /// Only say what is missing; exit with failure if anything is.
    #[arg(long)]
    check: bool,
    /// Prepare only these kernels for virtual machines.
    #[arg(long, value_enum, default_values_t = Kernel::ALL)]
    kernel: Vec<Kernel>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let missing = Missing::find(&args.kernel);
    if missing.is_empty() {
        println!("setup: everything is there");
        return Ok(ExitCode::SUCCESS);
    }
    if args.check {
        missing.explain();
        return Ok(ExitCode::FAILURE);
    }
    install(&missing, &args.kernel)
}

/// Runs `setup` if anything is missing, silently when nothing is; with the kernels that are to boot.
pub fn ensure(kernels: &[Kernel]) -> Result<()> {
    let missing = Missing::find(kernels);
    if missing.is_empty() || install(&missing, kernels)? == ExitCode::SUCCESS {
        return Ok(());
    }
    anyhow::bail!("setup is not complete: run the commands above, then try again")
}

struct Missing {
    needs: Vec<Need>,
    linker: bool,
    dhcp6c: bool,
    promtool: bool,
    kernels: Vec<Kernel>,
}

impl Missing {
    fn find(kernels: &[Kernel]) -> Self {
        let kernels = kernels.iter().copied();
        Self {
            needs: needs::missing(),
            linker: find_linker().is_err(),
            dhcp6c: !dhcp6c::is_there(),
            promtool: !promtool::is_there(),
            kernels: kernels
                .filter(|kernel| !kernel::is_ready(*kernel))
                .collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.needs.is_empty()
            && !self.linker
            && !self.dhcp6c
            && !self.promtool
            && self.kernels.is_empty()
    }

    fn packages(&self) -> Vec<&'static str> {
        self.needs
            .iter()
            .flat_map(|need| need.packages)
            .copied()
            .collect()
    }

    fn components(&self) -> Vec<&'static str> {
        self.needs
            .iter()
            .filter_map(|need| need.component)
            .collect()
    }

    /// One line per missing thing.
    fn explain(&self) {
        for need in &self.needs {
            println!("setup: {}: {}", need.what(), need.why);
        }
        if self.linker {
            println!(
                "setup: bpf-linker {}: links the eBPF programs",
                linker::VERSION
            );
        }
        if self.dhcp6c {
            println!(
                "setup: {}: tests have homes with it (unpacked into the target folder, not installed)",
                dhcp6c::PACKAGE
            );
        }
        if self.promtool {
            println!(
                "setup: {}: tests have its promtool look at metrics (unpacked into the target folder, \
                 not installed)",
                promtool::PACKAGE
            );
        }
        for kernel in &self.kernels {
            println!(
                "setup: Debian's kernel {kernel}: the tests' virtual machine boots it (unpacked \
                 into the target folder, not installed)"
            );
        }
    }

    /// Says what a person with the rights to do so would type.
    fn print_commands(&self) {
        println!("setup: run these commands, in this order:");
        let packages = self.packages();
        if !packages.is_empty() {
            println!("  sudo apt-get update");
            println!(
                "  sudo apt-get install --no-install-recommends {}",
                packages.join(" ")
            );
        }
        let components = self.components();
        if !components.is_empty() {
            println!("  rustup component add {}", components.join(" "));
        }
        println!("  cargo xtask setup");
    }
}

/// Installs what can be installed here.
fn install(missing: &Missing, kernels: &[Kernel]) -> Result<ExitCode> {
    missing.explain();
    let packages = missing.packages();
    if !packages.is_empty() {
        if !apt::is_there() {
            println!("setup: this is not a Debian system with apt, so nothing was installed");
            needs::print_other_distribution();
            return Ok(ExitCode::FAILURE);
        }
        if !is_root() {
            println!("setup: installing packages needs root, so nothing was installed");
            missing.print_commands();
            return Ok(ExitCode::FAILURE);
        }
        apt::install(&packages)?;
    }
    for component in missing.components() {
        crate::process::run(crate::process::command("rustup").args([
            "component",
            "add",
            component,
        ]))?;
    }
    if missing.linker {
        linker::install()?;
    }
    if missing.dhcp6c {
        dhcp6c::prepare()?;
    }
    if missing.promtool {
        promtool::prepare()?;
    }
    for kernel in &missing.kernels {
        kernel::prepare(*kernel)?;
    }
    let left = Missing::find(kernels);
    if left.is_empty() {
        println!("setup: done");
        return Ok(ExitCode::SUCCESS);
    }
    println!("setup: installed without error, and yet there is missing:");
    left.explain();
    Ok(ExitCode::FAILURE)
}
