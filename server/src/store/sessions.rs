//! Sessions: rows to values and back.

use sqlx::Row as _;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::sql::{Value, to_u64};
use super::{Result, Store, StoreError, id, optional_id};
use crate::session::service::{Grant, Service};
use crate::session::{Addresses, Connection, SealedSecret, Session, State, Target};

/// A session and what is known about it besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    pub session: Session,
    /// Of the row as it was loaded; 0: it is not there yet.
    pub version: i64,
    pub since_ms: i64,
    pub created_ms: i64,
    pub terminal_mac: String,
    pub line: String,
    pub route: String,
    /// The newest step of its history.
    pub last_step: Option<Uuid>,
}

macro_rules! select_sessions {
    ($rest:literal) => {
        concat!(
            "SELECT id, version, subscriber, generation, state, location, gateway, place, ipv4, \
             ipv6, ipv6_line, session_key, target_generation, target_location, target_gateway, \
             target_place, target_ipv4, target_ipv6, target_ipv6_line, target_session_key, plan, \
             up_bps, down_bps, shape_down, priority, service_revision, service_acknowledged, \
             service_problem, detail, since_ms, created_ms, terminal_mac, line, route, last_step \
             FROM sessions ",
            $rest
        )
    };
}
pub(super) use select_sessions;

/// The parts of `INSERT … VALUES {rows} …`: a new row, or the next version of one that is as it was
/// loaded. What another server has changed meanwhile is not returned.
pub(super) const WRITE: (&str, &str) = (
    "INSERT INTO sessions (id, version, subscriber, generation, state, location, gateway, place, \
     ipv4, ipv6, ipv6_line, session_key, target_generation, target_location, target_gateway, \
     target_place, target_ipv4, target_ipv6, target_ipv6_line, target_session_key, plan, up_bps, \
     down_bps, shape_down, priority, service_revision, service_acknowledged, service_problem, \
     detail, since_ms, created_ms, terminal_mac, line, route, last_step) VALUES",
    "ON CONFLICT (id) DO UPDATE SET version = excluded.version, generation = excluded.generation, \
     state = excluded.state, location = excluded.location, gateway = excluded.gateway, \
     place = excluded.place, ipv4 = excluded.ipv4, ipv6 = excluded.ipv6, \
     ipv6_line = excluded.ipv6_line, session_key = excluded.session_key, \
     target_generation = excluded.target_generation, target_location = excluded.target_location, \
     target_gateway = excluded.target_gateway, target_place = excluded.target_place, \
     target_ipv4 = excluded.target_ipv4, target_ipv6 = excluded.target_ipv6, \
     target_ipv6_line = excluded.target_ipv6_line, \
     target_session_key = excluded.target_session_key, plan = excluded.plan, \
     up_bps = excluded.up_bps, down_bps = excluded.down_bps, shape_down = excluded.shape_down, \
     priority = excluded.priority, service_revision = excluded.service_revision, \
     service_acknowledged = excluded.service_acknowledged, \
     service_problem = excluded.service_problem, detail = excluded.detail, \
     since_ms = excluded.since_ms, terminal_mac = excluded.terminal_mac, line = excluded.line, \
     route = excluded.route, last_step = excluded.last_step \
     WHERE sessions.version = excluded.version - 1 RETURNING id",
);

impl SessionRow {
    /// Of a session that is new.
    pub(super) fn new(session: Session, at_ms: i64) -> Self {
        SessionRow {
            session,
            version: 0,
            since_ms: at_ms,
            created_ms: at_ms,
            terminal_mac: String::new(),
            line: String::new(),
            route: String::new(),
            last_step: None,
        }
    }

    pub(super) fn values(&self) -> Vec<Value> {
        let session = &self.session;
        let grant = &session.service;
        let target = session.target.as_ref();
        let mut values = Vec::with_capacity(35);
        values.extend([
            Value::from(session.id),
            (self.version + 1).into(),
            session.subscriber.into(),
            session.generation.into(),
            session.state.name().into(),
        ]);
        connection(&mut values, Some(&session.connection));
        values.push(Value::Int(
            target.map(|target| super::sql::to_i64(target.generation)),
        ));
        connection(&mut values, target.map(|target| &target.connection));
        values.extend([
            grant.plan.as_deref().into(),
            grant.service.upstream_bps.into(),
            grant.service.downstream_bps.into(),
            i64::from(grant.service.shape_downstream).into(),
            i64::from(grant.service.priority).into(),
            grant.revision.into(),
            grant.acknowledged.into(),
            grant.problem.as_str().into(),
            session.detail.as_str().into(),
            self.since_ms.into(),
            self.created_ms.into(),
            self.terminal_mac.as_str().into(),
            self.line.as_str().into(),
            self.route.as_str().into(),
            self.last_step.into(),
        ]);
        values
    }
}

fn connection(values: &mut Vec<Value>, connection: Option<&Connection>) {
    let addresses = connection.map(|connection| connection.addresses);
    values.extend([
        connection
            .map(|connection| connection.location.to_string())
            .into(),
        connection
            .map(|connection| connection.gateway.as_str())
            .into(),
        addresses.and_then(|addresses| addresses.place).into(),
        addresses
            .and_then(|addresses| addresses.ipv4.map(|a| a.to_string()))
            .into(),
        addresses
            .and_then(|addresses| addresses.ipv6.map(|a| a.to_string()))
            .into(),
        addresses
            .and_then(|addresses| addresses.ipv6_line.map(|a| a.to_string()))
            .into(),
        connection
            .map(|connection| connection.key.0.as_slice())
            .into(),
    ]);
}

/// Reads a text column as a type of ours.
fn parsed<T: std::str::FromStr>(row: &AnyRow, column: &'static str) -> Result<T> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|_| unreadable(row, column))
}

fn parsed_optional<T: std::str::FromStr>(row: &AnyRow, column: &'static str) -> Result<Option<T>> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|_| unreadable(row, column)))
        .transpose()
}

fn unreadable(row: &AnyRow, column: &'static str) -> StoreError {
    StoreError::Unreadable {
        table: "sessions",
        id: id(row, "id").unwrap_or_default().to_string(),
        column,
    }
}

fn grant(row: &AnyRow) -> Result<Grant> {
    let priority: i64 = row.try_get("priority")?;
    Ok(Grant {
        service: Service {
            upstream_bps: to_u64(row.try_get("up_bps")?),
            downstream_bps: to_u64(row.try_get("down_bps")?),
            shape_downstream: row.try_get::<i64, _>("shape_down")? != 0,
            priority: u8::try_from(priority).map_err(|_| unreadable(row, "priority"))?,
        },
        plan: row.try_get("plan")?,
        revision: to_u64(row.try_get("service_revision")?),
        acknowledged: to_u64(row.try_get("service_acknowledged")?),
        problem: row.try_get("service_problem")?,
    })
}

pub(super) fn read(row: &AnyRow) -> Result<SessionRow> {
    let state: String = row.try_get("state")?;
    let target = match row.try_get::<Option<i64>, _>("target_generation")? {
        None => None,
        Some(generation) => Some(Target {
            generation: to_u64(generation),
            connection: Connection {
                location: parsed(row, "target_location")?,
                gateway: row.try_get("target_gateway")?,
                addresses: Addresses {
                    place: row.try_get("target_place")?,
                    ipv4: parsed_optional(row, "target_ipv4")?,
                    ipv6: parsed_optional(row, "target_ipv6")?,
                    ipv6_line: parsed_optional(row, "target_ipv6_line")?,
                },
                key: SealedSecret(row.try_get("target_session_key")?),
            },
        }),
    };
    Ok(SessionRow {
        session: Session {
            id: id(row, "id")?,
            subscriber: id(row, "subscriber")?,
            generation: to_u64(row.try_get("generation")?),
            state: State::from_name(&state).ok_or_else(|| unreadable(row, "state"))?,
            connection: Connection {
                location: parsed(row, "location")?,
                gateway: row.try_get("gateway")?,
                addresses: Addresses {
                    place: row.try_get("place")?,
                    ipv4: parsed_optional(row, "ipv4")?,
                    ipv6: parsed_optional(row, "ipv6")?,
                    ipv6_line: parsed_optional(row, "ipv6_line")?,
                },
                key: SealedSecret(row.try_get("session_key")?),
            },
            target,
            service: grant(row)?,
            detail: row.try_get("detail")?,
        },
        version: row.try_get("version")?,
        since_ms: row.try_get("since_ms")?,
        created_ms: row.try_get("created_ms")?,
        terminal_mac: row.try_get("terminal_mac")?,
        line: row.try_get("line")?,
        route: row.try_get("route")?,
        last_step: optional_id(row, "last_step")?,
    })
}

impl Store {
    pub async fn session(&self, id: Uuid) -> Result<Option<SessionRow>> {
        let rows = self
            .select(select_sessions!("WHERE id = ?"), vec![id.into()])
            .await?;
        rows.first().map(read).transpose()
    }

    /// Of these sessions, those that there are.
    pub async fn sessions_with(&self, ids: &[Uuid]) -> Result<Vec<SessionRow>> {
        let keys: Vec<Value> = ids.iter().map(|id| (*id).into()).collect();
        self.select_in(select_sessions!("WHERE id IN"), "", &keys)
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// Every session that asks something of a gateway.
    pub async fn live_at_gateway(&self, gateway: &str) -> Result<Vec<SessionRow>> {
        self.select(
            select_sessions!(
                "WHERE gateway = ? AND state IN ('connecting', 'establishing', 'established', \
                 'disconnecting', 'disconnecting-unconfirmed')"
            ),
            vec![gateway.into()],
        )
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Sessions with an instruction that a gateway has not answered yet.
    pub async fn unanswered_at_gateway(&self, gateway: &str) -> Result<Vec<SessionRow>> {
        self.select(
            select_sessions!("WHERE id IN (SELECT session FROM waiting WHERE gateway = ?)"),
            vec![gateway.into()],
        )
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Sessions that have waited for a receipt since before `before_ms`, with their gateways.
    pub async fn receipts_overdue(&self, before_ms: i64) -> Result<Vec<(Uuid, String)>> {
        self.select(
            "SELECT session, gateway FROM waiting WHERE receipt_since_ms <= ? \
             ORDER BY receipt_since_ms LIMIT 500",
            vec![before_ms.into()],
        )
        .await?
        .iter()
        .map(|row| Ok((id(row, "session")?, row.try_get("gateway")?)))
        .collect()
    }

    /// Up to `limit` sessions behind the id `after` that follow a plan and are not released.
    pub async fn sessions_on_plan(
        &self,
        plan: &str,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<SessionRow>> {
        self.select(
            select_sessions!(
                "WHERE plan = ? AND id > ? AND state <> 'released' ORDER BY id LIMIT ?"
            ),
            vec![plan.into(), after.into(), limit.into()],
        )
        .await?
        .iter()
        .map(read)
        .collect()
    }
}
