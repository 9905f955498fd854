//! Packets as they come, one a line.

use std::time::Duration;

use doorstep_daemon::client::refused;
use doorstep_daemon::output::{self, Output};
use doorstep_proto::v1;
use doorstep_proto::v1::gateway_told::Told;
use doorstep_proto::v1::gateway_trace_request::Target as Asked;

use super::{Target, Trace, packets, show};

const HEADER: [&str; 9] = [
    "TIME (UTC)",
    "DIR",
    "PORT",
    "TAGS",
    "SOURCE > DESTINATION",
    "PROTOCOL",
    "LENGTH",
    "REASON",
    "ENTRY",
];

/// Shows packets until there are enough of them, the time is over, or somebody ends it.
pub(super) async fn run(trace: Trace) -> anyhow::Result<()> {
    let time = trace.seconds.map(Duration::from_secs);
    let mut seen = 0;
    let shown = show(trace, &mut seen);
    match time {
        Some(time) => tokio::time::timeout(time, shown).await.unwrap_or(Ok(()))?,
        None => shown.await?,
    }
    if seen == 0 {
        // Not among the packets, which may go to a program.
        output::note(
            "no packet has come; one whose tags no line has is counted as unknown_line by \
             `doorstep-gateway drops`",
        );
    }
    Ok(())
}

async fn show(trace: Trace, seen: &mut u64) -> anyhow::Result<()> {
    let Trace {
        target, count, ask, ..
    } = trace;
    let mut stream = show::connect(&ask.socket)
        .await?
        .trace(request(target))
        .await
        .map_err(refused)?
        .into_inner();
    if ask.output == Output::Table {
        output::print(&line(HEADER))?;
    }
    let mut left = count;
    while let Some(message) = stream.message().await.map_err(refused)? {
        let Some(told) = message.told else { continue };
        output::print(&match ask.output {
            Output::Json => {
                format!("{}\n", serde_json::to_string(&packets::told(&told))?)
            }
            Output::Table => text(&told),
        })?;
        *seen += 1;
        if let (Told::Packet(_), Some(left)) = (&told, &mut left) {
            *left -= 1;
            if *left == 0 {
                break;
            }
        }
    }
    Ok(())
}

fn request(target: Target) -> v1::GatewayTraceRequest {
    let line = target.line.map(Asked::Line);
    let location = target.location.map(Asked::LocationId);
    let address = target.address.map(Asked::Address);
    v1::GatewayTraceRequest {
        target: line.or(location).or(address),
    }
}

fn text(told: &Told) -> String {
    match told {
        Told::Packet(packet) => line(cells(packet).each_ref().map(String::as_str)),
        Told::Lost(lost) => format!("{lost} packets more that could not be told of\n"),
    }
}

/// Nobody knows how wide what comes will be: these are the usual widths.
fn line(cells: [&str; HEADER.len()]) -> String {
    let [
        time,
        direction,
        port,
        tags,
        addresses,
        protocol,
        length,
        reason,
        entry,
    ] = cells;
    let line = format!(
        "{time:<15}  {direction:<4}  {port:<8}  {tags:<9}  {addresses:<36}  {protocol:<8}  \
         {length:>6}  {reason:<28}  {entry}"
    );
    format!("{}\n", line.trim_end())
}

fn cells(packet: &v1::GatewayPacket) -> [String; HEADER.len()] {
    let none = || "-".to_owned();
    let tags: Vec<_> = packet.tags.iter().map(|tag| tag.vid.to_string()).collect();
    [
        time(packet.at_unix_ns),
        packet.direction.clone(),
        packet.port.clone(),
        if tags.is_empty() {
            none()
        } else {
            tags.join(".")
        },
        addresses(packet).unwrap_or_else(none),
        packet.protocol.clone(),
        packet.length.to_string(),
        format!("{} {}", packet.verdict, packet.reason),
        packet.entry.as_ref().map_or_else(none, entry),
    ]
}

/// Time of day to the microsecond, UTC.
fn time(unix_ns: i64) -> String {
    let micros = unix_ns.max(0) / 1000;
    let (seconds, micros) = (micros / 1_000_000 % 86_400, micros % 1_000_000);
    format!(
        "{:02}:{:02}:{:02}.{micros:06}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

pub(super) fn addresses(packet: &v1::GatewayPacket) -> Option<String> {
    let (source, destination) = (&packet.source, &packet.destination);
    if source.is_empty() {
        return None;
    }
    let v6 = |address: &str| address.contains(':');
    Some(match packet.ports {
        None => format!("{source} > {destination}"),
        Some(ports) if v6(source) => format!(
            "[{source}]:{} > [{destination}]:{}",
            ports.source, ports.destination
        ),
        Some(ports) => format!(
            "{source}:{} > {destination}:{}",
            ports.source, ports.destination
        ),
    })
}

/// `UPSTREAM_V4 access0/101.1004 100.64.1.10, slot 3, generation 12, policed`
fn entry(entry: &v1::GatewayEntry) -> String {
    let session = entry
        .session
        .map(|held| format!(", slot {}, generation {}", held.slot, held.generation));
    let (place, flags) = (place(entry), flags(entry));
    format!("{place}{}{flags}", session.unwrap_or_default())
}

/// `UPSTREAM_V4 access0/101.1004 100.64.1.10, policed`
pub(super) fn key(entry: &v1::GatewayEntry) -> String {
    place(entry) + &flags(entry)
}

fn place(entry: &v1::GatewayEntry) -> String {
    format!("{} {}", entry.map, entry.key)
}

fn flags(entry: &v1::GatewayEntry) -> String {
    let flags = entry.flags.iter();
    flags.map(|flag| format!(", {flag}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn packet() -> v1::GatewayPacket {
        let tag = |tpid, vid| v1::GatewayTag {
            tpid,
            vid,
            priority: 0,
        };
        v1::GatewayPacket {
            at_unix_ns: 1_700_000_000_123_456_789,
            direction: "up".to_owned(),
            point: "access".to_owned(),
            port: "access0".to_owned(),
            tags: vec![tag(0x88a8, 101), tag(0x8100, 1004)],
            source: "100.64.1.10".to_owned(),
            destination: "203.0.113.10".to_owned(),
            protocol: "UDP".to_owned(),
            ports: Some(v1::GatewayPortPair {
                source: 40_000,
                destination: 53,
            }),
            length: 98,
            verdict: "drop".to_owned(),
            reason: "policed_upstream".to_owned(),
            reason_number: 56,
            line: "access0/101.1004".to_owned(),
            operator: "north-net".to_owned(),
            entry: Some(v1::GatewayEntry {
                map: "UPSTREAM_V4".to_owned(),
                key: "access0/101.1004 100.64.1.10".to_owned(),
                flags: vec!["policed".to_owned()],
                session: Some(v1::GatewayEntrySession {
                    slot: 3,
                    generation: 12,
                }),
            }),
        }
    }

    fn words(told: Told) -> String {
        text(&told).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_packet_is_a_line() {
        assert_eq!(
            words(Told::Packet(packet())),
            "22:13:20.123456 up access0 101.1004 100.64.1.10:40000 > 203.0.113.10:53 UDP 98 \
             drop policed_upstream UPSTREAM_V4 access0/101.1004 100.64.1.10, slot 3, \
             generation 12, policed"
        );
        let bare = v1::GatewayPacket {
            tags: Vec::new(),
            source: String::new(),
            destination: String::new(),
            protocol: "0x88cc".to_owned(),
            ports: None,
            reason: "unknown_ethertype".to_owned(),
            entry: None,
            ..packet()
        };
        assert_eq!(
            words(Told::Packet(bare)),
            "22:13:20.123456 up access0 - - 0x88cc 98 drop unknown_ethertype -"
        );
        assert!(words(Told::Lost(5)).starts_with("5 packets"));
    }

    #[test]
    fn addresses_and_ports() {
        let v6 = v1::GatewayPacket {
            source: "2001:db8::1".to_owned(),
            destination: "2001:db8::2".to_owned(),
            ..packet()
        };
        assert_eq!(
            addresses(&v6).as_deref(),
            Some("[2001:db8::1]:40000 > [2001:db8::2]:53")
        );
        let echo = v1::GatewayPacket { ports: None, ..v6 };
        assert_eq!(
            addresses(&echo).as_deref(),
            Some("2001:db8::1 > 2001:db8::2")
        );
    }
}
