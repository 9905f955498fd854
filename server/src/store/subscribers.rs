//! Subscribers. Numbers come in and go out as index and sealed bytes only.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{Page, Result, Store, StoreError, Tx, to_i64, to_u64};

pub struct NewSubscriber {
    pub id: Uuid,
    /// Index and sealed form.
    pub phone: Option<(Vec<u8>, Vec<u8>)>,
    pub id_card: Option<(Vec<u8>, Vec<u8>)>,
    pub secret_hash: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct SubscriberRow {
    pub id: Uuid,
    pub generation: u64,
    pub phone_sealed: Option<Vec<u8>>,
    pub id_card_sealed: Option<Vec<u8>>,
    pub sessions: u64,
    /// None: the default plan.
    pub plan: Option<String>,
    pub created_ms: i64,
}

macro_rules! select_subscribers {
    ($rest:literal) => {
        concat!(
            "SELECT id, generation, phone_sealed, id_card_sealed, created_ms, plan, \
             (SELECT COUNT(*) FROM sessions WHERE subscriber = subscribers.id \
              AND state <> 'released') AS sessions FROM subscribers ",
            $rest
        )
    };
}

fn read(row: &SqliteRow) -> Result<SubscriberRow> {
    let id: String = row.try_get("id")?;
    Ok(SubscriberRow {
        id: id.parse().map_err(|_| StoreError::Unreadable {
            table: "subscribers",
            id,
            column: "id",
        })?,
        generation: to_u64(row.try_get("generation")?),
        phone_sealed: row.try_get("phone_sealed")?,
        id_card_sealed: row.try_get("id_card_sealed")?,
        sessions: to_u64(row.try_get("sessions")?),
        plan: row.try_get("plan")?,
        created_ms: row.try_get("created_ms")?,
    })
}

impl Store {
    /// The stored hash of a subscriber's secret.
    pub async fn secret_hash(&self, id: Uuid) -> Result<Option<Vec<u8>>> {
        let row = sqlx::query("SELECT secret_hash FROM subscribers WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.map(|row| row.try_get("secret_hash")).transpose()?)
    }

    pub async fn subscriber(&self, id: Uuid) -> Result<Option<SubscriberRow>> {
        sqlx::query(select_subscribers!("WHERE id = ?"))
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }

    pub async fn subscribers(&self, after: &str, limit: u32) -> Result<Page<SubscriberRow>> {
        let rows = sqlx::query(select_subscribers!("WHERE id > ? ORDER BY id LIMIT ?"))
            .bind(after)
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(read)
            .collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(rows, limit))
    }
}

impl Tx {
    /// `false` if one of the numbers is registered already.
    pub async fn insert_subscriber(&mut self, new: &NewSubscriber, at_ms: i64) -> Result<bool> {
        let inserted = sqlx::query(
            "INSERT INTO subscribers (id, generation, phone_index, phone_sealed, id_card_index, \
             id_card_sealed, secret_hash, created_ms) VALUES (?, 0, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT DO NOTHING",
        )
        .bind(new.id.to_string())
        .bind(new.phone.as_ref().map(|phone| phone.0.as_slice()))
        .bind(new.phone.as_ref().map(|phone| phone.1.as_slice()))
        .bind(new.id_card.as_ref().map(|card| card.0.as_slice()))
        .bind(new.id_card.as_ref().map(|card| card.1.as_slice()))
        .bind(&new.secret_hash)
        .bind(at_ms)
        .execute(&mut *self.inner)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// `false` if there is no such subscriber.
    pub async fn set_secret_hash(&mut self, id: Uuid, hash: &[u8]) -> Result<bool> {
        let changed = sqlx::query("UPDATE subscribers SET secret_hash = ? WHERE id = ?")
            .bind(hash)
            .bind(id.to_string())
            .execute(&mut *self.inner)
            .await?;
        Ok(changed.rows_affected() == 1)
    }

    /// `false` if there is no such subscriber. None: the default plan.
    pub async fn set_plan(&mut self, id: Uuid, plan: Option<&str>) -> Result<bool> {
        let changed = sqlx::query("UPDATE subscribers SET plan = ? WHERE id = ?")
            .bind(plan)
            .bind(id.to_string())
            .execute(&mut *self.inner)
            .await?;
        Ok(changed.rows_affected() == 1)
    }

    /// The plan that a subscriber was put on; none: the default plan.
    pub async fn plan(&mut self, id: Uuid) -> Result<Option<String>> {
        let row = sqlx::query("SELECT plan FROM subscribers WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&mut *self.inner)
            .await?;
        match row {
            Some(row) => Ok(row.try_get("plan")?),
            None => Ok(None),
        }
    }

    /// Every plan that a subscriber or an open session is on.
    pub async fn plans_in_use(&mut self) -> Result<Vec<String>> {
        sqlx::query(
            "SELECT plan FROM subscribers WHERE plan IS NOT NULL UNION \
             SELECT plan FROM sessions WHERE plan IS NOT NULL AND state <> 'released' ORDER BY plan",
        )
        .fetch_all(&mut *self.inner)
        .await?
        .iter()
        .map(|row| Ok(row.try_get("plan")?))
        .collect()
    }

    /// Takes `count` fresh generations and returns the newest.
    pub async fn take_generations(&mut self, subscriber: Uuid, count: u64) -> Result<u64> {
        let row = sqlx::query(
            "UPDATE subscribers SET generation = generation + ? WHERE id = ? RETURNING generation",
        )
        .bind(to_i64(count))
        .bind(subscriber.to_string())
        .fetch_one(&mut *self.inner)
        .await?;
        Ok(to_u64(row.try_get("generation")?))
    }
}
