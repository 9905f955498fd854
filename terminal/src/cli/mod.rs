//! The command line.

mod apply;
mod client;
mod doctor;
mod output;
mod plans;
mod qr;
#[cfg(test)]
mod schemas;
mod support;
mod views;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgGroup, Args, CommandFactory as _, Parser, Subcommand};
use doorstep_daemon::client::refused;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::exit::Exit;
use doorstep_daemon::log::LogFormat;
use doorstep_daemon::manual::Manual;
use doorstep_daemon::output::Output;
use doorstep_daemon::say;
use doorstep_daemon::{exit, log, refuse, secrets, socket, stop};
use doorstep_proto::v1 as pb;
use tracing::Level;

use crate::config::{Config, DEFAULT_SOCKET};
use crate::daemon;

/// Holds a home's broadband sessions; asks for service, moves and releases it.
#[derive(Debug, Parser)]
#[command(name = "doorstep-terminal", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Run(Run),
    /// Take down every link that a daemon has left; the daemon must not be running.
    Undo(Undo),
    /// Become a subscriber of the operator.
    Register(Register),
    /// Show what an operator has to choose from.
    Plans(Plans),
    /// Ask for broadband at a location and wait until it is there.
    Request(RequestArgs),
    /// Take a session to another location.
    Move(Move),
    /// Have another session take the place of one, such as another operator's.
    Switch(Switch),
    /// End a session.
    Release(Release),
    /// Take up the links of a configuration while the daemon runs.
    Apply(apply::Apply),
    /// Keep what was applied with --confirm.
    Confirm(apply::Confirm),
    /// Show sessions, ports and the operators' servers.
    Status(Status),
    /// Look at everything between the rooms and the world; say what is wrong, and what to do.
    Doctor(Status),
    /// Show what becomes of them, a line for each change, until interrupted.
    Watch(Status),
    /// Put what somebody who helps needs to know into one file that may be sent away: without numbers of
    /// persons, keys, seals, or whatever else is not known to be harmless.
    SupportBundle(support::Support),
    /// Show, write or read a location's QR code.
    Qr(qr::Qr),
    /// Write man pages and completions for shells.
    #[command(hide = true)]
    Manual(Manual),
}

#[derive(Debug, Args)]
struct Run {
    /// The configuration file.
    #[arg(long, default_value = "/etc/doorstep/terminal.toml")]
    config: PathBuf,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Debug, Args)]
struct Undo {
    /// The configuration file.
    #[arg(long, default_value = "/etc/doorstep/terminal.toml")]
    config: PathBuf,
    #[command(flatten)]
    dry_run: DryRun,
}

/// What all clients take.
#[derive(Debug, Args)]
struct Client {
    /// The daemon's admin socket.
    #[arg(long, env = "DOORSTEP_TERMINAL_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// One of the two, or both.
const NUMBER: &str = "number";

#[derive(Debug, Args)]
#[command(group(ArgGroup::new(NUMBER).required(true).multiple(true)))]
struct Register {
    /// Phone number.
    #[arg(long, group = NUMBER)]
    phone: Option<String>,
    /// Number of the identity card.
    #[arg(long, group = NUMBER)]
    id_card: Option<String>,
    /// The code that the operator has sent to the number, after a first `register` without it.
    #[arg(long)]
    code: Option<String>,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    client: Client,
}

#[derive(Debug, Args)]
struct Wait {
    /// Return as soon as the server has taken the request.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait, such as 30s, 500ms or 2m.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

/// Which home.
#[derive(Debug, Args)]
struct Home {
    /// The sealed location id, as on the sticker.
    #[arg(long, required_unless_present = "qr")]
    sealed: Option<String>,
    /// A picture (PNG or JPEG) of the sticker's QR code.
    #[arg(long, value_name = "FILE", conflicts_with = "sealed")]
    qr: Option<PathBuf>,
}

impl Home {
    fn sealed(self) -> anyhow::Result<String> {
        match (self.sealed, self.qr) {
            (Some(sealed), _) => Ok(sealed),
            (None, Some(picture)) => qr::read(&picture),
            (None, None) => anyhow::bail!("give the sealed location id with --sealed or --qr"),
        }
    }
}

/// Of whom it is asked.
#[derive(Debug, Args)]
struct Of {
    /// Which operator, where there are several; as named in the configuration.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
}

#[derive(Debug, Args)]
struct Plans {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    client: Client,
}

/// What it is to be on.
#[derive(Debug, Args)]
struct On {
    /// Which of the operator's plans, as `plans` has them; otherwise the operator says.
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
}

#[derive(Debug, Args)]
struct RequestArgs {
    #[command(flatten)]
    home: Home,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    on: On,
    /// A further session; the others stay.
    #[arg(long)]
    additional: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    client: Client,
}

#[derive(Debug, Args)]
struct Move {
    #[command(flatten)]
    home: Home,
    #[command(flatten)]
    on: On,
    /// Which session, where there are several.
    #[arg(long)]
    session: Option<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    client: Client,
}

#[derive(Debug, Args)]
struct Switch {
    #[command(flatten)]
    home: Home,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    on: On,
    /// Which session ends, where there are several. It goes on until the new one is established.
    #[arg(long)]
    session: Option<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    client: Client,
}

#[derive(Debug, Args)]
struct Release {
    /// Which session, where there are several.
    #[arg(long)]
    session: Option<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    client: Client,
}

#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    client: Client,
}

fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is no time; expected a number with ms, s or m");
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(expected)?;
    let number: u64 = text[..at].parse().map_err(|_| expected())?;
    match &text[at..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(expected()),
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis())
        .unwrap_or(u32::MAX)
        .max(1)
}

/// Parses the arguments and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(execute(cli.command)),
        Err(error) => Err(error).context("cannot start the runtime"),
    };
    exit::code(result)
}

async fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run(args).await,
        Command::Manual(manual) => {
            manual.write(&Cli::command())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Undo(args) => {
            let config = Config::load(&args.config)?;
            if socket::answers(&config.admin_socket) {
                refuse!("the daemon is running; stop it first");
            }
            let undone = daemon::undo(&config.state_dir, args.dry_run.into()).await?;
            args.dry_run.tell();
            if args.dry_run.dry_run {
                for item in &undone {
                    say!("- {item}")?;
                }
            }
            say!("{} changes undone", undone.len())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Register(args) => {
            let request = pb::TerminalRegisterRequest {
                phone: args.phone.unwrap_or_default(),
                id_card: args.id_card.unwrap_or_default(),
                verification_code: args.code.unwrap_or_default(),
                operator: args.of.operator.unwrap_or_default(),
                dry_run: args.dry_run.dry_run,
            };
            let answer = client::connect(&args.client.socket)
                .await?
                .register(request)
                .await;
            let answer = answer.map_err(refused)?.into_inner();
            output::registered(args.client.output, &answer, args.dry_run)
        }
        Command::Plans(args) => {
            plans::execute(&args.client.socket, args.of.operator, args.client.output).await
        }
        Command::Request(args) => {
            let kind = if args.additional {
                pb::TerminalRequestKind::Additional
            } else {
                pb::TerminalRequestKind::Connect
            };
            let operator = args.of.operator;
            let kind = (kind, args.on);
            let asked = asked(kind, args.home, operator, None, &args.wait, args.dry_run)?;
            request(asked, &args.client).await
        }
        Command::Move(args) => {
            let kind = pb::TerminalRequestKind::Move;
            let (kind, session) = ((kind, args.on), args.session);
            let asked = asked(kind, args.home, None, session, &args.wait, args.dry_run)?;
            request(asked, &args.client).await
        }
        Command::Switch(args) => {
            let kind = pb::TerminalRequestKind::Switch;
            let (kind, of, session) = ((kind, args.on), args.of.operator, args.session);
            let asked = asked(kind, args.home, of, session, &args.wait, args.dry_run)?;
            request(asked, &args.client).await
        }
        Command::Release(args) => {
            let request = pb::TerminalReleaseRequest {
                session_id: args.session.unwrap_or_default(),
                no_wait: args.wait.no_wait,
                timeout_ms: millis(args.wait.timeout),
                dry_run: args.dry_run.dry_run,
            };
            let answer = client::connect(&args.client.socket)
                .await?
                .release(request)
                .await;
            let answer = answer.map_err(refused)?.into_inner();
            output::released(args.client.output, &answer, args.dry_run)
        }
        Command::Apply(args) => apply::apply(args).await,
        Command::Confirm(args) => apply::confirm(args).await,
        Command::Status(args) => {
            let status = client::status(&args.client.socket).await?;
            output::status(args.client.output, &status)
        }
        Command::Doctor(args) => doctor::execute(&args.client.socket, args.client.output).await,
        Command::Watch(args) => watch::execute(&args.client.socket, args.client.output).await,
        Command::SupportBundle(args) => support::execute(args).await,
        Command::Qr(args) => qr::execute(args).await,
    }
}

fn asked(
    (kind, on): (pb::TerminalRequestKind, On),
    home: Home,
    operator: Option<String>,
    session: Option<String>,
    wait: &Wait,
    dry_run: DryRun,
) -> anyhow::Result<pb::TerminalServiceRequest> {
    Ok(pb::TerminalServiceRequest {
        kind: kind.into(),
        sealed_location_id: home.sealed()?,
        session_id: session.unwrap_or_default(),
        no_wait: wait.no_wait,
        timeout_ms: millis(wait.timeout),
        operator: operator.unwrap_or_default(),
        dry_run: dry_run.dry_run,
        plan: on.plan.unwrap_or_default(),
    })
}

async fn request(request: pb::TerminalServiceRequest, client: &Client) -> anyhow::Result<ExitCode> {
    let no_wait = request.no_wait;
    let dry_run = DryRun {
        dry_run: request.dry_run,
    };
    dry_run.tell();
    let stream = client::connect(&client.socket)
        .await?
        .request(request)
        .await;
    let mut stream = stream.map_err(refused)?.into_inner();
    let mut steps = Vec::new();
    while let Some(step) = stream.message().await.map_err(refused)? {
        if client.output == Output::Table {
            output::step(&step)?;
        }
        let last = step.r#final;
        steps.push(step);
        if last {
            return output::requested(client.output, &steps, no_wait, dry_run);
        }
    }
    let text = "the daemon stopped before the request was through; see its log";
    Err(exit::because(Exit::NotNow, text))
}

async fn run(args: Run) -> anyhow::Result<ExitCode> {
    secrets::keep()?;
    log::start(args.log_format, Level::INFO)?;
    let config = Config::load(&args.config)?;
    daemon::run(config, &args.config, stop::on_signal()?).await?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use doorstep_daemon::{dry_run, manual};
    use doorstep_test_docs::{Document, wrong_commands};

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

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
            ("status", "it reads"),
            ("doctor", "it reads"),
            ("plans", "it reads"),
            ("watch", "it reads"),
            ("qr", FILE),
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
        assert!(out.join("man8/doorstep-terminal-qr.8").exists());
    }

    #[test]
    fn times() {
        let cases = [
            ("30s", Some(30_000)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
        ];
        let bad = ["", "30", "s", "-1s", "1h", "1.5s"].map(|text| (text, None));
        for (text, ms) in cases.into_iter().chain(bad) {
            assert_eq!(
                duration(text).ok(),
                ms.map(Duration::from_millis),
                "{text:?}"
            );
        }
    }
}
