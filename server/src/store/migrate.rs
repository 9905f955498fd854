//! The schema, and how a database of an earlier version gets it.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::sql::{postgres, sqlite};
use super::{Result, StoreError};

/// In their order; none is ever changed once it is released.
const MIGRATIONS: [&str; 14] = [
    include_str!("migrations/0001_init.sql"),
    include_str!("migrations/0002_enrollments.sql"),
    include_str!("migrations/0003_claims.sql"),
    include_str!("migrations/0004_time_to_live.sql"),
    include_str!("migrations/0005_establishment.sql"),
    include_str!("migrations/0006_plan_order.sql"),
    include_str!("migrations/0007_plans_in_use.sql"),
    include_str!("migrations/0008_why.sql"),
    include_str!("migrations/0009_room.sql"),
    include_str!("migrations/0010_pages.sql"),
    include_str!("migrations/0011_tallies.sql"),
    include_str!("migrations/0012_accounts.sql"),
    include_str!("migrations/0013_phones.sql"),
    include_str!("migrations/0014_unanswered.sql"),
];

const VERSION_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)";
pub(super) const VERSION: &str = "SELECT COALESCE(MAX(version), 0) FROM schema_version";

/// The migrations that a database of this version lacks, with their numbers.
fn missing(version: i64) -> Result<impl Iterator<Item = (i64, &'static str)>> {
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if version > newest {
        return Err(StoreError::Newer { version, newest });
    }
    Ok((1..)
        .zip(MIGRATIONS)
        .filter(move |(number, _)| *number > version))
}

pub(super) fn sqlite(connection: &mut rusqlite::Connection) -> Result<()> {
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(sqlite::failed)?;
    sqlite_within(&transaction)?;
    transaction.commit().map_err(sqlite::failed)
}

/// In the transaction that is open.
pub(super) fn sqlite_within(connection: &rusqlite::Connection) -> Result<()> {
    let run = |sql: &str| connection.execute_batch(sql).map_err(sqlite::failed);
    let old = connection
        .table_exists(None, "_sqlx_migrations")
        .map_err(sqlite::failed)?;
    if old {
        return Err(StoreError::Unreleased);
    }
    run(VERSION_TABLE)?;
    let version = connection
        .query_row(VERSION, [], |row| row.get(0))
        .map_err(sqlite::failed)?;
    for (number, text) in missing(version)? {
        run(&for_sqlite(text))?;
        run(&format!("INSERT INTO schema_version VALUES ({number})"))?;
    }
    Ok(())
}

/// To SQLite the line is a comment.
fn for_postgres(text: &str) -> String {
    text.replace("--postgres: ", "")
}

fn for_sqlite(text: &str) -> String {
    text.replace("/*sqlite:", "")
        .replace("*/", "")
        .replace("BYTEA", "BLOB")
}

/// Several servers may begin at the same time: all but one wait for the first one's row, find it
/// there, and look again.
pub(super) async fn postgres(pool: &PgPool) -> Result<()> {
    for _ in 0..10 {
        match postgres_once(pool).await {
            Err(StoreError::Conflict) => {}
            other => return other,
        }
    }
    Err(StoreError::Conflict)
}

async fn postgres_once(pool: &PgPool) -> Result<()> {
    // Two at a time may both find it missing; the slower one is told, and it is there.
    sqlx::raw_sql(VERSION_TABLE)
        .execute(pool)
        .await
        .map_err(postgres::failed)?;
    let mut transaction = pool.begin().await.map_err(postgres::failed)?;
    postgres_within(&mut transaction).await?;
    transaction.commit().await.map_err(postgres::failed)
}

/// In the transaction that is open.
pub(super) async fn postgres_within(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(VERSION_TABLE)
        .execute(&mut *connection)
        .await
        .map_err(postgres::failed)?;
    let version: i64 = sqlx::query_scalar(VERSION)
        .fetch_one(&mut *connection)
        .await
        .map_err(postgres::failed)?;
    for (number, text) in missing(version)? {
        sqlx::query("INSERT INTO schema_version VALUES ($1)")
            .bind(number)
            .execute(&mut *connection)
            .await
            .map_err(postgres::failed)?;
        sqlx::raw_sql(AssertSqlSafe(for_postgres(text)))
            .execute(&mut *connection)
            .await
            .map_err(postgres::failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_an_earlier_version_are_claimed() {
        let mut database = rusqlite::Connection::open_in_memory().unwrap();
        database.execute_batch(VERSION_TABLE).unwrap();
        for (number, text) in (1..).zip(&MIGRATIONS[..2]) {
            database.execute_batch(&for_sqlite(text)).unwrap();
            let version = format!("INSERT INTO schema_version VALUES ({number})");
            database.execute_batch(&version).unwrap();
        }
        database
            .execute_batch(
                "INSERT INTO subscribers (id, version, generation, phone_index, id_card_index, \
                 secret_hash, created_ms) VALUES (x'01', 1, 0, x'aa', x'bb', x'00', 0), \
                 (x'02', 1, 0, NULL, x'cc', x'00', 0)",
            )
            .unwrap();
        sqlite(&mut database).unwrap();
        let claims: String = database
            .query_row(
                "SELECT group_concat(hex(claim) || hex(subscriber)) FROM \
                 (SELECT * FROM claims ORDER BY claim)",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(claims, "AA01,BB01,CC02");
    }
}
