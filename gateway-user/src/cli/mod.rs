//! The command line.

mod enroll;
mod json;
mod lines;
mod packets;
#[cfg(test)]
mod schemas;
mod show;
mod support;
mod top;
mod trace;
mod upgrade;
mod why;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::exit::Exit;
use doorstep_daemon::log::LogFormat;
use doorstep_daemon::manual::Manual;
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::say;
use doorstep_daemon::{exit, log, secrets, stop};
use tracing::Level;

use crate::config::{Config, DEFAULT_SOCKET};
use crate::dataplane::Dataplane;
use crate::{daemon, preflight};
use upgrade::Upgrade;

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
    /// Check configuration, inventory and host; exit code 3 if something would not work
    Check(Check),
    /// Make a key for this gateway, and get its certificate with an operator's one-time token
    Enroll(enroll::Enroll),
    /// Load the programs, attach them to the configured ports and leave them pinned
    Load(Change),
    /// Put other programs in place of those that forward, without losing a packet
    Upgrade(Upgrade),
    /// Take the programs off, remove every pin, and put the host back
    #[command(visible_alias = "unload")]
    Detach(Change),
    /// Show how the running daemon is
    Status(Ask),
    /// Show the sessions with their counters
    Sessions(show::SessionsArgs),
    /// Show the lines; block and unblock them
    Lines {
        #[command(flatten)]
        ask: AskAnywhere,
        #[command(subcommand)]
        action: Option<lines::Action>,
    },
    /// Show the lines without a session that reach the operators' servers
    Garden(Ask),
    /// Show which packets were dropped, and why
    Drops(Drops),
    /// Show what goes on, drawn anew every few seconds: rates of uplinks and lines, what is dropped, how full
    /// the maps are; `q` ends it
    Top(top::Top),
    /// Show what becomes of a subscriber's packets, one by one; Ctrl-C ends it
    Trace(Trace),
    /// Show what the programs would do with packets, and which entries decide; nothing is sent
    Why(Why),
    /// Put what somebody who helps needs to know into one file that may be sent away: without keys,
    /// addresses of subscribers, or whatever else is not known to be harmless
    SupportBundle(support::Support),
    /// Write man pages and completions for shells
    #[command(hide = true)]
    Manual(Manual),
}

#[derive(Args)]
struct WithConfig {
    /// Configuration file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/doorstep/gateway.toml"
    )]
    config: PathBuf,
}

#[derive(Args)]
struct Change {
    #[command(flatten)]
    config: WithConfig,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    config: WithConfig,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value_t)]
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

/// As [`Ask`], for commands with commands of their own: before or after these.
#[derive(Args)]
struct AskAnywhere {
    /// Socket of the daemon
    #[arg(long, global = true, value_name = "PATH", env = "DOORSTEP_GATEWAY_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Form of the output
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
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

#[derive(Args)]
struct Trace {
    #[command(flatten)]
    target: Target,
    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args)]
struct Why {
    /// The packets: the hexadecimal digits of one frame, from its Ethernet header on, or a capture file
    /// (pcap or pcapng)
    #[arg(long, value_name = "HEX|FILE")]
    packet: String,
    /// The access port or uplink that they come in by; not needed where there is one access port
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

/// Whose packets.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// From and to an access line: PORT/S.C, PORT/C, or PORT where it is untagged
    #[arg(long)]
    line: Option<String>,
    /// From and to a location of the inventory
    #[arg(long, value_name = "ID")]
    location: Option<String>,
    /// From and to an IPv4 or IPv6 address
    #[arg(long, value_name = "IP")]
    address: Option<String>,
}

/// Parses the arguments, does what they say, and tells how it went.
pub fn main() -> ExitCode {
    exit::code(execute(Cli::parse().command))
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match &command {
        Command::Run(run) => {
            secrets::keep()?;
            log::start(run.log_format, Level::INFO)
        }
        // What a command has to say, it prints.
        _ => log::start(LogFormat::Text, Level::WARN),
    }?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(dispatch(command))
}

/// Whatever `load` needs is looked at as `check` does.
async fn would_load(file: &Path, dry_run: DryRun) -> anyhow::Result<ExitCode> {
    let report = preflight::check(file).await;
    dry_run.tell();
    output::print(&report.to_string())?;
    if report.failed() {
        return Ok(Exit::Finding.into());
    }
    let config = Config::load(file)?;
    let access = config.access_ports.iter().map(|port| &port.name);
    let uplinks = config.operators.iter().map(|operator| &operator.uplink);
    let ports: BTreeSet<_> = access.chain(uplinks).collect();
    for port in ports {
        say!("programs on {port}")?;
    }
    say!("pinned below {}", config.pin_path.display())?;
    Ok(ExitCode::SUCCESS)
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
                return Ok(Exit::Finding.into());
            }
        }
        Command::Enroll(args) => enroll::enroll(args).await?,
        Command::Load(Change { config, dry_run }) => {
            if dry_run.dry_run {
                return would_load(&config.config, dry_run).await;
            }
            let config = Config::load(&config.config)?;
            let pin_path = config.pin_path.clone();
            let dataplane = daemon::load(config).await?;
            output::print(&show::ports(dataplane.ports()))?;
            say!("pinned below {}", pin_path.display())?;
        }
        Command::Upgrade(args) => upgrade::upgrade(&args).await?,
        Command::Detach(Change { config, dry_run }) => {
            let config = Config::load(&config.config)?;
            if dry_run.dry_run {
                let pinned = Dataplane::pinned(&config)?;
                dry_run.tell();
                for pin in &pinned {
                    say!("removed: {}", pin.display())?;
                }
                return Ok(ExitCode::SUCCESS);
            }
            Dataplane::detach(&config).await?;
            say!("nothing is pinned below {}", config.pin_path.display())?;
        }
        Command::Status(ask) => show::status(&ask.socket, ask.output).await?,
        Command::Sessions(args) => show::sessions(args).await?,
        Command::Top(args) => top::run(args).await?,
        Command::Trace(trace) => trace::run(trace).await?,
        Command::SupportBundle(args) => support::bundle(args).await?,
        Command::Why(why) => why::run(why).await?,
        Command::Manual(manual) => manual.write(&Cli::command())?,
        Command::Lines { ask, action } => lines::lines(&ask.socket, action, ask.output).await?,
        Command::Garden(ask) => show::garden(&ask.socket, ask.output).await?,
        Command::Drops(Drops { ask, all }) => show::drops(&ask.socket, ask.output, all).await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use doorstep_daemon::{dry_run, manual};
    use doorstep_test_docs::{Document, wrong_commands};

    use super::*;

    #[test]
    fn the_documents_have_no_other_commands() {
        let wrong = wrong_commands(&Cli::command(), &Document::all());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_changes_something_has_a_dry_run() {
        const FILE: &str = "it reads, and writes nothing but the new file that it is told of";
        let without = [
            ("run", "it is the daemon"),
            ("check", "it reads"),
            ("status", "it reads"),
            ("sessions", "it reads"),
            ("lines list", "it reads"),
            ("garden", "it reads"),
            ("drops", "it reads"),
            ("top", "it reads"),
            (
                "trace",
                "it follows packets; the programs that tell of them go with it",
            ),
            ("why", "it runs the programs over packets that go nowhere"),
            ("support-bundle", FILE),
            ("manual", FILE),
        ];
        assert_eq!(dry_run::unaccounted(&Cli::command(), &without), [""; 0]);
    }

    #[test]
    fn every_command_has_a_page_and_completions() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().to_owned();
        Manual { out: out.clone() }
            .write(&Cli::command())
            .expect("written");
        assert_eq!(manual::lacking(&Cli::command(), &out), [""; 0]);
        assert!(out.join("man8/doorstep-gateway-lines-block.8").exists());
    }
}
