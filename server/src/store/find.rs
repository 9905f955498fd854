//! Subscribers by their numbers.

use std::collections::HashMap;

use uuid::Uuid;

use super::sql::{Statement, Value};
use super::work::Number;
use super::{Result, Store};

impl Store {
    /// Who has which of these numbers, as of now.
    pub async fn owners(
        &self,
        numbers: impl IntoIterator<Item = Number>,
    ) -> Result<HashMap<Number, Uuid>> {
        let (mut phones, mut id_cards) = (Vec::new(), Vec::new());
        for number in numbers {
            match number {
                Number::Phone(index) => phones.push(Value::from(index.as_slice())),
                Number::IdCard(index) => id_cards.push(Value::from(index.as_slice())),
            }
        }
        let read = self
            .backend
            .read(vec![
                Statement::keys(
                    "SELECT phone_index, id FROM subscribers WHERE phone_index",
                    phones,
                ),
                Statement::keys(
                    "SELECT id_card_index, id FROM subscribers WHERE id_card_index",
                    id_cards,
                ),
            ])
            .await?;
        let mut owners = HashMap::new();
        for (of, rows) in [Number::Phone, Number::IdCard].into_iter().zip(&read) {
            for row in rows {
                let row = &mut row.read();
                owners.insert(of(row.bytes()?), row.id()?);
            }
        }
        Ok(owners)
    }
}
