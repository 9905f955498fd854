//! The log as lines of JSON: an object for each entry, and the head in the last line.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chain::{Chained, Head, HeadError};
use super::entry::{Entry, Event};

/// Longest line that is read: a detail of many pages would still fit.
const MAX_LINE_LEN: u64 = 1 << 20;

/// A line as it is written and read.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EntryLine {
    number: u64,
    at_ms: i64,
    who: String,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriber: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Uuid>,
    detail: String,
    link: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct HeadLine {
    head: String,
}

/// A line of an exported log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Entry(Chained),
    Head(Head),
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("line {line}: {source}")]
    Read { line: u64, source: io::Error },
    #[error("line {line}: longer than {MAX_LINE_LEN} bytes, which no entry is")]
    Long { line: u64 },
    #[error("line {line}: neither an entry of the audit log nor its head: {source}")]
    Form {
        line: u64,
        source: serde_json::Error,
    },
    #[error("line {line}: link: must be 64 hexadecimal digits")]
    Link { line: u64 },
    #[error("line {line}: {source}")]
    Head { line: u64, source: HeadError },
    #[error("line {line}: the log goes on after its head; the head is the last line")]
    AfterHead { line: u64 },
}

pub fn write_entry(out: &mut impl Write, chained: &Chained) -> io::Result<()> {
    let event = &chained.entry.event;
    let line = EntryLine {
        number: chained.entry.number,
        at_ms: event.at_ms,
        who: event.who.to_string(),
        action: event.action.to_string(),
        subscriber: event.subscriber,
        session: event.session,
        detail: event.detail.clone(),
        link: chained.link.to_string(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

pub fn write_head(out: &mut impl Write, head: &Head) -> io::Result<()> {
    let line = HeadLine {
        head: head.to_string(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Reads an exported log line by line; ends after the first error.
pub struct Reader<R> {
    input: R,
    line: u64,
    text: Vec<u8>,
    head_seen: bool,
    failed: bool,
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Self {
        Reader {
            input,
            line: 0,
            text: Vec::new(),
            head_seen: false,
            failed: false,
        }
    }

    fn read(&mut self) -> Result<Option<Line>, ExportError> {
        self.line += 1;
        let line = self.line;
        self.text.clear();
        let mut limited = io::Read::take(&mut self.input, MAX_LINE_LEN + 1);
        let length = limited
            .read_until(b'\n', &mut self.text)
            .map_err(|source| ExportError::Read { line, source })?;
        if length == 0 {
            return Ok(None);
        }
        if length as u64 > MAX_LINE_LEN {
            return Err(ExportError::Long { line });
        }
        if self.head_seen {
            return Err(ExportError::AfterHead { line });
        }
        if let Ok(HeadLine { head }) = serde_json::from_slice(&self.text) {
            let head = head
                .parse()
                .map_err(|source| ExportError::Head { line, source })?;
            self.head_seen = true;
            return Ok(Some(Line::Head(head)));
        }
        let read: EntryLine = serde_json::from_slice(&self.text)
            .map_err(|source| ExportError::Form { line, source })?;
        Ok(Some(Line::Entry(Chained {
            link: read.link.parse().map_err(|_| ExportError::Link { line })?,
            entry: Entry {
                number: read.number,
                event: Event {
                    at_ms: read.at_ms,
                    who: Cow::Owned(read.who),
                    action: Cow::Owned(read.action),
                    subscriber: read.subscriber,
                    session: read.session,
                    detail: read.detail,
                },
            },
        })))
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Line, ExportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.read().transpose();
        self.failed = matches!(line, Some(Err(_)));
        line
    }
}
