//! A line that asks for more than it may takes nothing from the others.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use doorstep_datapath::nd::GATEWAY_LINK_LOCAL;
use doorstep_gateway_common::names::ESTABLISH_PORT;
use doorstep_tests::frames::{Ether, arp_request, dhcp_v4, neighbour_solicitation, udp_v6_to};
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::lab::traffic::{mac, send_frames};
use doorstep_tests::suite::CaseResult;

use crate::support::{connect, flows, packets, unnoticed};

/// Frames between two looks whether to stop.
const BURST: usize = 300;

/// What a line may send that the gateway answers, or hands to its daemon.
fn questions(street: &Street, home: usize, session: &Session) -> Result<Vec<Vec<u8>>> {
    const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66];
    const ALL_ROUTERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let std::net::IpAddr::V4(own) = session.v4()? else {
        bail!("not IPv4")
    };
    let to = |destination| -> Result<Ether<'static>> {
        Ok(Ether {
            source: mac(&street.homes[home].netns, "wan0")?,
            destination,
            tags: &[],
        })
    };
    let gateway = to(mac(&street.gateways[0].netns, "access0")?)?;
    let (link_local, port) = (LINK_LOCAL, ESTABLISH_PORT);
    Ok(vec![
        arp_request(to([0xff; 6])?, own.octets(), [100, 64, 1, 1]),
        dhcp_v4(to([0xff; 6])?, [0; 4], [255; 4]),
        neighbour_solicitation(
            to([0x33, 0x33, 0xff, 0, 0, 1])?,
            link_local,
            GATEWAY_LINK_LOCAL,
        ),
        udp_v6_to(gateway, link_local, GATEWAY_LINK_LOCAL, 255, port),
        udp_v6_to(
            to([0x33, 0x33, 0, 0, 0, 2])?,
            link_local,
            ALL_ROUTERS,
            255,
            port,
        ),
    ])
}

/// Homes: the one that is pinged from, the one that floods, and the one that comes later.
const PINGED: usize = 0;
const FLOODING: usize = 1;
const LATER: usize = 2;

pub fn starve_nobody() -> CaseResult {
    let mut street = Street::new(Plan {
        homes: 3,
        ..Plan::default()
    })?;
    let pinged = connect(&street, PINGED)?;
    let flooding = connect(&street, FLOODING)?;
    let questions = questions(&street, FLOODING, &flooding)?;
    let before = packets(&street.gateways[0])?;
    let later = flooded(&mut street, &questions)?;
    let after = packets(&street.gateways[0])?;
    let grown = |reason: &str| after[reason] - before[reason];
    for reason in ["punt_limited_line", "answer_limited"] {
        ensure!(grown(reason) >= BURST as u64, "{reason}: {}", grown(reason));
    }
    // The line's own limit is far below that of all lines.
    ensure!(grown("punt_limited_all") == 0, "{after:?}");
    // Nor does it lose its own session.
    for (home, session) in [(PINGED, &pinged), (FLOODING, &flooding), (LATER, &later)] {
        flows(&street, &street.homes[home], session)?;
    }
    Ok(())
}

/// While one line floods, no ping of another is lost, and a third gets its session.
fn flooded(street: &mut Street, questions: &[Vec<u8>]) -> Result<Session> {
    let mut later = None;
    unnoticed(street, |street| {
        let flood: Vec<_> = questions.iter().cycle().take(BURST).cloned().collect();
        let stop = AtomicBool::new(false);
        let street = &*street;
        later = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| -> Result<()> {
                while !stop.load(Ordering::Relaxed) {
                    send_frames(&street.homes[FLOODING].netns, "wan0", flood.clone())?;
                }
                Ok(())
            });
            let later = connect(street, LATER);
            stop.store(true, Ordering::Relaxed);
            flooding.join().expect("no panic")?;
            later.map(Some)
        })?;
        Ok(())
    })?;
    later.context("nobody asked")
}
