//! Subscribers. Numbers come in and go out as index and sealed bytes only.

use std::collections::HashMap;

use uuid::Uuid;

use super::sql::{Row, Value};
use super::{Result, Store};

#[derive(Clone)]
pub struct NewSubscriber {
    pub id: Uuid,
    /// Index and sealed form.
    pub phone: Option<(Vec<u8>, Vec<u8>)>,
    pub id_card: Option<(Vec<u8>, Vec<u8>)>,
    /// The indexes of both numbers, under every identity key there is. Whoever has one of them
    /// already has the number.
    pub claims: Vec<Vec<u8>>,
    pub secret_hash: Vec<u8>,
}

/// A subscriber's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    pub id: Uuid,
    /// Of the row as it was loaded; 0: it is not there yet.
    pub version: i64,
    pub generation: u64,
    pub phone_index: Option<Vec<u8>>,
    pub phone_sealed: Option<Vec<u8>>,
    pub id_card_index: Option<Vec<u8>>,
    pub id_card_sealed: Option<Vec<u8>>,
    pub secret_hash: Vec<u8>,
    /// None: the default plan.
    pub plan: Option<String>,
    pub created_ms: i64,
    /// Phones that signed in until then must do so again.
    pub phones_ms: i64,
}

/// A subscriber as people look at it.
#[derive(Clone, Debug)]
pub struct SubscriberRow {
    pub subscriber: Subscriber,
    /// Not released.
    pub sessions: u64,
}

macro_rules! select_subscribers {
    ($rest:literal) => {
        concat!(
            "SELECT id, version, generation, phone_index, phone_sealed, id_card_index, \
             id_card_sealed, secret_hash, plan, created_ms, phones_ms FROM subscribers ",
            $rest
        )
    };
}
pub(super) use select_subscribers;

const INSERT: &str = "INSERT INTO subscribers (id, version, generation, phone_index, phone_sealed, \
     id_card_index, id_card_sealed, secret_hash, plan, created_ms, phones_ms)";

macro_rules! update_subscribers {
    ($indexed:literal) => {
        concat!(
            "ON CONFLICT (id) DO UPDATE SET version = excluded.version, ",
            $indexed,
            "generation = excluded.generation, phone_sealed = excluded.phone_sealed, \
             id_card_sealed = excluded.id_card_sealed, secret_hash = excluded.secret_hash, \
             phones_ms = excluded.phones_ms \
             WHERE subscribers.version = excluded.version - 1 RETURNING id"
        )
    };
}

/// Like those of `sessions`.
pub(super) const WRITE: (&str, &str) = (
    INSERT,
    update_subscribers!(
        "phone_index = excluded.phone_index, id_card_index = excluded.id_card_index, \
         plan = excluded.plan, "
    ),
);
pub(super) const WRITE_IN_PLACE: (&str, &str) = (INSERT, update_subscribers!(""));

impl Subscriber {
    pub(super) fn new(new: &NewSubscriber, at_ms: i64) -> Self {
        let (phone_index, phone_sealed) = new.phone.clone().unzip();
        let (id_card_index, id_card_sealed) = new.id_card.clone().unzip();
        Subscriber {
            id: new.id,
            version: 0,
            generation: 0,
            phone_index,
            phone_sealed,
            id_card_index,
            id_card_sealed,
            secret_hash: new.secret_hash.clone(),
            plan: None,
            created_ms: at_ms,
            phones_ms: 0,
        }
    }

    /// What of it the table's indices have.
    pub(super) fn indexed(&self) -> impl PartialEq {
        (&self.phone_index, &self.id_card_index, &self.plan)
    }

    pub(super) fn values(&self) -> Vec<Value> {
        vec![
            self.id.into(),
            (self.version + 1).into(),
            self.generation.into(),
            self.phone_index.as_deref().into(),
            self.phone_sealed.as_deref().into(),
            self.id_card_index.as_deref().into(),
            self.id_card_sealed.as_deref().into(),
            self.secret_hash.as_slice().into(),
            self.plan.as_deref().into(),
            self.created_ms.into(),
            self.phones_ms.into(),
        ]
    }
}

/// In the order of `select_subscribers`.
pub(super) fn read(row: &Row) -> Result<Subscriber> {
    let row = &mut row.read();
    Ok(Subscriber {
        id: row.id()?,
        version: row.int()?,
        generation: row.number()?,
        phone_index: row.optional_bytes()?,
        phone_sealed: row.optional_bytes()?,
        id_card_index: row.optional_bytes()?,
        id_card_sealed: row.optional_bytes()?,
        secret_hash: row.bytes()?,
        plan: row.optional_text()?,
        created_ms: row.int()?,
        phones_ms: row.int()?,
    })
}

impl Store {
    /// The stored hash of a subscriber's secret.
    pub async fn subscriber_secret(&self, id: Uuid) -> Result<Option<Vec<u8>>> {
        if let Some(row) = self.newest(|kept| kept.subscriber(id)) {
            return Ok(Some(row.secret_hash.clone()));
        }
        let rows = self
            .select(
                "SELECT secret_hash FROM subscribers WHERE id = ?",
                vec![id.into()],
            )
            .await?;
        rows.first().map(|row| row.read().bytes()).transpose()
    }

    pub async fn subscriber(&self, id: Uuid) -> Result<Option<SubscriberRow>> {
        let rows = self
            .select(select_subscribers!("WHERE id = ?"), vec![id.into()])
            .await?;
        let mut counted = self.counted(&rows).await?;
        Ok(counted.pop())
    }

    /// Subscribers with how many sessions each has.
    pub(super) async fn counted(&self, rows: &[Row]) -> Result<Vec<SubscriberRow>> {
        let subscribers = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        let ids: Vec<Uuid> = subscribers.iter().map(|row| row.id).collect();
        let counts: HashMap<Uuid, u64> = self
            .select_of(
                "SELECT subscriber, COUNT(*) FROM sessions \
                 WHERE state <> 'released' AND subscriber",
                "GROUP BY subscriber",
                &ids,
            )
            .await?
            .iter()
            .map(|row| {
                let row = &mut row.read();
                Ok((row.id()?, row.number()?))
            })
            .collect::<Result<_>>()?;
        Ok(subscribers
            .into_iter()
            .map(|subscriber| SubscriberRow {
                sessions: counts.get(&subscriber.id).copied().unwrap_or(0),
                subscriber,
            })
            .collect())
    }

    /// Every plan that a subscriber or an open session is on.
    pub async fn plans_in_use(&self) -> Result<Vec<String>> {
        // From one name to the next in the indices: a million rows may have the same one.
        self.select(
            "WITH RECURSIVE subscribed (plan) AS (\
             SELECT MIN(plan) FROM subscribers WHERE plan IS NOT NULL UNION ALL \
             SELECT (SELECT MIN(plan) FROM subscribers \
             WHERE plan IS NOT NULL AND plan > subscribed.plan) \
             FROM subscribed WHERE subscribed.plan IS NOT NULL), \
             served (plan) AS (\
             SELECT MIN(plan) FROM sessions WHERE plan IS NOT NULL UNION ALL \
             SELECT (SELECT MIN(plan) FROM sessions \
             WHERE plan IS NOT NULL AND plan > served.plan) \
             FROM served WHERE served.plan IS NOT NULL) \
             SELECT plan FROM subscribed WHERE plan IS NOT NULL UNION \
             SELECT plan FROM served WHERE EXISTS (SELECT 1 FROM sessions \
             WHERE sessions.plan = served.plan AND state <> 'released') ORDER BY plan",
            vec![],
        )
        .await?
        .iter()
        .map(|row| row.read().text())
        .collect()
    }
}
