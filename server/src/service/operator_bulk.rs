//! Rows that come as a stream: taken in groups, one group at a time whoever sends them, so that
//! other requests wait for one group at most.

use std::pin::Pin;
use std::sync::Arc;

use doorstep_daemon::dry_run::Run;
use doorstep_location::LocationId;
use doorstep_proto::v1 as pb;
use futures::future::BoxFuture;
use futures::stream::{self, ReadyChunks};
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::convert::{self, Violations};
use crate::account::Actor;
use crate::engine::{Bound, Engine, Imported, ToBind, ToImport, Which};

/// Rows of a group: half of what the store writes at once.
const GROUP: usize = 128;

pub type Outcomes = Pin<Box<dyn Stream<Item = Result<pb::RowOutcomes, Status>> + Send>>;

/// What a group of rows comes to.
type Work<R> = fn(Arc<Engine>, Vec<R>) -> BoxFuture<'static, Result<pb::RowOutcomes, Status>>;

/// What the streams of one server share.
#[derive(Clone)]
pub struct Bulk {
    engine: Arc<Engine>,
    shutdown: CancellationToken,
    turn: Arc<Semaphore>,
}

impl Bulk {
    pub fn new(engine: Arc<Engine>, shutdown: CancellationToken) -> Self {
        Bulk {
            engine,
            shutdown,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    pub fn import(&self, rows: Streaming<pb::SubscriberToImport>) -> Outcomes {
        self.answer(rows, |engine, rows| import(engine, rows).boxed())
    }

    pub fn connect(&self, rows: Streaming<pb::SessionToConnect>) -> Outcomes {
        self.answer(rows, |engine, rows| connect(engine, rows).boxed())
    }

    fn answer<R: Send + 'static>(&self, rows: Streaming<R>, work: Work<R>) -> Outcomes {
        let groups = Groups {
            bulk: self.clone(),
            rows: rows.ready_chunks(GROUP),
            broken: None,
            work,
        };
        Box::pin(stream::unfold(Some(groups), |groups| async move {
            let mut groups = groups?;
            match groups.next().await? {
                Ok(outcomes) => Some((Ok(outcomes), Some(groups))),
                Err(status) => Some((Err(status), None)),
            }
        }))
    }
}

struct Groups<R> {
    bulk: Bulk,
    rows: ReadyChunks<Streaming<R>>,
    /// How the rows have ended, to be told behind the outcomes of those before.
    broken: Option<Status>,
    work: Work<R>,
}

impl<R> Groups<R> {
    async fn next(&mut self) -> Option<Result<pb::RowOutcomes, Status>> {
        if let Some(status) = self.broken.take() {
            return Some(Err(status));
        }
        let group = tokio::select! {
            biased;
            () = self.bulk.shutdown.cancelled() => return Some(Err(Status::unavailable(
                "the server is shutting down; begin anew later, what is done is skipped then",
            ))),
            group = self.rows.next() => group?,
        };
        let mut rows = Vec::with_capacity(group.len());
        for row in group {
            match row {
                Ok(row) => rows.push(row),
                Err(status) if rows.is_empty() => return Some(Err(status)),
                Err(status) => {
                    self.broken = Some(status);
                    break;
                }
            }
        }
        // It is never closed.
        let _turn = self.bulk.turn.acquire().await.ok()?;
        Some((self.work)(Arc::clone(&self.bulk.engine), rows).await)
    }
}

async fn import(
    engine: Arc<Engine>,
    rows: Vec<pb::SubscriberToImport>,
) -> Result<pb::RowOutcomes, Status> {
    let country_code = engine.config.country_code.as_deref();
    let mut good = Vec::with_capacity(rows.len());
    let lines = rows
        .into_iter()
        .map(|row| (row.line, keep(&mut good, to_import(row, country_code))))
        .collect();
    let done = engine.import_subscribers(good).await;
    let done = done.map_err(|error| convert::status(&error))?;
    Ok(outcomes(lines, done, |imported| match imported {
        // Nobody has these.
        Imported::New(_, _, Run::Dry) => pb::RowOutcome {
            result: pb::RowResult::Done.into(),
            ..pb::RowOutcome::default()
        },
        Imported::New(id, secret, Run::Real) => pb::RowOutcome {
            result: pb::RowResult::Done.into(),
            subscriber_id: id.to_string(),
            secret: secret.as_bytes().to_vec(),
            ..pb::RowOutcome::default()
        },
        Imported::Present(id) => pb::RowOutcome {
            result: pb::RowResult::Present.into(),
            subscriber_id: id.to_string(),
            ..pb::RowOutcome::default()
        },
    }))
}

async fn connect(
    engine: Arc<Engine>,
    rows: Vec<pb::SessionToConnect>,
) -> Result<pb::RowOutcomes, Status> {
    let country_code = engine.config.country_code.as_deref();
    let mut good = Vec::with_capacity(rows.len());
    let lines = rows
        .into_iter()
        .map(|row| (row.line, keep(&mut good, to_bind(row, country_code))))
        .collect();
    let done = engine.bind_sessions(Actor::Operator, good).await;
    let done = done.map_err(|error| convert::status(&error))?;
    Ok(outcomes(lines, done, bound))
}

fn bound(bound: Bound) -> pb::RowOutcome {
    let result = match bound.present {
        true => pb::RowResult::Present,
        false => pb::RowResult::Done,
    };
    let mut outcome = pb::RowOutcome {
        result: result.into(),
        subscriber_id: bound.subscriber.to_string(),
        ..pb::RowOutcome::default()
    };
    if bound.run.is_dry() && !bound.present {
        outcome.session = Some(convert::session_to_be(bound.outcome));
    } else {
        outcome.session_id = bound.session.to_string();
    }
    outcome
}

/// Puts a good row to the others; why it is not one.
fn keep<T>(good: &mut Vec<T>, row: Result<T, String>) -> Option<String> {
    row.map(|row| good.push(row)).err()
}

/// Of each line, in their order: why it was not worked on, or what came of it.
fn outcomes<T>(
    lines: Vec<(u64, Option<String>)>,
    done: Vec<Result<T, crate::engine::EngineError>>,
    outcome: impl Fn(T) -> pb::RowOutcome,
) -> pb::RowOutcomes {
    let refused = |reason: String| pb::RowOutcome {
        result: pb::RowResult::Refused.into(),
        reason,
        ..pb::RowOutcome::default()
    };
    let mut done = done.into_iter();
    let outcomes = lines
        .into_iter()
        .map(|(line, problem)| pb::RowOutcome {
            line,
            ..match problem {
                Some(reason) => refused(reason),
                None => match done.next() {
                    Some(Ok(done)) => outcome(done),
                    Some(Err(error)) => refused(error.to_string()),
                    None => refused("was not worked on".to_owned()),
                },
            }
        })
        .collect();
    pb::RowOutcomes { outcomes }
}

fn to_import(row: pb::SubscriberToImport, country_code: Option<&str>) -> Result<ToImport, String> {
    let (phone, id_card) =
        convert::numbers(&row.phone, &row.id_card, country_code).map_err(reason)?;
    Ok(ToImport {
        phone,
        id_card,
        plan: (!row.plan.is_empty()).then_some(row.plan),
        run: row.dry_run.into(),
    })
}

fn to_bind(row: pb::SessionToConnect, country_code: Option<&str>) -> Result<ToBind, String> {
    let mut violations = Violations::default();
    let location = violations.check("location", row.location_id.parse::<LocationId>());
    let establishment = violations.check(
        "establishment",
        pb::Establishment::try_from(row.establishment)
            .map(convert::from_establishment)
            .map_err(|_| "must be terminal or dhcp"),
    );
    let given_numbers = !row.phone.is_empty() || !row.id_card.is_empty();
    let subscriber = match (row.subscriber_id.as_str(), given_numbers) {
        ("", _) => {
            let (phone, id_card) =
                convert::numbers(&row.phone, &row.id_card, country_code).map_err(reason)?;
            Some(Which::Numbers(phone, id_card))
        }
        (id, false) => violations
            .check("subscriber", convert::uuid(id))
            .map(Which::Id),
        (_, true) => {
            violations.add("subscriber", "either its id or its numbers, not both");
            None
        }
    };
    match (subscriber, location, establishment) {
        (Some(subscriber), Some(location), Some(establishment)) => Ok(ToBind {
            subscriber,
            location,
            additional: row.additional,
            establishment,
            run: row.dry_run.into(),
        }),
        _ => Err(reason(violations.status())),
    }
}

/// What is wrong with a row, in the words for a request.
fn reason(status: Status) -> String {
    let text = status.message();
    text.strip_prefix("invalid request: ")
        .unwrap_or(text)
        .to_owned()
}
