//! Sessions: rows to values and back, changed by compare-and-set.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{Counters, Result, Store, StoreError, Tx, Who, to_i64, to_u64};
use crate::session::machine::Change;
use crate::session::service::{Grant, Service};
use crate::session::{Addresses, Connection, SealedSecret, Session, State, Target};

/// A session and what is known about it besides.
#[derive(Clone, Debug)]
pub struct SessionRow {
    pub session: Session,
    pub since_ms: i64,
    pub created_ms: i64,
    pub terminal_mac: String,
    pub line: String,
    pub route: String,
    /// As the gateway last reported for the present connection.
    pub counters: Option<Counters>,
}

macro_rules! select_sessions {
    ($rest:literal) => {
        concat!(
            "SELECT id, subscriber, generation, state, location, gateway, ipv4, ipv6, ipv6_line, \
             session_key, target_generation, target_location, target_gateway, target_ipv4, target_ipv6, \
             target_ipv6_line, target_session_key, detail, since_ms, created_ms, terminal_mac, line, route, \
             up_packets, up_bytes, down_packets, down_bytes, up_policed, down_policed, plan, \
             up_bps, down_bps, shape_down, priority, service_revision, service_acknowledged, \
             service_problem FROM sessions ",
            $rest
        )
    };
}
pub(super) use select_sessions;

/// Reads a text column as a type of ours.
fn parsed<T: std::str::FromStr>(row: &SqliteRow, column: &'static str) -> Result<T> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|_| unreadable(row, column))
}

fn parsed_optional<T: std::str::FromStr>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|_| unreadable(row, column)))
        .transpose()
}

fn unreadable(row: &SqliteRow, column: &'static str) -> StoreError {
    StoreError::Unreadable {
        table: "sessions",
        id: row.try_get("id").unwrap_or_default(),
        column,
    }
}

fn grant(row: &SqliteRow) -> Result<Grant> {
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

pub(super) fn read(row: &SqliteRow) -> Result<SessionRow> {
    let state: String = row.try_get("state")?;
    let target = match row.try_get::<Option<i64>, _>("target_generation")? {
        None => None,
        Some(generation) => Some(Target {
            generation: to_u64(generation),
            connection: Connection {
                location: parsed(row, "target_location")?,
                gateway: row.try_get("target_gateway")?,
                addresses: Addresses {
                    ipv4: parsed_optional(row, "target_ipv4")?,
                    ipv6: parsed_optional(row, "target_ipv6")?,
                    ipv6_line: parsed_optional(row, "target_ipv6_line")?,
                },
                key: SealedSecret(row.try_get("target_session_key")?),
            },
        }),
    };
    let counters = match row.try_get::<Option<i64>, _>("up_packets")? {
        None => None,
        Some(up_packets) => Some(Counters {
            upstream_packets: to_u64(up_packets),
            upstream_bytes: to_u64(row.try_get("up_bytes")?),
            downstream_packets: to_u64(row.try_get("down_packets")?),
            downstream_bytes: to_u64(row.try_get("down_bytes")?),
            upstream_policed: to_u64(row.try_get("up_policed")?),
            downstream_policed: to_u64(row.try_get("down_policed")?),
        }),
    };
    Ok(SessionRow {
        session: Session {
            id: parsed(row, "id")?,
            subscriber: parsed(row, "subscriber")?,
            generation: to_u64(row.try_get("generation")?),
            state: State::from_name(&state).ok_or_else(|| unreadable(row, "state"))?,
            connection: Connection {
                location: parsed(row, "location")?,
                gateway: row.try_get("gateway")?,
                addresses: Addresses {
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
        since_ms: row.try_get("since_ms")?,
        created_ms: row.try_get("created_ms")?,
        terminal_mac: row.try_get("terminal_mac")?,
        line: row.try_get("line")?,
        route: row.try_get("route")?,
        counters,
    })
}

impl Store {
    pub async fn session(&self, id: Uuid) -> Result<Option<SessionRow>> {
        sqlx::query(select_sessions!("WHERE id = ?"))
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }

    /// Every session that asks something of a gateway.
    pub async fn live_at_gateway(&self, gateway: &str) -> Result<Vec<SessionRow>> {
        sqlx::query(select_sessions!(
            "WHERE gateway = ? AND state IN ('connecting', 'establishing', 'established', \
             'disconnecting', 'disconnecting-unconfirmed')"
        ))
        .bind(gateway)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Sessions with an instruction that a gateway has not answered yet.
    pub async fn unanswered_at_gateway(&self, gateway: &str) -> Result<Vec<SessionRow>> {
        // Two searches by index: with OR, SQLite reads every session of the gateway.
        sqlx::query(concat!(
            select_sessions!(
                "WHERE gateway = ?1 AND state IN ('connecting', 'disconnecting', \
                 'disconnecting-unconfirmed')"
            ),
            " UNION ALL ",
            select_sessions!(
                "WHERE gateway = ?1 AND state IN ('establishing', 'established') \
                 AND service_acknowledged < service_revision"
            )
        ))
        .bind(gateway)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Ids and gateways of sessions that have waited for a receipt since before `before_ms`.
    pub async fn receipts_overdue(&self, before_ms: i64) -> Result<Vec<(Uuid, String)>> {
        sqlx::query(select_sessions!(
            "WHERE state = 'disconnecting' AND since_ms <= ? ORDER BY since_ms LIMIT 500"
        ))
        .bind(before_ms)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| read(row).map(|row| (row.session.id, row.session.connection.gateway)))
        .collect()
    }
}

impl Tx {
    pub async fn session(&mut self, id: Uuid) -> Result<Option<SessionRow>> {
        sqlx::query(select_sessions!("WHERE id = ?"))
            .bind(id.to_string())
            .fetch_optional(&mut *self.inner)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }

    /// A subscriber's sessions that are not released, the oldest first.
    pub async fn sessions_of(&mut self, subscriber: Uuid) -> Result<Vec<SessionRow>> {
        sqlx::query(select_sessions!(
            "WHERE subscriber = ? AND state IN ('connecting', 'establishing', 'established', \
             'disconnecting', 'disconnecting-unconfirmed', 'refused') ORDER BY created_ms, id"
        ))
        .bind(subscriber.to_string())
        .fetch_all(&mut *self.inner)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Every session that follows a plan and is not released.
    pub async fn sessions_on_plan(&mut self, plan: &str) -> Result<Vec<SessionRow>> {
        sqlx::query(select_sessions!(
            "WHERE plan = ? AND state IN ('connecting', 'establishing', 'established', \
             'disconnecting', 'disconnecting-unconfirmed', 'refused') ORDER BY id"
        ))
        .bind(plan)
        .fetch_all(&mut *self.inner)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// A new session with the first step of its history.
    pub async fn insert_session(&mut self, session: &Session, who: Who, at_ms: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO sessions (id, subscriber, generation, state, location, gateway, ipv4, \
             ipv6, ipv6_line, session_key, detail, since_ms, created_ms, plan, up_bps, down_bps, shape_down, \
             priority, service_revision) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(session.id.to_string())
        .bind(session.subscriber.to_string())
        .bind(to_i64(session.generation))
        .bind(session.state.name())
        .bind(session.connection.location.to_string())
        .bind(&session.connection.gateway)
        .bind(session.connection.addresses.ipv4.map(|a| a.to_string()))
        .bind(session.connection.addresses.ipv6.map(|a| a.to_string()))
        .bind(session.connection.addresses.ipv6_line.map(|a| a.to_string()))
        .bind(&session.connection.key.0)
        .bind(&session.detail)
        .bind(at_ms)
        .bind(at_ms)
        .bind(&session.service.plan)
        .bind(to_i64(session.service.service.upstream_bps))
        .bind(to_i64(session.service.service.downstream_bps))
        .bind(i64::from(session.service.service.shape_downstream))
        .bind(i64::from(session.service.service.priority))
        .bind(to_i64(session.service.revision))
        .execute(&mut *self.inner)
        .await?;
        self.add_step(session, who, at_ms).await
    }

    /// Makes a change that the state machine decided on: compare-and-set on the generation, state
    /// and service that it was decided from, its history, and the addresses given back.
    pub async fn apply(
        &mut self,
        before: &Session,
        change: &Change,
        who: Who,
        at_ms: i64,
    ) -> Result<()> {
        let after = &change.session;
        let target = after.target.as_ref();
        let grant = &after.service;
        let changed = sqlx::query(
            "UPDATE sessions SET generation = ?, state = ?, location = ?, gateway = ?, ipv4 = ?, \
             ipv6 = ?, ipv6_line = ?, session_key = ?, target_generation = ?, target_location = ?, \
             target_gateway = ?, target_ipv4 = ?, target_ipv6 = ?, target_ipv6_line = ?, target_session_key = ?, \
             plan = ?, up_bps = ?, down_bps = ?, shape_down = ?, priority = ?, \
             service_revision = ?, service_acknowledged = ?, service_problem = ?, \
             detail = ?, since_ms = CASE WHEN state = ? AND generation = ? THEN since_ms ELSE ? END \
             WHERE id = ? AND generation = ? AND state = ? AND service_revision = ?",
        )
        .bind(to_i64(after.generation))
        .bind(after.state.name())
        .bind(after.connection.location.to_string())
        .bind(&after.connection.gateway)
        .bind(after.connection.addresses.ipv4.map(|a| a.to_string()))
        .bind(after.connection.addresses.ipv6.map(|a| a.to_string()))
        .bind(after.connection.addresses.ipv6_line.map(|a| a.to_string()))
        .bind(&after.connection.key.0)
        .bind(target.map(|t| to_i64(t.generation)))
        .bind(target.map(|t| t.connection.location.to_string()))
        .bind(target.map(|t| t.connection.gateway.as_str()))
        .bind(target.and_then(|t| t.connection.addresses.ipv4.map(|a| a.to_string())))
        .bind(target.and_then(|t| t.connection.addresses.ipv6.map(|a| a.to_string())))
        .bind(target.and_then(|t| t.connection.addresses.ipv6_line.map(|a| a.to_string())))
        .bind(target.map(|t| t.connection.key.0.as_slice()))
        .bind(&grant.plan)
        .bind(to_i64(grant.service.upstream_bps))
        .bind(to_i64(grant.service.downstream_bps))
        .bind(i64::from(grant.service.shape_downstream))
        .bind(i64::from(grant.service.priority))
        .bind(to_i64(grant.revision))
        .bind(to_i64(grant.acknowledged))
        .bind(&grant.problem)
        .bind(&after.detail)
        .bind(after.state.name())
        .bind(to_i64(after.generation))
        .bind(at_ms)
        .bind(after.id.to_string())
        .bind(to_i64(before.generation))
        .bind(before.state.name())
        .bind(to_i64(before.service.revision))
        .execute(&mut *self.inner)
        .await?;
        if changed.rows_affected() != 1 {
            return Err(StoreError::Conflict(after.id));
        }
        // Another gateway counts from zero, and the line is another.
        if after.state == State::Connecting && before.state != State::Connecting {
            sqlx::query(
                "UPDATE sessions SET terminal_mac = '', line = '', route = '', up_packets = NULL, \
                 up_bytes = NULL, down_packets = NULL, down_bytes = NULL, up_policed = 0, \
                 down_policed = 0 WHERE id = ?",
            )
            .bind(after.id.to_string())
            .execute(&mut *self.inner)
            .await?;
        }
        for gateway in &change.free_addresses_at {
            self.free_leases(after.id, gateway).await?;
        }
        if change.step {
            self.add_step(after, who, at_ms).await?;
        }
        Ok(())
    }

    /// The addresses of a session inserted in this very transaction.
    pub async fn set_addresses(&mut self, session: Uuid, addresses: &Addresses) -> Result<()> {
        sqlx::query("UPDATE sessions SET ipv4 = ?, ipv6 = ?, ipv6_line = ? WHERE id = ?")
            .bind(addresses.ipv4.map(|a| a.to_string()))
            .bind(addresses.ipv6.map(|a| a.to_string()))
            .bind(addresses.ipv6_line.map(|a| a.to_string()))
            .bind(session.to_string())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    pub async fn set_established(
        &mut self,
        session: Uuid,
        terminal_mac: &str,
        line: &str,
        route: &str,
    ) -> Result<()> {
        sqlx::query("UPDATE sessions SET terminal_mac = ?, line = ?, route = ? WHERE id = ?")
            .bind(terminal_mac)
            .bind(line)
            .bind(route)
            .bind(session.to_string())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Counters as a gateway reports them, if the session is still that gateway's.
    pub async fn set_counters(
        &mut self,
        gateway: &str,
        session: Uuid,
        generation: u64,
        counters: &Counters,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE sessions SET up_packets = ?, up_bytes = ?, down_packets = ?, down_bytes = ?, \
             up_policed = ?, down_policed = ? \
             WHERE id = ? AND gateway = ? AND generation >= ? \
             AND state IN ('establishing', 'established', 'disconnecting', 'disconnecting-unconfirmed')",
        )
        .bind(to_i64(counters.upstream_packets))
        .bind(to_i64(counters.upstream_bytes))
        .bind(to_i64(counters.downstream_packets))
        .bind(to_i64(counters.downstream_bytes))
        .bind(to_i64(counters.upstream_policed))
        .bind(to_i64(counters.downstream_policed))
        .bind(session.to_string())
        .bind(gateway)
        .bind(to_i64(generation))
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
