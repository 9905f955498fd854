//! Answers of the daemon as JSON.

use doorstep_proto::v1;
use doorstep_proto::v1::gateway_told::Told;
use serde_json::{Map, Value, json};

use super::show::pressure;

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
    let lines = status.lines.unwrap_or_default();
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
            "silent": sessions.silent,
            "slots_used": sessions.slots_used,
            "slots_max": sessions.slots_max,
        },
        "traces": status.traces,
        "dhcp": status.dhcp.iter()
            .map(|count| (count.name.clone(), json!(count.messages)))
            .collect::<serde_json::Map<_, _>>(),
        "lines": {
            "total": lines.total,
            "blocked": lines.blocked,
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
            .map(|map| (map.name.clone(), json!({
                "used": map.used,
                "max": map.max,
                "pressure": pressure(map),
            })))
            .collect::<Map<_, _>>(),
    })
}

pub fn upgrade(programs: &[v1::GatewayProgram]) -> Value {
    json!({
        "programs": programs.iter().map(|program| json!({
            "port": program.port,
            "hook": program.hook,
            "program": program.program,
            "before": (program.before != 0).then_some(program.before),
            "after": (program.after != 0).then_some(program.after),
        })).collect::<Vec<_>>(),
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
        "ipv6_line_prefix": text(&session.ipv6_line_prefix),
        "establishment": session.establishment,
        "mac": text(&session.mac),
        "silent_since_unix_ms":
            (session.silent_since_unix_ms != 0).then_some(session.silent_since_unix_ms),
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

pub fn told(told: &Told) -> Value {
    match told {
        Told::Packet(packet) => self::packet(packet),
        Told::Lost(lost) => json!({ "lost": lost }),
    }
}

fn packet(packet: &v1::GatewayPacket) -> Value {
    json!({
        "at_unix_ns": packet.at_unix_ns,
        "direction": packet.direction,
        "point": packet.point,
        "port": packet.port,
        "tags": packet.tags.iter().map(|tag| json!({
            "tpid": format!("{:#06x}", tag.tpid),
            "vid": tag.vid,
            "priority": tag.priority,
        })).collect::<Vec<_>>(),
        "source": text(&packet.source),
        "destination": text(&packet.destination),
        "protocol": text(&packet.protocol),
        "source_port": packet.ports.map(|ports| ports.source),
        "destination_port": packet.ports.map(|ports| ports.destination),
        "length": packet.length,
        "verdict": packet.verdict,
        "reason": packet.reason,
        "reason_number": packet.reason_number,
        "line": text(&packet.line),
        "operator": text(&packet.operator),
        "entry": packet.entry.as_ref().map(|entry| json!({
            "map": entry.map,
            "key": entry.key,
            "flags": entry.flags,
            "slot": entry.session.map(|session| session.slot),
            "generation": entry.session.map(|session| session.generation),
        })),
    })
}

/// A packet that nobody has sent has no time.
pub fn fate(fate: &v1::GatewayFate) -> Value {
    let mut told = packet(&fate.packet.clone().unwrap_or_default());
    if let Some(told) = told.as_object_mut() {
        told.remove("at_unix_ns");
        told.insert("action".to_owned(), text(&fate.action));
        told.insert("description".to_owned(), text(&fate.description));
        told.insert("location_id".to_owned(), text(&fate.location_id));
        told.insert("session_id".to_owned(), text(&fate.session_id));
    }
    told
}

pub fn line(line: &v1::GatewayLine) -> Value {
    json!({
        "location_id": line.location_id,
        "line": text(&line.line),
        "blocked": line.blocked_by_inventory || line.blocked_by_hand,
        "blocked_by_inventory": line.blocked_by_inventory,
        "blocked_by_hand": line.blocked_by_hand,
        "blocked_at_unix_ms": line.blocked_by_hand.then_some(line.blocked_at_unix_ms),
        "sessions": line.sessions,
    })
}
