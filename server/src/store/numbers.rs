//! What lies sealed in rows: whose it is, which identity key it needs, and how it is renewed.
//!
//! Three kinds of rows have sealed values: a subscriber's numbers, the keys of a session's
//! connections, and the key of an answer that was given. Each value begins with the number of its
//! identity key, so that those of older keys are less than the current key's bytes.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;

use super::sql::{Row, Statement, Value};
use super::work::Need;
use super::{
    Answer, Database, Result, SessionRow, Store, StoreError, Subscriber, Work, database, requests,
    sessions, subscribers,
};
use crate::session::SealedSecret;
use crate::vault::{KeyId, Renewed};

pub(super) const SELECT_CLAIMS: &str = "SELECT claim, subscriber FROM claims WHERE claim";
pub(super) const SELECT_WALKS: &str = "SELECT key_id, finished_ms FROM identity_walks WHERE key_id";

/// One that another server has made meanwhile is not returned: the work is done again.
pub(super) const WRITE_CLAIMS: (&str, &str) = (
    "INSERT INTO claims (claim, subscriber)",
    "ON CONFLICT DO NOTHING RETURNING claim",
);
pub(super) const WRITE_WALKS: (&str, &str) = (
    "INSERT INTO identity_walks (key_id, finished_ms)",
    "ON CONFLICT DO NOTHING RETURNING key_id",
);

/// Each with the bounds of the current key, so many times.
const NEEDED: [(Kind, usize, &str); 3] = [
    (
        Kind::Subscriber,
        2,
        "SELECT key_id, COUNT(*) FROM (\
         SELECT id, substr(phone_sealed, 1, 4) AS key_id FROM subscribers \
         WHERE phone_sealed < ? OR phone_sealed >= ? \
         UNION SELECT id, substr(id_card_sealed, 1, 4) FROM subscribers \
         WHERE id_card_sealed < ? OR id_card_sealed >= ?) AS needed GROUP BY key_id",
    ),
    (
        Kind::Session,
        2,
        "SELECT key_id, COUNT(*) FROM (\
         SELECT id, substr(session_key, 1, 4) AS key_id FROM sessions \
         WHERE length(session_key) > 0 AND (session_key < ? OR session_key >= ?) \
         UNION SELECT id, substr(target_session_key, 1, 4) FROM sessions \
         WHERE target_session_key < ? OR target_session_key >= ?) AS needed GROUP BY key_id",
    ),
    (
        Kind::Answer,
        1,
        "SELECT key_id, COUNT(*) FROM (\
         SELECT substr(session_key, 1, 4) AS key_id FROM requests \
         WHERE session_key < ? OR session_key >= ?) AS needed GROUP BY key_id",
    ),
];

/// Claims of keys before one, some at a time.
const DROP_CLAIMS: &str = "DELETE FROM claims WHERE claim IN (\
     SELECT claim FROM claims WHERE claim < ? ORDER BY claim LIMIT ?) RETURNING subscriber";

/// Rows with sealed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Subscriber,
    Session,
    /// To a request.
    Answer,
}

/// How many rows need an identity key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub subscribers: u64,
    pub sessions: u64,
    pub answers: u64,
}

impl Needs {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.subscribers + self.sessions + self.answers
    }

    fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Subscriber => &mut self.subscribers,
            Kind::Session => &mut self.sessions,
            Kind::Answer => &mut self.answers,
        }
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} subscribers, {} sessions, {} answered requests",
            self.subscribers, self.sessions, self.answers
        )
    }
}

/// What has become of a row that was to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    Done,
    /// It is gone, or was changed meanwhile: if it is still due, it is met again.
    Changed,
    /// One of its numbers is registered for somebody else as well, under another key: both keep it,
    /// and it is found for the other one.
    Twice,
}

/// Key and time.
pub(super) fn read_walk(row: &Row) -> Result<(KeyId, i64)> {
    let row = &mut row.read();
    Ok((key_id(row.int()?)?, row.int()?))
}

fn key_id(number: i64) -> Result<KeyId> {
    let id = u32::try_from(number).ok().and_then(KeyId::new);
    id.ok_or_else(|| StoreError::Failed(format!("{number} is not the number of an identity key")))
}

/// From a key's own values up to the next one's.
fn bounds(key: KeyId) -> [Vec<u8>; 2] {
    let above = match key.next() {
        Some(next) => next.to_bytes().to_vec(),
        None => vec![u8::MAX; KeyId::LEN + 1],
    };
    [key.to_bytes().to_vec(), above]
}

impl Store {
    /// A database as it is, without a server of our own on it: how many rows need which key but
    /// the current one.
    pub async fn look_at_needs(
        database: &Database,
        current: KeyId,
    ) -> Result<BTreeMap<KeyId, Needs>> {
        let backend = database::look(database).await?;
        let read = backend.read(needed(current)).await;
        backend.close().await;
        sum(&read?)
    }

    /// How many rows need which identity key but the current one.
    pub async fn identity_needs(&self, current: KeyId) -> Result<BTreeMap<KeyId, Needs>> {
        sum(&self.backend.read(needed(current)).await?)
    }

    /// Subscribers between two ids whose numbers are of keys before this one.
    pub async fn subscribers_before(
        &self,
        key: KeyId,
        (after, until): (Uuid, Uuid),
        limit: i64,
    ) -> Result<Vec<Subscriber>> {
        let key = key.to_bytes();
        self.select(
            subscribers::select_subscribers!(
                "WHERE id > ? AND id <= ? AND (phone_sealed < ? OR id_card_sealed < ?) \
                 ORDER BY id LIMIT ?"
            ),
            vec![
                after.into(),
                until.into(),
                key.as_slice().into(),
                key.as_slice().into(),
                limit.into(),
            ],
        )
        .await?
        .iter()
        .map(subscribers::read)
        .collect()
    }

    /// Sessions between two ids with keys that are sealed with identity keys before this one.
    pub async fn sessions_before(
        &self,
        key: KeyId,
        (after, until): (Uuid, Uuid),
        limit: i64,
    ) -> Result<Vec<SessionRow>> {
        let key = key.to_bytes();
        self.select(
            sessions::select_sessions!(
                "WHERE id > ? AND id <= ? AND ((length(session_key) > 0 AND session_key < ?) \
                 OR target_session_key < ?) ORDER BY id LIMIT ?"
            ),
            vec![
                after.into(),
                until.into(),
                key.as_slice().into(),
                key.as_slice().into(),
                limit.into(),
            ],
        )
        .await?
        .iter()
        .map(sessions::read)
        .collect()
    }

    /// The same of answers, by the ids of their requests; each with its subscriber and request.
    pub async fn answers_before(
        &self,
        key: KeyId,
        (after, until): (Uuid, Uuid),
        limit: i64,
    ) -> Result<Vec<((Uuid, Uuid), Answer)>> {
        self.select(
            requests::select_requests!(
                "WHERE request_id > ? AND request_id <= ? AND session_key < ? \
                 ORDER BY request_id LIMIT ?"
            ),
            vec![
                after.into(),
                until.into(),
                key.to_bytes().as_slice().into(),
                limit.into(),
            ],
        )
        .await?
        .iter()
        .map(requests::read)
        .collect()
    }

    /// Whether any number is claimed under a key before this one.
    pub async fn has_claims_before(&self, key: KeyId) -> Result<bool> {
        let key = key.to_bytes();
        let rows = self
            .select(
                "SELECT subscriber FROM claims WHERE claim < ? LIMIT 1",
                vec![key.as_slice().into()],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    /// Forgets numbers as keys before this one index them, up to so many; how many there were.
    ///
    /// Only when no row needs such a key: each number is then claimed under a newer one as well.
    pub async fn drop_claims_before(&self, key: KeyId, limit: i64) -> Result<usize> {
        let values = vec![key.to_bytes().as_slice().into(), limit.into()];
        let statement = Statement::marks(DROP_CLAIMS, values);
        let returned = self.backend.write(vec![statement]).await?;
        Ok(returned.first().map_or(0, Vec::len))
    }
}

fn needed(current: KeyId) -> Vec<Statement> {
    let [from, to] = bounds(current);
    let values: [Value; 2] = [from.as_slice().into(), to.as_slice().into()];
    NEEDED
        .map(|(_, times, text)| Statement::marks(text, vec![values.clone(); times].concat()))
        .to_vec()
}

fn sum(read: &[Vec<Row>]) -> Result<BTreeMap<KeyId, Needs>> {
    let mut all: BTreeMap<KeyId, Needs> = BTreeMap::new();
    for ((kind, _, _), rows) in NEEDED.iter().zip(read) {
        for row in rows {
            let row = &mut row.read();
            let (bytes, count) = (row.bytes()?, row.number()?);
            let Some((key, _)) = KeyId::split(&bytes) else {
                return Err(StoreError::Failed(
                    "a sealed value does not begin with the number of an identity key; the \
                     database was changed by something else"
                        .to_owned(),
                ));
            };
            *all.entry(key).or_default().of(*kind) += count;
        }
    }
    Ok(all)
}

impl Work<'_> {
    /// Puts renewed numbers in the place of those that a subscriber had when they were renewed.
    pub fn renew_numbers(
        &mut self,
        was: &Subscriber,
        phone: Option<&Renewed>,
        id_card: Option<&Renewed>,
    ) -> Result<Renewal> {
        let renewed = [phone, id_card].into_iter().flatten();
        let claims: Vec<&Vec<u8>> = renewed.flat_map(|number| &number.claims).collect();
        let needs = claims.iter().map(|claim| Need::Claim((*claim).clone()));
        self.expect(needs.chain([Need::Subscriber(was.id)]))?;
        let Some(mut row) = self.subscriber(was.id)? else {
            return Ok(Renewal::Changed);
        };
        if row.phone_sealed != was.phone_sealed || row.id_card_sealed != was.id_card_sealed {
            return Ok(Renewal::Changed);
        }
        let mut renewal = Renewal::Done;
        if let Some(phone) = phone {
            let own = self.claim_all(phone, row.id)?;
            row.phone_index = own.then(|| phone.number.index.clone());
            row.phone_sealed = Some(phone.number.sealed.clone());
            if !own {
                renewal = Renewal::Twice;
            }
        }
        if let Some(card) = id_card {
            let own = self.claim_all(card, row.id)?;
            row.id_card_index = own.then(|| card.number.index.clone());
            row.id_card_sealed = Some(card.number.sealed.clone());
            if !own {
                renewal = Renewal::Twice;
            }
        }
        self.write_subscriber(row);
        Ok(renewal)
    }

    /// `false`, and nothing claimed, if the number is somebody else's under one of the keys.
    fn claim_all(&mut self, number: &Renewed, subscriber: Uuid) -> Result<bool> {
        let mut missing = Vec::new();
        for claim in &number.claims {
            match self.claimed_by(claim)? {
                None => missing.push(claim.clone()),
                Some(owner) if owner == subscriber => {}
                Some(_) => return Ok(false),
            }
        }
        for claim in missing {
            self.write_claim(claim, subscriber);
        }
        Ok(true)
    }

    /// Puts renewed keys in the place of those that a session's connection and target had.
    pub fn renew_session_keys(
        &mut self,
        was: &SessionRow,
        key: &SealedSecret,
        target: Option<&SealedSecret>,
    ) -> Result<Renewal> {
        let before = &was.session;
        let Some(mut row) = self.session(before.id)? else {
            return Ok(Renewal::Changed);
        };
        let session = &mut row.session;
        let target_key =
            |target: &Option<crate::session::Target>| target.clone().map(|t| t.connection.key);
        if session.connection.key != before.connection.key
            || target_key(&session.target) != target_key(&before.target)
        {
            return Ok(Renewal::Changed);
        }
        session.connection.key = key.clone();
        if let (Some(to), Some(key)) = (&mut session.target, target) {
            to.connection.key = key.clone();
        }
        self.write_session(row);
        Ok(Renewal::Done)
    }

    /// Puts a renewed key in the place of the one that an answer had.
    pub fn renew_answer(
        &mut self,
        (subscriber, request): (Uuid, Uuid),
        was: &Answer,
        key: &SealedSecret,
    ) -> Result<Renewal> {
        let Some(mut answer) = self.answer(subscriber, request)? else {
            return Ok(Renewal::Changed);
        };
        if answer.key != was.key {
            return Ok(Renewal::Changed);
        }
        answer.key = key.clone();
        self.record_answer(subscriber, request, &answer);
        Ok(Renewal::Done)
    }

    /// Notes that no row needs an identity key any more; `false` if that was noted before.
    pub fn finish_walk(&mut self, key: KeyId, at_ms: i64) -> Result<bool> {
        if self.walk_finished(key)? {
            return Ok(false);
        }
        self.write_walk(key, at_ms);
        Ok(true)
    }
}
