//! `audit`: the audit log, entry by entry; it may be longer than memory.

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write, stdin, stdout};
use std::path::Path;

use anyhow::{Context, Result, bail};
use doorstep_daemon::exit::{self, Exit};
use doorstep_daemon::output::{self, Output};
use doorstep_server::audit::export::{Line, Reader, write_entry, write_head};
use doorstep_server::audit::{AuditKey, Chained, Head, Verifier};
use doorstep_server::config::Config;
use doorstep_server::keys;
use doorstep_server::store::AuditLog;
use serde::Serialize;
use uuid::Uuid;

use super::tables::when;
use super::{AuditAction, AuditSource};

/// Lines of a table are printed in groups, with columns as wide as a group needs.
const GROUP: usize = 1000;

const COLUMNS: [&str; 7] = [
    "NUMBER",
    "AT",
    "WHO",
    "ACTION",
    "SUBSCRIBER",
    "SESSION",
    "DETAIL",
];

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Verified {
    entries: u64,
    head: String,
    /// Up to which entry `--head` agrees; null: none was given.
    anchored: Option<u64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Proof {
    entries: u64,
    head: String,
}

pub fn audit(action: AuditAction, output: Output) -> Result<()> {
    match action {
        AuditAction::List { source, action, of } => {
            let wanted = |chained: &Chained| {
                let event = &chained.entry.event;
                action.as_ref().is_none_or(|action| *action == event.action)
                    && of.is_none_or(|id| [event.subscriber, event.session].contains(&Some(id)))
            };
            list(from(&source)?, wanted, output)
        }
        AuditAction::Verify { config, file, head } => {
            let config = Config::load(&config.config)?;
            let key = keys::audit_key(&config)?;
            let anchor = head.map(|given| anchor(&given)).transpose()?;
            let lines = match file {
                Some(file) => lines(&file)?,
                None => database(&config)?,
            };
            verify(&key, lines, anchor, output)
        }
        AuditAction::Head { source } => show_head(&last(from(&source)?)?, output),
        AuditAction::Export { config } => export(database(&Config::load(&config.config)?)?),
    }
}

type Lines = Box<dyn Iterator<Item = Result<Line>>>;

fn from(source: &AuditSource) -> Result<Lines> {
    match (&source.config, &source.file) {
        (Some(config), _) => database(&Config::load(config)?),
        (None, Some(file)) => lines(file),
        (None, None) => bail!("give --config or --file"),
    }
}

/// The lines that an export of the database's log has.
fn database(config: &Config) -> Result<Lines> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let key = keys::audit_key(config)?;
    let mut log = runtime.block_on(AuditLog::open(&config.database, &key))?;
    let mut page = VecDeque::new();
    let mut head = Some(log.head());
    Ok(Box::new(std::iter::from_fn(move || {
        head?;
        if page.is_empty() {
            match runtime.block_on(log.next()) {
                Ok(entries) => page.extend(entries),
                Err(error) => {
                    head = None;
                    return Some(Err(error.into()));
                }
            }
        }
        match page.pop_front() {
            Some(entry) => Some(Ok(Line::Entry(entry))),
            None => head.take().map(|head| Ok(Line::Head(head))),
        }
    })))
}

fn export(lines: Lines) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    for line in lines {
        match line? {
            Line::Entry(chained) => write_entry(&mut out, &chained),
            Line::Head(head) => write_head(&mut out, &head),
        }
        .context("cannot write to standard output")?;
    }
    out.flush().context("cannot write to standard output")
}

/// The lines of an exported log, with the file's name in errors.
fn lines(path: &Path) -> Result<Lines> {
    let (name, input): (String, Box<dyn BufRead>) = if path == Path::new("-") {
        ("standard input".to_owned(), Box::new(stdin().lock()))
    } else {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        (path.display().to_string(), Box::new(BufReader::new(file)))
    };
    Ok(Box::new(
        Reader::new(input).map(move |line| line.with_context(|| name.clone())),
    ))
}

/// A head as people give it: itself, or a file that holds it.
fn anchor(given: &str) -> Result<Head> {
    if given.starts_with("audit1:") {
        return given.trim().parse().context("--head");
    }
    std::fs::read_to_string(given)
        .with_context(|| format!("--head: cannot read the file {given}"))?
        .trim()
        .parse()
        .with_context(|| format!("--head: {given}"))
}

fn list(lines: Lines, wanted: impl Fn(&Chained) -> bool, output: Output) -> Result<()> {
    let mut group = Vec::new();
    let mut head = COLUMNS.as_slice();
    let mut out = BufWriter::new(stdout().lock());
    let flush = |head: &[&str], group: &mut Vec<Vec<String>>, out: &mut dyn Write| {
        let text = output::table(head, group);
        group.clear();
        // Later groups have no head: its line is blank, and left out.
        out.write_all(text.strip_prefix('\n').unwrap_or(&text).as_bytes())
            .context("cannot write to standard output")
    };
    for line in lines {
        match line? {
            Line::Entry(chained) if wanted(&chained) => match output {
                Output::Json => {
                    write_entry(&mut out, &chained).context("cannot write to standard output")?
                }
                Output::Table => group.push(row(chained)),
            },
            Line::Entry(_) | Line::Head(_) => {}
        }
        if group.len() == GROUP {
            flush(head, &mut group, &mut out)?;
            head = &[""; COLUMNS.len()];
        }
    }
    if output == Output::Table && (!group.is_empty() || head == COLUMNS) {
        flush(head, &mut group, &mut out)?;
    }
    out.flush().context("cannot write to standard output")
}

fn row(chained: Chained) -> Vec<String> {
    let event = chained.entry.event;
    let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    // The file may be anybody's: nothing in it may act on a terminal.
    let plain = |text: &str| text.replace(char::is_control, " ");
    vec![
        chained.entry.number.to_string(),
        when(event.at_ms),
        plain(&event.who),
        plain(&event.action),
        id(event.subscriber),
        id(event.session),
        plain(&event.detail),
    ]
}

fn verify(key: &AuditKey, lines: Lines, anchor: Option<Head>, output: Output) -> Result<()> {
    let mut verifier = Verifier::new(key, anchor).map_err(found)?;
    let mut head = None;
    for line in lines {
        match line? {
            Line::Entry(chained) => verifier.push(&chained).map_err(found)?,
            Line::Head(found) => head = Some(found),
        }
    }
    let head = head.ok_or_else(|| found(NO_HEAD))?;
    let count = verifier.finish(&head).map_err(found)?;
    match output {
        Output::Json => output::json(&Verified {
            entries: count,
            head: head.to_string(),
            anchored: anchor.map(|anchor| anchor.count),
        }),
        Output::Table => output::print(&output::fields(&[
            ("entries", format!("{count}, all as they were written")),
            (
                "anchor",
                match anchor {
                    Some(anchor) => format!("agrees, up to entry {}", anchor.count),
                    None => "none given: a former state that was put back would not be seen".into(),
                },
            ),
            ("head", head.to_string()),
        ])),
    }
}

/// The log is not as it was written.
fn found(what: impl Display) -> anyhow::Error {
    exit::because(Exit::Finding, what)
}

const NO_HEAD: &str =
    "the log has no head in its last line, so its end is not proven: the export was cut off";

fn last(lines: Lines) -> Result<Head> {
    for line in lines {
        if let Line::Head(head) = line? {
            return Ok(head);
        }
    }
    bail!(NO_HEAD)
}

fn show_head(head: &Head, output: Output) -> Result<()> {
    match output {
        Output::Json => output::json(&Proof {
            entries: head.count,
            head: head.to_string(),
        }),
        Output::Table => output::print(&format!("{head}\n")),
    }
}
