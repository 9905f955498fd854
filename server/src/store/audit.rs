//! The audit log's rows: entries are appended in the transaction of what they tell of.

use super::database;
use super::sql::{Backend, Row, Statement, Takes, Value};
use super::{Database, Result, StoreError};
use crate::audit::{AuditKey, Chained, Entry, Event, Head, Link};

const WRITE: (&str, &str) = (
    "INSERT INTO audit (number, at_ms, who, action, subscriber, session, detail, link)",
    "ON CONFLICT DO NOTHING RETURNING number",
);

/// Compare and set: of two servers that append to the same head one begins anew.
const WRITE_HEAD: (&str, &str) = (
    "INSERT INTO audit_head (id, count, previous, link, seal)",
    "ON CONFLICT (id) DO UPDATE SET count = excluded.count, previous = excluded.previous, \
     link = excluded.link, seal = excluded.seal WHERE audit_head.count = excluded.previous \
     RETURNING id",
);

const HEAD: &str = "SELECT count, link, seal FROM audit_head WHERE id = 1";
const ENTRIES: &str = "SELECT number, at_ms, who, action, subscriber, session, detail, link \
     FROM audit WHERE number > ? AND number <= ? ORDER BY number";

/// Entries read at once.
const PAGE: u64 = 1000;

/// What appends events to the log behind the head that is `known`, or that of the table; and the head
/// that the log has then. If another server has appended meanwhile, it cannot be written.
pub(super) async fn append(
    backend: &Backend,
    key: &AuditKey,
    known: Option<Head>,
    events: &[Event],
) -> Result<([Statement; 2], Head)> {
    let mut head = match known {
        Some(head) => head,
        None => stored_head(backend, key).await?,
    };
    let previous = head.count;
    let rows = events
        .iter()
        .map(|event| values(&key.append(&mut head, event.clone())))
        .collect();
    let after = vec![
        1i64.into(),
        head.count.into(),
        previous.into(),
        head.link.as_bytes().as_slice().into(),
        head.seal.as_bytes().as_slice().into(),
    ];
    let statements = [
        Statement::new(Takes::InsertAll, WRITE_HEAD, vec![after]),
        Statement::new(Takes::InsertAll, WRITE, rows),
    ];
    Ok((statements, head))
}

async fn stored_head(backend: &Backend, key: &AuditKey) -> Result<Head> {
    let read = vec![Statement::marks(HEAD, vec![])];
    let head = head(backend.read_to_write(read).await?)?.unwrap_or_else(|| key.empty());
    if let Err(error) = key.check(&head) {
        // What happens is written all the same; `audit verify` tells from where on nothing is proven.
        tracing::error!(%error, "the audit log's head is not as this server wrote it");
    }
    Ok(head)
}

fn values(chained: &Chained) -> Vec<Value> {
    let event = &chained.entry.event;
    vec![
        chained.entry.number.into(),
        event.at_ms.into(),
        event.who.as_ref().into(),
        event.action.as_ref().into(),
        event.subscriber.into(),
        event.session.into(),
        event.detail.as_str().into(),
        chained.link.as_bytes().as_slice().into(),
    ]
}

fn head(returned: Vec<Vec<Row>>) -> Result<Option<Head>> {
    let Some(row) = returned.first().and_then(|rows| rows.first()) else {
        return Ok(None);
    };
    let row = &mut row.read();
    Ok(Some(Head {
        count: row.number()?,
        link: link(row.bytes()?)?,
        seal: link(row.bytes()?)?,
    }))
}

fn link(bytes: Vec<u8>) -> Result<Link> {
    Link::from_slice(&bytes)
        .ok_or_else(|| StoreError::Failed("a link of the audit log has a wrong length".to_owned()))
}

fn entry(row: &Row) -> Result<Chained> {
    let row = &mut row.read();
    Ok(Chained {
        entry: Entry {
            number: row.number()?,
            event: Event {
                at_ms: row.int()?,
                who: row.text()?.into(),
                action: row.text()?.into(),
                subscriber: row.optional_id()?,
                session: row.optional_id()?,
                detail: row.text()?,
            },
        },
        link: link(row.bytes()?)?,
    })
}

/// The log as a server has written it, to be read beside the server.
pub struct AuditLog {
    backend: Backend,
    head: Head,
    last: u64,
    all: bool,
}

impl AuditLog {
    /// The log up to now: what comes later is not seen, so head and entries belong together.
    pub async fn open(database: &Database, key: &AuditKey) -> Result<AuditLog> {
        let backend = database::look(database).await?;
        let head = head(backend.read(vec![Statement::marks(HEAD, vec![])]).await?)?;
        Ok(AuditLog {
            backend,
            head: head.unwrap_or_else(|| key.empty()),
            last: 0,
            all: false,
        })
    }

    pub fn head(&self) -> Head {
        self.head
    }

    /// The next entries, in their order; none at the end.
    pub async fn next(&mut self) -> Result<Vec<Chained>> {
        if self.all {
            return Ok(Vec::new());
        }
        // To the head and no further, but past whatever is missing.
        let until = (self.last + PAGE).min(self.head.count);
        let values = vec![self.last.into(), until.into()];
        let read = self
            .backend
            .read(vec![Statement::marks(ENTRIES, values)])
            .await?;
        self.last = until;
        self.all = until == self.head.count;
        let entries: Vec<Chained> = read.iter().flatten().map(entry).collect::<Result<_>>()?;
        if entries.is_empty() && !self.all {
            // A whole page is missing: the next one tells which entry does.
            return Box::pin(self.next()).await;
        }
        Ok(entries)
    }
}
