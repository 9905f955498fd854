//! Sessions from their first request to their release.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::suite::CaseResult;
use serde_json::Value;

use crate::support::{at_server, connect, flows, packets, silent};

pub fn connect_move_release() -> CaseResult {
    let mut street = Street::new(Plan {
        gateways: 2,
        ..Plan::default()
    })?;
    let first = connect(&street, 0)?;

    street.plug(0, 1)?;
    let moved = street.homes[0].relocate(&street.seal(1, 0)?, None)?;
    ensure!(moved.session_id == first.session_id, "another session");
    ensure!(
        moved.generation > first.generation,
        "the generation did not rise"
    );
    ensure!(moved.gateway_id == "gw2", "{}", moved.gateway_id);
    flows(&street, &street.homes[0], &moved)?;

    // The order is in the server's history: gateway 1 has receipted before gateway 2 was asked.
    let detail = at_server(street.server(), &moved.session_id)?;
    let receipt = &detail["receipts"][0];
    ensure!(receipt["gateway_id"] == "gw1", "{detail}");
    ensure!(
        receipt["counters"]["downstream_packets"].as_u64() > Some(100),
        "{detail}"
    );
    let gateway1 = packets(&street.gateways[0])?;
    silent(&street.inet, street.echo(false).ip(), first.v4()?)?;
    let later = packets(&street.gateways[0])?;
    ensure!(gateway1["forwarded_downstream"] == later["forwarded_downstream"]);

    // And back again, with the same cable.
    street.plug(0, 0)?;
    let back = street.homes[0].relocate(&street.seal(0, 0)?, None)?;
    ensure!(back.gateway_id == "gw1" && back.generation > moved.generation);
    flows(&street, &street.homes[0], &back)?;

    let before = street.homes[0].netns.ip("-o addr show wan0")?;
    ensure!(before.contains(&back.v4()?.to_string()), "{before}");
    street.homes[0].release(&back.session_id)?;
    let after = street.homes[0].netns.ip("-o addr show wan0")?;
    ensure!(!after.contains(&back.v4()?.to_string()), "{after}");
    let routes = street.homes[0].netns.ip("route show default")?;
    ensure!(routes.is_empty(), "a default route is left: {routes}");
    let sessions: Vec<serde_json::Value> = street.gateways[0].daemon.ask_json(&["sessions"])?;
    ensure!(sessions.is_empty(), "{sessions:?}");
    Ok(())
}

/// What each gateway receipts is what went through it, to the packet and byte: over a restart of its
/// daemon, and over a move.
pub fn counted_exactly() -> CaseResult {
    let mut street = Street::new(Plan {
        gateways: 2,
        ..Plan::default()
    })?;
    street.homes[0].register()?;
    let first = street.homes[0].request(&street.seal(0, 0)?)?;
    exchange(&street, first.v4()?, 300)?;
    street.gateways[0].daemon.kill()?;
    exchange(&street, first.v4()?, 200)?;
    street.restart_gateway(0)?;
    exchange(&street, first.v4()?, 100)?;

    street.plug(0, 1)?;
    let moved = street.homes[0].relocate(&street.seal(1, 0)?, None)?;
    exchange(&street, moved.v4()?, 70)?;
    street.homes[0].release(&moved.session_id)?;

    let detail = at_server(street.server(), &moved.session_id)?;
    for (gateway, packets) in [("gw1", 600), ("gw2", 70)] {
        let receipts = detail["receipts"].as_array().context("no receipts")?;
        let receipt = receipts.iter().find(|it| it["gateway_id"] == gateway);
        let counters =
            &receipt.with_context(|| format!("none of {gateway}: {detail}"))?["counters"];
        for (field, expected) in [
            ("upstream_packets", packets),
            ("upstream_bytes", packets * (UP_BYTES + UDP_HEADERS)),
            ("downstream_packets", packets),
            ("downstream_bytes", packets * (DOWN_BYTES + UDP_HEADERS)),
            ("upstream_policed", 0),
            ("downstream_policed", 0),
        ] {
            ensure!(
                counters[field].as_u64() == Some(expected as u64),
                "{gateway}: {field} is not {expected}: {counters}"
            );
        }
    }
    Ok(())
}

const UP_BYTES: usize = 100;
const DOWN_BYTES: usize = 60;
/// Of IPv4 and UDP.
const UDP_HEADERS: usize = 20 + 8;

/// Sends that many datagrams each way, one after the other; none is lost.
fn exchange(street: &Street, home: IpAddr, datagrams: usize) -> Result<()> {
    let world = street.echo(false).ip();
    let near = street.homes[0]
        .netns
        .run(move || UdpSocket::bind((home, 0)))??;
    let far = street.inet.run(move || UdpSocket::bind((world, 0)))??;
    for (socket, peer) in [(&near, &far), (&far, &near)] {
        socket.connect(peer.local_addr()?)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    }
    for number in 0..datagrams {
        for (from, to, bytes) in [(&near, &far, UP_BYTES), (&far, &near, DOWN_BYTES)] {
            from.send(&[0; UP_BYTES][..bytes])?;
            let received = to.recv(&mut [0; UP_BYTES]);
            let received = received.with_context(|| format!("datagram {number} from {from:?}"))?;
            ensure!(received == bytes, "{received} bytes of {bytes}");
        }
    }
    Ok(())
}

pub fn additional() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let first = connect(&street, 0)?;
    let door = street.seal(0, 0)?;
    let second = street.homes[0].request_additional(&door)?;
    ensure!(second.session_id != first.session_id && second.v4()? != first.v4()?);
    flows(&street, &street.homes[0], &first)?;
    flows(&street, &street.homes[0], &second)?;
    // Asking for a first connection when there is one is refused, and disturbs neither.
    let said = street.homes[0]
        .terminal
        .refuse(&["request", "--sealed", &door])?;
    ensure!(
        said.contains("additional") || said.contains("move"),
        "{said}"
    );
    street.homes[0].release(&first.session_id)?;
    flows(&street, &street.homes[0], &second)?;
    silent(&street.inet, street.echo(false).ip(), first.v4()?)?;
    street.homes[0].release(&second.session_id)
}

pub fn one_line_for_each_home() -> CaseResult {
    let street = Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })?;
    let sessions = [connect(&street, 0)?, connect(&street, 1)?];
    flows(&street, &street.homes[0], &sessions[0])?;
    lists_of_some(&street)?;
    street.homes[0].release(&sessions[0].session_id)?;
    flows(&street, &street.homes[1], &sessions[1])
}

/// A gateway's lists, with two sessions at it.
fn lists_of_some(street: &Street) -> CaseResult {
    let gateway = &street.gateways[0].daemon;
    let ids = |command: &str, key: &str, words: &[&str]| -> Result<Vec<String>> {
        let words: Vec<&str> = command.split(' ').chain(words.iter().copied()).collect();
        let rows: Vec<Value> = gateway.ask_json(&words)?;
        let rows = rows.iter().map(|row| row[key].as_str());
        let rows: Option<Vec<_>> = rows.map(|id| id.map(str::to_owned)).collect();
        rows.context("a row without its id")
    };
    let sessions = |words: &[&str]| ids("sessions", "session_id", words);
    let all = sessions(&[])?;
    ensure!(all.len() == 2, "{all:?}");
    let behind = |id: &str| format!("{}/{id}", street.operators[0].name);
    let door = street.location(0, 0);
    for (words, expected) in [
        (&["--limit", "1"][..], &all[..1]),
        (&["--limit", "1", "--after", &behind(&all[0])], &all[1..]),
        (&["--after", &behind(&all[1])], &[]),
        (&["--state", "closing"], &[]),
        (&["--state", "closing", "--state", "established"], &all[..]),
        (&["--operator", street.operators[0].name], &all[..]),
        (&["--location", "110103"], &all[..]),
    ] {
        let found = sessions(words)?;
        ensure!(found == expected, "{words:?}: {found:?}");
    }
    ensure!(sessions(&["--location", &door])?.len() == 1);
    let lines = |words: &[&str]| ids("lines list", "location_id", words);
    let all = lines(&[])?;
    ensure!(all.is_sorted() && all.len() == 2, "{all:?}");
    ensure!(lines(&["--limit", "1"])? == all[..1]);
    ensure!(lines(&["--after", &all[0]])? == all[1..]);
    ensure!(lines(&["--location", &door])? == [door.as_str()]);
    let said = gateway.refuse(&["sessions", "--operator", "nobody"])?;
    ensure!(said.contains(street.operators[0].name), "{said}");
    Ok(())
}
