//! PostgreSQL: a pool of connections, one statement for all rows.

mod atomic;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{Arguments as _, AssertSqlSafe, Column as _, Executor as _, PgConnection, PgPool};
use sqlx::{Row as _, TypeInfo as _, ValueRef as _};

use super::{GIVEN, Row, Statement, Takes, Value};
use crate::store::{Result, StoreError};

const CONNECTIONS: u32 = 12;
const STATEMENTS: usize = 200;

#[derive(Clone)]
pub(in crate::store) struct Postgres {
    pool: PgPool,
}

impl Postgres {
    pub async fn open(url: &str) -> sqlx::Result<Postgres> {
        // A server that sleeps in the middle of a transaction must not keep its locks.
        let options = url
            .parse::<PgConnectOptions>()?
            .application_name("doorstep-server")
            .statement_cache_capacity(STATEMENTS)
            .options([
                ("idle_in_transaction_session_timeout", "5s"),
                ("lock_timeout", "5s"),
                // The few statements there are find rows by their keys, however many are given and
                // however much has changed since tables were last analysed: no plan is better, and
                // to make one anew costs more than to run it.
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("jit", "off"),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .min_connections(1)
            .acquire_timeout(Duration::from_secs(10))
            // A connection that has died is noticed by its next statement.
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Ok(Postgres { pool })
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub async fn read(&self, statements: &[Statement]) -> Result<Vec<Vec<Row>>> {
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        run(&mut connection, statements).await
    }

    pub async fn write(&self, statements: &[Statement]) -> Result<Vec<Vec<Row>>> {
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let returned = run(&mut transaction, statements).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(returned)
    }

    /// The same for statements that write different rows and whose answers nobody needs.
    pub async fn commit(&self, statements: &[Statement]) -> Result<()> {
        let (text, arguments) =
            atomic::statement(statements).map_err(|error| failed(sqlx::Error::Encode(error)))?;
        let query = sqlx::query_with(AssertSqlSafe(text), arguments);
        let done = self.pool.execute(query).await;
        done.map(drop).map_err(|error| match &error {
            sqlx::Error::Database(database)
                if database.code().as_deref() == Some(atomic::NOT_ALL) =>
            {
                StoreError::Conflict
            }
            _ => failed(error),
        })
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

pub(in crate::store) fn failed(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(database) = &error {
        // Serialization failure, deadlock, lock timeout: another one was faster.
        let code = database.code().unwrap_or_default();
        if database.is_unique_violation() || matches!(&*code, "40001" | "40P01" | "55P03") {
            return StoreError::Conflict;
        }
    }
    match error {
        sqlx::Error::PoolTimedOut => StoreError::Busy,
        sqlx::Error::PoolClosed => StoreError::Closed,
        other => StoreError::Failed(other.to_string()),
    }
}

async fn run(connection: &mut PgConnection, statements: &[Statement]) -> Result<Vec<Vec<Row>>> {
    let mut all = Vec::with_capacity(statements.len());
    for statement in statements {
        let rows = run_one(connection, statement).await?;
        statement.check(rows.len())?;
        all.push(rows);
    }
    Ok(all)
}

async fn run_one(connection: &mut PgConnection, statement: &Statement) -> Result<Vec<Row>> {
    let Some(first) = statement.rows.first() else {
        return Ok(Vec::new());
    };
    let text = text(statement, first, 1);
    let mut values = PgArguments::default();
    arguments(&mut values, statement, first).map_err(|error| failed(sqlx::Error::Encode(error)))?;
    let query = sqlx::query_with(AssertSqlSafe(text), values);
    let rows = connection.fetch_all(query).await.map_err(failed)?;
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let columns: Arc<[String]> = first
        .columns()
        .iter()
        .map(|c| c.name().to_owned())
        .collect();
    rows.iter()
        .map(|row| {
            Ok(Row {
                columns: Arc::clone(&columns),
                values: (0..columns.len())
                    .map(|index| value(row, index))
                    .collect::<sqlx::Result<_>>()
                    .map_err(failed)?,
            })
        })
        .collect()
}

/// For rows like this one, however many there are; its values begin with this number.
fn text(statement: &Statement, row: &[Value], from: usize) -> String {
    let (before, after) = (statement.before, statement.after);
    if statement.takes == Takes::Marks {
        let mut sql = String::with_capacity(before.len() + 16);
        let mut number = from;
        for character in before.chars() {
            if character == '?' {
                let _ = write!(sql, "${number}");
                number += 1;
            } else {
                sql.push(character);
            }
        }
        return sql;
    }
    let arrays: Vec<_> = row
        .iter()
        .zip(from..)
        .map(|(value, number)| {
            let kind = match value {
                Value::Int(_) => "BIGINT",
                Value::Text(_) => "TEXT",
                Value::Bytes(_) => "BYTEA",
            };
            format!("${number}::{kind}[]")
        })
        .collect();
    let arrays = arrays.join(", ");
    match statement.takes {
        Takes::Match if row.len() == 1 => format!("{before} = ANY({arrays}) {after}"),
        Takes::Match => format!("{before} IN (SELECT * FROM unnest({arrays})) {after}"),
        Takes::Join => {
            let given = GIVEN[..row.len()].join(", ");
            format!("{before} unnest({arrays}) AS given ({given}) {after}")
        }
        _ => format!("{before} SELECT * FROM unnest({arrays}) {after}"),
    }
}

fn arguments(
    arguments: &mut PgArguments,
    statement: &Statement,
    first: &[Value],
) -> std::result::Result<(), sqlx::error::BoxDynError> {
    if statement.takes == Takes::Marks {
        for value in first {
            match value {
                Value::Int(value) => arguments.add(*value)?,
                Value::Text(value) => arguments.add(value.as_deref())?,
                Value::Bytes(value) => arguments.add(value.as_deref())?,
            }
        }
        return Ok(());
    }
    for (column, kind) in first.iter().enumerate() {
        let values = statement.rows.iter().map(|row| &row[column]);
        match kind {
            Value::Int(_) => {
                let all: Vec<Option<i64>> = values
                    .map(|value| match value {
                        Value::Int(value) => *value,
                        _ => None,
                    })
                    .collect();
                arguments.add(all)?;
            }
            Value::Text(_) => {
                let all: Vec<Option<&str>> = values
                    .map(|value| match value {
                        Value::Text(value) => value.as_deref(),
                        _ => None,
                    })
                    .collect();
                arguments.add(all)?;
            }
            Value::Bytes(_) => {
                let all: Vec<Option<&[u8]>> = values
                    .map(|value| match value {
                        Value::Bytes(value) => value.as_deref(),
                        _ => None,
                    })
                    .collect();
                arguments.add(all)?;
            }
        }
    }
    Ok(())
}

fn value(row: &PgRow, index: usize) -> sqlx::Result<Value> {
    let raw = row.try_get_raw(index)?;
    let kind = raw.type_info();
    Ok(match kind.name() {
        "INT8" => Value::Int(row.try_get(index)?),
        "INT4" => Value::Int(row.try_get::<Option<i32>, _>(index)?.map(i64::from)),
        "TEXT" => Value::Text(row.try_get(index)?),
        _ => Value::Bytes(row.try_get(index)?),
    })
}
