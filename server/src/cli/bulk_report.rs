//! What became of the rows of a file.

use anyhow::Result;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::output::{Output, fields, table};
use doorstep_proto::v1 as pb;
use serde::Serialize;

use super::bulk_csv::{Shared, look};

/// A row that was refused.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Refusal {
    line: u64,
    reason: String,
}

/// What was done to rows, in one word.
pub const IMPORTED: &str = "imported";
pub const CONNECTED: &str = "connected";

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Rows<'a> {
    rows: u64,
    /// Of `subscribers import`.
    #[serde(skip_serializing_if = "Option::is_none")]
    imported: Option<u64>,
    /// Of `sessions connect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<u64>,
    present: u64,
    refused: u64,
    unanswered: u64,
    refusals: &'a [Refusal],
}

#[derive(Debug)]
pub struct Report {
    /// [`IMPORTED`] or [`CONNECTED`].
    verb: &'static str,
    told: Shared,
    dry_run: DryRun,
    done: u64,
    present: u64,
    refusals: Vec<Refusal>,
    unanswered: u64,
}

impl Report {
    pub fn new(verb: &'static str, told: Shared, dry_run: DryRun) -> Self {
        Report {
            verb,
            told,
            dry_run,
            done: 0,
            present: 0,
            refusals: Vec::new(),
            unanswered: 0,
        }
    }

    pub fn dry_run(&self) -> DryRun {
        self.dry_run
    }

    pub fn add(&mut self, outcome: pb::RowOutcome) {
        match outcome.result() {
            pb::RowResult::Done => self.done += 1,
            pb::RowResult::Present => self.present += 1,
            pb::RowResult::Refused | pb::RowResult::Unspecified => self.refusals.push(Refusal {
                line: outcome.line,
                reason: outcome.reason,
            }),
        }
    }

    pub fn answered(&self) -> u64 {
        self.done + self.present + self.refused()
    }

    pub fn refused(&self) -> u64 {
        self.refusals.len() as u64
    }

    /// Rows that the server was given and has said nothing of.
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Takes over what the sending end has told.
    pub fn close(&mut self) {
        let answered = self.answered();
        let (sent, refused) = look(&self.told, |told| {
            (told.sent, std::mem::take(&mut told.refused))
        });
        self.unanswered = sent.saturating_sub(answered);
        let refused = refused.into_iter();
        self.refusals
            .extend(refused.map(|(line, reason)| Refusal { line, reason }));
        self.refusals.sort_by_key(|refusal| refusal.line);
    }

    pub fn text(&self, output: Output) -> Result<String> {
        let rows = self.answered() + self.unanswered;
        if output == Output::Json {
            let told = self.dry_run.with(Rows {
                rows,
                imported: (self.verb == IMPORTED).then_some(self.done),
                connected: (self.verb == CONNECTED).then_some(self.done),
                present: self.present,
                refused: self.refused(),
                unanswered: self.unanswered,
                refusals: &self.refusals,
            });
            return Ok(format!("{}\n", serde_json::to_string_pretty(&told)?));
        }
        let mut text = fields(&[
            ("rows", rows.to_string()),
            (self.verb, self.done.to_string()),
            ("there already", self.present.to_string()),
            ("refused", self.refused().to_string()),
            (
                "unanswered",
                match self.unanswered {
                    0 => String::new(),
                    count => count.to_string(),
                },
            ),
        ]);
        if !self.refusals.is_empty() {
            let rows: Vec<_> = self
                .refusals
                .iter()
                .map(|refusal| [refusal.line.to_string(), refusal.reason.clone()])
                .collect();
            text.push('\n');
            text += &table(&["LINE", "REASON"], &rows);
        }
        Ok(text)
    }
}
