//! Statements that only write as one, which is a transaction by itself: one way to the server and
//! back instead of one for each, and no lock is held while anything is on its way.

use std::fmt::Write as _;

use sqlx::postgres::PgArguments;

use super::{arguments, text};
use crate::store::sql::{Statement, Takes};

type Encoded = std::result::Result<(String, PgArguments), sqlx::error::BoxDynError>;

/// Dividing by zero: not all rows were written that must be. Nothing else here divides.
pub(super) const NOT_ALL: &str = "22012";

/// The statements must not write one row twice: which of them is run first is not said.
pub(super) fn statement(statements: &[Statement]) -> Encoded {
    let mut values = PgArguments::default();
    let mut number = 1;
    let mut parts = String::new();
    let mut all_written = "1 = 1".to_owned();
    let mut also = String::new();
    for (index, statement) in statements.iter().enumerate() {
        let Some(first) = statement.rows.first() else {
            continue;
        };
        let before = if parts.is_empty() { "WITH" } else { "," };
        let keep = match statement.takes {
            // A query that nothing refers to is not run, unless it writes.
            Takes::Join => {
                let _ = write!(also, ", (SELECT COUNT(*) FROM s{index})");
                "MATERIALIZED "
            }
            _ => "",
        };
        let text = text(statement, first, number);
        let _ = write!(parts, "{before} s{index} AS {keep}({text})");
        if statement.takes == Takes::InsertAll {
            let _ = write!(
                all_written,
                " AND (SELECT COUNT(*) FROM s{index}) = CARDINALITY(${number})"
            );
        }
        arguments(&mut values, statement, first)?;
        number += first.len();
    }
    let sql = format!("{parts} SELECT 1 / CASE WHEN {all_written} THEN 1 ELSE 0 END{also}");
    Ok((sql, values))
}
