//! What jobs need to see, read by a few statements.

use std::collections::BTreeSet;

use sqlx::{AnyConnection, Row as _};

use super::sql::{Dialect, Value, each, with_keys};
use super::work::{Need, Number, Rows, WINDOW};
use super::{Result, requests, sessions, subscribers};

pub(super) async fn load(
    connection: &mut AnyConnection,
    dialect: Dialect,
    rows: &mut Rows,
    needs: BTreeSet<Need>,
) -> Result<()> {
    let mut by_session = Vec::new();
    let mut by_subscriber = Vec::new();
    let mut all_of = Vec::new();
    let mut by_request = Vec::new();
    let mut phones = Vec::new();
    let mut id_cards = Vec::new();
    let mut places = Vec::new();
    for need in &needs {
        match need {
            Need::Session(id) => by_session.push(Value::from(*id)),
            Need::Subscriber(id) => by_subscriber.push(Value::from(*id)),
            Need::SessionsOf(id) => all_of.push(Value::from(*id)),
            Need::Answer { request, .. } => by_request.push(Value::from(*request)),
            Need::Number(Number::Phone(index)) => phones.push(Value::from(index.as_slice())),
            Need::Number(Number::IdCard(index)) => id_cards.push(Value::from(index.as_slice())),
            Need::Places { gateway, window } => places.push(vec![
                gateway.as_str().into(),
                (window * WINDOW).into(),
                ((window + 1) * WINDOW).into(),
            ]),
        }
    }
    for (before, keys) in [
        (sessions::select_sessions!("WHERE id IN"), &by_session),
        (
            sessions::select_sessions!("WHERE state <> 'released' AND subscriber IN"),
            &all_of,
        ),
    ] {
        for row in with_keys(connection, dialect, before, "", keys).await? {
            let row = sessions::read(&row)?;
            rows.put_unreleased(row.session.subscriber, row.session.id);
            rows.put_session(row);
        }
    }
    let before = subscribers::select_subscribers!("WHERE id IN");
    for row in with_keys(connection, dialect, before, "", &by_subscriber).await? {
        rows.put_subscriber(subscribers::read(&row)?);
    }
    for row in with_keys(connection, dialect, requests::SELECT, "", &by_request).await? {
        let (key, answer) = requests::read(&row)?;
        rows.put_answer(key, answer);
    }
    for (before, keys, made) in [
        (
            "SELECT phone_index AS found FROM subscribers WHERE phone_index IN",
            &phones,
            Number::Phone as fn(Vec<u8>) -> Number,
        ),
        (
            "SELECT id_card_index AS found FROM subscribers WHERE id_card_index IN",
            &id_cards,
            Number::IdCard,
        ),
    ] {
        for row in with_keys(connection, dialect, before, "", keys).await? {
            rows.put_number(made(row.try_get("found")?));
        }
    }
    let statement =
        "SELECT gateway, place FROM leases WHERE gateway = ? AND place >= ? AND place < ?";
    for row in each(connection, dialect, statement, &places).await? {
        rows.put_taken(row.try_get("gateway")?, row.try_get("place")?);
    }
    for need in needs {
        rows.set_loaded(need);
    }
    Ok(())
}
