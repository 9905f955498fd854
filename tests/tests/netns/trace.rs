//! Packets followed one by one, and traffic that does not notice.

use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::loaded_programs;
use doorstep_tests::frames::{Ether, udp_v4};
use doorstep_tests::hitless;
use doorstep_tests::lab::cleanup::Guard;
use doorstep_tests::lab::street::{Gateway, Plan, Street, line_tags, location};
use doorstep_tests::lab::traffic::{mac, ping, reaches, send_frames};
use doorstep_tests::suite::CaseResult;
use serde_json::Value;

use crate::support::{connect, flows, unnoticed};

const PATIENCE: Duration = Duration::from_secs(60);

/// A `trace` that runs.
struct Following {
    packets: Arc<Mutex<Vec<Value>>>,
    _guard: Guard,
}

impl Following {
    /// Starts it and waits until packets are followed.
    fn start(gateway: &Gateway, words: &[&str]) -> Result<Self> {
        let before = traces(gateway)?;
        let words = [&["trace", "-o", "json"], words].concat();
        let mut child = gateway
            .daemon
            .client(&words)?
            .stdout(Stdio::piped())
            // That its daemon ends is what some are for.
            .stderr(Stdio::null())
            .spawn()?;
        let out = child.stdout.take().context("no output")?;
        let guard = Guard::new(move || {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        });
        let packets = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&packets);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let packet = serde_json::from_str(&line).unwrap_or(Value::String(line));
                log.lock().expect("not poisoned").push(packet);
            }
        });
        let this = Self {
            packets,
            _guard: guard,
        };
        until(gateway, before + 1)?;
        Ok(this)
    }

    fn packets(&self) -> Vec<Value> {
        self.packets.lock().expect("not poisoned").clone()
    }

    /// Waits until a packet is told of for which all of these hold.
    fn wait_for(&self, wanted: &[(&str, &str)]) -> Result<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let packets = self.packets();
            let found = packets.iter().find(|packet| fits(packet, wanted));
            if let Some(found) = found {
                return Ok(found.clone());
            }
            ensure!(Instant::now() < end, "{wanted:?} is not among {packets:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as somebody who goes away does.
    fn leave(self) -> Vec<Value> {
        let packets = self.packets();
        drop(self);
        packets
    }
}

fn fits(packet: &Value, wanted: &[(&str, &str)]) -> bool {
    let holds = |(key, value): &(&str, &str)| match key.split_once('.') {
        Some((outer, inner)) => packet[outer][inner] == *value,
        None => packet[*key] == *value,
    };
    wanted.iter().all(holds)
}

fn traces(gateway: &Gateway) -> Result<u64> {
    let status: Value = gateway.daemon.ask_json(&["status"])?;
    status["traces"].as_u64().context("no number of traces")
}

fn until(gateway: &Gateway, count: u64) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while traces(gateway)? != count {
        ensure!(
            Instant::now() < end,
            "not {count} traces:\n{}",
            gateway.daemon.log_tail()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Bytes of the program on the access port, as the kernel runs it.
fn program_bytes(gateway: &Gateway) -> Result<u32> {
    let text = gateway.netns.ip("-d link show access0")?;
    let mut words = text.split_whitespace();
    let id = words
        .by_ref()
        .skip_while(|word| *word != "prog/xdp")
        .nth(2)
        .with_context(|| format!("no program: {text}"))?;
    let id: u32 = id.parse()?;
    for program in loaded_programs() {
        let program = program?;
        if program.id() == id {
            return program.size_translated().context("of no size");
        }
    }
    anyhow::bail!("program {id} is not loaded")
}

fn line(home: usize) -> String {
    let vids: Vec<String> = line_tags(2, 0, home)
        .iter()
        .map(|tag| tag.1.to_string())
        .collect();
    format!("access0/{}", vids.join("."))
}

pub fn both_directions_and_why_not() -> CaseResult {
    let mut street = Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })?;
    let (own, other) = (connect(&street, 0)?, connect(&street, 1)?);
    let (v4, v6) = (own.v4()?.to_string(), own.v6()?.to_string());
    let spoofed = "100.64.1.200";
    street.homes[0]
        .netns
        .ip(&format!("addr add {spoofed}/32 dev lo"))?;
    let plain = program_bytes(&street.gateways[0])?;
    // The programs change under traffic; what follows is looked at without, so that it is found.
    unnoticed(&mut street, |street| {
        let gateway = &street.gateways[0];
        let following = Following::start(gateway, &["--line", &line(0)])?;
        ensure!(program_bytes(gateway)? > plain, "the same program");
        following.wait_for(&[("direction", "up"), ("protocol", "UDP")])?;
        following.leave();
        until(gateway, 0)?;
        ensure!(program_bytes(gateway)? == plain, "not the plain program");
        Ok(())
    })?;
    let (gateway, [home, neighbour, ..]) = (&street.gateways[0], &street.homes[..]) else {
        anyhow::bail!("no two homes")
    };
    let (line, world) = (line(0), street.echo(false).ip().to_string());
    let following = Following::start(gateway, &["--line", &line])?;
    ping(&home.netns, Some(own.v4()?), street.echo(false).ip(), 2)?;
    ping(&home.netns, Some(own.v6()?), street.echo(true).ip(), 2)?;
    ping(
        &neighbour.netns,
        Some(other.v4()?),
        street.echo(false).ip(),
        2,
    )?;
    ensure!(!reaches(&home.netns, spoofed.parse()?, street.echo(false))?);
    ping(&home.netns, Some(own.v4()?), "100.64.1.1".parse()?, 1)?;

    let up = following.wait_for(&[
        ("direction", "up"),
        ("protocol", "ICMP"),
        ("source", &v4),
        ("destination", &world),
        ("reason", "forwarded_upstream"),
        ("verdict", "forward"),
        ("entry.map", "UPSTREAM_V4"),
        ("entry.key", &format!("{line} {v4}")),
        ("port", "access0"),
        ("line", &line),
    ])?;
    let vids = [&up["tags"][0]["vid"], &up["tags"][1]["vid"]];
    ensure!(vids == [101, 1004], "{up}");
    ensure!(up["entry"]["generation"] == own.generation, "{up}");
    following.wait_for(&[
        ("direction", "down"),
        ("protocol", "ICMP"),
        ("source", &world),
        ("destination", &v4),
        ("reason", "forwarded_downstream"),
        ("entry.map", "DOWNSTREAM_V4"),
        ("port", "uplink0"),
        ("line", &line),
    ])?;
    for (direction, map) in [("up", "UPSTREAM_V6"), ("down", "DOWNSTREAM_V6")] {
        following.wait_for(&[
            ("direction", direction),
            ("protocol", "ICMPv6"),
            ("entry.map", map),
            ("verdict", "forward"),
        ])?;
    }
    following.wait_for(&[
        ("source", spoofed),
        ("protocol", "UDP"),
        ("verdict", "drop"),
        ("reason", "source_not_bound"),
        ("entry.map", "LINES"),
        ("entry.key", &line),
    ])?;
    // With its last hop to an address of the host's: XDP hands it to the kernel, TC refuses it.
    let IpAddr::V4(source) = own.v4()? else {
        anyhow::bail!("not IPv4")
    };
    let ether = Ether {
        source: mac(&home.netns, "wan0")?,
        destination: mac(&gateway.netns, "access0")?,
        tags: &[],
    };
    let last_hop = udp_v4(ether, source.octets(), [192, 0, 2, 6], 1);
    send_frames(&home.netns, "wan0", vec![last_hop])?;
    for (point, reason) in [("access", "kernel_upstream"), ("ingress", "host_address")] {
        following.wait_for(&[
            ("point", point),
            ("reason", reason),
            ("direction", "up"),
            ("destination", "192.0.2.6"),
        ])?;
    }
    // The gateway's own answer, which its kernel makes.
    following.wait_for(&[
        ("source", "100.64.1.1"),
        ("point", "egress"),
        ("reason", "egress_to_line"),
        ("entry.map", "DOWNSTREAM_V4"),
    ])?;
    for packet in following.leave() {
        ensure!(packet["line"] == line, "of another line: {packet}");
        ensure!(packet["lost"].is_null(), "{packet}");
    }
    until(gateway, 0)?;

    // By location and by address, two at a time.
    let by_location = Following::start(gateway, &["--location", &location(0, 1)])?;
    let by_address = Following::start(gateway, &["--address", &v6])?;
    ping(
        &neighbour.netns,
        Some(other.v4()?),
        street.echo(false).ip(),
        2,
    )?;
    ping(&home.netns, Some(own.v6()?), street.echo(true).ip(), 2)?;
    let (neighbour_v4, neighbour_line) = (other.v4()?.to_string(), self::line(1));
    by_location.wait_for(&[("source", &neighbour_v4)])?;
    by_location.wait_for(&[("destination", &neighbour_v4)])?;
    by_address.wait_for(&[("source", &v6)])?;
    by_address.wait_for(&[("destination", &v6)])?;
    for packet in by_location.leave() {
        ensure!(packet["line"] == neighbour_line, "{packet}");
    }
    for packet in by_address.leave() {
        ensure!(
            packet["source"] == v6 || packet["destination"] == v6,
            "{packet}"
        );
    }
    until(gateway, 0)?;
    flows(&street, &street.homes[0], &own)
}

/// As many packets as were asked for, and errors that say what to write instead.
/// An upgrade meanwhile: the new programs tell on, and are there when nobody follows any more.
pub fn upgraded() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let plain = program_bytes(&street.gateways[0])?;
    unnoticed(&mut street, |street| {
        let (gateway, home) = (&street.gateways[0], &street.homes[0]);
        let before = hitless::programs(gateway)?;
        // Not what the pings go by.
        let own = session.v6()?;
        let following = Following::start(gateway, &["--address", &own.to_string()])?;
        hitless::upgrade(gateway, None)?;
        ensure!(program_bytes(gateway)? > plain, "they do not tell any more");
        ensure!(following.packets().is_empty(), "{:?}", following.packets());
        ping(&home.netns, Some(own), street.echo(true).ip(), 2)?;
        for direction in ["up", "down"] {
            following.wait_for(&[("direction", direction), ("protocol", "ICMPv6")])?;
        }
        following.leave();
        until(gateway, 0)?;
        ensure!(program_bytes(gateway)? == plain, "they still tell");
        let after = hitless::programs(gateway)?;
        for (place, program) in &before {
            ensure!(after[place] != *program, "the former program at {place:?}");
        }
        Ok(())
    })?;
    flows(&street, &street.homes[0], &session)
}

pub fn asked_for() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let gateway = &street.gateways[0];
    let own = session.v4()?.to_string();
    let text = std::thread::scope(|scope| -> Result<String> {
        let shown = scope.spawn(|| {
            let words = [
                "trace",
                "--address",
                &own,
                "--count",
                "3",
                "--seconds",
                "60",
            ];
            gateway.daemon.ask(&words)
        });
        while !shown.is_finished() {
            ping(
                &street.homes[0].netns,
                Some(session.v4()?),
                street.echo(false).ip(),
                1,
            )?;
        }
        shown.join().expect("no panic")
    })?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines.len() == 4 && lines[0].starts_with("TIME"), "{text}");
    ensure!(lines[1].contains(" forward forwarded_"), "{text}");
    until(gateway, 0)?;
    // Nobody has it: nothing is shown, and nothing of it is logged.
    let nobody = "100.64.1.251";
    let silence = ["trace", "--address", nobody, "--seconds", "1", "-o", "json"];
    let text = gateway.daemon.ask(&silence)?;
    ensure!(text.is_empty(), "{text}");
    until(gateway, 0)?;
    for (option, value, expected) in [
        ("--line", "nowhere/1", "there are access0"),
        ("--line", "access0/5000", "is not a line"),
        ("--location", "nowhere", "is not a location id"),
        ("--address", "100.64.1.251/32", "not an IP address"),
    ] {
        let said = gateway.daemon.refuse(&["trace", option, value])?;
        ensure!(said.contains(expected), "{value}: {said}");
    }
    let log = gateway.daemon.log();
    ensure!(!log.contains(nobody), "the log has the address:\n{log}");
    Ok(())
}

/// Whatever ends a trace: the ports get the plain programs back.
pub fn gateway_killed_and_stopped() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let plain = program_bytes(&street.gateways[0])?;
    unnoticed(&mut street, |street| {
        let following = Following::start(&street.gateways[0], &["--line", &line(0)])?;
        following.wait_for(&[("direction", "down")])?;
        ensure!(
            program_bytes(&street.gateways[0])? > plain,
            "the same program"
        );
        street.gateways[0].daemon.kill()?;
        street.restart_gateway(0)?;
        let gateway = &street.gateways[0];
        ensure!(program_bytes(gateway)? == plain, "after kill -9");
        ensure!(traces(gateway)? == 0);

        let following = Following::start(gateway, &["--line", &line(0)])?;
        following.wait_for(&[("direction", "up")])?;
        gateway.daemon.stop()?;
        ensure!(program_bytes(gateway)? == plain, "after an orderly end");
        street.restart_gateway(0)
    })?;
    flows(&street, &street.homes[0], &session)
}
