//! The main job, end to end: a home connects, moves house, and its packets really flow.

mod plain;
mod report;
mod show;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use doorstep_tests::lab::cleanup;

/// A home connects, adds a session, moves house and leaves, with real packets.
#[derive(Parser)]
struct Args {
    /// Write what was measured, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Bytes of each download.
    #[arg(long, value_name = "BYTES")]
    download: Option<u64>,
    /// Homes tag for themselves, with VLAN links; otherwise the building's switch does.
    #[arg(long)]
    terminal_tags: bool,
    /// Keep everything running at the end until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    cleanup::on_signals();
    let args = Args::parse();
    // Where the kernel runs in software emulation a smaller file shows the same.
    let in_vm = std::env::var_os("DOORSTEP_IN_VM").is_some();
    let plot = story::Plot {
        terminal_tags: args.terminal_tags || in_vm,
        download_bytes: args
            .download
            .unwrap_or(if in_vm { 8_000_000 } else { 128_000_000 }),
        keep: args.keep,
        patient: in_vm,
    };
    let show = show::Show::new();
    let mut report = report::Report::new(if in_vm { "vm" } else { "host" });
    let result = story::tell(&plot, &show, &mut report);
    report.ok = result.is_ok();
    if let Some(path) = &args.report
        && let Err(error) = report.write(path)
    {
        show.fail(&error);
        return ExitCode::FAILURE;
    }
    match result {
        Ok(()) => {
            show.end(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            show.fail(&error);
            ExitCode::FAILURE
        }
    }
}
