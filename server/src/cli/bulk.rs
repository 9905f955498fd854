//! Many at once: `subscribers import` and `sessions connect`, from a file of rows to a report.

use std::io::{IsTerminal as _, stderr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use clap::{Args, ValueEnum};
use doorstep_daemon::client::refused;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::exit::{self, Exit};
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::refuse;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::operator_client::OperatorClient;
use indicatif::{ProgressBar, ProgressStyle};
use tonic::Streaming;
use tonic::transport::Channel;

use super::bulk_csv::{Columns, Rows};
use super::bulk_report::{CONNECTED, IMPORTED, Report};
use super::tables;

/// How often progress is told where it is no terminal, in rows.
const TELL_EVERY: u64 = 10_000;

const SUBSCRIBERS: Columns = Columns {
    known: &["phone", "id-card", "plan"],
    needed: &[&["phone", "id-card"]],
};
const SESSIONS: Columns = Columns {
    known: &[
        "subscriber",
        "phone",
        "id-card",
        "location",
        "establishment",
    ],
    needed: &[&["location"], &["subscriber", "phone", "id-card"]],
};

/// What the server refuses a row with.
const UNKNOWN: i32 = -1;

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// CSV with a first line that names its columns: phone, id-card (one of the two, or both), plan
    file: PathBuf,
    /// Write the new subscribers' secrets to a new file, as CSV: line, subscriber, secret. Without it
    /// they are lost, and `subscribers reset-secret` makes others
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// Write the report to a file as well
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Where the one session is to be; not sealed
    #[arg(required_unless_present = "from", requires = "subscriber")]
    location: Option<String>,
    /// Whose the one session is to be
    #[arg(long, value_name = "ID", requires = "location")]
    subscriber: Option<String>,
    /// Every row of the file
    #[arg(long, requires = "from")]
    all: bool,
    /// CSV with a first line that names its columns: subscriber (id), or phone and id-card (one of
    /// the two, or both), location, and establishment where it is not the same for all
    #[arg(
        long,
        value_name = "FILE",
        requires = "all",
        conflicts_with = "location"
    )]
    from: Option<PathBuf>,
    /// How sessions come up: a terminal's daemon answers, or an ordinary router asks by DHCP
    #[arg(long, value_enum, default_value_t)]
    establishment: EstablishmentArg,
    /// Also for subscribers who have a session elsewhere, which goes on
    #[arg(long)]
    additional: bool,
    /// Write the report to a file as well
    #[arg(long, value_name = "FILE", requires = "from")]
    report: Option<PathBuf>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// The names are those of the CSV's column as well.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum EstablishmentArg {
    #[default]
    Terminal,
    Dhcp,
}

impl From<EstablishmentArg> for pb::Establishment {
    fn from(given: EstablishmentArg) -> Self {
        match given {
            EstablishmentArg::Terminal => Self::Terminal,
            EstablishmentArg::Dhcp => Self::Dhcp,
        }
    }
}

pub async fn import(
    mut client: OperatorClient<Channel>,
    given: ImportArgs,
    output: Output,
) -> Result<()> {
    let DryRun { dry_run } = given.dry_run;
    let rows = Rows::open(&given.file, &SUBSCRIBERS, move |line, field| {
        pb::SubscriberToImport {
            line,
            phone: field("phone"),
            id_card: field("id-card"),
            plan: field("plan"),
            dry_run,
        }
    })?;
    let mut secrets = match (&given.secrets, dry_run) {
        (Some(file), true) if file.exists() => {
            refuse!("{} is there already; it is not overwritten", file.display())
        }
        (Some(file), false) => Some(Secrets::create(file)?),
        _ => None,
    };
    let mut report = Report::new(IMPORTED, rows.told(), given.dry_run);
    let total = rows.total();
    let ended = match client.import_subscribers(rows.into_stream()).await {
        Ok(answers) => {
            follow(answers.into_inner(), total, &mut report, |outcome| {
                secrets.as_mut().map_or(Ok(()), |file| file.write(outcome))
            })
            .await
        }
        Err(status) => Err(refused(status)),
    };
    conclude(report, ended, given.report.as_deref(), output)
}

pub async fn connect(
    mut client: OperatorClient<Channel>,
    given: ConnectArgs,
    output: Output,
) -> Result<()> {
    let additional = given.additional;
    let DryRun { dry_run } = given.dry_run;
    let default = pb::Establishment::from(given.establishment);
    let Some(from) = &given.from else {
        let row = pb::SessionToConnect {
            subscriber_id: given.subscriber.unwrap_or_default(),
            location_id: given.location.unwrap_or_default(),
            additional,
            establishment: default.into(),
            dry_run,
            ..pb::SessionToConnect::default()
        };
        return connect_one(client, row, given.dry_run, output).await;
    };
    let rows = Rows::open(from, &SESSIONS, move |line, field| pb::SessionToConnect {
        line,
        subscriber_id: field("subscriber"),
        phone: field("phone"),
        id_card: field("id-card"),
        location_id: field("location"),
        additional,
        establishment: match field("establishment").as_str() {
            "" => default.into(),
            name => EstablishmentArg::from_str(name, true)
                .map_or(UNKNOWN, |known| pb::Establishment::from(known).into()),
        },
        dry_run,
    })?;
    let mut report = Report::new(CONNECTED, rows.told(), given.dry_run);
    let total = rows.total();
    let ended = match client.connect_sessions(rows.into_stream()).await {
        Ok(answers) => follow(answers.into_inner(), total, &mut report, |_| Ok(())).await,
        Err(status) => Err(refused(status)),
    };
    conclude(report, ended, given.report.as_deref(), output)
}

/// Opens one session and prints it; of a dry run, as it would be, or as it is already.
async fn connect_one(
    mut client: OperatorClient<Channel>,
    row: pb::SessionToConnect,
    dry_run: DryRun,
    output: Output,
) -> Result<()> {
    let rows = futures::stream::iter([row]);
    let mut answers = client
        .connect_sessions(rows)
        .await
        .map_err(refused)?
        .into_inner();
    let outcomes = answers.message().await.map_err(refused)?;
    let outcome = outcomes.and_then(|group| group.outcomes.into_iter().next());
    let outcome = outcome.context("the server ended before the session was opened; try again")?;
    if outcome.result() == pb::RowResult::Refused {
        refuse!("refused: {}", outcome.reason);
    }
    if let Some(to_be) = outcome.session {
        return tables::detail(to_be, dry_run, output);
    }
    let shown = client
        .show_session(pb::ShowSessionRequest {
            session_id: outcome.session_id,
        })
        .await;
    tables::detail(shown.map_err(refused)?.into_inner(), dry_run, output)
}

/// Takes outcomes until the last, and shows how far it is.
async fn follow(
    mut answers: Streaming<pb::RowOutcomes>,
    total: u64,
    report: &mut Report,
    mut each: impl FnMut(&pb::RowOutcome) -> Result<()>,
) -> Result<()> {
    let progress = Progress::new(total);
    while let Some(group) = answers.message().await.map_err(refused)? {
        for outcome in group.outcomes {
            each(&outcome)?;
            report.add(outcome);
        }
        progress.reached(report.answered());
    }
    Ok(())
}

/// Prints the report in any case; then what went wrong.
fn conclude(
    mut report: Report,
    ended: Result<()>,
    file: Option<&Path>,
    output: Output,
) -> Result<()> {
    report.close();
    report.dry_run().tell();
    let text = report.text(output)?;
    if let Some(file) = file {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    output::print(&text)?;
    ended?;
    if report.unanswered() > 0 {
        let text = format!(
            "the server ended before {} rows were done; begin anew, what is done is skipped then",
            report.unanswered()
        );
        return Err(exit::because(Exit::NotNow, text));
    }
    match report.refused() {
        0 => Ok(()),
        count => refuse!("{count} rows were refused; the report says which, and why"),
    }
}

/// A bar on a terminal, lines now and then elsewhere; on standard error.
struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    told: std::cell::Cell<u64>,
}

impl Progress {
    fn new(total: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{bar:40} {human_pos} of {human_len} rows, {per_sec}, {eta} left",
            );
            let bar = ProgressBar::new(total);
            match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Progress {
            bar,
            total,
            told: std::cell::Cell::new(0),
        }
    }

    fn reached(&self, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(rows);
        } else if rows / TELL_EVERY > self.told.get() {
            self.told.set(rows / TELL_EVERY);
            eprintln!("{rows} of {} rows", self.total);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The new subscribers' secrets, readable by the file's owner only.
struct Secrets {
    path: PathBuf,
    file: csv::Writer<std::fs::File>,
}

impl Secrets {
    fn create(path: &Path) -> Result<Self> {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let mut secrets = Secrets {
            path: path.to_owned(),
            file: csv::Writer::from_writer(file),
        };
        secrets.record(&["line", "subscriber", "secret"])?;
        Ok(secrets)
    }

    fn write(&mut self, outcome: &pb::RowOutcome) -> Result<()> {
        if outcome.secret.is_empty() {
            return Ok(());
        }
        let secret = base64::engine::general_purpose::STANDARD.encode(&outcome.secret);
        self.record(&[&outcome.line.to_string(), &outcome.subscriber_id, &secret])
    }

    /// Nothing is held back: who ends this command has the secrets of those who are there.
    fn record(&mut self, fields: &[&str]) -> Result<()> {
        self.file
            .write_record(fields)
            .and_then(|()| Ok(self.file.flush()?))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}
