//! The gate: format, lints and documentation, on the host and for the BPF target; dependencies.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use doorstep_ebpf_build::{BuildRequest, find_in_path};

use super::report::{Layer, Outcome};
use crate::{
    cargo::{Metadata, cargo},
    process,
};

/// What `deny.toml` says, without the network: the lints have fetched all that is needed.
fn dependencies(program: &Path) -> Result<()> {
    process::run(
        process::command(program)
            .args(["--offline", "--log-level", "warn", "check"])
            .args(["--hide-inclusion-graph", "licenses", "bans", "sources"]),
    )
}

pub fn run() -> Result<Layer> {
    let start = Instant::now();
    let mut layer = Layer::new("gate");
    let mut check = |name: &str, result: Result<()>| {
        let outcome = match result {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                eprintln!("gate: {name}: {error:#}");
                layer.note(format!("failed: {name}"));
                Outcome::Failed
            }
        };
        layer.count(outcome);
    };
    println!("gate: format");
    check(
        "format",
        process::run(cargo().args(["fmt", "--all", "--check"])),
    );
    println!("gate: lints");
    check(
        "lints",
        process::run(cargo().args(["clippy", "--quiet", "--all-targets", "--", "-Dwarnings"])),
    );
    for (package, bin) in Metadata::read()?.ebpf_programs() {
        println!("gate: lints of {package} on the BPF target");
        let request = BuildRequest::new(package, bin);
        check(package, doorstep_ebpf_build::lint(&request));
    }
    println!("gate: documentation");
    check(
        "documentation",
        process::run(
            cargo()
                .env(
                    "RUSTDOCFLAGS",
                    "-Dwarnings -Arustdoc::private-intra-doc-links",
                )
                .args(["doc", "--quiet", "--no-deps", "--document-private-items"]),
        ),
    );
    println!("gate: licences and sources of dependencies");
    match find_in_path("cargo-deny") {
        Some(program) => check("dependencies", dependencies(&program)),
        None => {
            println!("gate: not looked at: there is no cargo-deny (`cargo install cargo-deny`)");
            layer.count(Outcome::Skipped);
        }
    }
    layer.duration = start.elapsed();
    Ok(layer)
}
