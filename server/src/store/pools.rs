//! Pools that have been changed in the configuration: places count in the pools as they are, so the
//! leases are made anew from the addresses that sessions have.

use std::collections::{BTreeSet, HashMap};

use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

use super::sessions::{read, select_sessions};
use super::sql::{Value, each, with_rows};
use super::{Result, Store};
use crate::session::Addresses;

/// A gateway's pools, as they are configured.
pub struct Pools<'a> {
    pub gateway: &'a str,
    /// Tells them from other pools.
    pub text: String,
    /// All places that some of these addresses lie in.
    pub places: &'a (dyn Fn(&Addresses) -> BTreeSet<i64> + Sync),
    /// What a place gives.
    pub addresses: &'a (dyn Fn(i64) -> Addresses + Sync),
}

impl Store {
    /// Makes the leases of every gateway whose pools are others than last time.
    pub async fn follow_pools(&self, all: &[Pools<'_>]) -> Result<()> {
        let known: HashMap<String, String> = self
            .select("SELECT gateway, pools FROM pools", vec![])
            .await?
            .iter()
            .map(|row| Ok((row.try_get("gateway")?, row.try_get("pools")?)))
            .collect::<Result<_>>()?;
        let mut fresh = Vec::new();
        for pools in all {
            match known.get(pools.gateway) {
                Some(text) if *text == pools.text => {}
                Some(_) => self.renumber(pools).await?,
                None => fresh.push(vec![pools.gateway.into(), pools.text.as_str().into()]),
            }
        }
        let mut connection = self.writers.acquire().await?;
        let mut transaction = connection.begin().await?;
        let (before, after) = WRITE;
        with_rows(&mut transaction, self.dialect, before, after, &fresh).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn renumber(&self, pools: &Pools<'_>) -> Result<()> {
        tracing::info!(gateway = pools.gateway, "the pools have changed");
        let mut connection = self.writers.acquire().await?;
        let mut transaction = connection.begin().await?;
        let rows = each(
            &mut transaction,
            self.dialect,
            select_sessions!("WHERE gateway = ? OR target_gateway = ?"),
            &[vec![pools.gateway.into(), pools.gateway.into()]],
        )
        .await?;
        let mut leases: Vec<Vec<Value>> = Vec::new();
        let mut given = BTreeSet::new();
        let mut lease = |session: Uuid, addresses: &Addresses| -> Option<i64> {
            let places = (pools.places)(addresses);
            for place in &places {
                if given.insert(*place) {
                    leases.push(vec![pools.gateway.into(), (*place).into(), session.into()]);
                }
            }
            // It is the place's only if all is as the place gives it.
            places.into_iter().find(|place| {
                (pools.addresses)(*place)
                    == Addresses {
                        place: Some(*place),
                        ..*addresses
                    }
            })
        };
        let mut moved: Vec<Vec<Value>> = Vec::new();
        for row in &rows {
            let session = read(row)?.session;
            let mut own = session.connection.addresses.place;
            let mut target = session
                .target
                .as_ref()
                .and_then(|t| t.connection.addresses.place);
            if session.connection.gateway == pools.gateway {
                own = lease(session.id, &session.connection.addresses);
            }
            if let Some(to) = &session.target
                && to.connection.gateway == pools.gateway
            {
                target = lease(session.id, &to.connection.addresses);
            }
            moved.push(vec![own.into(), target.into(), session.id.into()]);
        }
        let statement = "DELETE FROM leases WHERE gateway = ?";
        each(
            &mut transaction,
            self.dialect,
            statement,
            &[vec![pools.gateway.into()]],
        )
        .await?;
        let statement = "INSERT INTO leases (gateway, place, session) VALUES";
        with_rows(&mut transaction, self.dialect, statement, "", &leases).await?;
        let statement =
            "UPDATE sessions SET place = ?, target_place = ?, version = version + 1 WHERE id = ?";
        each(&mut transaction, self.dialect, statement, &moved).await?;
        let (before, after) = WRITE;
        let row = vec![pools.gateway.into(), pools.text.as_str().into()];
        with_rows(&mut transaction, self.dialect, before, after, &[row]).await?;
        transaction.commit().await?;
        Ok(())
    }
}

const WRITE: (&str, &str) = (
    "INSERT INTO pools (gateway, pools) VALUES",
    "ON CONFLICT (gateway) DO UPDATE SET pools = excluded.pools",
);
