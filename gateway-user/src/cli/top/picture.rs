//! What is to be seen, from two looks at the daemon. Pure.

use std::collections::HashMap;
use std::time::Instant;

use doorstep_daemon::top::{Between, Cell, bits, count};
use doorstep_proto::v1;

use crate::cli::show::pressure;

/// One look.
#[derive(Debug)]
pub struct Look {
    pub at: Instant,
    pub status: v1::GatewayStatus,
    pub sessions: Vec<v1::GatewaySession>,
}

/// Rows of tables, in the order of their columns.
#[derive(Debug, Default)]
pub struct Picture {
    pub head: String,
    /// Operator, uplink, server, sessions, rate up, rate down.
    pub uplinks: Vec<Vec<Cell>>,
    /// Line, location, operator, rate up, rate down, policed packets.
    pub lines: Vec<Vec<Cell>>,
    /// Reason, rate, packets.
    pub drops: Vec<Vec<Cell>>,
    /// The same of what the daemon is given.
    pub punts: Vec<Vec<Cell>>,
    /// Map, rows, part of the room.
    pub maps: Vec<Vec<Cell>>,
}

/// Whether packets of a reason are given to the daemon.
fn is_punt(counted: &v1::GatewayReason) -> bool {
    !counted.drop && counted.reason.starts_with("punt_")
}

/// Rates of one line or operator; none is known of what was not there before.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    up: Option<f64>,
    down: Option<f64>,
    policed: Option<f64>,
    sessions: u64,
}

impl Traffic {
    fn add(&mut self, other: Traffic) {
        let sum = |own: Option<f64>, other: Option<f64>| match (own, other) {
            (None, None) => None,
            (own, other) => Some(own.unwrap_or(0.0) + other.unwrap_or(0.0)),
        };
        self.up = sum(self.up, other.up);
        self.down = sum(self.down, other.down);
        self.policed = sum(self.policed, other.policed);
        self.sessions += other.sessions;
    }

    fn of(
        session: &v1::GatewaySession,
        before: Option<&v1::GatewaySession>,
        elapsed: Between,
    ) -> Traffic {
        let now = session.counters.unwrap_or_default();
        let before = before.map(|before| before.counters.unwrap_or_default());
        let rate = |of: fn(&v1::Counters) -> u64| elapsed.rate(before.as_ref().map(of), of(&now));
        Traffic {
            up: rate(|counters| counters.upstream_bytes),
            down: rate(|counters| counters.downstream_bytes),
            policed: rate(|counters| counters.upstream_policed + counters.downstream_policed),
            sessions: 1,
        }
    }

    fn cells(&self) -> [Cell; 2] {
        [self.up, self.down].map(|rate| Cell::number(bits(rate), rate))
    }
}

/// What changed between two looks, and what is.
pub fn picture(before: Option<&Look>, now: &Look) -> Picture {
    let elapsed = Between(before.map_or_else(Default::default, |before| now.at - before.at));
    let mut operators: HashMap<&str, Traffic> = HashMap::new();
    let mut lines: HashMap<&str, (Traffic, &v1::GatewaySession)> = HashMap::new();
    let former: HashMap<&str, &v1::GatewaySession> = before
        .into_iter()
        .flat_map(|before| &before.sessions)
        .map(|session| (session.session_id.as_str(), session))
        .collect();
    for session in &now.sessions {
        let before = former.get(session.session_id.as_str()).copied();
        let traffic = Traffic::of(session, before, elapsed);
        operators.entry(&session.operator).or_default().add(traffic);
        let line = lines.entry(&session.line);
        let (sum, _) = line.or_insert((Traffic::default(), session));
        sum.add(traffic);
    }
    Picture {
        head: head(&now.status),
        uplinks: uplinks(&now.status, &operators),
        lines: lines.into_iter().map(line).collect(),
        drops: reasons(before, now, elapsed, |counted| counted.drop),
        punts: reasons(before, now, elapsed, is_punt),
        maps: maps(&now.status),
    }
}

fn head(status: &v1::GatewayStatus) -> String {
    let sessions = status.sessions.unwrap_or_default();
    let down: Vec<&str> = status
        .ports
        .iter()
        .filter(|port| port.state != "up")
        .map(|port| port.name.as_str())
        .collect();
    let ports = match down.is_empty() {
        true => "all ports up".to_owned(),
        false => format!("not up: {}", down.join(" ")),
    };
    format!(
        "gateway {}   {} established ({} silent), {} establishing, {} closing   {} of {} slots   {ports}",
        status.gateway_id,
        sessions.established,
        sessions.silent,
        sessions.establishing,
        sessions.closing,
        sessions.slots_used,
        sessions.slots_max,
    )
}

fn uplinks(status: &v1::GatewayStatus, operators: &HashMap<&str, Traffic>) -> Vec<Vec<Cell>> {
    let rows = status.operators.iter().map(|operator| {
        let name = operator.name.as_str();
        let none = Traffic {
            up: Some(0.0),
            down: Some(0.0),
            ..Traffic::default()
        };
        let traffic = operators.get(name).unwrap_or(&none);
        let server = status.servers.iter().find(|server| server.operator == name);
        let connected = server.is_some_and(|server| server.connected);
        let uplink = match operator.uplink_vlan {
            0 => operator.uplink.clone(),
            vid => format!("{}.{vid}", operator.uplink),
        };
        let [up, down] = traffic.cells();
        vec![
            Cell::text(name),
            Cell::text(uplink),
            Cell::text(if connected { "connected" } else { "away" }),
            Cell::whole(traffic.sessions),
            up,
            down,
        ]
    });
    rows.collect()
}

fn line((line, (traffic, session)): (&str, (Traffic, &v1::GatewaySession))) -> Vec<Cell> {
    let [up, down] = traffic.cells();
    vec![
        Cell::text(line),
        Cell::text(session.location_id.as_str()),
        Cell::text(session.operator.as_str()),
        up,
        down,
        Cell::number(count(traffic.policed), traffic.policed),
    ]
}

/// Packets by reason, of the reasons that are meant and have any: the fastest first.
fn reasons(
    before: Option<&Look>,
    now: &Look,
    elapsed: Between,
    meant: impl Fn(&v1::GatewayReason) -> bool,
) -> Vec<Vec<Cell>> {
    let packets = |look: &Look, name: &str| {
        let mut packets = look.status.packets.iter();
        let found = packets.find(|packets| packets.reason == name);
        found.map_or(0, |packets| packets.packets)
    };
    let mut rows: Vec<(Option<f64>, Vec<Cell>)> = now
        .status
        .packets
        .iter()
        .filter(|counted| counted.packets > 0 && meant(counted))
        .map(|counted| {
            let before = before.map(|before| packets(before, &counted.reason));
            let rate = elapsed.rate(before, counted.packets);
            let cells = vec![
                Cell::text(counted.reason.as_str()),
                Cell::number(count(rate), rate),
                Cell::whole(counted.packets),
            ];
            (rate, cells)
        })
        .collect();
    rows.sort_by(|(one, _), (other, _)| other.unwrap_or(-1.0).total_cmp(&one.unwrap_or(-1.0)));
    rows.into_iter().map(|(_, cells)| cells).collect()
}

/// The fullest first.
fn maps(status: &v1::GatewayStatus) -> Vec<Vec<Cell>> {
    let mut maps: Vec<_> = status.maps.iter().collect();
    maps.sort_by(|one, other| pressure(other).total_cmp(&pressure(one)));
    let row = |map: &v1::GatewayMap| {
        let full = pressure(map);
        vec![
            Cell::text(map.name.as_str()),
            Cell::whole(map.used),
            Cell::number(format!("{:.1} %", full * 100.0), Some(full)),
        ]
    };
    maps.into_iter().map(row).collect()
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use doorstep_gateway_common::Reason;

    use super::*;

    fn session(id: &str, line: &str, operator: &str, bytes: u64) -> v1::GatewaySession {
        v1::GatewaySession {
            session_id: id.to_owned(),
            line: line.to_owned(),
            operator: operator.to_owned(),
            location_id: "110103-xinjingjiayuan-001-002-004".to_owned(),
            counters: Some(v1::Counters {
                upstream_bytes: bytes,
                downstream_bytes: 10 * bytes,
                downstream_policed: bytes / 100,
                ..v1::Counters::default()
            }),
            ..v1::GatewaySession::default()
        }
    }

    fn reason(reason: Reason, packets: u64) -> v1::GatewayReason {
        v1::GatewayReason {
            reason: reason.name().to_owned(),
            packets,
            drop: reason.is_drop(),
            ..v1::GatewayReason::default()
        }
    }

    fn status(dropped: u64) -> v1::GatewayStatus {
        v1::GatewayStatus {
            gateway_id: "gw1".to_owned(),
            ports: vec![v1::GatewayPort {
                name: "access0".to_owned(),
                state: "down".to_owned(),
                ..v1::GatewayPort::default()
            }],
            servers: vec![v1::GatewayServer {
                operator: "north".to_owned(),
                connected: true,
                ..v1::GatewayServer::default()
            }],
            operators: ["north", "south"]
                .map(|name| v1::GatewayOperator {
                    name: name.to_owned(),
                    uplink: "uplink0".to_owned(),
                    ..v1::GatewayOperator::default()
                })
                .to_vec(),
            sessions: Some(v1::GatewaySessionCounts {
                established: 3,
                slots_used: 3,
                slots_max: 1024,
                ..v1::GatewaySessionCounts::default()
            }),
            packets: vec![
                reason(Reason::ForwardedUpstream, 1000),
                reason(Reason::PuntDhcp, 40),
                reason(Reason::SourceNotBound, dropped),
                reason(Reason::UnknownLine, 7),
                reason(Reason::BadIpv4, 0),
            ],
            maps: [("LINES", 10), ("UPSTREAM_V4", 900)]
                .map(|(name, used)| v1::GatewayMap {
                    name: name.to_owned(),
                    used,
                    max: 1000,
                })
                .to_vec(),
            ..v1::GatewayStatus::default()
        }
    }

    /// Two looks, two seconds apart: two sessions of the north on one line, one of the south that is
    /// new, one that was there before.
    pub fn looks() -> (Look, Look) {
        let at = Instant::now();
        let before = Look {
            at,
            status: status(100),
            sessions: vec![
                session("one", "access0/1.1", "north", 1000),
                session("two", "access0/1.1", "north", 5000),
                session("gone", "access0/1.9", "south", 5000),
            ],
        };
        let now = Look {
            at: at + Duration::from_secs(2),
            status: status(600),
            sessions: vec![
                session("one", "access0/1.1", "north", 3000),
                session("two", "access0/1.1", "north", 7000),
                session("new", "access0/1.2", "south", 9000),
            ],
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
    fn rates_are_those_of_what_was_there_before() {
        let (before, now) = looks();
        let mut picture = picture(Some(&before), &now);
        assert_eq!(
            texts(&picture.uplinks),
            [
                "north|uplink0|connected|2|16.0 kbit/s|160 kbit/s",
                "south|uplink0|away|1|-|-",
            ]
        );
        picture
            .lines
            .sort_by(|one, other| one[0].text.cmp(&other[0].text));
        let home = "110103-xinjingjiayuan-001-002-004";
        assert_eq!(
            texts(&picture.lines),
            [
                format!("access0/1.1|{home}|north|16.0 kbit/s|160 kbit/s|20 /s"),
                format!("access0/1.2|{home}|south|-|-|-"),
            ]
        );
        let drops = ["source_not_bound|250 /s|600", "unknown_line|0 /s|7"];
        assert_eq!(texts(&picture.drops), drops);
        assert_eq!(texts(&picture.punts), ["punt_dhcp|0 /s|40"]);
        let maps = ["UPSTREAM_V4|900|90.0 %", "LINES|10|1.0 %"];
        assert_eq!(texts(&picture.maps), maps);
        assert!(picture.head.contains("not up: access0"), "{}", picture.head);
    }

    #[test]
    fn a_first_look_has_no_rates() {
        let (_, now) = looks();
        let picture = picture(None, &now);
        assert_eq!(picture.uplinks[0][4].text, "-");
        assert_eq!(texts(&picture.drops)[0], "source_not_bound|-|600");
    }
}
