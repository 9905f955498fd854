//! What a line may not do.

use anyhow::ensure;
use doorstep_tests::frames::{Ether, udp_v4};
use doorstep_tests::lab::street::{Plan, Street, WORLD_V4};
use doorstep_tests::lab::traffic::{answers, mac, reaches, send_frames};
use doorstep_tests::suite::CaseResult;

use crate::support::{connect, counted, counted_by_and_by, flows, silent};

pub fn spoofed_source() -> CaseResult {
    let street = Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })?;
    let own = connect(&street, 0)?;
    let neighbours = connect(&street, 1)?;
    let home = &street.homes[0].netns;
    // The neighbour's addresses, and ones that nobody has.
    let v4 = [neighbours.v4()?, "100.64.1.200".parse()?];
    let v6 = [neighbours.v6()?, "2001:db8:9999::1".parse()?];
    for (sources, is_v6) in [(v4, false), (v6, true)] {
        for source in sources {
            let length = if is_v6 { "128 nodad" } else { "32" };
            home.ip(&format!("addr add {source}/{length} dev lo"))?;
            let dropped = counted(&street.gateways[0], "source_not_bound", || {
                ensure!(
                    !reaches(home, source, street.echo(is_v6))?,
                    "{source} is answered"
                );
                Ok(())
            })?;
            ensure!(dropped >= 1, "{source}: {dropped} dropped");
            home.ip(&format!(
                "addr del {source}/{} dev lo",
                length.split(' ').next().unwrap_or("")
            ))?;
        }
    }
    flows(&street, &street.homes[0], &own)?;
    flows(&street, &street.homes[1], &neighbours)
}

pub fn spoofed_mac() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let std::net::IpAddr::V4(own) = session.v4()? else {
        anyhow::bail!("not IPv4")
    };
    let gateway_mac = mac(&street.gateways[0].netns, "access0")?;
    let home = &street.homes[0].netns;
    let frames = |source| {
        let ether = Ether {
            source,
            destination: gateway_mac,
            tags: &[],
        };
        vec![udp_v4(ether, own.octets(), WORLD_V4.octets(), 64); 10]
    };
    let dropped = counted_by_and_by(&street.gateways[0], "mac_not_bound", 10, || {
        send_frames(home, "wan0", frames([2, 0, 0, 0, 0, 0x66]))
    })?;
    ensure!(dropped == 10, "{dropped} dropped");
    // The same frames from the session's own address pass.
    let own_mac = mac(home, "wan0")?;
    let passed = counted_by_and_by(&street.gateways[0], "forwarded_upstream", 10, || {
        send_frames(home, "wan0", frames(own_mac))
    })?;
    ensure!(passed >= 10, "{passed} forwarded");
    flows(&street, &street.homes[0], &session)
}

pub fn wrong_vlan() -> CaseResult {
    let mut street = Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    let target = street.echo(false).ip();
    for (tags, reason) in [
        // A line that no inventory has.
        (vec![(0x88a8, 999), (0x8100, 999)], "unknown_line"),
        // One tag where the line has two.
        (vec![(0x8100, 1004)], "unknown_line"),
        // The right ids in the wrong order.
        (vec![(0x88a8, 1004), (0x8100, 101)], "unknown_line"),
        // The neighbour's line.
        (
            doorstep_tests::lab::street::line_tags(2, 0, 1),
            "source_not_bound",
        ),
    ] {
        street.retag(0, &tags)?;
        let home = &street.homes[0].netns;
        let dropped = counted(&street.gateways[0], reason, || {
            silent(home, session.v4()?, target)
        })?;
        ensure!(dropped >= 1, "{tags:?}: {dropped} dropped as {reason}");
    }
    street.plug(0, 0)?;
    flows(&street, &street.homes[0], &session)
}

/// A line without a session reaches nothing.
pub fn no_session() -> CaseResult {
    let street = Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    let stranger = &street.homes[1].netns;
    stranger.ip("addr add 100.64.1.177/24 dev wan0")?;
    stranger.ip("route add default via 100.64.1.1 dev wan0")?;
    let dropped = counted(&street.gateways[0], "source_not_bound", || {
        for (target, name) in [
            (street.echo(false).ip(), "the world"),
            (session.v4()?, "the neighbour"),
        ] {
            ensure!(!answers(stranger, None, target)?, "{name} answers");
        }
        Ok(())
    })?;
    ensure!(
        dropped >= 1,
        "the stranger's packets never came to the gateway"
    );
    flows(&street, &street.homes[0], &session)
}
