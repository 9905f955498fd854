//! The tables as the migrations make them: read from a database in memory that they are applied to,
//! so that a new table or column is exported without another list of them.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::store::sql::sqlite::failed;
use crate::store::{Result, StoreError, migrate};

/// Not moved: which version a database has is its own affair, and which servers use it as well.
const NOT_MOVED: [&str; 2] = ["schema_version", "servers"];

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Int,
    Text,
    Bytes,
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub columns: Vec<(String, Kind)>,
    /// Columns of the primary key, in its order.
    pub key: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub version: i64,
    /// Those that are moved, by name.
    pub tables: Vec<Table>,
    /// Those that are not.
    pub others: Vec<String>,
}

impl Schema {
    /// That of this server.
    pub fn newest() -> Result<Schema> {
        let mut database = Connection::open_in_memory().map_err(failed)?;
        migrate::sqlite(&mut database)?;
        let names: Vec<String> = database
            .prepare(
                "SELECT name FROM sqlite_schema WHERE type = 'table' \
                 AND name NOT LIKE 'sqlite%' ORDER BY name",
            )
            .map_err(failed)?
            .query_map([], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(failed)?;
        let (others, moved): (Vec<_>, Vec<_>) = names
            .into_iter()
            .partition(|name| NOT_MOVED.contains(&name.as_str()));
        Ok(Schema {
            version: version(&database)?,
            tables: moved
                .into_iter()
                .map(|name| table(&database, name))
                .collect::<Result<_>>()?,
            others: others
                .into_iter()
                .filter(|name| name != "schema_version")
                .collect(),
        })
    }

    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Every table that must be empty before rows are put in.
    pub fn all_names(&self) -> impl Iterator<Item = &str> {
        let moved = self.tables.iter().map(|table| table.name.as_str());
        moved.chain(self.others.iter().map(String::as_str))
    }
}

impl Table {
    /// `a, b, c`
    pub fn column_list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    }

    /// Every row, in the order of the key. Text is ordered by its bytes, in both databases.
    pub fn select(&self, collation: &str) -> String {
        let order: Vec<_> = self
            .key
            .iter()
            .map(|index| match &self.columns[*index] {
                (name, Kind::Text) => format!("{name}{collation}"),
                (name, _) => name.clone(),
            })
            .collect();
        format!(
            "SELECT {} FROM {} ORDER BY {}",
            self.column_list(),
            self.name,
            order.join(", ")
        )
    }
}

/// The schema version of a SQLite database; 0: it has none yet.
pub fn version(database: &Connection) -> Result<i64> {
    let has_one = database
        .table_exists(None, "schema_version")
        .map_err(failed)?;
    if !has_one {
        return Ok(0);
    }
    database
        .query_row(migrate::VERSION, [], |row| row.get(0))
        .map_err(failed)
}

fn table(database: &Connection, name: String) -> Result<Table> {
    let mut statement = database
        .prepare("SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid")
        .map_err(failed)?;
    let mut rows = statement.query([&name]).map_err(failed)?;
    let mut columns = Vec::new();
    let mut key: Vec<(i64, usize)> = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let (column, kind, place): (String, String, i64) = row.try_into().map_err(failed)?;
        let kind = match kind.as_str() {
            "BIGINT" => Kind::Int,
            "TEXT" => Kind::Text,
            "BLOB" => Kind::Bytes,
            other => {
                return Err(StoreError::Failed(format!(
                    "column {name}.{column} has the type {other}, which no export knows"
                )));
            }
        };
        if place > 0 {
            key.push((place, columns.len()));
        }
        columns.push((column, kind));
    }
    key.sort_unstable();
    Ok(Table {
        name,
        columns,
        key: key.into_iter().map(|(_, index)| index).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_of_the_migrations() {
        let schema = Schema::newest().unwrap();
        assert!(schema.version >= 2);
        assert_eq!(schema.others, ["servers"]);
        let leases = schema.table("leases").unwrap();
        assert_eq!(
            leases.select(" COLLATE \"C\""),
            "SELECT gateway, place, session FROM leases ORDER BY gateway COLLATE \"C\", place"
        );
        for table in &schema.tables {
            assert!(!table.key.is_empty(), "{} has no order", table.name);
        }
        for name in ["audit", "audit_head", "sessions", "steps", "subscribers"] {
            assert!(schema.table(name).is_some(), "{name}");
        }
    }
}
