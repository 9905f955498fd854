//! Other servers of the same operator, on the same database.
//!
//! They are told by NOTIFY what has changed, so that whoever holds a gateway's stream or a Watch
//! looks at once. That is a matter of speed only: everything is found by polling too.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::sql::{Backend, Statement, Takes};
use super::work::Changes;
use super::{Database, Result};

const CHANNEL: &str = "doorstep";
const NOTIFY: (&str, &str) = (
    "SELECT CAST(pg_notify('doorstep', given.a) AS TEXT) FROM",
    "",
);
const SEEN: (&str, &str) = (
    "INSERT INTO servers (id, seen_ms)",
    "ON CONFLICT (id) DO UPDATE SET seen_ms = excluded.seen_ms",
);
/// How often a server says that it is there.
const SAY: Duration = Duration::from_secs(5);
/// After how long without a word a server is taken for gone, in milliseconds.
const GONE_MS: i64 = 30_000;
/// PostgreSQL takes 8000 bytes at once.
const MOST_BYTES: usize = 7_900;

/// What another server has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A session asks something new of a gateway.
    Gateway(String, Uuid),
    /// A session has a new step.
    Steps(Uuid),
}

/// This server among the others.
#[derive(Debug)]
pub(super) struct Others {
    own: Uuid,
    /// Whether there are any.
    are_there: AtomicBool,
    stop: CancellationToken,
}

impl Others {
    pub fn new() -> Arc<Self> {
        Arc::new(Others {
            own: Uuid::new_v4(),
            are_there: AtomicBool::new(false),
            stop: CancellationToken::new(),
        })
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Under which id this server counts what it writes. A database of its own has one for all of
    /// its servers, one after the other.
    pub fn counts_as(&self, backend: &Backend) -> Uuid {
        if backend.is_own() {
            Uuid::nil()
        } else {
            self.own
        }
    }

    /// What says in a transaction what it changes; told once it is committed.
    pub fn tell(&self, changes: &Changes) -> Option<Statement> {
        if !self.are_there.load(Ordering::Relaxed) {
            return None;
        }
        let texts = texts(self.own, changes);
        (!texts.is_empty()).then(|| notify(texts))
    }

    /// Says that this server is there and listens to the others, until stopped.
    pub fn start(
        self: &Arc<Self>,
        database: &Database,
        backend: &Backend,
        heard: impl Fn(Hint) + Send + Sync + 'static,
    ) {
        let Database::Postgres(url) = database else {
            return;
        };
        tokio::spawn(Arc::clone(self).say(backend.clone()));
        tokio::spawn(Arc::clone(self).listen(url.clone(), heard));
    }

    async fn say(self: Arc<Self>, backend: Backend) {
        // Others learn at once that they are not alone any more.
        let greeting = notify(vec![self.own.simple().to_string()]);
        if let Err(error) = backend.write(vec![greeting]).await {
            tracing::warn!(%error, "cannot greet other servers");
        }
        loop {
            match self.say_once(&backend).await {
                Ok(others) => self.are_there.store(others, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "cannot look for other servers"),
            }
            tokio::select! {
                () = tokio::time::sleep(SAY) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Whether there are others.
    async fn say_once(&self, backend: &Backend) -> Result<bool> {
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            });
        let own = vec![self.own.into(), now_ms.into()];
        let returned = backend
            .write(vec![
                Statement::new(Takes::Insert, SEEN, vec![own]),
                Statement::marks(
                    "DELETE FROM servers WHERE seen_ms < ?",
                    vec![(now_ms - 100 * GONE_MS).into()],
                ),
                Statement::marks(
                    "SELECT COUNT(*) FROM servers WHERE id <> ? AND seen_ms >= ?",
                    vec![self.own.into(), (now_ms - GONE_MS).into()],
                ),
            ])
            .await?;
        let count = returned.last().and_then(|rows| rows.first());
        Ok(count.map_or(Ok(0), |row| row.read().int())? > 0)
    }

    async fn listen(self: Arc<Self>, url: String, heard: impl Fn(Hint)) {
        loop {
            let ended = tokio::select! {
                ended = self.hear(&url, &heard) => ended,
                () = self.stop.cancelled() => return,
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "cannot hear other servers; their changes are polled for");
            }
            tokio::time::sleep(SAY.mul_f64(0.5 + rand::random::<f64>())).await;
        }
    }

    async fn hear(&self, url: &str, heard: &impl Fn(Hint)) -> sqlx::Result<()> {
        let mut listener = PgListener::connect(url).await?;
        listener.listen(CHANNEL).await?;
        loop {
            let said = listener.recv().await?;
            let Some(hints) = hints(self.own, said.payload()) else {
                continue;
            };
            self.are_there.store(true, Ordering::Relaxed);
            hints.into_iter().for_each(heard);
        }
    }
}

fn notify(texts: Vec<String>) -> Statement {
    let rows = texts.into_iter().map(|text| vec![text.into()]).collect();
    Statement::new(Takes::Join, NOTIFY, rows)
}

/// `{server}`, then ` {session}` for steps and ` {session}@{gateway}` for gateways.
fn texts(own: Uuid, changes: &Changes) -> Vec<String> {
    let steps = changes
        .steps
        .iter()
        .map(|step| format!(" {}", step.session.simple()));
    let gateways = changes.instruct.iter().filter_map(|id| {
        let row = &changes.sessions.get(id)?.row;
        Some(format!(
            " {}@{}",
            id.simple(),
            row.session.connection.gateway
        ))
    });
    let mut texts = Vec::new();
    let mut text = String::new();
    for word in steps.chain(gateways) {
        if text.len() + word.len() > MOST_BYTES {
            texts.push(std::mem::take(&mut text));
        }
        if text.is_empty() {
            let _ = write!(text, "{}", own.simple());
        }
        text.push_str(&word);
    }
    if !text.is_empty() {
        texts.push(text);
    }
    texts
}

/// What another server has said; none if it was this one.
fn hints(own: Uuid, text: &str) -> Option<Vec<Hint>> {
    let mut words = text.split(' ');
    let server: Uuid = words.next()?.parse().ok()?;
    if server == own {
        return None;
    }
    let hints = words
        .filter_map(|word| match word.split_once('@') {
            Some((session, gateway)) => {
                Some(Hint::Gateway(gateway.to_owned(), session.parse().ok()?))
            }
            None => Some(Hint::Steps(word.parse().ok()?)),
        })
        .collect();
    Some(hints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::State;
    use crate::store::StepRow;

    #[test]
    fn others_hear_what_is_said_in_pieces_that_fit() {
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut changes = Changes::default();
        for number in 0..1000 {
            changes.steps.push(StepRow {
                id: Uuid::nil(),
                previous: None,
                session: Uuid::from_u128(number),
                generation: 1,
                state: State::Connecting,
                gateway: String::new(),
                detail: String::new(),
                who: String::new(),
                at_ms: 0,
            });
        }
        let texts = texts(own, &changes);
        assert!(texts.iter().all(|text| text.len() <= MOST_BYTES));
        let heard: Vec<_> = texts
            .iter()
            .flat_map(|text| hints(other, text).unwrap())
            .collect();
        let want: Vec<_> = (0..1000).map(|n| Hint::Steps(Uuid::from_u128(n))).collect();
        assert_eq!(heard, want);
        assert!(texts.iter().all(|text| hints(own, text).is_none()));
    }

    #[test]
    fn words_of_gateways_name_them() {
        let session = Uuid::from_u128(7);
        let text = format!("{} {}@gw1 nonsense", Uuid::nil().simple(), session.simple());
        let want = [Hint::Gateway("gw1".to_owned(), session)];
        assert_eq!(hints(Uuid::from_u128(1), &text).unwrap(), want);
    }
}
