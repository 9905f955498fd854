//! What is to be seen, from two looks at the server. Pure.

use std::time::Instant;

use doorstep_daemon::top::{Between, Cell, count};
use doorstep_proto::v1 as pb;
use doorstep_server::service::convert::state_name;

/// One look.
#[derive(Debug)]
pub struct Look {
    pub at: Instant,
    pub unix_ms: i64,
    pub status: pb::OperatorStatusResponse,
    pub gateways: Vec<pb::GatewayView>,
    /// Sessions that wait for a receipt.
    pub waiting: Vec<pb::SessionView>,
    /// There are more of them than that.
    pub more_waiting: bool,
}

/// Rows of tables, in the order of their columns.
#[derive(Debug, Default)]
pub struct Picture {
    pub head: String,
    /// State, sessions, change since the look before.
    pub states: Vec<Vec<Cell>>,
    /// Limit, rate, how often since the start; of those that were reached.
    pub refused: Vec<Vec<Cell>>,
    /// Session, whether it is stuck, from, to, for how long.
    pub moves: Vec<Vec<Cell>>,
    /// There are more moves than that.
    pub more_moves: bool,
    /// Gateway, stream, for how long, sessions, receipts per second, version.
    pub gateways: Vec<Vec<Cell>>,
}

/// The states of sessions that wait for a receipt.
pub const WAITING: [pb::SessionState; 2] = [
    pb::SessionState::Disconnecting,
    pb::SessionState::DisconnectingUnconfirmed,
];

/// What changed between two looks, and what is.
pub fn picture(before: Option<&Look>, now: &Look) -> Picture {
    let elapsed = Between(before.map_or_else(Default::default, |before| now.at - before.at));
    let gateway = |gateway: &pb::GatewayView| {
        let id = gateway.gateway_id.as_str();
        let mut former = before.into_iter().flat_map(|before| &before.gateways);
        let former = former.find(|former| former.gateway_id == id);
        let receipts = former.map(|former| former.last_receipt);
        let rate = elapsed.rate(receipts, gateway.last_receipt);
        let stream = match (gateway.connected, gateway.since_unix_ms) {
            (true, _) => "connected",
            (false, 0) => "never",
            (false, _) => "away",
        };
        vec![
            Cell::text(id),
            Cell::text(stream),
            age(now.unix_ms, gateway.since_unix_ms),
            Cell::whole(gateway.sessions),
            Cell::number(count(rate), rate),
            Cell::text(gateway.software_version.as_str()),
        ]
    };
    Picture {
        head: head(&now.status),
        states: states(before, now),
        refused: refused(before, now, elapsed),
        moves: now
            .waiting
            .iter()
            .map(|one| waiting(one, now.unix_ms))
            .collect(),
        more_moves: now.more_waiting,
        gateways: now.gateways.iter().map(gateway).collect(),
    }
}

fn head(status: &pb::OperatorStatusResponse) -> String {
    format!(
        "operator {}   {} of {} gateways connected   {} subscribers   {} silent   {} watched",
        status.operator,
        status.gateways_connected,
        status.gateways_configured,
        status.subscribers,
        status.silent,
        status.watches,
    )
}

fn states(before: Option<&Look>, now: &Look) -> Vec<Vec<Cell>> {
    let row = |entry: &pb::StateCount| {
        let mut former = before
            .into_iter()
            .flat_map(|before| &before.status.sessions_by_state);
        let former = former.find(|former| former.state == entry.state);
        let change = match (before, former) {
            (None, _) => "-".to_owned(),
            (Some(_), former) => {
                let former = former.map_or(0, |former| former.count);
                let change = i128::from(entry.count) - i128::from(former);
                format!("{change:+}")
            }
        };
        vec![
            Cell::text(state_name(entry.state)),
            Cell::whole(entry.count),
            Cell::number(change, Some(0.0)),
        ]
    };
    now.status.sessions_by_state.iter().map(row).collect()
}

fn refused(before: Option<&Look>, now: &Look, elapsed: Between) -> Vec<Vec<Cell>> {
    let row = |entry: &pb::RefusedCount| {
        let mut former = before.into_iter().flat_map(|before| &before.status.refused);
        let former = former.find(|former| former.reason == entry.reason);
        let rate = elapsed.rate(former.map(|former| former.count), entry.count);
        vec![
            Cell::text(entry.reason.as_str()),
            Cell::number(count(rate), rate),
            Cell::whole(entry.count),
        ]
    };
    let reached = now.status.refused.iter().filter(|entry| entry.count > 0);
    reached.map(row).collect()
}

/// A session that waits for a receipt: where it is to go, or that it ends.
fn waiting(session: &pb::SessionView, unix_ms: i64) -> Vec<Cell> {
    let stuck = session.state == i32::from(pb::SessionState::DisconnectingUnconfirmed);
    let to = match session.target_gateway_id.as_str() {
        "" => "ends",
        gateway => gateway,
    };
    vec![
        Cell::text(session.session_id.as_str()),
        Cell::text(if stuck { "stuck" } else { "under way" }),
        Cell::text(session.gateway_id.as_str()),
        Cell::text(to),
        age(unix_ms, session.since_unix_ms),
    ]
}

/// How long ago it was, as two units.
#[expect(clippy::cast_precision_loss, reason = "only to sort by it")]
fn age(now_ms: i64, since_ms: i64) -> Cell {
    if since_ms == 0 {
        return Cell::number("-".to_owned(), None);
    }
    let seconds = (now_ms - since_ms).max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let text = match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {:02} s", seconds % 60),
        3600..86_400 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    };
    Cell::number(text, Some(seconds as f64))
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use pb::SessionState as S;

    use super::*;

    fn status(connecting: u64, refused: u64) -> pb::OperatorStatusResponse {
        pb::OperatorStatusResponse {
            operator: "north-net".to_owned(),
            subscribers: 7,
            gateways_connected: 1,
            gateways_configured: 2,
            sessions_by_state: [(S::Connecting, connecting), (S::Established, 70)]
                .map(|(state, count)| pb::StateCount {
                    state: state.into(),
                    count,
                })
                .to_vec(),
            refused: [("source-rate", refused), ("watches", 0)]
                .map(|(reason, count)| pb::RefusedCount {
                    reason: reason.to_owned(),
                    count,
                })
                .to_vec(),
            ..pb::OperatorStatusResponse::default()
        }
    }

    fn gateway(id: &str, connected: bool, last_receipt: u64) -> pb::GatewayView {
        pb::GatewayView {
            gateway_id: id.to_owned(),
            connected,
            since_unix_ms: 1_000,
            sessions: 35,
            last_receipt,
            software_version: "0.1.0".to_owned(),
            ..pb::GatewayView::default()
        }
    }

    fn session(id: &str, state: S, target: &str, since_unix_ms: i64) -> pb::SessionView {
        pb::SessionView {
            session_id: id.to_owned(),
            state: state.into(),
            gateway_id: "gw1".to_owned(),
            target_gateway_id: target.to_owned(),
            since_unix_ms,
            ..pb::SessionView::default()
        }
    }

    /// Two looks, two seconds apart.
    pub fn looks() -> (Look, Look) {
        let at = Instant::now();
        let before = Look {
            at,
            unix_ms: 98_000,
            status: status(9, 10),
            gateways: vec![gateway("gw1", true, 100)],
            waiting: vec![],
            more_waiting: false,
        };
        let now = Look {
            at: at + Duration::from_secs(2),
            unix_ms: 100_000,
            status: status(4, 30),
            gateways: vec![gateway("gw1", true, 150), gateway("gw2", false, 3)],
            waiting: vec![
                session("one", S::Disconnecting, "gw2", 97_000),
                session("two", S::DisconnectingUnconfirmed, "", 10_000),
            ],
            more_waiting: true,
        };
        (before, now)
    }

    fn texts(rows: &[Vec<Cell>]) -> Vec<String> {
        let row = |row: &Vec<Cell>| {
            let cells: Vec<_> = row.iter().map(|cell| cell.text.as_str()).collect();
            cells.join("|")
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn changes_and_rates_are_those_since_the_look_before() {
        let (before, now) = looks();
        let seen = picture(Some(&before), &now);
        assert_eq!(
            texts(&seen.states),
            ["connecting|4|-5", "established|70|+0"]
        );
        assert_eq!(texts(&seen.refused), ["source-rate|10 /s|30"]);
        assert_eq!(
            texts(&seen.moves),
            ["one|under way|gw1|gw2|3 s", "two|stuck|gw1|ends|1 min 30 s"]
        );
        assert_eq!(
            texts(&seen.gateways),
            [
                "gw1|connected|1 min 39 s|35|25 /s|0.1.0",
                "gw2|away|1 min 39 s|35|-|0.1.0",
            ]
        );
        assert!(seen.head.contains("1 of 2 gateways"), "{}", seen.head);
        let first = picture(None, &now);
        assert_eq!(texts(&first.states)[0], "connecting|4|-");
        assert_eq!(texts(&first.refused), ["source-rate|-|30"]);
    }

    #[test]
    fn ages_have_two_units() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 01 s"),
            (3_660, "1 h 01 min"),
            (90_000, "1 d 01 h"),
        ] {
            assert_eq!(age(1_000 + seconds * 1000, 1_000).text, expected);
        }
        assert_eq!(age(5, 0).text, "-");
        // A clock that was set back.
        assert_eq!(age(5, 50_000).text, "0 s");
    }
}
