//! The last link: what the gateway counts.

use super::examine::{Fault, Held, established, gateway_away};
use super::{Facts, Host, Kind, SessionFacts};

/// Follows the packets of a session at its gateway.
pub(super) fn trace(session: &SessionFacts) -> String {
    format!(
        "doorstep-gateway trace --location {} --seconds 60",
        session.location
    )
}

/// Whether packets pass, both ways.
pub(super) fn traffic(facts: &Facts, session: &SessionFacts) -> Result<Held, Fault> {
    let gateway = &session.gateway;
    let established_ms = established(session)?.0;
    let counted = session.traffic;
    let moved_ms = counted.map_or(0, |counted| counted.moved_ms);
    let quiet = |since_ms: i64| facts.now_ms.saturating_sub(since_ms) > facts.quiet_after_ms;
    if quiet(established_ms.max(moved_ms)) {
        if gateway.connected_ms.is_none() && !gateway.shared {
            let unknown = ": it forwards on, but what passes is not known here";
            return Err(gateway_away(gateway, unknown));
        }
        let (since_ms, cause) = match moved_ms {
            0 => (
                established_ms,
                "established, but no packet has passed since",
            ),
            _ => (moved_ms, "established, but its counters stand still"),
        };
        return Err(Fault {
            kind: Kind::NoTraffic,
            since_ms,
            cause: format!("{cause}: the terminal or what is behind it sends nothing"),
            host: Host::Gateway(gateway.id.clone()),
            command: trace(session),
        });
    }
    match counted.filter(|counted| counted.moved_ms > 0) {
        Some(counted) if counted.downstream_packets == 0 && quiet(established_ms) => Err(Fault {
            kind: Kind::OneWay,
            since_ms: established_ms,
            cause: format!(
                "{} packets have left and none has come back: look at the operator's route to the \
                 subscriber's address, and at the uplink",
                counted.upstream_packets
            ),
            host: Host::Gateway(gateway.id.clone()),
            command: "doorstep-gateway status".to_owned(),
        }),
        Some(counted) => Ok((
            counted.moved_ms,
            format!(
                "{} packets up, {} down",
                counted.upstream_packets, counted.downstream_packets
            ),
        )),
        None => Ok((
            0,
            "established a moment ago; nothing counted yet".to_owned(),
        )),
    }
}
