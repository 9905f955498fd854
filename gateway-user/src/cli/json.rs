//! The JSON forms of the daemon's answers: field names are part of the interface.

use std::collections::BTreeMap;
use std::path::PathBuf;

use doorstep_proto::v1;
use serde::Serialize;

use super::show::pressure;

/// Empty text stands for "none" in the messages.
pub(super) fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// 0 stands for "none" in the messages.
fn known(unix_ms: i64) -> Option<i64> {
    (unix_ms != 0).then_some(unix_ms)
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    gateway_id: String,
    version: String,
    kernel: String,
    uptime_ms: u64,
    ports: Vec<Port>,
    servers: Vec<Server>,
    operators: Vec<Operator>,
    sessions: SessionCounts,
    /// That run now; 0: the ports have the plain programs.
    traces: u32,
    /// What became of routers' messages since the daemon has started.
    dhcp: BTreeMap<String, u64>,
    lines: LineCounts,
    garden: GardenCounts,
    /// By reason.
    packets: BTreeMap<String, u64>,
    maps: BTreeMap<String, MapUse>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Port {
    name: String,
    ifindex: u32,
    mac: String,
    mtu: u32,
    role: String,
    xdp_mode: String,
    /// Rates to its lines can be shaped.
    shaper: bool,
    /// `up`, `down` or `absent`.
    state: String,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Server {
    operator: String,
    url: String,
    connected: bool,
    /// Of the present state.
    since_unix_ms: i64,
    last_error: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Operator {
    name: String,
    index: u32,
    uplink: String,
    /// 0: untagged.
    uplink_vlan: u32,
    /// Null: the next hops are fixed.
    routing_table: Option<u32>,
    next_hop_v4: Option<NextHop>,
    next_hop_v6: Option<NextHop>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NextHop {
    address: String,
    /// Otherwise the kernel forwards.
    resolved: bool,
    mac: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SessionCounts {
    established: u64,
    establishing: u64,
    closing: u64,
    disconnected_unacked: u64,
    /// Established ones whose terminals do not ask any more whether they are.
    silent: u64,
    slots_used: u64,
    slots_max: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LineCounts {
    total: u64,
    blocked: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct GardenCounts {
    lines: u64,
    /// 0: no operator has a garden.
    lines_max: u64,
    /// Asked in vain since the daemon has started.
    refused: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MapUse {
    used: u64,
    max: u64,
    /// 0 to 1.
    pressure: f64,
}

pub fn status(status: &v1::GatewayStatus) -> Status {
    let sessions = status.sessions.unwrap_or_default();
    let lines = status.lines.unwrap_or_default();
    let garden = status.garden.unwrap_or_default();
    let operators = status.operators.iter().map(|operator| Operator {
        name: operator.name.clone(),
        index: operator.index,
        uplink: operator.uplink.clone(),
        uplink_vlan: operator.uplink_vlan,
        routing_table: (operator.routing_table != 0).then_some(operator.routing_table),
        next_hop_v4: operator.next_hop_v4.as_ref().map(next_hop),
        next_hop_v6: operator.next_hop_v6.as_ref().map(next_hop),
    });
    let servers = status.servers.iter().map(|server| Server {
        operator: server.operator.clone(),
        url: server.url.clone(),
        connected: server.connected,
        since_unix_ms: server.since_unix_ms,
        last_error: text(&server.last_error),
    });
    let dhcp = status.dhcp.iter();
    let packets = status.packets.iter();
    let maps = status.maps.iter().map(|map| {
        let in_use = MapUse {
            used: map.used,
            max: map.max,
            pressure: pressure(map),
        };
        (map.name.clone(), in_use)
    });
    Status {
        gateway_id: status.gateway_id.clone(),
        version: status.version.clone(),
        kernel: status.kernel.clone(),
        uptime_ms: status.uptime_ms,
        ports: status.ports.iter().map(port).collect(),
        servers: servers.collect(),
        operators: operators.collect(),
        sessions: SessionCounts {
            established: sessions.established,
            establishing: sessions.establishing,
            closing: sessions.closing,
            disconnected_unacked: sessions.disconnected_unacked,
            silent: sessions.silent,
            slots_used: sessions.slots_used,
            slots_max: sessions.slots_max,
        },
        traces: status.traces,
        dhcp: dhcp
            .map(|count| (count.name.clone(), count.messages))
            .collect(),
        lines: LineCounts {
            total: lines.total,
            blocked: lines.blocked,
        },
        garden: GardenCounts {
            lines: garden.lines,
            lines_max: garden.lines_max,
            refused: garden.refused,
        },
        packets: packets
            .map(|one| (one.reason.clone(), one.packets))
            .collect(),
        maps: maps.collect(),
    }
}

fn port(port: &v1::GatewayPort) -> Port {
    Port {
        name: port.name.clone(),
        ifindex: port.ifindex,
        mac: port.mac.clone(),
        mtu: port.mtu,
        role: port.role.clone(),
        xdp_mode: port.xdp_mode.clone(),
        shaper: port.shaper,
        state: port.state.clone(),
    }
}

fn next_hop(hop: &v1::GatewayNextHop) -> NextHop {
    NextHop {
        address: hop.address.clone(),
        resolved: hop.resolved,
        mac: text(&hop.mac),
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Upgraded {
    programs: Vec<Program>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Program {
    port: String,
    /// `xdp`, `tc-ingress` or `tc-egress`.
    hook: String,
    program: String,
    /// The kernel's id of what was there.
    before: Option<u32>,
    /// Null: of a dry run.
    after: Option<u32>,
}

pub fn upgrade(programs: &[v1::GatewayProgram]) -> Upgraded {
    let programs = programs.iter().map(|program| Program {
        port: program.port.clone(),
        hook: program.hook.clone(),
        program: program.program.clone(),
        before: (program.before != 0).then_some(program.before),
        after: (program.after != 0).then_some(program.after),
    });
    Upgraded {
        programs: programs.collect(),
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Enrolled {
    pub gateway_id: String,
    pub operator: String,
    pub ca: PathBuf,
    pub certificate: PathBuf,
    /// Null: of a dry run.
    pub until_unix_ms: Option<i64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Session {
    session_id: String,
    operator: String,
    location_id: String,
    line: String,
    generation: u64,
    phase: String,
    detail: Option<String>,
    ipv4_address: Option<String>,
    ipv6_prefix: Option<String>,
    ipv6_line_prefix: Option<String>,
    /// `terminal` or `dhcp`.
    establishment: String,
    mac: Option<String>,
    silent_since_unix_ms: Option<i64>,
    /// 0: unlimited.
    upstream_bps: u64,
    downstream_bps: u64,
    shape_downstream: bool,
    priority: u32,
    counters: Counters,
    steps: Vec<Step>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Step {
    step: String,
    at_unix_ms: i64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Counters {
    upstream_packets: u64,
    upstream_bytes: u64,
    downstream_packets: u64,
    downstream_bytes: u64,
    upstream_policed: u64,
    downstream_policed: u64,
}

pub fn session(session: &v1::GatewaySession) -> Session {
    let service = session.service.unwrap_or_default();
    let steps = session.steps.iter().map(|step| Step {
        step: step.step.clone(),
        at_unix_ms: step.at_unix_ms,
    });
    Session {
        session_id: session.session_id.clone(),
        operator: session.operator.clone(),
        location_id: session.location_id.clone(),
        line: session.line.clone(),
        generation: session.generation,
        phase: session.phase.clone(),
        detail: text(&session.detail),
        ipv4_address: text(&session.ipv4_address),
        ipv6_prefix: text(&session.ipv6_prefix),
        ipv6_line_prefix: text(&session.ipv6_line_prefix),
        establishment: session.establishment.clone(),
        mac: text(&session.mac),
        silent_since_unix_ms: known(session.silent_since_unix_ms),
        upstream_bps: service.upstream_bps,
        downstream_bps: service.downstream_bps,
        shape_downstream: service.shape_downstream,
        priority: service.priority,
        counters: counters_of(&session.counters.unwrap_or_default()),
        steps: steps.collect(),
    }
}

fn counters_of(counters: &v1::Counters) -> Counters {
    Counters {
        upstream_packets: counters.upstream_packets,
        upstream_bytes: counters.upstream_bytes,
        downstream_packets: counters.downstream_packets,
        downstream_bytes: counters.downstream_bytes,
        upstream_policed: counters.upstream_policed,
        downstream_policed: counters.downstream_policed,
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GardenLine {
    line: String,
    mac: String,
    /// IPv4 addresses and IPv6 prefixes.
    addresses: Vec<String>,
    /// Unless it asks again.
    left_ms: u64,
    counters: Counters,
}

pub fn garden_line(line: &v1::GatewayGardenLine) -> GardenLine {
    GardenLine {
        line: line.line.clone(),
        mac: line.mac.clone(),
        addresses: line.addresses.clone(),
        left_ms: line.left_ms,
        counters: counters_of(&line.counters.unwrap_or_default()),
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reason {
    reason: String,
    number: u32,
    packets: u64,
    description: String,
}

pub fn reason(reason: &v1::GatewayReason) -> Reason {
    Reason {
        reason: reason.reason.clone(),
        number: reason.number,
        packets: reason.packets,
        description: reason.description.clone(),
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Line {
    location_id: String,
    /// Null: not in the inventory any more.
    line: Option<String>,
    blocked: bool,
    blocked_by_inventory: bool,
    blocked_by_hand: bool,
    /// By hand.
    blocked_at_unix_ms: Option<i64>,
    sessions: u32,
}

pub fn line(line: &v1::GatewayLine) -> Line {
    Line {
        location_id: line.location_id.clone(),
        line: text(&line.line),
        blocked: line.blocked_by_inventory || line.blocked_by_hand,
        blocked_by_inventory: line.blocked_by_inventory,
        blocked_by_hand: line.blocked_by_hand,
        blocked_at_unix_ms: line.blocked_by_hand.then_some(line.blocked_at_unix_ms),
        sessions: line.sessions,
    }
}
