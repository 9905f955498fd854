//! The JSON forms of packets and what becomes of them: field names are part of the interface.

use doorstep_proto::v1;
use doorstep_proto::v1::gateway_told;
use serde::Serialize;

use super::json::text;

/// A packet, or that so many more could not be told of.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
#[expect(
    clippy::large_enum_variant,
    reason = "each is printed as soon as it is made"
)]
pub enum Told {
    Packet(Seen),
    Lost(Lost),
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Lost {
    lost: u64,
}

/// One that was sent.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Seen {
    at_unix_ns: i64,
    #[serde(flatten)]
    packet: Packet,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Packet {
    /// `up`: from the subscriber, or `down`.
    direction: String,
    /// The program: `access`, `uplink`, `egress`, `ingress`.
    point: String,
    port: String,
    /// Outer first, as the program saw them.
    tags: Vec<Tag>,
    source: Option<String>,
    destination: Option<String>,
    protocol: Option<String>,
    source_port: Option<u32>,
    destination_port: Option<u32>,
    /// Of the frame, in bytes.
    length: u32,
    /// `forward`, `kernel`, `answer`, `daemon` or `drop`.
    verdict: String,
    reason: String,
    reason_number: u32,
    line: Option<String>,
    operator: Option<String>,
    /// The map entry that decided.
    entry: Option<Entry>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Tag {
    /// Such as `0x88a8`.
    tpid: String,
    vid: u32,
    priority: u32,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Entry {
    map: String,
    key: String,
    flags: Vec<String>,
    /// Null: it is no session's.
    slot: Option<u32>,
    generation: Option<u64>,
}

/// One that nobody has sent has no time.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fate {
    #[serde(flatten)]
    packet: Packet,
    /// What XDP does: `pass`, `redirect`, `drop`, `tx` or `aborted`.
    action: Option<String>,
    /// Of the reason.
    description: Option<String>,
    /// Of the line.
    location_id: Option<String>,
    /// Of the entry.
    session_id: Option<String>,
}

pub fn told(told: &gateway_told::Told) -> Told {
    match told {
        gateway_told::Told::Packet(packet) => Told::Packet(Seen {
            at_unix_ns: packet.at_unix_ns,
            packet: self::packet(packet),
        }),
        gateway_told::Told::Lost(lost) => Told::Lost(Lost { lost: *lost }),
    }
}

pub fn fate(fate: &v1::GatewayFate) -> Fate {
    Fate {
        packet: packet(&fate.packet.clone().unwrap_or_default()),
        action: text(&fate.action),
        description: text(&fate.description),
        location_id: text(&fate.location_id),
        session_id: text(&fate.session_id),
    }
}

fn packet(packet: &v1::GatewayPacket) -> Packet {
    let tags = packet.tags.iter().map(|tag| Tag {
        tpid: format!("{:#06x}", tag.tpid),
        vid: tag.vid,
        priority: tag.priority,
    });
    let entry = packet.entry.as_ref().map(|entry| Entry {
        map: entry.map.clone(),
        key: entry.key.clone(),
        flags: entry.flags.clone(),
        slot: entry.session.map(|session| session.slot),
        generation: entry.session.map(|session| session.generation),
    });
    Packet {
        direction: packet.direction.clone(),
        point: packet.point.clone(),
        port: packet.port.clone(),
        tags: tags.collect(),
        source: text(&packet.source),
        destination: text(&packet.destination),
        protocol: text(&packet.protocol),
        source_port: packet.ports.map(|ports| ports.source),
        destination_port: packet.ports.map(|ports| ports.destination),
        length: packet.length,
        verdict: packet.verdict.clone(),
        reason: packet.reason.clone(),
        reason_number: packet.reason_number,
        line: text(&packet.line),
        operator: text(&packet.operator),
        entry,
    }
}
