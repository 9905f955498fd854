//! From older identity keys to the current one, row by row, while everything goes on.
//!
//! Each row is independent of all others and costs the same: the store reads some rows with values
//! before [`Rotation::before`], has each of them renewed, and writes them back by compare-and-set on
//! their version, as any other change. A row that changed meanwhile is met again: until no row has a
//! value before the current key, the walk is not over. Doing it twice, on two replicas, or breaking it off changes
//! nothing but the time it takes.
//!
//! Keys change in this order, each step on every replica before the next begins:
//!
//! 1. *add*: the new key opens and indexes, the former one still seals.
//! 2. *use*: the new key seals. Rows of both kinds exist, and both kinds of replicas can read them.
//! 3. *walk*: rows are renewed, with this module.
//! 4. *retire*: no row needs the old key; its file is not read any more.
//!
//! A number is unique across keys when it is claimed under all of them ([`Vault::indexes`]): replicas
//! with different keys then still collide, as long as they share one, which this order sees to.

use uuid::Uuid;

use super::{KeyId, Purpose, Vault, VaultError};

/// A phone or ID-card number as a row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    pub index: Vec<u8>,
    pub sealed: Vec<u8>,
}

impl Vault {
    /// A new row's number, under the current key.
    pub fn number(&self, purpose: Purpose, owner: Uuid, value: &str) -> Result<Number, VaultError> {
        Ok(Number {
            index: self.index(purpose, value),
            sealed: self.seal(purpose, owner, value.as_bytes())?,
        })
    }
}

/// Renews values that are not of the current key.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'v> {
    vault: &'v Vault,
}

/// A number that was renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// What takes the place of the row's number.
    pub number: Number,
    /// Under which it has to be claimed, the current key's first; one of them is the old row's.
    pub claims: Vec<Vec<u8>>,
}

impl<'v> Rotation<'v> {
    #[must_use]
    pub fn new(vault: &'v Vault) -> Self {
        Rotation { vault }
    }

    /// Values less than these bytes are of older keys: `WHERE phone_sealed < ?`
    /// (`store/numbers.rs`).
    #[must_use]
    pub fn before(&self) -> [u8; KeyId::LEN] {
        self.vault.current_id().to_bytes()
    }

    /// Whether a sealed value or an index is of an older key. What is of no key at all is.
    #[must_use]
    pub fn is_due(&self, value: &[u8]) -> bool {
        KeyId::split(value).is_none_or(|(id, _)| id < self.vault.current_id())
    }

    /// None: nothing to do.
    pub fn number(
        &self,
        purpose: Purpose,
        owner: Uuid,
        number: &Number,
    ) -> Result<Option<Renewed>, VaultError> {
        if !self.is_due(&number.sealed) && !self.is_due(&number.index) {
            return Ok(None);
        }
        let value = self.vault.open(purpose, owner, &number.sealed)?;
        // Only numbers are sealed for these purposes, so what opens is text.
        let text = std::str::from_utf8(&value).map_err(|_| VaultError::Open)?;
        Ok(Some(Renewed {
            number: self.vault.number(purpose, owner, text)?,
            claims: self.vault.indexes(purpose, text),
        }))
    }

    /// A value without an index: a session's key. None: nothing to do.
    pub fn value(
        &self,
        purpose: Purpose,
        owner: Uuid,
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, VaultError> {
        if !self.is_due(sealed) {
            return Ok(None);
        }
        let value = self.vault.open(purpose, owner, sealed)?;
        self.vault.seal(purpose, owner, &value).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::super::key::testing;
    use super::*;

    /// Which keys a replica has: the current one first.
    fn vault(ids: &[u32]) -> Vault {
        let key = |id: u32| testing(id, id as u8);
        Vault::new(key(ids[0]), ids[1..].iter().map(|id| key(*id)).collect()).unwrap()
    }

    #[test]
    fn a_row_is_renewed_once() {
        let owner = Uuid::from_u128(7);
        let old = vault(&[1])
            .number(Purpose::IdCard, owner, "11010519491231002X")
            .unwrap();
        let session = Purpose::SessionKey { generation: 3 };
        let key = vault(&[1]).seal(session, owner, &[9; 32]).unwrap();
        let both = vault(&[2, 1]);
        let rotation = Rotation::new(&both);
        assert!(old.sealed.as_slice() < rotation.before().as_slice());
        let renewed = rotation
            .number(Purpose::IdCard, owner, &old)
            .unwrap()
            .unwrap();
        assert!(renewed.claims.contains(&old.index), "the same person");
        assert_eq!(renewed.claims[0], renewed.number.index);
        assert!(renewed.number.sealed.as_slice() > rotation.before().as_slice());
        assert_eq!(
            rotation.number(Purpose::IdCard, owner, &renewed.number),
            Ok(None)
        );
        let new_key = rotation.value(session, owner, &key).unwrap().unwrap();
        assert_eq!(rotation.value(session, owner, &new_key), Ok(None));
        // The old key is not needed any more.
        let only_new = vault(&[2]);
        for (purpose, sealed, value) in [
            (
                Purpose::IdCard,
                &renewed.number.sealed,
                b"11010519491231002X".as_slice(),
            ),
            (session, &new_key, &[9; 32]),
        ] {
            assert_eq!(
                only_new.open(purpose, owner, sealed).unwrap().as_slice(),
                value
            );
        }
        let number = rotation.number(Purpose::Phone, owner, &old);
        assert_eq!(
            number,
            Err(VaultError::Broken(KeyId::new(1).unwrap())),
            "what does not open is told, not skipped"
        );
        assert_eq!(
            Rotation::new(&only_new).value(session, owner, &key),
            Err(VaultError::UnknownKey(KeyId::new(1).unwrap()))
        );
    }

    /// As a database would have it: claims are a table with a unique key.
    #[derive(Default)]
    struct Database {
        rows: BTreeMap<u128, Number>,
        claims: HashMap<Vec<u8>, u128>,
    }

    impl Database {
        fn register(&mut self, vault: &Vault, value: &str) -> bool {
            let claims = vault.indexes(Purpose::Phone, value);
            if claims.iter().any(|claim| self.claims.contains_key(claim)) {
                return false;
            }
            let id = self.rows.len() as u128 + 1;
            let owner = Uuid::from_u128(id);
            self.rows
                .insert(id, vault.number(Purpose::Phone, owner, value).unwrap());
            self.claims
                .extend(claims.into_iter().map(|claim| (claim, id)));
            true
        }

        /// Renews up to `batch` rows; how many were due.
        fn walk(&mut self, vault: &Vault, batch: usize) -> usize {
            let rotation = Rotation::new(vault);
            let due: Vec<u128> = self
                .rows
                .iter()
                .filter(|(_, row)| row.sealed.as_slice() < rotation.before().as_slice())
                .map(|(id, _)| *id)
                .take(batch)
                .collect();
            for id in &due {
                let renewed = rotation
                    .number(Purpose::Phone, Uuid::from_u128(*id), &self.rows[id])
                    .unwrap()
                    .expect("it is due");
                self.rows.insert(*id, renewed.number);
                for claim in renewed.claims {
                    assert_eq!(*self.claims.entry(claim).or_insert(*id), *id);
                }
            }
            due.len()
        }
    }

    /// Who has which keys at each step, on two replicas of which one is always ahead.
    const STEPS: [[&[u32]; 2]; 7] = [
        [&[1], &[1]],
        [&[1, 2], &[1]],
        [&[1, 2], &[1, 2]],
        [&[2, 1], &[1, 2]],
        [&[2, 1], &[2, 1]],
        [&[2], &[2, 1]],
        [&[2], &[2]],
    ];

    proptest! {
        /// Whoever registers, whenever, through whichever replica: a number is there once, and
        /// every replica can read every row.
        #[test]
        fn no_number_is_there_twice_during_a_rotation(
            asked in proptest::collection::vec((0..7usize, 0..2usize, 10_000..10_020u32), 0..60),
            batch in 1..7usize,
        ) {
            let mut database = Database::default();
            let mut known = std::collections::HashSet::new();
            for (step, replicas) in STEPS.iter().enumerate() {
                if step == 5 {
                    // Before the old key goes, all rows are walked over.
                    while database.walk(&vault(replicas[1]), batch) > 0 {}
                }
                let asked_now = asked.iter().filter(|(at, _, _)| *at == step);
                for (round, (_, replica, number)) in asked_now.enumerate() {
                    let vault = vault(replicas[*replica]);
                    let new = database.register(&vault, &number.to_string());
                    prop_assert_eq!(new, known.insert(*number));
                    if round % 3 == 0 && step == 4 {
                        database.walk(&vault, batch);
                    }
                }
                for replica in replicas {
                    let vault = vault(replica);
                    for (id, row) in &database.rows {
                        let owner = Uuid::from_u128(*id);
                        let value = vault.open(Purpose::Phone, owner, &row.sealed);
                        prop_assert!(value.is_ok(), "step {step}, keys {replica:?}");
                    }
                }
            }
        }
    }
}
