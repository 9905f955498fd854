//! The command line.
#![expect(
    clippy::print_stdout,
    reason = "commands print what they were asked for"
)]

mod json;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use doorstep_daemon::log::LogFormat;
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::{exit, log, stop};
use tracing::Level;

use crate::config::{Config, DEFAULT_SOCKET};
use crate::dataplane::Dataplane;
use crate::{daemon, preflight};

/// Broadband gateway: forwards for the subscribers of several operators.
#[derive(Parser)]
#[command(name = "doorstep-gateway", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM; the fast path outlives it
    Run(Run),
    /// Check configuration, inventory and host; exit 1 if something would not work
    Check(Check),
    /// Load the programs, attach them to the configured ports and leave them pinned
    Load(WithConfig),
    /// Take the programs off and put the ports back
    Unload(WithConfig),
    /// Show how the running daemon is
    Status(Ask),
    /// Show the sessions with their counters
    Sessions(Ask),
    /// Show the lines without a session that reach the operators' servers
    Garden(Ask),
    /// Show which packets were dropped, and why
    Drops(Drops),
}

#[derive(Args)]
struct WithConfig {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    config: WithConfig,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    config: WithConfig,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Args)]
struct Ask {
    /// Socket of the daemon
    #[arg(long, value_name = "PATH", env = "DOORSTEP_GATEWAY_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Args)]
struct Drops {
    #[command(flatten)]
    ask: Ask,
    /// Show reasons without packets too
    #[arg(long)]
    all: bool,
}

/// Parses the arguments, does what they say, and tells how it went.
pub fn main() -> ExitCode {
    exit::code(execute(Cli::parse().command))
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match &command {
        Command::Run(run) => log::start(run.log_format, Level::INFO),
        // What a command has to say, it prints.
        _ => log::start(LogFormat::Text, Level::WARN),
    }?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(dispatch(command))
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(run) => {
            let config = Config::load(&run.config.config)?;
            daemon::run(config, stop::on_signal()?).await?;
        }
        Command::Check(Check { config, output }) => {
            let report = preflight::check(&config.config).await;
            match output {
                Output::Json => output::json(&report)?,
                Output::Table => output::print(&report.to_string())?,
            }
            if report.failed() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Load(WithConfig { config }) => {
            let config = Config::load(&config)?;
            let pin_path = config.pin_path.clone();
            let dataplane = daemon::load(config).await?;
            print!("{}", show::ports(dataplane.ports()));
            println!("pinned below {}", pin_path.display());
        }
        Command::Unload(WithConfig { config }) => {
            let config = Config::load(&config)?;
            Dataplane::unload(&config).await?;
            println!("nothing is pinned below {}", config.pin_path.display());
        }
        Command::Status(ask) => show::status(&ask.socket, ask.output).await?,
        Command::Sessions(ask) => show::sessions(&ask.socket, ask.output).await?,
        Command::Garden(ask) => show::garden(&ask.socket, ask.output).await?,
        Command::Drops(Drops { ask, all }) => show::drops(&ask.socket, ask.output, all).await?,
    }
    Ok(ExitCode::SUCCESS)
}
