//! Sessions: rows to values and back.

use std::collections::HashSet;

use uuid::Uuid;

use super::sql::{Reader, Row, Value};
use super::{Result, Store, StoreError};
use crate::session::service::{Grant, Service};
use crate::session::{Addresses, Connection, Establishment, SealedSecret, Session, State, Target};

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
    ($($rest:literal),+) => {
        concat!(
            "SELECT id, version, subscriber, generation, state, location, gateway, place, ipv4, \
             ipv6, ipv6_line, session_key, target_generation, target_location, target_gateway, \
             target_place, target_ipv4, target_ipv6, target_ipv6_line, target_session_key, plan, \
             up_bps, down_bps, shape_down, priority, ttl_s, service_revision, \
             service_acknowledged, \
             service_problem, detail, since_ms, created_ms, terminal_mac, line, route, last_step, \
             establishment FROM sessions ",
            $($rest),+
        )
    };
}
pub(super) use select_sessions;

const INSERT: &str = "INSERT INTO sessions (id, version, subscriber, generation, state, location, \
     gateway, place, ipv4, ipv6, ipv6_line, session_key, target_generation, target_location, \
     target_gateway, target_place, target_ipv4, target_ipv6, target_ipv6_line, \
     target_session_key, plan, up_bps, down_bps, shape_down, priority, ttl_s, service_revision, \
     service_acknowledged, service_problem, detail, since_ms, created_ms, terminal_mac, line, \
     route, last_step, establishment)";

macro_rules! update_sessions {
    ($indexed:literal) => {
        concat!(
            "ON CONFLICT (id) DO UPDATE SET version = excluded.version, ",
            $indexed,
            "generation = excluded.generation, state = excluded.state, \
             place = excluded.place, ipv4 = excluded.ipv4, \
             ipv6 = excluded.ipv6, ipv6_line = excluded.ipv6_line, \
             session_key = excluded.session_key, \
             target_generation = excluded.target_generation, \
             target_location = excluded.target_location, \
             target_gateway = excluded.target_gateway, target_place = excluded.target_place, \
             target_ipv4 = excluded.target_ipv4, target_ipv6 = excluded.target_ipv6, \
             target_ipv6_line = excluded.target_ipv6_line, \
             target_session_key = excluded.target_session_key, up_bps = excluded.up_bps, \
             down_bps = excluded.down_bps, shape_down = excluded.shape_down, \
             priority = excluded.priority, service_revision = excluded.service_revision, \
             service_acknowledged = excluded.service_acknowledged, \
             service_problem = excluded.service_problem, detail = excluded.detail, \
             since_ms = excluded.since_ms, terminal_mac = excluded.terminal_mac, \
             line = excluded.line, route = excluded.route, last_step = excluded.last_step \
             WHERE sessions.version = excluded.version - 1 RETURNING id"
        )
    };
}

/// The parts of `INSERT … VALUES {rows} …`: a new row, or the next version of one that is as it was
/// loaded. What another server has changed meanwhile is not returned.
pub(super) const WRITE: (&str, &str) = (
    INSERT,
    update_sessions!(
        "gateway = excluded.gateway, location = excluded.location, plan = excluded.plan, \
         ttl_s = excluded.ttl_s, "
    ),
);

/// The same for rows that stay where they are in every index. SQLite writes an index anew for each
/// of its columns that a statement names, whether or not it has another value.
pub(super) const WRITE_IN_PLACE: (&str, &str) = (INSERT, update_sessions!(""));

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

    /// What of it the table's indices have.
    pub(super) fn indexed(&self) -> impl PartialEq {
        let session = &self.session;
        let (connection, service) = (&session.connection, &session.service);
        (
            (&connection.gateway, &connection.location),
            (&service.plan, service.service.time_to_live_s),
        )
    }

    pub(super) fn values(&self) -> Vec<Value> {
        let session = &self.session;
        let grant = &session.service;
        let target = session.target.as_ref();
        let mut values = Vec::with_capacity(37);
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
            i64::from(grant.service.time_to_live_s).into(),
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
            session.establishment.name().into(),
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

fn read_addresses(row: &mut Reader<'_>) -> Result<Addresses> {
    Ok(Addresses {
        place: row.optional_int()?,
        ipv4: row.optional_parsed()?,
        ipv6: row.optional_parsed()?,
        ipv6_line: row.optional_parsed()?,
    })
}

fn read_target(row: &mut Reader<'_>) -> Result<Option<Target>> {
    let generation = row.optional_int()?;
    let location = row.optional_parsed()?;
    let gateway = row.optional_text()?;
    let addresses = read_addresses(row)?;
    let key = row.optional_bytes()?;
    let (Some(generation), Some(location), Some(gateway), Some(key)) =
        (generation, location, gateway, key)
    else {
        return Ok(None);
    };
    Ok(Some(Target {
        generation: u64::try_from(generation).unwrap_or(0),
        connection: Connection {
            location,
            gateway,
            addresses,
            key: SealedSecret(key),
        },
    }))
}

fn read_grant(row: &mut Reader<'_>) -> Result<Grant> {
    Ok(Grant {
        plan: row.optional_text()?,
        service: Service {
            upstream_bps: row.number()?,
            downstream_bps: row.number()?,
            shape_downstream: row.int()? != 0,
            priority: u8::try_from(row.int()?).unwrap_or(0),
            time_to_live_s: u32::try_from(row.int()?).unwrap_or(0),
        },
        revision: row.number()?,
        acknowledged: row.number()?,
        problem: row.text()?,
    })
}

/// In the order of `select_sessions`.
pub(super) fn read(row: &Row) -> Result<SessionRow> {
    let row = &mut row.read();
    let id = row.id()?;
    let version = row.int()?;
    let subscriber = row.id()?;
    let generation = row.number()?;
    let state: String = row.text()?;
    let state = State::from_name(&state)
        .ok_or_else(|| StoreError::Failed(format!("session {id} has no state {state}")))?;
    let connection = Connection {
        location: row.parsed()?,
        gateway: row.text()?,
        addresses: read_addresses(row)?,
        key: SealedSecret(row.bytes()?),
    };
    let target = read_target(row)?;
    let service = read_grant(row)?;
    let mut read = SessionRow {
        session: Session {
            id,
            subscriber,
            generation,
            state,
            establishment: Establishment::default(),
            connection,
            target,
            service,
            detail: row.text()?,
        },
        version,
        since_ms: row.int()?,
        created_ms: row.int()?,
        terminal_mac: row.text()?,
        line: row.text()?,
        route: row.text()?,
        last_step: row.optional_id()?,
    };
    let establishment: String = row.text()?;
    read.session.establishment = Establishment::from_name(&establishment).ok_or_else(|| {
        StoreError::Failed(format!("session {id} has no establishment {establishment}"))
    })?;
    Ok(read)
}

impl Store {
    pub async fn session(&self, id: Uuid) -> Result<Option<SessionRow>> {
        if let Some(row) = self.newest(|kept| kept.session(id)) {
            return Ok(Some(SessionRow::clone(&row)));
        }
        let rows = self
            .select(select_sessions!("WHERE id = ?"), vec![id.into()])
            .await?;
        rows.first().map(read).transpose()
    }

    /// Of these sessions, those that there are.
    pub async fn sessions_with(&self, ids: &[Uuid]) -> Result<Vec<SessionRow>> {
        self.select_of(select_sessions!("WHERE id"), "", ids)
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// Every session whose gateway has not answered yet, with the gateway.
    pub async fn waiting(&self) -> Result<Vec<(Uuid, String)>> {
        self.select("SELECT session, gateway FROM waiting", vec![])
            .await?
            .iter()
            .map(|row| {
                let row = &mut row.read();
                Ok((row.id()?, row.text()?))
            })
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
        .map(|row| {
            let row = &mut row.read();
            Ok((row.id()?, row.text()?))
        })
        .collect()
    }

    /// Sessions whose receipt may be waited for no longer: their gateways followed a time to live,
    /// and were last in contact so long before `before_ms`. With the generation of which that is true:
    /// another one may be at another gateway.
    pub async fn outlived(&self, before_ms: i64) -> Result<Vec<(Uuid, u64)>> {
        self.select(
            "SELECT sessions.id, sessions.generation FROM waiting JOIN sessions ON sessions.id = waiting.session \
             JOIN gateways ON gateways.id = waiting.gateway \
             WHERE EXISTS (SELECT 1 FROM sessions WHERE ttl_s > 0) \
             AND sessions.state IN ('disconnecting', 'disconnecting-unconfirmed') \
             AND sessions.ttl_s > 0 \
             AND sessions.service_acknowledged = sessions.service_revision \
             AND gateways.seen_ms + sessions.ttl_s * 1000 <= ? LIMIT 500",
            vec![before_ms.into()],
        )
        .await?
        .iter()
        .map(|row| {
            let row = &mut row.read();
            Ok((row.id()?, row.number()?))
        })
        .collect()
    }

    /// Gateways with a session that has a time to live.
    pub async fn gateways_with_time_to_live(&self) -> Result<HashSet<String>> {
        self.select(
            "SELECT DISTINCT gateway FROM sessions WHERE ttl_s > 0",
            vec![],
        )
        .await?
        .iter()
        .map(|row| row.read().text())
        .collect()
    }

    /// Up to `limit` sessions behind the id `after` that follow a plan, are not released, and have
    /// another service than the plan's.
    pub async fn sessions_behind_plan(
        &self,
        plan: &str,
        service: &Service,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<SessionRow>> {
        self.select(
            select_sessions!(
                "WHERE plan = ? AND id > ? AND state <> 'released' AND (up_bps <> ? \
                 OR down_bps <> ? OR shape_down <> ? OR priority <> ? OR ttl_s <> ?) \
                 ORDER BY id LIMIT ?"
            ),
            vec![
                plan.into(),
                after.into(),
                service.upstream_bps.into(),
                service.downstream_bps.into(),
                i64::from(service.shape_downstream).into(),
                i64::from(service.priority).into(),
                i64::from(service.time_to_live_s).into(),
                limit.into(),
            ],
        )
        .await?
        .iter()
        .map(read)
        .collect()
    }
}
