//! The command line.
#![expect(
    clippy::print_stdout,
    reason = "commands print what they were asked for"
)]

mod json;
mod show;
mod table;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

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

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Parses the arguments, does what they say, and tells how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli.command) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place where a command fails")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    let log_format = match &command {
        Command::Run(run) => run.log_format,
        _ => LogFormat::Text,
    };
    let quiet = !matches!(command, Command::Run(_));
    start_log(log_format, quiet);
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
            daemon::run(config, stop_on_signal()?).await?;
        }
        Command::Check(Check { config, output }) => {
            let report = preflight::check(&config.config).await;
            match output {
                Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
                Output::Table => print!("{report}"),
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
        Command::Drops(Drops { ask, all }) => show::drops(&ask.socket, ask.output, all).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// To stderr. RUST_LOG says what; otherwise everything from `info` on, for commands from `warn` on.
fn start_log(format: LogFormat, quiet: bool) {
    let default = if quiet { "warn" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// A token that SIGTERM and SIGINT cancel.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "stopping");
        token.cancel();
    });
    Ok(stop)
}
