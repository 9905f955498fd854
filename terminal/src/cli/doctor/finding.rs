//! What is to be said of what was seen. Pure.

use std::fmt;
use std::net::IpAddr;

use doorstep_proto::v1 as pb;
use ipnet::IpNet;
use serde::Serialize;

use super::probe::Answer;
use crate::links::actual::{Actual, Link};
use crate::links::desired::MAIN_TABLE;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Finding {
    /// Such as `port wan0`.
    pub what: String,
    /// How it is.
    pub state: String,
    /// What to do. None: it is as it should be.
    pub advice: Option<String>,
}

impl Finding {
    fn good(what: impl Into<String>, state: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            state: state.into(),
            advice: None,
        }
    }

    fn bad(what: impl Into<String>, state: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..Self::good(what, state)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.advice.is_some() { "!!" } else { "ok" };
        write!(f, "{mark}  {:<28} {}", self.what, self.state)?;
        match &self.advice {
            Some(advice) => write!(f, "\n    {advice}"),
            None => Ok(()),
        }
    }
}

/// From the cable to the sessions; what the world answers comes after it.
pub(super) fn findings(status: &pb::TerminalStatus, actual: &Actual) -> Vec<Finding> {
    let mut all: Vec<Finding> = status
        .ports
        .iter()
        .map(|port| cable(port, actual.links.get(&port.name)))
        .collect();
    all.extend(status.rooms.as_ref().map(rooms));
    all.extend(status.operators.iter().map(registration));
    if status.sessions.is_empty() {
        all.push(match &status.garden {
            Some(garden) => Finding::bad(
                "sessions",
                format!("none; {} offers a way to the server", garden.gateway_id),
                "ask for service: doorstep-terminal request --sealed ID",
            ),
            None => Finding::bad(
                "sessions",
                "none",
                "ask for service: doorstep-terminal request --sealed ID; should the server not be \
                 reached, the gateway offers no way to it on this line",
            ),
        });
    }
    for session in &status.sessions {
        all.push(exchange(session));
        if matches!(session.state.as_str(), "established" | "silent") {
            all.extend(links(session, actual));
        }
    }
    all
}

fn cable(port: &pb::TerminalPort, link: Option<&Link>) -> Finding {
    let what = format!("port {}", port.name);
    match link {
        None => Finding::bad(
            what,
            "is not there",
            "name the port toward the building in `wan.ports`; `ip link` shows those that there are",
        ),
        Some(link) if !link.up => Finding::bad(
            what,
            "is down",
            "the daemon brings it up; somebody takes it down again",
        ),
        Some(link) if !link.carrier => Finding::bad(
            what,
            "has no carrier",
            "plug the cable in at both ends; another cable, another socket",
        ),
        Some(_) if !port.listening => Finding::bad(
            what,
            format!("cannot be heard: {}", port.detail),
            "the daemon tries again by itself; it needs CAP_NET_RAW",
        ),
        Some(link) => Finding::good(what, format!("up, {}, MTU {}", link.mac, link.mtu)),
    }
}

fn rooms(rooms: &pb::TerminalRooms) -> Finding {
    if rooms.served && rooms.detail.is_empty() {
        return Finding::good("rooms", "devices get addresses");
    }
    if rooms.served {
        let advice = "request that session, or choose another one in [home] and `apply` it";
        return Finding::bad("rooms", rooms.detail.clone(), advice);
    }
    let state = format!("devices get no addresses: {}", rooms.detail);
    let advice =
        "see the daemon's log; another DHCP server on this host must leave the bridge alone";
    Finding::bad("rooms", state, advice)
}

fn registration(operator: &pb::TerminalOperator) -> Finding {
    let what = format!("operator {}", operator.name);
    match operator.subscriber_id.as_str() {
        "" => Finding::bad(
            what,
            "not registered",
            format!(
                "doorstep-terminal register --phone NUMBER --operator {}",
                operator.name
            ),
        ),
        id => Finding::good(what, format!("subscriber {id}")),
    }
}

fn exchange(session: &pb::TerminalSession) -> Finding {
    let what = format!("session {}", session.session_id);
    let state = match session.detail.as_str() {
        "" => session.state.clone(),
        detail => format!("{}: {detail}", session.state),
    };
    let advice = match session.state.as_str() {
        "established" => return Finding::good(what, state),
        "waiting" | "connecting" | "establishing" => {
            "no gateway asks on this line: is the cable in the home's own socket, and is the \
             sticker this home's? Where the terminal tags, `wan.tags` must be the line's"
        }
        "silent" => {
            "the gateway does not answer: is the cable in at both ends, and has the building power? \
             If neighbours have service, tell the operator that this line is cut"
        }
        "bringing-up" | "accepting" => "in a moment; if it stays so, frames get lost on the line",
        "failed" => "the links could not be made; the daemon's log says which and why",
        "refused" => "the gateway does not serve it; ask the operator, who sees why",
        "disconnecting" | "disconnecting-unconfirmed" => {
            "the former gateway has not confirmed that it has ended there; the operator can go on \
             without it"
        }
        _ => "see `watch`",
    };
    Finding::bad(what, state, advice)
}

/// Whether the kernel has what the session needs.
fn links(session: &pb::TerminalSession, actual: &Actual) -> Vec<Finding> {
    const REPAIRS: &str = "the daemon repairs it within a second; somebody else takes it away \
                           again and again, such as another network manager: tell it to leave this \
                           interface alone";
    let mut all = Vec::new();
    let interface = &session.wan_interface;
    if let Ok(address) = session.ipv4_address.parse::<IpAddr>() {
        let what = format!("address {address}");
        let on = (interface.clone(), IpNet::from(address));
        all.push(match actual.addresses.contains(&on) {
            true => Finding::good(what, format!("on {interface}")),
            false => Finding::bad(what, format!("not on {interface}"), REPAIRS),
        });
    }
    if session.default_route {
        let leads = |v6: bool| {
            actual.routes.iter().any(|route| {
                route.table == MAIN_TABLE
                    && route.destination.prefix_len() == 0
                    && route.destination.addr().is_ipv6() == v6
                    && route.link.as_ref() == Some(interface)
            })
        };
        let families = [
            ("IPv4", false, session.ipv4_address.is_empty()),
            ("IPv6", true, session.ipv6_prefix.is_empty()),
        ];
        for (family, v6, unused) in families {
            let what = format!("default route, {family}");
            all.extend((!unused).then(|| match leads(v6) {
                true => Finding::good(what, format!("by {interface}")),
                false => Finding::bad(what, format!("not by {interface}"), REPAIRS),
            }));
        }
    }
    all.extend(room_for_tags(session, actual));
    all
}

/// A port whose frames have no room for the terminal's own tags.
fn room_for_tags(session: &pb::TerminalSession, actual: &Actual) -> Option<Finding> {
    let top = actual.links.get(&session.wan_interface)?;
    let (mut below, mut tags) = (top, 0);
    while let Some((parent, _)) = &below.vlan {
        below = actual.links.get(parent)?;
        tags += 1;
    }
    // One tag fits beside 1500 bytes nearly everywhere.
    let needed = top.mtu + 4 * u32::saturating_sub(tags, 1);
    let what = format!("MTU of {}", session.wan_interface);
    Some(match below.mtu >= needed {
        true => Finding::good(what, top.mtu.to_string()),
        false => Finding::bad(
            what,
            format!("{}, over a port with {}", top.mtu, below.mtu),
            format!("full packets get lost: set the port's MTU to {needed}"),
        ),
    })
}

/// What a home can do about a server that it does not reach.
pub(super) fn way_to_server(status: &pb::TerminalStatus) -> String {
    let is_online = status.sessions.iter().any(|s| s.state == "established");
    match &status.garden {
        _ if is_online => {
            "sessions go on without it, but nothing can be asked for; the operator knows more".into()
        }
        Some(garden) => format!(
            "the way through {} is there, and nothing comes back by it: the operator must look at the \
             server, and at the route to {}",
            garden.gateway_id,
            garden.addresses.join(" and ")
        ),
        None => "there is no session, and no gateway offers a way to it on this line: see that the cable \
                 is in the home's own socket; the operator knows whether there is a garden"
            .into(),
    }
}

pub(super) fn server(name: &str, url: &str, answer: &Answer, advice: &str) -> Finding {
    let what = format!("server of {name}");
    match answer {
        Ok(()) => Finding::good(what, format!("{url} is reached")),
        Err(why) => Finding::bad(what, format!("{url} is not reached: {why}"), advice),
    }
}

pub(super) fn resolver(server: IpAddr, answer: &Answer) -> Finding {
    let what = format!("DNS {server}");
    match answer {
        Ok(()) => Finding::good(what, "answers"),
        Err(why) => Finding::bad(
            what,
            format!("does not answer: {why}"),
            "names do not resolve by it; the operator names the resolvers",
        ),
    }
}

#[cfg(test)]
mod tests {
    use doorstep_establish::{TPID_8021Q, Tag};

    use super::*;
    use crate::links::Route;

    fn status(state: &str) -> pb::TerminalStatus {
        pb::TerminalStatus {
            ports: vec![pb::TerminalPort {
                name: "wan0".into(),
                listening: true,
                ..Default::default()
            }],
            operators: vec![pb::TerminalOperator {
                name: "north".into(),
                subscriber_id: "s".into(),
                ..Default::default()
            }],
            sessions: vec![pb::TerminalSession {
                session_id: "1".into(),
                state: state.into(),
                ipv4_address: "100.64.1.10".into(),
                wan_interface: "wan0.101".into(),
                default_route: true,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn actual() -> Actual {
        let port = Link {
            up: true,
            carrier: true,
            mtu: 1500,
            ..Default::default()
        };
        let vlan = Link {
            vlan: Some((
                "wan0".into(),
                Tag {
                    tpid: TPID_8021Q,
                    vid: 101,
                },
            )),
            ..port.clone()
        };
        let mut actual = Actual::default();
        actual.links.insert("wan0".into(), port);
        actual.links.insert("wan0.101".into(), vlan);
        let address = ("wan0.101".into(), "100.64.1.10/32".parse().unwrap());
        actual.addresses.insert(address);
        actual.routes.insert(Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            table: MAIN_TABLE,
            via: None,
            link: Some("wan0.101".into()),
            source: None,
            metric: 52,
        });
        actual
    }

    fn wrong(status: &pb::TerminalStatus, actual: &Actual) -> Vec<String> {
        let all = findings(status, actual);
        let wrong = all.into_iter().filter(|finding| finding.advice.is_some());
        wrong
            .map(|finding| format!("{}: {}", finding.what, finding.state))
            .collect()
    }

    #[test]
    fn a_healthy_home_has_no_finding() {
        assert_eq!(wrong(&status("established"), &actual()), [""; 0]);
    }

    #[test]
    fn each_fault_is_told_with_its_place() {
        let good = status("established");
        let with = |change: fn(&mut Actual)| {
            let mut actual = actual();
            change(&mut actual);
            wrong(&good, &actual)
        };
        let carrier = |a: &mut Actual| a.links.get_mut("wan0").unwrap().carrier = false;
        assert_eq!(with(carrier), ["port wan0: has no carrier"]);
        assert_eq!(
            with(|a| a.links.get_mut("wan0").unwrap().up = false),
            ["port wan0: is down"]
        );
        assert_eq!(
            with(|a| a.addresses.clear()),
            ["address 100.64.1.10: not on wan0.101"]
        );
        assert_eq!(
            with(|a| a.routes.clear()),
            ["default route, IPv4: not by wan0.101"]
        );
        assert_eq!(
            with(|a| drop(a.links.remove("wan0"))),
            ["port wan0: is not there"]
        );
        assert_eq!(
            with(|a| a.links.get_mut("wan0").unwrap().mtu = 1496),
            ["MTU of wan0.101: 1500, over a port with 1496"]
        );

        let mut unregistered = status("waiting");
        unregistered.operators[0].subscriber_id.clear();
        assert_eq!(
            wrong(&unregistered, &actual()),
            ["operator north: not registered", "session 1: waiting"]
        );
        let mut empty = good.clone();
        empty.sessions.clear();
        assert_eq!(wrong(&empty, &actual()), ["sessions: none"]);
        let mut shut = good.clone();
        shut.rooms = Some(pb::TerminalRooms {
            served: true,
            detail: "room1 has no way out".into(),
        });
        assert_eq!(wrong(&shut, &actual()), ["rooms: room1 has no way out"]);
        let mut homeless = empty;
        for (garden, advice) in [
            (None, "no gateway offers a way"),
            (
                Some(pb::TerminalGarden {
                    gateway_id: "gw1".into(),
                    addresses: vec!["100.127.0.1".into()],
                    ..Default::default()
                }),
                "the way through gw1 is there",
            ),
        ] {
            homeless.garden = garden;
            let advice_then = way_to_server(&homeless);
            assert!(advice_then.contains(advice), "{advice_then}");
        }
        let advice = way_to_server(&good);
        let unreached = Err("refused".into());
        let said = server("north", "https://x", &unreached, &advice).to_string();
        for part in [
            "!!  server of north",
            "refused",
            "sessions go on without it",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
