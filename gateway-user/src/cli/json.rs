//! Answers of the daemon as JSON.

use doorstep_proto::v1;
use serde_json::{Map, Value, json};

/// Empty text stands for "none" in the messages.
fn text(value: &str) -> Value {
    if value.is_empty() {
        Value::Null
    } else {
        value.into()
    }
}

pub fn status(status: &v1::GatewayStatus) -> Value {
    let sessions = status.sessions.unwrap_or_default();
    let garden = status.garden.unwrap_or_default();
    json!({
        "gateway_id": status.gateway_id,
        "version": status.version,
        "kernel": status.kernel,
        "uptime_ms": status.uptime_ms,
        "ports": status.ports.iter().map(|port| json!({
            "name": port.name,
            "ifindex": port.ifindex,
            "mac": port.mac,
            "mtu": port.mtu,
            "role": port.role,
            "xdp_mode": port.xdp_mode,
            "shaper": port.shaper,
            "state": port.state,
        })).collect::<Vec<_>>(),
        "servers": status.servers.iter().map(|server| json!({
            "operator": server.operator,
            "url": server.url,
            "connected": server.connected,
            "since_unix_ms": server.since_unix_ms,
            "last_error": text(&server.last_error),
        })).collect::<Vec<_>>(),
        "operators": status.operators.iter().map(|operator| json!({
            "name": operator.name,
            "index": operator.index,
            "uplink": operator.uplink,
            "uplink_vlan": operator.uplink_vlan,
            "routing_table": (operator.routing_table != 0).then_some(operator.routing_table),
            "next_hop_v4": operator.next_hop_v4.as_ref().map(next_hop),
            "next_hop_v6": operator.next_hop_v6.as_ref().map(next_hop),
        })).collect::<Vec<_>>(),
        "sessions": {
            "established": sessions.established,
            "establishing": sessions.establishing,
            "closing": sessions.closing,
            "disconnected_unacked": sessions.disconnected_unacked,
            "slots_used": sessions.slots_used,
            "slots_max": sessions.slots_max,
        },
        "garden": {
            "lines": garden.lines,
            "lines_max": garden.lines_max,
            "refused": garden.refused,
        },
        "packets": status.packets.iter()
            .map(|reason| (reason.reason.clone(), reason.packets.into()))
            .collect::<Map<_, _>>(),
        "maps": status.maps.iter()
            .map(|map| (map.name.clone(), json!({ "used": map.used, "max": map.max })))
            .collect::<Map<_, _>>(),
    })
}

fn next_hop(hop: &v1::GatewayNextHop) -> Value {
    json!({ "address": hop.address, "resolved": hop.resolved, "mac": text(&hop.mac) })
}

pub fn session(session: &v1::GatewaySession) -> Value {
    let service = session.service.unwrap_or_default();
    json!({
        "session_id": session.session_id,
        "operator": session.operator,
        "location_id": session.location_id,
        "line": session.line,
        "generation": session.generation,
        "phase": session.phase,
        "detail": text(&session.detail),
        "ipv4_address": text(&session.ipv4_address),
        "ipv6_prefix": text(&session.ipv6_prefix),
        "mac": text(&session.mac),
        "upstream_bps": service.upstream_bps,
        "downstream_bps": service.downstream_bps,
        "shape_downstream": service.shape_downstream,
        "priority": service.priority,
        "counters": counters_of(&session.counters.unwrap_or_default()),
        "steps": session.steps.iter().map(|step| json!({
            "step": step.step,
            "at_unix_ms": step.at_unix_ms,
        })).collect::<Vec<_>>(),
    })
}

fn counters_of(counters: &v1::Counters) -> Value {
    json!({
        "upstream_packets": counters.upstream_packets,
        "upstream_bytes": counters.upstream_bytes,
        "downstream_packets": counters.downstream_packets,
        "downstream_bytes": counters.downstream_bytes,
        "upstream_policed": counters.upstream_policed,
        "downstream_policed": counters.downstream_policed,
    })
}

pub fn garden_line(line: &v1::GatewayGardenLine) -> Value {
    json!({
        "line": line.line,
        "mac": line.mac,
        "addresses": line.addresses,
        "left_ms": line.left_ms,
        "counters": counters_of(&line.counters.unwrap_or_default()),
    })
}

pub fn reason(reason: &v1::GatewayReason) -> Value {
    json!({
        "reason": reason.reason,
        "number": reason.number,
        "packets": reason.packets,
        "description": reason.description,
    })
}
