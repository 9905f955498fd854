//! What a gateway would do with packets that nobody has sent.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use doorstep_tests::frames::{Ether, frame, udp_v4};
use doorstep_tests::lab::street::{Gateway, Plan, Street, line_tags, location};
use doorstep_tests::lab::traffic::mac;
use doorstep_tests::suite::CaseResult;
use etherparse::EtherType;
use serde_json::Value;

use crate::support::{connect, flows, packets};

const WORLD: [u8; 4] = [203, 0, 113, 10];
/// Packets of a file.
const MANY: usize = 100;

/// What is told of the only packet.
fn one(gateway: &Gateway, words: &[&str]) -> Result<Value> {
    let words = [&["why"], words].concat();
    let told: Vec<Value> = gateway.daemon.ask_json(&words)?;
    let [only] = &told[..] else {
        bail!("told of {} packets: {told:?}", told.len());
    };
    Ok(only.clone())
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A capture file as `tcpdump` writes it.
fn pcap(file: &Path, frames: &[Vec<u8>]) -> Result<()> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1] {
        bytes.extend(u32::to_le_bytes(word));
    }
    for frame in frames {
        let length = u32::try_from(frame.len())?;
        for word in [1_700_000_000, 0, length, length] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(frame);
    }
    Ok(std::fs::write(file, bytes)?)
}

fn upstream_packets(gateway: &Gateway) -> Result<u64> {
    let sessions: Vec<Value> = gateway.daemon.ask_json(&["sessions"])?;
    let first = sessions.first().context("no session")?;
    first["counters"]["upstream_packets"]
        .as_u64()
        .context("no counter")
}

pub fn judged() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let (gateway, home) = (&street.gateways[0], &street.homes[0]);
    let IpAddr::V4(own) = session.v4()? else {
        bail!("not IPv4")
    };
    let tags = line_tags(2, 0, 0);
    let up = Ether {
        source: mac(&home.netns, "wan0")?,
        destination: mac(&gateway.netns, "access0")?,
        tags: &tags,
    };
    let good = udp_v4(up, own.octets(), WORLD, 64);
    let foreign_mac = Ether {
        source: [2, 0, 0, 0, 0, 0x66],
        ..up
    };
    let foreign = udp_v4(foreign_mac, own.octets(), WORLD, 64);
    let line = "access0/101.1004";
    for (about, frame, expected) in [
        (
            "as it should be",
            &good,
            ["redirect", "forward", "forwarded_upstream", "UPSTREAM_V4"],
        ),
        (
            "its last hop",
            &udp_v4(up, own.octets(), WORLD, 1),
            ["pass", "kernel", "kernel_upstream", "UPSTREAM_V4"],
        ),
        (
            "another's MAC address",
            &foreign,
            ["drop", "drop", "mac_not_bound", "UPSTREAM_V4"],
        ),
        (
            "another's address",
            &udp_v4(up, [100, 64, 1, 200], WORLD, 64),
            ["drop", "drop", "source_not_bound", "LINES"],
        ),
    ] {
        let told = one(gateway, &["--packet", &hex(frame)])?;
        let words = [
            &told["action"],
            &told["verdict"],
            &told["reason"],
            &told["entry"]["map"],
        ];
        ensure!(words == expected, "{about}: {told}");
        ensure!(told["line"] == line, "{about}: {told}");
        ensure!(told["location_id"] == location(0, 0), "{about}: {told}");
        let is_a_sessions = expected[3] == "UPSTREAM_V4";
        if is_a_sessions {
            ensure!(told["session_id"] == session.session_id, "{about}: {told}");
            ensure!(
                told["entry"]["generation"] == session.generation,
                "{about}: {told}"
            );
            ensure!(
                told["operator"] == street.operators[0].name,
                "{about}: {told}"
            );
        } else {
            ensure!(told["session_id"].is_null(), "{about}: {told}");
        }
    }

    // From the world, and what no map had to be asked about.
    let world = Ether {
        source: [2, 0, 0, 0, 0, 0x77],
        destination: mac(&gateway.netns, "uplink0")?,
        tags: &[],
    };
    let down = udp_v4(world, WORLD, own.octets(), 64);
    let told = one(gateway, &["--port", "uplink0", "--packet", &hex(&down)])?;
    ensure!(told["reason"] == "forwarded_downstream", "{told}");
    ensure!(
        told["action"] == "redirect" && told["line"] == line,
        "{told}"
    );
    ensure!(told["session_id"] == session.session_id, "{told}");
    let strange = frame(up, EtherType(0x88cc), &[0; 50]);
    let told = one(gateway, &["--packet", &hex(&strange)])?;
    ensure!(
        told["reason"] == "unknown_ethertype" && told["entry"].is_null(),
        "{told}"
    );

    // By a file. The reasons' counts stay, the session's counters do not.
    let file = street.dir().join("home.pcap");
    let name = file.display().to_string();
    pcap(&file, &vec![foreign; MANY])?;
    let count = || -> Result<Option<u64>> { Ok(packets(gateway)?.get("mac_not_bound").copied()) };
    let before = count()?;
    let told: Vec<Value> = gateway.daemon.ask_json(&["why", "--packet", &name])?;
    ensure!(told.len() == MANY, "told of {} packets", told.len());
    ensure!(count()? == before, "test runs count under a reason");
    pcap(&file, &vec![good.clone(); MANY])?;
    let before = upstream_packets(gateway)?;
    let text = gateway.daemon.ask(&["why", "--packet", &name])?;
    ensure!(text.contains("packet    100: "), "{text}");
    ensure!(text.contains("note: "), "{text}");
    let after = upstream_packets(gateway)?;
    ensure!(after >= before + MANY as u64, "{before} to {after}");

    for (words, expected) in [
        (
            &["--packet", "0200", "--port", "access0"][..],
            "packet 1 has 2 bytes",
        ),
        (
            &["--packet", &hex(&good), "--port", "eth7"],
            "there are access0",
        ),
        (&["--packet", "/nowhere.pcap"], "/nowhere.pcap: neither"),
    ] {
        let said = gateway.daemon.refuse(&[&["why"], words].concat())?;
        ensure!(said.contains(expected), "{words:?}: {said}");
    }
    flows(&street, home, &session)
}
