//! Lists in pages, each behind the last key of the one before: no page costs more than another, and
//! rows that come or go meanwhile neither repeat nor hide others.
//!
//! States and times are in no index, so that a transition leaves the indices alone. Rows are filtered by them
//! while the list is gone through, and a page ends after so many rows whether or not it is full.

use doorstep_location::LocationPrefix;
use uuid::Uuid;

use super::sessions::{read, select_sessions};
use super::sql::{Row, Value};
use super::subscribers::select_subscribers;
use super::{Result, SessionRow, Store, SubscriberRow};
use crate::session::State;

/// Rows that are looked at for one page. The texts below name it, all but one: PostgreSQL then knows how few
/// rows it is asked for.
#[cfg(test)]
pub(super) const LOOKED_AT: usize = 5000;

/// Behind which row a list goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Of a list in the order of locations; otherwise empty.
    pub location: String,
    pub id: Uuid,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Where the next one begins; none: this was the last. A page may have few rows, or none, and
    /// still not be the last.
    pub next: Option<Key>,
}

/// Which sessions a list has.
#[derive(Clone, Debug)]
pub struct Sessions {
    pub location: Option<LocationPrefix>,
    /// In the order of locations, whichever these are.
    pub by_location: bool,
    pub gateway: Option<String>,
    pub subscriber: Option<Uuid>,
    pub states: Vec<State>,
    /// That are in their states since then or later, in Unix milliseconds.
    pub since_ms: i64,
}

impl Default for Sessions {
    /// All.
    fn default() -> Self {
        Sessions {
            location: None,
            by_location: false,
            gateway: None,
            subscriber: None,
            states: State::ALL.to_vec(),
            since_ms: i64::MIN,
        }
    }
}

/// How a list is gone through.
struct Walk {
    rows: &'static str,
    /// The key of the row that ends the page at the latest.
    end: &'static str,
    by_location: bool,
    /// Before the keys, in both texts.
    which: Vec<Value>,
    /// Behind them, in that of the rows.
    besides: Vec<Value>,
    /// All keys are less.
    until: Key,
}

macro_rules! filtered {
    ($which:literal, $order:literal) => {
        select_sessions!(
            $which,
            " AND state IN (?, ?, ?, ?, ?, ?, ?) AND since_ms >= ? ORDER BY ",
            $order,
            " LIMIT ?"
        )
    };
}

const ALL: [&str; 2] = [
    filtered!("WHERE id > ? AND id <= ?", "id"),
    "SELECT id FROM sessions WHERE id > ? ORDER BY id LIMIT 1 OFFSET 4999",
];
const AT_GATEWAY: [&str; 2] = [
    filtered!("WHERE gateway = ? AND id > ? AND id <= ?", "id"),
    "SELECT id FROM sessions WHERE gateway = ? AND id > ? ORDER BY id LIMIT 1 OFFSET 4999",
];
const IN_LOCATION: [&str; 2] = [
    filtered!(
        "WHERE (location, id) > (?, ?) AND (location, id) <= (?, ?) \
         AND gateway = COALESCE(?, gateway)",
        "location, id"
    ),
    "SELECT location, id FROM sessions WHERE (location, id) > (?, ?) \
     ORDER BY location, id LIMIT 1 OFFSET 4999",
];
const SUBSCRIBERS: [&str; 2] = [
    select_subscribers!("WHERE id > ? AND id <= ? AND created_ms >= ? ORDER BY id LIMIT ?"),
    "SELECT id FROM subscribers WHERE id > ? ORDER BY id LIMIT 1 OFFSET 4999",
];

#[cfg(test)]
pub(super) const TEXTS: [[&str; 2]; 4] = [ALL, AT_GATEWAY, IN_LOCATION, SUBSCRIBERS];

impl Key {
    fn of(row: &SessionRow, by_location: bool) -> Key {
        let location = by_location.then(|| row.session.connection.location.to_string());
        Key {
            location: location.unwrap_or_default(),
            id: row.session.id,
        }
    }

    fn values(&self, by_location: bool) -> Vec<Value> {
        let location = by_location.then(|| self.location.as_str().into());
        location.into_iter().chain([self.id.into()]).collect()
    }

    fn read(row: &Row, by_location: bool) -> Result<Key> {
        let row = &mut row.read();
        let location = by_location.then(|| row.text()).transpose()?;
        Ok(Key {
            location: location.unwrap_or_default(),
            id: row.id()?,
        })
    }
}

impl<T> Page<T> {
    /// Of `limit + 1` rows asked for, the last only tells that there are more. Where there are not,
    /// the list goes on where the page was ended.
    fn cut(mut rows: Vec<T>, limit: u32, key: impl Fn(&T) -> Key, end: Option<Key>) -> Self {
        let limit = limit as usize;
        let mut next = end;
        if rows.len() > limit {
            rows.truncate(limit);
            next = rows.last().map(key);
        }
        Page { rows, next }
    }
}

impl Sessions {
    fn takes(&self, row: &SessionRow) -> bool {
        let (session, connection) = (&row.session, &row.session.connection);
        let location = self.location.as_ref();
        location.is_none_or(|prefix| prefix.contains(&connection.location))
            && (self.gateway.as_ref()).is_none_or(|gateway| connection.gateway == *gateway)
            && self.states.contains(&session.state)
            && row.since_ms >= self.since_ms
    }

    /// The first key is one that is less than all of the list's.
    fn walk(&self) -> (Walk, Key) {
        let everyone = Key {
            location: String::new(),
            id: Uuid::max(),
        };
        let gateway = self.gateway.as_deref();
        // All locations begin with digits.
        let everywhere = || (String::new(), "~".to_owned());
        let range = self.location.as_ref().map(LocationPrefix::text_range);
        if let Some((from, until)) = range.or_else(|| self.by_location.then(everywhere)) {
            let key = |location| Key {
                location,
                id: Uuid::nil(),
            };
            let walk = Walk {
                rows: IN_LOCATION[0],
                end: IN_LOCATION[1],
                by_location: true,
                which: Vec::new(),
                besides: vec![gateway.into()],
                until: key(until),
            };
            return (walk, key(from));
        }
        let [rows, end] = gateway.map_or(ALL, |_| AT_GATEWAY);
        let walk = Walk {
            rows,
            end,
            by_location: false,
            which: gateway.into_iter().map(Value::from).collect(),
            besides: Vec::new(),
            until: everyone,
        };
        (walk, Key::default())
    }

    /// As the marks of all texts have them.
    fn states(&self) -> impl Iterator<Item = Value> {
        // A state that is named twice is one of them once.
        let last = self.states.last().copied();
        let states = self.states.iter().copied().chain(last.into_iter().cycle());
        let names = states.take(State::ALL.len()).map(State::name);
        names.map(Value::from)
    }
}

impl Store {
    /// Up to `limit` sessions behind a key, or from the first one on; in the order of locations where
    /// these are asked for and not only one subscriber's sessions, otherwise of ids.
    pub async fn sessions(
        &self,
        which: &Sessions,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Page<SessionRow>> {
        if which.states.is_empty() {
            return Ok(Page::cut(
                Vec::new(),
                limit,
                |row| Key::of(row, false),
                None,
            ));
        }
        if let Some(subscriber) = which.subscriber {
            return self.sessions_of(subscriber, which, after, limit).await;
        }
        let (walk, first) = which.walk();
        let by_location = walk.by_location;
        let after = after.unwrap_or(&first).values(by_location);
        let from = [walk.which, after].concat();
        let end = self.select(walk.end, from.clone()).await?;
        let end = end.first().map(|row| Key::read(row, by_location));
        // One of the other locations behind these is no end.
        let end = end
            .transpose()?
            .filter(|end| (&end.location, end.id) < (&walk.until.location, walk.until.id));
        let to = end.as_ref().unwrap_or(&walk.until).values(by_location);
        let mut values = [from, to, walk.besides].concat();
        values.extend(which.states());
        values.extend([which.since_ms.into(), (i64::from(limit) + 1).into()]);
        let rows = self.select(walk.rows, values).await?;
        let rows = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(rows, limit, |row| Key::of(row, by_location), end))
    }

    /// They are few, released ones too.
    async fn sessions_of(
        &self,
        subscriber: Uuid,
        which: &Sessions,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Page<SessionRow>> {
        let mut rows = self.all_sessions_of(subscriber).await?;
        let after = after.map_or(Uuid::nil(), |key| key.id);
        rows.retain(|row| row.session.id > after && which.takes(row));
        rows.sort_by_key(|row| row.session.id);
        Ok(Page::cut(rows, limit, |row| Key::of(row, false), None))
    }

    /// Up to `limit` subscribers behind a key that were registered then or later, in the order of ids.
    pub async fn subscribers(
        &self,
        since_ms: i64,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Page<SubscriberRow>> {
        let after = after.map_or(Uuid::nil(), |key| key.id);
        let [rows, end] = SUBSCRIBERS;
        let end = self.select(end, vec![after.into()]).await?;
        let end = end.first().map(|row| Key::read(row, false)).transpose()?;
        let to = end.as_ref().map_or(Uuid::max(), |end| end.id);
        let values = vec![
            after.into(),
            to.into(),
            since_ms.into(),
            (i64::from(limit) + 1).into(),
        ];
        let rows = self.select(rows, values).await?;
        let rows = self.counted(&rows).await?;
        let key = |row: &SubscriberRow| Key {
            location: String::new(),
            id: row.subscriber.id,
        };
        Ok(Page::cut(rows, limit, key, end))
    }
}
