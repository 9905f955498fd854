//! Commands that ask the running daemon.

use std::path::Path;

use clap::Args;
use doorstep_daemon::client::{self, refused};
use doorstep_daemon::moment::since;
use doorstep_daemon::output::{self, Output, table};
use doorstep_daemon::say;
use doorstep_proto::v1;
use doorstep_proto::v1::gateway_admin_client::GatewayAdminClient;
use tonic::transport::Channel;

use super::json;
use crate::dataplane::{Port, Role};
use crate::engine::PHASES;

pub(super) type Client = GatewayAdminClient<Channel>;

pub(super) async fn connect(socket: &Path) -> anyhow::Result<Client> {
    let channel = client::connect(socket, "gateway").await?;
    Ok(GatewayAdminClient::new(channel))
}

pub async fn status(socket: &Path, output: Output) -> anyhow::Result<()> {
    let answer = connect(socket)
        .await?
        .status(v1::GatewayStatusRequest {})
        .await
        .map_err(refused)?
        .into_inner();
    if output == Output::Json {
        return output::json(&json::status(&answer));
    }
    let sessions = answer.sessions.unwrap_or_default();
    say!(
        "gateway {}  version {}  kernel {}  up {} s",
        answer.gateway_id,
        answer.version,
        answer.kernel,
        answer.uptime_ms / 1000
    )?;
    say!(
        "sessions: {} established ({} silent), {} establishing, {} closing, {} receipts not \
         acknowledged",
        sessions.established,
        sessions.silent,
        sessions.establishing,
        sessions.closing,
        sessions.disconnected_unacked
    )?;
    if answer.traces > 0 {
        say!("packets are followed: {} traces run\n", answer.traces)?;
    }
    let lines = answer.lines.unwrap_or_default();
    say!("lines: {}, {} blocked\n", lines.total, lines.blocked)?;
    let garden = answer.garden.unwrap_or_default();
    if garden.lines_max > 0 {
        say!(
            "garden: {} lines of {}, {} asked in vain\n",
            garden.lines,
            garden.lines_max,
            garden.refused
        )?;
    }
    if !answer.dhcp.is_empty() {
        let counts = answer.dhcp.iter();
        let counts: Vec<_> = counts
            .map(|count| format!("{} {}", count.messages, count.name))
            .collect();
        say!("dhcp: {}\n", counts.join(", "))?;
    }
    let ports: Vec<_> = answer
        .ports
        .iter()
        .map(|port| {
            let mtu = port.mtu.to_string();
            [
                &port.name,
                &port.role,
                &port.state,
                &port.xdp_mode,
                &port.mac,
                &mtu,
            ]
            .map(String::clone)
            .to_vec()
        })
        .collect();
    say!("{}", table(&PORT_HEADER, &ports))?;
    let operators: Vec<_> = answer
        .operators
        .iter()
        .map(|operator| operator_row(operator, &answer.servers))
        .collect();
    let header = ["OPERATOR", "UPLINK", "NEXT HOPS", "SERVER", "STREAM"];
    say!("{}", table(&header, &operators))?;
    let maps: Vec<_> = answer
        .maps
        .iter()
        .map(|map| {
            let full = format!("{:.1} %", 100.0 * pressure(map));
            vec![
                map.name.clone(),
                map.used.to_string(),
                map.max.to_string(),
                full,
            ]
        })
        .collect();
    say!("{}", table(&["MAP", "USED", "MAX", "FULL"], &maps))?;
    let packets: Vec<_> = answer
        .packets
        .iter()
        .filter(|reason| reason.packets > 0)
        .map(|reason| vec![reason.reason.clone(), reason.packets.to_string()])
        .collect();
    output::print(&table(&["PACKETS", "COUNT"], &packets))
}

/// How full a map is: 0 to 1.
pub fn pressure(map: &v1::GatewayMap) -> f64 {
    map.used as f64 / map.max.max(1) as f64
}

const PORT_HEADER: [&str; 6] = ["PORT", "ROLE", "STATE", "XDP", "MAC", "MTU"];

/// Ports as the data plane knows them.
pub fn ports(ports: &[Port]) -> String {
    let rows: Vec<_> = ports
        .iter()
        .map(|port| {
            let role = match port.role {
                Role::Access => "access",
                Role::Uplink => "uplink",
            };
            vec![
                port.name.clone(),
                role.to_owned(),
                port.state.name().to_owned(),
                port.xdp_mode.to_owned(),
                port.mac.to_string(),
                port.mtu.to_string(),
            ]
        })
        .collect();
    table(&PORT_HEADER, &rows)
}

fn operator_row(operator: &v1::GatewayOperator, servers: &[v1::GatewayServer]) -> Vec<String> {
    let uplink = match operator.uplink_vlan {
        0 => operator.uplink.clone(),
        vid => format!("{}.{vid}", operator.uplink),
    };
    let by = match operator.routing_table {
        0 => String::new(),
        table => format!(" by table {table}"),
    };
    let hops: Vec<_> = [&operator.next_hop_v4, &operator.next_hop_v6]
        .into_iter()
        .flatten()
        .map(|hop| {
            let how = if hop.resolved { "" } else { " (by the kernel)" };
            format!("{}{how}", hop.address)
        })
        .collect();
    let server = servers
        .iter()
        .find(|server| server.operator == operator.name);
    let url = server.map(|server| server.url.clone());
    let stream = server.map(
        |server| match (server.connected, server.last_error.as_str()) {
            (true, _) => "up".to_owned(),
            (false, "") => "dialling".to_owned(),
            (false, error) => format!("down: {error}"),
        },
    );
    vec![
        operator.name.clone(),
        format!("{uplink}{by}"),
        hops.join(", "),
        url.unwrap_or_default(),
        stream.unwrap_or_default(),
    ]
}

#[derive(Args)]
pub struct SessionsArgs {
    /// Only those of this operator
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Only those at a place and below it, by whole components: 1101, 110103-xinjingjiayuan
    #[arg(long, value_name = "PREFIX")]
    location: Option<String>,
    /// Only those in this state; may be given several times
    #[arg(long, value_name = "STATE", value_parser = PHASES)]
    state: Vec<String>,
    /// Only those in their states since then or later: a time such as 2026-03-01T12:00:00Z, or so long
    /// ago, such as 30m, 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    /// At most so many; where there may be more, what to type for them is told on standard error
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Only those behind this one, the last of the page before
    #[arg(long, value_name = "OPERATOR/SESSION")]
    after: Option<String>,
    #[command(flatten)]
    ask: super::Ask,
}

/// Tells how a list goes on, if it may.
pub(super) fn tell_more(count: usize, limit: Option<u32>, last: Option<&str>) {
    let is_full = limit.is_some_and(|limit| count >= limit as usize);
    if let (true, Some(last)) = (is_full, last) {
        output::note(format_args!(
            "there may be more: the same with --after {last}"
        ));
    }
}

pub async fn sessions(args: SessionsArgs) -> anyhow::Result<()> {
    let super::Ask { socket, output } = args.ask;
    let request = v1::GatewaySessionsRequest {
        operator: args.operator.unwrap_or_default(),
        location_prefix: args.location.unwrap_or_default(),
        phases: args.state,
        since_unix_ms: args.since.unwrap_or_default(),
        after: args.after.unwrap_or_default(),
        limit: args.limit.unwrap_or_default(),
    };
    let mut parts = connect(&socket)
        .await?
        .sessions(request)
        .await
        .map_err(refused)?
        .into_inner();
    let mut sessions = Vec::new();
    while let Some(part) = parts.message().await.map_err(refused)? {
        sessions.extend(part.sessions);
    }
    let last = sessions
        .last()
        .map(|last: &v1::GatewaySession| format!("{}/{}", last.operator, last.session_id));
    tell_more(sessions.len(), args.limit, last.as_deref());
    if output == Output::Json {
        return output::json(&sessions.iter().map(json::session).collect::<Vec<_>>());
    }
    let rows: Vec<_> = sessions.iter().map(session_row).collect();
    #[rustfmt::skip]
    let header = ["SESSION", "OPERATOR", "GEN", "PHASE", "LINE", "LOCATION", "ADDRESSES", "MAC", "SERVICE", "UP", "DOWN", "POLICED", "DETAIL"];
    output::print(&table(&header, &rows))
}

fn session_row(session: &v1::GatewaySession) -> Vec<String> {
    let counters = session.counters.unwrap_or_default();
    let mut addresses = vec![
        session.ipv4_address.as_str(),
        &session.ipv6_prefix,
        &session.ipv6_line_prefix,
    ];
    addresses.retain(|address| !address.is_empty());
    vec![
        session.session_id.clone(),
        session.operator.clone(),
        session.generation.to_string(),
        session.phase.clone(),
        session.line.clone(),
        session.location_id.clone(),
        addresses.join(" "),
        session.mac.clone(),
        service(&session.service.unwrap_or_default()),
        bytes(counters.upstream_bytes),
        bytes(counters.downstream_bytes),
        policed(&counters),
        session.detail.clone(),
    ]
}

pub async fn garden(socket: &Path, output: Output) -> anyhow::Result<()> {
    let answer = connect(socket)
        .await?
        .garden(v1::GatewayGardenRequest {})
        .await
        .map_err(refused)?
        .into_inner();
    if output == Output::Json {
        let lines = answer.lines.iter().map(json::garden_line);
        return output::json(&lines.collect::<Vec<_>>());
    }
    let rows: Vec<_> = answer.lines.iter().map(garden_row).collect();
    let header = ["LINE", "ADDRESSES", "MAC", "LEFT", "UP", "DOWN", "POLICED"];
    output::print(&table(&header, &rows))
}

fn garden_row(line: &v1::GatewayGardenLine) -> Vec<String> {
    let counters = line.counters.unwrap_or_default();
    vec![
        line.line.clone(),
        line.addresses.join(" "),
        line.mac.clone(),
        format!("{} s", line.left_ms / 1000),
        bytes(counters.upstream_bytes),
        bytes(counters.downstream_bytes),
        policed(&counters),
    ]
}

/// Upstream, downstream.
fn policed(counters: &v1::Counters) -> String {
    let v1::Counters {
        upstream_policed,
        downstream_policed,
        ..
    } = counters;
    format!("{upstream_policed}/{downstream_policed}")
}

/// `100.0 Mbit/s up, 300.0 Mbit/s down shaped, priority 2`; empty where nothing is limited.
fn service(service: &v1::Service) -> String {
    let mut parts = Vec::new();
    if service.upstream_bps > 0 {
        parts.push(format!("{} up", rate(service.upstream_bps)));
    }
    if service.downstream_bps > 0 {
        let how = if service.shape_downstream {
            " shaped"
        } else {
            ""
        };
        parts.push(format!("{} down{how}", rate(service.downstream_bps)));
    }
    if service.priority > 0 {
        parts.push(format!("priority {}", service.priority));
    }
    parts.join(", ")
}

fn rate(bps: u64) -> String {
    scaled(
        bps,
        "bit/s",
        ["kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s"],
    )
}

fn bytes(count: u64) -> String {
    scaled(count, "B", ["kB", "MB", "GB", "TB", "PB"])
}

/// `1.5 MB`: decimal, as line rates are.
fn scaled(count: u64, base: &str, larger: [&str; 5]) -> String {
    if count < 1000 {
        return format!("{count} {base}");
    }
    let mut value = count as f64 / 1000.0;
    let mut units = larger.into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

pub async fn drops(socket: &Path, output: Output, all: bool) -> anyhow::Result<()> {
    let answer = connect(socket)
        .await?
        .reasons(v1::GatewayReasonsRequest {})
        .await
        .map_err(refused)?
        .into_inner();
    let drops: Vec<_> = answer.reasons.iter().filter(|reason| reason.drop).collect();
    if output == Output::Json {
        return output::json(&drops.into_iter().map(json::reason).collect::<Vec<_>>());
    }
    let rows: Vec<_> = drops
        .into_iter()
        .filter(|reason| all || reason.packets > 0)
        .map(|reason| {
            vec![
                reason.number.to_string(),
                reason.reason.clone(),
                reason.packets.to_string(),
                reason.description.clone(),
            ]
        })
        .collect();
    let header = ["NUMBER", "REASON", "PACKETS", "WHAT IT IS"];
    output::print(&table(&header, &rows))
}

#[cfg(test)]
mod tests {
    use doorstep_proto::v1;

    use super::{bytes, service};

    #[test]
    fn services() {
        let mut shown = v1::Service::default();
        assert_eq!(service(&shown), "");
        shown.downstream_bps = 300_000_000;
        assert_eq!(service(&shown), "300.0 Mbit/s down");
        shown.shape_downstream = true;
        shown.upstream_bps = 2_500_000_000;
        shown.priority = 2;
        assert_eq!(
            service(&shown),
            "2.5 Gbit/s up, 300.0 Mbit/s down shaped, priority 2"
        );
    }

    #[test]
    fn sizes() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_999, "1.0 MB"),
            (1_500_000_000, "1.5 GB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }
}
