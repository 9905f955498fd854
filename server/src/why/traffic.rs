//! The last link: what the gateway counts.

use super::examine::{Fault, Held, established, gateway_away};
use super::{Facts, Host, Kind, SessionFacts, Traffic};

/// Follows the packets of a session at its gateway.
pub(super) fn trace(session: &SessionFacts) -> String {
    format!(
        "doorstep-gateway trace --location {} --seconds 60",
        session.location
    )
}

/// Packets of a home that nothing answers for so long have nowhere to go.
const UNANSWERED_MS: i64 = 60_000;

/// Whether packets pass, both ways.
pub(super) fn traffic(facts: &Facts, session: &SessionFacts) -> Result<Held, Fault> {
    let gateway = &session.gateway;
    let established_ms = established(session)?.0;
    if gateway.connected_ms.is_none() && !gateway.shared {
        let unknown = ": it forwards on if its host runs, but what passes is not known here";
        return Err(gateway_away(gateway, unknown));
    }
    if !gateway.uplink_problem.is_empty() {
        return Err(Fault {
            kind: Kind::UplinkDown,
            since_ms: 0,
            cause: format!(
                "established, but at {}: {}",
                gateway.id, gateway.uplink_problem
            ),
            host: Host::Gateway(gateway.id.clone()),
            command: "doorstep-gateway status".to_owned(),
        });
    }
    if session.blocked {
        return Err(Fault {
            kind: Kind::Blocked,
            since_ms: 0,
            cause:
                "established, but its line is blocked at the gateway: by hand, or in the inventory"
                    .to_owned(),
            host: Host::Gateway(gateway.id.clone()),
            command: "doorstep-gateway lines list --blocked".to_owned(),
        });
    }
    if let Some(since_ms) = session.silent_since_ms {
        return Err(Fault {
            kind: Kind::TerminalSilent,
            since_ms,
            cause:
                "established, but the terminal is not heard any more: it is off, its cable is out, \
                    or the line is blocked; if only its daemon has stopped, traffic goes on"
                    .to_owned(),
            host: Host::Gateway(gateway.id.clone()),
            command: format!("doorstep-gateway sessions --location {}", session.location),
        });
    }
    let Some(counted) = session.traffic.filter(|counted| counted.moved_ms > 0) else {
        if is_quiet(facts, established_ms) {
            let cause = "established, but no packet has passed since";
            return Err(nothing(session, established_ms, cause));
        }
        return Ok((
            0,
            "established a moment ago; nothing counted yet".to_owned(),
        ));
    };
    if is_quiet(facts, established_ms.max(counted.moved_ms)) {
        let cause = "established, but its counters stand still";
        return Err(nothing(session, counted.moved_ms, cause));
    }
    let returned_ms = established_ms.max(counted.returned_ms);
    if counted.moved_ms - returned_ms > UNANSWERED_MS.min(facts.quiet_after_ms) {
        return Err(one_way(session, &counted, returned_ms));
    }
    Ok((
        counted.moved_ms,
        format!(
            "{} packets up, {} down",
            counted.upstream_packets, counted.downstream_packets
        ),
    ))
}

fn is_quiet(facts: &Facts, since_ms: i64) -> bool {
    facts.now_ms.saturating_sub(since_ms) > facts.quiet_after_ms
}

fn nothing(session: &SessionFacts, since_ms: i64, cause: &str) -> Fault {
    Fault {
        kind: Kind::NoTraffic,
        since_ms,
        cause: format!("{cause}: the terminal or what is behind it sends nothing"),
        host: Host::Gateway(session.gateway.id.clone()),
        command: trace(session),
    }
}

fn one_way(session: &SessionFacts, counted: &Traffic, since_ms: i64) -> Fault {
    let told = match counted.downstream_packets {
        0 => format!(
            "{} packets have left and none has come back",
            counted.upstream_packets
        ),
        _ => "packets leave, and none comes back any more".to_owned(),
    };
    Fault {
        kind: Kind::OneWay,
        since_ms,
        cause: format!(
            "{told}: look at the uplink, and at the operator's router: has it a route to the \
             subscriber's address by this gateway?"
        ),
        host: Host::Gateway(session.gateway.id.clone()),
        command: "doorstep-gateway status".to_owned(),
    }
}
