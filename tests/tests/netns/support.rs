//! What the cases share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::daemon::Daemon;
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Gateway, Home, Session, Street};
use doorstep_tests::lab::traffic::{Pinger, answers, download, ping};
use doorstep_tests::suite::Skip;
use serde::Deserialize;

const PING_EVERY: Duration = Duration::from_millis(2);

/// Packets by reason at a gateway.
pub fn packets(gateway: &Gateway) -> Result<BTreeMap<String, u64>> {
    #[derive(Deserialize)]
    struct Status {
        packets: BTreeMap<String, u64>,
    }
    let status: Status = gateway.daemon.ask_json(&["status"])?;
    Ok(status.packets)
}

fn count(gateway: &Gateway, reason: &str) -> Result<u64> {
    packets(gateway)?
        .get(reason)
        .copied()
        .with_context(|| format!("no reason {reason}"))
}

/// What the gateway counts under a reason while something is done.
pub fn counted(
    gateway: &Gateway,
    reason: &str,
    action: impl FnOnce() -> Result<()>,
) -> Result<u64> {
    let before = count(gateway, reason)?;
    action()?;
    Ok(count(gateway, reason)? - before)
}

/// The same of frames that nobody answers: what has been sent is counted by and by, and so many must
/// be.
pub fn counted_by_and_by(
    gateway: &Gateway,
    reason: &str,
    least: u64,
    action: impl FnOnce() -> Result<()>,
) -> Result<u64> {
    let before = count(gateway, reason)?;
    action()?;
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let counted = count(gateway, reason)? - before;
        if counted >= least || Instant::now() > end {
            return Ok(counted);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Registers, connects at the home's own door, and proves that traffic flows.
pub fn connect(street: &Street, home: usize) -> Result<Session> {
    street.homes[home].register()?;
    let session = street.homes[home]
        .request(&street.seal(0, home)?)
        .with_context(|| {
            let counted = packets(&street.gateways[0]);
            format!("{counted:?}\n{}", logs(street, &street.homes[home]))
        })?;
    ensure!(session.state == "established", "{}", session.state);
    flows(street, &street.homes[home], &session)?;
    Ok(session)
}

/// Proves that a session carries both families: pings, and TCP with full-sized packets.
pub fn flows(street: &Street, home: &Home, session: &Session) -> Result<()> {
    for (v6, source) in [(false, session.v4()?), (true, session.v6()?)] {
        ping(&home.netns, Some(source), street.echo(v6).ip(), 3)
            .with_context(|| logs(street, home))?;
        download(
            &home.netns,
            street.http(v6),
            Some(source),
            1_000_000,
            |_| {},
        )
        .with_context(|| format!("from {source}"))?;
    }
    Ok(())
}

/// The ends of all daemons' logs.
pub fn logs(street: &Street, home: &Home) -> String {
    let gateway = |gateway: &Gateway| format!("{}:\n{}", gateway.id, gateway.daemon.log_tail());
    format!(
        "server:\n{}\nterminal:\n{}\n{}",
        street.server().log_tail(),
        home.terminal.log_tail(),
        street
            .gateways
            .iter()
            .map(gateway)
            .collect::<Vec<_>>()
            .join("\n")
    )
}

/// Proves that nothing answers.
pub fn silent(netns: &Netns, source: IpAddr, target: IpAddr) -> Result<()> {
    ensure!(
        !answers(netns, Some(source), target)?,
        "{source} reaches {target}"
    );
    Ok(())
}

/// Skips the case where the kernel has no VLAN links.
pub fn needs_vlan_links() -> Result<()> {
    let netns = Netns::new("probe")?;
    netns.ip("link add probe0 type veth peer name probe1")?;
    let made = netns.ip("link add link probe0 name probe0.5 type vlan id 5");
    if let Err(error) = made {
        let text = format!("{error:#}");
        ensure!(
            text.contains("not supported") || text.contains("Unknown device type"),
            "{text}"
        );
        return Err(Skip("this kernel has no VLAN links (8021q)".to_owned()).into());
    }
    Ok(())
}

/// The detail of a session at the server, as JSON.
pub fn at_server(server: &Daemon, session: &str) -> Result<serde_json::Value> {
    server.ask_json(&["sessions", "show", session])
}

/// Gives a session another service and waits until its gateway has it.
pub fn set_service(street: &Street, session: &Session, words: &[&str]) -> Result<()> {
    let id = session.session_id.as_str();
    let words = [&["sessions", "service", id], words].concat();
    street.server().ask(&words)?;
    let end = Instant::now() + Duration::from_secs(15);
    while at_server(street.server(), id)?["service_acknowledged"] != true {
        ensure!(Instant::now() < end, "the gateway does not take {words:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// No ping is lost while something happens.
pub fn unnoticed(
    street: &mut Street,
    action: impl FnOnce(&mut Street) -> Result<()>,
) -> Result<()> {
    let pinger = Pinger::start(&street.homes[0].netns, street.echo(false), PING_EVERY)?;
    std::thread::sleep(Duration::from_millis(50));
    action(street)?;
    // Some before it, and some after it.
    pinger.wait_for_answer(Instant::now(), Duration::from_secs(10))?;
    std::thread::sleep(Duration::from_millis(100));
    let echoes = pinger.stop()?;
    let lost = echoes.iter().filter(|echo| echo.answered.is_none()).count();
    ensure!(
        lost == 0 && echoes.len() > 30,
        "{lost} of {} pings were lost",
        echoes.len()
    );
    Ok(())
}
