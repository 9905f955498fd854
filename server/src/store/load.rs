//! What jobs need to see, read by a few statements.

use std::collections::BTreeSet;

use super::sql::{Backend, Statement, Takes, Value};
use super::work::{Need, Rows, WINDOW};
use super::{Result, accounts, enrollments, numbers, requests, sessions, subscribers};

pub(super) async fn load(backend: &Backend, rows: &mut Rows, needs: BTreeSet<Need>) -> Result<()> {
    let mut by_session = Vec::new();
    let mut by_subscriber = Vec::new();
    let mut all_of = Vec::new();
    let mut by_request = Vec::new();
    let mut claims = Vec::new();
    let mut walks = Vec::new();
    let mut tokens = Vec::new();
    let mut people = Vec::new();
    let mut places = Vec::new();
    let mut place_by_place = Vec::new();
    for need in &needs {
        match need {
            Need::Session(id) => by_session.push(Value::from(*id)),
            Need::Subscriber(id) => by_subscriber.push(Value::from(*id)),
            Need::SessionsOf(id) => all_of.push(Value::from(*id)),
            Need::Answer { request, .. } => by_request.push(Value::from(*request)),
            Need::Claim(claim) => claims.push(Value::from(claim.as_slice())),
            Need::Walk(key) => walks.push(Value::from(i64::from(key.number()))),
            Need::Token(hash) => tokens.push(Value::from(hash.as_str())),
            Need::Account(name) => people.push(Value::from(name.as_str())),
            Need::Place { gateway, place } => {
                place_by_place.push(vec![gateway.as_str().into(), (*place).into()]);
            }
            Need::Places { gateway, window } => places.push(vec![
                gateway.as_str().into(),
                (window * WINDOW).into(),
                ((window + 1) * WINDOW).into(),
            ]),
        }
    }
    let read = backend
        .read_to_write(vec![
            // Before its sessions: whoever adds one writes the subscriber too, so that a set that is
            // too old comes with a row that cannot be written.
            Statement::keys(subscribers::select_subscribers!("WHERE id"), by_subscriber),
            Statement::keys(sessions::select_sessions!("WHERE id"), by_session),
            Statement::keys(
                sessions::select_sessions!("WHERE state <> 'released' AND subscriber"),
                all_of,
            ),
            Statement::keys(requests::select_requests!("WHERE request_id"), by_request),
            Statement::keys(numbers::SELECT_CLAIMS, claims),
            Statement::keys(numbers::SELECT_WALKS, walks),
            Statement::keys(enrollments::SELECT_TOKENS, tokens),
            Statement::keys(accounts::select_accounts!("WHERE name"), people),
            Statement::new(Takes::Match, PLACE, place_by_place),
            Statement::new(Takes::Join, PLACES, places),
        ])
        .await?;
    for (statement, returned) in read.iter().enumerate() {
        for row in returned {
            match statement {
                0 => rows.put_subscriber(subscribers::read(row)?),
                1 | 2 => {
                    let row = sessions::read(row)?;
                    rows.put_unreleased(row.session.subscriber, row.session.id);
                    rows.put_session(row);
                }
                3 => {
                    let (key, answer) = requests::read(row)?;
                    rows.put_answer(key, answer);
                }
                4 => {
                    let row = &mut row.read();
                    rows.put_claim(row.bytes()?, row.id()?);
                }
                5 => rows.put_walk(numbers::read_walk(row)?),
                6 => rows.put_token(enrollments::read_token(row)?),
                7 => rows.put_account(accounts::read(row)?),
                _ => {
                    let row = &mut row.read();
                    rows.put_taken(row.text()?, row.int()?);
                }
            }
        }
    }
    for need in needs {
        rows.set_loaded(need);
    }
    Ok(())
}

const PLACE: (&str, &str) = (
    "SELECT gateway, place FROM leases WHERE (gateway, place)",
    "",
);
const PLACES: (&str, &str) = (
    "SELECT leases.gateway, leases.place FROM",
    "JOIN leases ON leases.gateway = given.a AND leases.place >= given.b \
     AND leases.place < given.c",
);
