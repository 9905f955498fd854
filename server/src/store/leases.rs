//! Addresses given out. The lowest free one first, found by index; the primary key makes it
//! impossible to give one out twice.

use sqlx::Row as _;
use uuid::Uuid;

use super::{Result, StoreError, Tx};
use crate::pool::Pool;

/// What is leased, as a number in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Ipv4,
    Ipv6,
    /// A /64 of the line's own.
    Ipv6Line,
}

impl Family {
    fn number(self) -> i64 {
        match self {
            Family::Ipv4 => 4,
            Family::Ipv6 => 6,
            Family::Ipv6Line => 64,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
            Family::Ipv6Line => "IPv6 line",
        }
    }
}

impl Tx {
    /// The session's number from this pool: the one that it has there, or the lowest free one.
    pub async fn lease(
        &mut self,
        gateway: &str,
        family: Family,
        pool: &Pool,
        session: Uuid,
    ) -> Result<i64> {
        let held = sqlx::query(
            "SELECT first, last FROM leases WHERE session = ? AND gateway = ? AND family = ?",
        )
        .bind(session.to_string())
        .bind(gateway)
        .bind(family.number())
        .fetch_optional(&mut *self.inner)
        .await?;
        if let Some(held) = held {
            let (first, last): (i64, i64) = (held.try_get("first")?, held.try_get("last")?);
            let whole = pool.piece_end(first) == Some(last);
            if first >= pool.first && last <= pool.last && whole && pool.gives(first) {
                return Ok(first);
            }
            // The pool was changed in the configuration: the old number goes back.
            self.free_leases_of_family(session, gateway, family).await?;
        }

        let reserved = pool.reserved.unwrap_or(i64::MIN);
        let freed = sqlx::query(
            "SELECT first FROM leases WHERE gateway = ? AND family = ? AND first >= ? AND first <= ? \
             AND first <> ? AND last - first = ? AND (?7 = 0 OR first & ?7 <> 0) \
             AND session IS NULL ORDER BY first LIMIT 1",
        )
        .bind(gateway)
        .bind(family.number())
        .bind(pool.first)
        .bind(pool.last)
        .bind(reserved)
        .bind(pool.step - 1)
        .bind(pool.nonzero)
        .fetch_optional(&mut *self.inner)
        .await?;
        if let Some(freed) = freed {
            let first: i64 = freed.try_get("first")?;
            sqlx::query(
                "UPDATE leases SET session = ? WHERE gateway = ? AND family = ? AND first = ?",
            )
            .bind(session.to_string())
            .bind(gateway)
            .bind(family.number())
            .bind(first)
            .execute(&mut *self.inner)
            .await?;
            return Ok(first);
        }

        let highest = sqlx::query(
            "SELECT last FROM leases WHERE gateway = ? AND family = ? AND first <= ? \
             ORDER BY first DESC LIMIT 1",
        )
        .bind(gateway)
        .bind(family.number())
        .bind(pool.last)
        .fetch_optional(&mut *self.inner)
        .await?
        .map(|row| row.try_get::<i64, _>("last"))
        .transpose()?;
        let exhausted = || StoreError::PoolExhausted {
            gateway: gateway.to_owned(),
            family: family.name(),
        };
        let first = pool.next(highest).ok_or_else(exhausted)?;
        let last = pool.piece_end(first).ok_or_else(exhausted)?;
        sqlx::query(
            "INSERT INTO leases (gateway, family, first, last, session) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(gateway)
        .bind(family.number())
        .bind(first)
        .bind(last)
        .bind(session.to_string())
        .execute(&mut *self.inner)
        .await?;
        Ok(first)
    }

    /// Gives back what the session holds at a gateway.
    pub(super) async fn free_leases(&mut self, session: Uuid, gateway: &str) -> Result<()> {
        for family in [Family::Ipv4, Family::Ipv6, Family::Ipv6Line] {
            self.free_leases_of_family(session, gateway, family).await?;
        }
        Ok(())
    }

    async fn free_leases_of_family(
        &mut self,
        session: Uuid,
        gateway: &str,
        family: Family,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE leases SET session = NULL WHERE session = ? AND gateway = ? AND family = ?",
        )
        .bind(session.to_string())
        .bind(gateway)
        .bind(family.number())
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
