//! Pools that have been changed in the configuration: places count in the pools as they are, so the
//! leases are made anew from the addresses that sessions have.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::sessions::{WRITE as WRITE_SESSION, read, select_sessions};
use super::sql::{Statement, Takes, Value};
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
            .map(|row| {
                let row = &mut row.read();
                Ok((row.text()?, row.text()?))
            })
            .collect::<Result<_>>()?;
        let mut fresh = Vec::new();
        for pools in all {
            match known.get(pools.gateway) {
                Some(text) if *text == pools.text => {}
                Some(_) => self.renumber(pools).await?,
                None => fresh.push(vec![pools.gateway.into(), pools.text.as_str().into()]),
            }
        }
        let write = Statement::new(Takes::Insert, WRITE, fresh);
        self.backend.write(vec![write]).await?;
        Ok(())
    }

    async fn renumber(&self, pools: &Pools<'_>) -> Result<()> {
        tracing::info!(gateway = pools.gateway, "the pools have changed");
        let here = vec![pools.gateway.into(), pools.gateway.into()];
        let rows = self
            .select(
                select_sessions!("WHERE gateway = ? OR target_gateway = ?"),
                here,
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
        let mut statements = vec![Statement::marks(
            "DELETE FROM leases WHERE gateway = ?",
            vec![pools.gateway.into()],
        )];
        for row in &rows {
            let mut row = read(row)?;
            let session = &mut row.session;
            let id = session.id;
            let target = session.target.as_mut().map(|target| &mut target.connection);
            for connection in [Some(&mut session.connection), target]
                .into_iter()
                .flatten()
            {
                if connection.gateway == pools.gateway {
                    connection.addresses.place = lease(id, &connection.addresses);
                }
            }
            statements.push(Statement::new(
                Takes::InsertAll,
                WRITE_SESSION,
                vec![row.values()],
            ));
        }
        statements.push(Statement::new(
            Takes::Insert,
            ("INSERT INTO leases (gateway, place, session)", ""),
            leases,
        ));
        let known = vec![pools.gateway.into(), pools.text.as_str().into()];
        statements.push(Statement::new(Takes::Insert, WRITE, vec![known]));
        self.backend.write(statements).await?;
        Ok(())
    }
}

const WRITE: (&str, &str) = (
    "INSERT INTO pools (gateway, pools)",
    "ON CONFLICT (gateway) DO UPDATE SET pools = excluded.pools",
);
