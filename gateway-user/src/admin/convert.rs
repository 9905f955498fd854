//! Plain values as messages of the admin service.

use std::fs;
use std::time::Duration;

use doorstep_daemon::dry_run::Run;
use doorstep_gateway_common::Reason;
use doorstep_proto::v1;
use ipnet::IpNet;

use super::Admin;
use crate::config::Config;
use crate::control;
use crate::dataplane::{Attachment, NextHop, Port};
use crate::engine::{LeaseView, LineView, SessionView, Summary};
use crate::runtime::Inspection;
use crate::session::Reading;

/// What the engine and the maps say.
pub struct Summaries {
    pub summary: Summary,
    pub inspection: Inspection,
}

pub fn status(admin: &Admin, summaries: &Summaries) -> v1::GatewayStatus {
    let Summaries {
        summary,
        inspection,
    } = summaries;
    let hops = admin.uplinks.next_hops();
    let uptime = admin.started.elapsed().as_millis();
    v1::GatewayStatus {
        gateway_id: admin.config.id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel(),
        uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
        ports: admin.uplinks.ports().iter().map(port).collect(),
        servers: servers(admin),
        operators: operators(&admin.config, &hops),
        sessions: Some(v1::GatewaySessionCounts {
            established: summary.established,
            establishing: summary.establishing,
            closing: summary.closing,
            disconnected_unacked: summary.disconnected_unacked,
            slots_used: summary.slots_used.into(),
            silent: inspection.silent,
            slots_max: admin.config.max_sessions.into(),
        }),
        lines: Some(v1::GatewayLineCounts {
            total: summary.lines,
            blocked: summary.lines_blocked,
        }),
        garden: Some(v1::GatewayGardenCounts {
            lines: summary.leases,
            lines_max: match has_garden(&admin.config) {
                true => admin.config.garden.lines.into(),
                false => 0,
            },
            refused: summary.leases_refused,
        }),
        packets: reasons(&inspection.reasons),
        maps: inspection
            .maps
            .iter()
            .map(|map| v1::GatewayMap {
                name: map.name.to_owned(),
                used: map.used,
                max: map.max,
            })
            .collect(),
        traces: admin.tracer.running(),
        dhcp: summary
            .dhcp
            .iter()
            .map(|(name, messages)| v1::GatewayDhcpCount {
                name: (*name).to_owned(),
                messages: *messages,
            })
            .collect(),
    }
}

fn has_garden(config: &Config) -> bool {
    let mut operators = config.operators.iter();
    operators.any(|operator| operator.garden.is_some())
}

/// The lines in the garden; `readings` are in the same order.
pub fn garden(lines: &[LeaseView], readings: &[Option<Reading>]) -> Vec<v1::GatewayGardenLine> {
    let readings = readings.iter().copied().chain(std::iter::repeat(None));
    lines
        .iter()
        .zip(readings)
        .map(|(view, reading)| v1::GatewayGardenLine {
            line: view.line.clone(),
            mac: view.mac.to_string(),
            addresses: view.addresses.iter().map(address).collect(),
            left_ms: u64::try_from(view.left.as_millis()).unwrap_or(u64::MAX),
            counters: Some(control::counters(reading.unwrap_or_default().counters)),
        })
        .collect()
}

/// An IPv4 address stands alone.
fn address(net: &IpNet) -> String {
    match net {
        IpNet::V4(net) => net.addr().to_string(),
        IpNet::V6(net) => net.to_string(),
    }
}

fn port(port: &Port) -> v1::GatewayPort {
    v1::GatewayPort {
        name: port.name.clone(),
        ifindex: port.ifindex,
        mac: port.mac.to_string(),
        mtu: port.mtu,
        role: port.role.name().to_owned(),
        xdp_mode: port.xdp_mode.to_owned(),
        state: port.state.name().to_owned(),
        shaper: port.shaper,
    }
}

/// Of a dry run the programs are gone again.
pub fn attachment(attachment: &Attachment, run: Run) -> v1::GatewayProgram {
    v1::GatewayProgram {
        port: attachment.port.clone(),
        hook: attachment.hook.to_owned(),
        program: attachment.program.to_owned(),
        before: attachment.before.unwrap_or_default(),
        after: match run {
            Run::Real => attachment.after,
            Run::Dry => 0,
        },
    }
}

fn servers(admin: &Admin) -> Vec<v1::GatewayServer> {
    let operators = admin.config.operators.iter();
    operators
        .map(|operator| {
            let state = admin.servers.get(operator.index);
            v1::GatewayServer {
                operator: operator.name.clone(),
                url: operator.server.address.url.clone(),
                connected: state.connected,
                since_unix_ms: state.since_unix_ms,
                last_error: state.last_error.unwrap_or_default(),
            }
        })
        .collect()
}

fn operators(config: &Config, hops: &[NextHop]) -> Vec<v1::GatewayOperator> {
    config
        .operators
        .iter()
        .map(|operator| {
            let hop = |v6| {
                let own = |hop: &&NextHop| hop.operator == operator.index && hop.v6 == v6;
                let hop = hops.iter().find(own)?;
                Some(v1::GatewayNextHop {
                    address: hop.address.to_string(),
                    resolved: hop.mac.is_some(),
                    mac: text(hop.mac),
                })
            };
            v1::GatewayOperator {
                name: operator.name.clone(),
                index: operator.index.into(),
                uplink: operator.uplink.clone(),
                uplink_vlan: operator.uplink_vlan.into(),
                next_hop_v4: hop(false),
                next_hop_v6: hop(true),
                routing_table: operator.routing_table.unwrap_or_default(),
            }
        })
        .collect()
}

pub fn reasons(reasons: &[(Reason, u64)]) -> Vec<v1::GatewayReason> {
    reasons
        .iter()
        .map(|(reason, packets)| v1::GatewayReason {
            reason: reason.name().to_owned(),
            number: reason.number().into(),
            packets: *packets,
            description: reason.describe().to_owned(),
            drop: reason.is_drop(),
        })
        .collect()
}

pub fn sessions(
    config: &Config,
    sessions: Vec<SessionView>,
    readings: &[Option<Reading>],
    now_unix_ms: i64,
) -> Vec<v1::GatewaySession> {
    sessions
        .into_iter()
        .enumerate()
        .map(|(i, view)| {
            // Before it is open, its slot still says what an earlier session counted.
            let reading =
                readings.get(i).copied().flatten().filter(|_| {
                    matches!(view.phase, "established" | "closing") && view.mac.is_some()
                });
            let reading = reading.unwrap_or_default();
            let operator = config.operator(view.operator);
            v1::GatewaySession {
                session_id: view.connect.session.to_string(),
                operator: operator.map(|own| own.name.clone()).unwrap_or_default(),
                location_id: view.connect.location.to_string(),
                line: view.line,
                generation: view.connect.generation,
                phase: view.phase.to_owned(),
                detail: detail(view.detail, reading.silent),
                ipv4_address: text(view.connect.ipv4),
                ipv6_prefix: text(view.connect.ipv6),
                ipv6_line_prefix: text(view.connect.ipv6_line),
                establishment: match view.connect.dhcp {
                    None => "terminal",
                    Some(_) => "dhcp",
                }
                .to_owned(),
                mac: text(view.mac),
                counters: Some(control::counters(reading.counters)),
                silent_since_unix_ms: reading.silent_since_ms(now_unix_ms).unwrap_or_default(),
                service: Some(control::service_message(view.connect.service)),
                steps: view
                    .steps
                    .iter()
                    .map(|step| v1::GatewayStep {
                        step: step.step.name().to_owned(),
                        at_unix_ms: step.at_unix_ms,
                    })
                    .collect(),
            }
        })
        .collect()
}

/// What stands in the way: if that is known, a terminal's silence comes of it.
fn detail(hindrance: Option<String>, silent: Option<Duration>) -> String {
    let silent = silent.map(|silent| {
        format!(
            "the terminal is silent for {} s: off, or not plugged in",
            silent.as_secs()
        )
    });
    hindrance.or(silent).unwrap_or_default()
}

pub fn line(view: LineView) -> v1::GatewayLine {
    v1::GatewayLine {
        location_id: view.location.to_string(),
        line: view.line.unwrap_or_default(),
        blocked_by_inventory: view.blocked_by_inventory,
        blocked_by_hand: view.blocked.is_some(),
        blocked_at_unix_ms: view
            .blocked
            .map(|block| block.at_unix_ms)
            .unwrap_or_default(),
        sessions: view.sessions,
    }
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Release of the running kernel.
fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim_end().to_owned())
        .unwrap_or_default()
}
