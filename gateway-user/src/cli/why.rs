//! `why`: what the programs would do with packets.

use std::fs::File;

use anyhow::Context as _;
use doorstep_daemon::client::refused;
use doorstep_daemon::output::{self, Output, fields};
use doorstep_proto::v1;

use super::{Why, packets, show, trace};
use crate::capture;

/// A packet that nobody has sent may still be seen in one place.
const COUNTED: &str = "note: what is forwarded, handed to the kernel or policed has counted in the \
                       session's counters and rate, as any packet\n";

pub(super) async fn run(why: Why) -> anyhow::Result<()> {
    let Why { packet, port, ask } = why;
    let request = v1::GatewayWhyRequest {
        port: port.unwrap_or_default(),
        frames: frames(&packet)?,
    };
    let answer = show::connect(&ask.socket)
        .await?
        .why(request)
        .await
        .map_err(refused)?
        .into_inner();
    if ask.output == Output::Json {
        let fates: Vec<_> = answer.fates.iter().map(packets::fate).collect();
        return output::json(&fates);
    }
    output::print(&text(&answer))
}

/// The digits of one frame, or the packets of a file.
fn frames(packet: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    if capture::is_digits(packet) {
        let frame = capture::digits(packet).context("--packet")?;
        return Ok(vec![frame]);
    }
    let file = File::open(packet).with_context(|| {
        format!("{packet}: neither hexadecimal digits of a frame nor a file that can be read")
    })?;
    let frames = capture::read(file).with_context(|| packet.to_owned())?;
    anyhow::ensure!(!frames.is_empty(), "{packet}: there is no packet in it");
    Ok(frames)
}

fn text(answer: &v1::GatewayFates) -> String {
    let numbered = (1..).zip(&answer.fates);
    let mut parts: Vec<String> = numbered.map(|(number, fate)| one(number, fate)).collect();
    let mut packets = answer.fates.iter().filter_map(|fate| fate.packet.as_ref());
    let of_a_session = |packet: &v1::GatewayPacket| {
        let entry = packet.entry.as_ref();
        entry.is_some_and(|entry| entry.session.is_some())
    };
    if packets.any(of_a_session) {
        parts.push(COUNTED.to_owned());
    }
    parts.join("\n")
}

fn one(number: usize, fate: &v1::GatewayFate) -> String {
    let packet = fate.packet.clone().unwrap_or_default();
    let entry = packet.entry.as_ref();
    let slot = entry.and_then(|entry| entry.session.as_ref());
    let session = slot.map(|held| {
        let whose = match fate.session_id.as_str() {
            // A lease of the garden, or a session that has ended meanwhile.
            "" => String::new(),
            id => format!("{id}, "),
        };
        format!("{whose}slot {}, generation {}", held.slot, held.generation)
    });
    let what = [
        trace::addresses(&packet).unwrap_or_default(),
        packet.protocol.clone(),
        format!("{} bytes", packet.length),
    ];
    let what: Vec<_> = what.into_iter().filter(|word| !word.is_empty()).collect();
    fields(&[
        ("packet", format!("{number}: {}", what.join(", "))),
        ("in by", format!("{} ({})", packet.port, packet.direction)),
        ("tags", tags(&packet)),
        ("verdict", fate.action.clone()),
        (
            "reason",
            format!(
                "{} ({}): {}",
                packet.reason, packet.reason_number, fate.description
            ),
        ),
        ("entry", entry.map(trace::key).unwrap_or_default()),
        ("line", packet.line.clone()),
        ("location", fate.location_id.clone()),
        ("session", session.unwrap_or_default()),
        ("operator", packet.operator.clone()),
    ])
}

fn tags(packet: &v1::GatewayPacket) -> String {
    let tags = packet.tags.iter();
    let tags: Vec<_> = tags
        .map(|tag| format!("{} ({:#06x})", tag.vid, tag.tpid))
        .collect();
    tags.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate() -> v1::GatewayFate {
        v1::GatewayFate {
            action: "drop".to_owned(),
            packet: Some(v1::GatewayPacket {
                protocol: "ICMP".to_owned(),
                ports: None,
                reason: "mac_not_bound".to_owned(),
                reason_number: 44,
                ..trace::tests::packet()
            }),
            description: "the source MAC address is not the session's".to_owned(),
            location_id: "110103-xinjingjiayuan-001-002-004".to_owned(),
            session_id: "0190f3e8-0000-7000-8000-000000000001".to_owned(),
        }
    }

    fn answer(fate: v1::GatewayFate) -> v1::GatewayFates {
        v1::GatewayFates {
            port: "access0".to_owned(),
            fates: vec![fate],
        }
    }

    #[test]
    fn a_packet_and_what_decided() {
        let expected = "\
packet    1: 100.64.1.10 > 203.0.113.10, ICMP, 98 bytes
in by     access0 (up)
tags      101 (0x88a8), 1004 (0x8100)
verdict   drop
reason    mac_not_bound (44): the source MAC address is not the session's
entry     UPSTREAM_V4 access0/101.1004 100.64.1.10, policed
line      access0/101.1004
location  110103-xinjingjiayuan-001-002-004
session   0190f3e8-0000-7000-8000-000000000001, slot 3, generation 12
operator  north-net

note: what is forwarded, handed to the kernel or policed has counted in the session's counters and rate, as any packet
";
        assert_eq!(text(&answer(fate())), expected);
        // A lease of the garden has an account, too.
        let lease = v1::GatewayFate {
            session_id: String::new(),
            ..fate()
        };
        let told = text(&answer(lease));
        assert!(told.contains("session   slot 3, generation 12\n"), "{told}");
        assert!(told.contains("\nnote: "), "{told}");
    }

    #[test]
    fn nobodys_packet() {
        let packet = v1::GatewayPacket {
            direction: "up".to_owned(),
            port: "access0".to_owned(),
            protocol: "0x88cc".to_owned(),
            length: 60,
            reason: "unknown_ethertype".to_owned(),
            reason_number: 34,
            ..v1::GatewayPacket::default()
        };
        let nobodys = v1::GatewayFate {
            packet: Some(packet),
            description: "neither IPv4, IPv6 nor ARP".to_owned(),
            location_id: String::new(),
            session_id: String::new(),
            ..fate()
        };
        let expected = "\
packet    1: 0x88cc, 60 bytes
in by     access0 (up)
verdict   drop
reason    unknown_ethertype (34): neither IPv4, IPv6 nor ARP
";
        assert_eq!(text(&answer(nobodys.clone())), expected);
        let fates = vec![nobodys.clone(), nobodys];
        let two = text(&v1::GatewayFates {
            fates,
            ..v1::GatewayFates::default()
        });
        assert!(two.contains("\n\npacket    2: "), "{two}");
    }

    #[test]
    fn packets_by_digits_and_by_file() {
        assert_eq!(frames("02:00 ff").expect("digits"), [[2, 0, 0xff]]);
        let said = |packet: &str| format!("{:#}", frames(packet).expect_err(packet));
        assert!(said("020").contains("--packet: an odd number"));
        assert!(said("nowhere.pcap").contains("nowhere.pcap: neither"));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("home.pcap");
        std::fs::write(&file, b"something else altogether").expect("written");
        let said = said(&file.display().to_string());
        assert!(said.contains("home.pcap: it is no capture file"), "{said}");
    }

    #[test]
    fn as_json() {
        let told = serde_json::to_value(packets::fate(&fate())).expect("JSON");
        assert_eq!(told["action"], "drop");
        assert_eq!(told["reason"], "mac_not_bound");
        assert_eq!(told["entry"]["slot"], 3);
        assert_eq!(told["session_id"], "0190f3e8-0000-7000-8000-000000000001");
        assert_eq!(told.get("at_unix_ns"), None);
        let nobodys = v1::GatewayFate {
            session_id: String::new(),
            location_id: String::new(),
            ..fate()
        };
        let told = serde_json::to_value(packets::fate(&nobodys)).expect("JSON");
        assert!(told["session_id"].is_null() && told["location_id"].is_null());
    }
}
