//! Rates of sessions: what arrives is what was paid for.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::load::{Load, Received};
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::suite::{CaseResult, Skip};
use serde_json::Value;

use crate::support::{connect, set_service};

/// Until the burst of a rate is used up and TCP has found the rate.
const SETTLE: Duration = Duration::from_millis(1500);
const WINDOW: Duration = Duration::from_secs(10);
/// What a rate may be off by.
const TOLERANCE: f64 = 0.01;

const UP_BPS: u64 = 10_000_000;
const DOWN_BPS: u64 = 30_000_000;
/// How much more than the rate UDP is sent with.
const EXCESS: f64 = 1.3;
/// As many as fill a rate that is kept by dropping.
const CONNECTIONS: usize = 8;

/// A session with rates, its home's and its operator's ends, and their links toward the gateway.
struct Limited {
    street: Street,
    session: Session,
}

#[derive(Clone, Copy)]
enum Flow {
    Udp,
    Tcp,
}

impl Limited {
    fn new(words: &[&str]) -> Result<Self> {
        let street = Street::new(Plan::default())?;
        let session = connect(&street, 0)?;
        set_service(&street, &session, words)?;
        Ok(Self { street, session })
    }

    fn home(&self) -> (&Netns, &'static str) {
        (&self.street.homes[0].netns, "wan0")
    }

    fn world(&self) -> (&Netns, &'static str) {
        (&self.street.inet, "gw1")
    }

    /// A port of the home and one of the world, of either family.
    fn ends(&self, v6: bool) -> Result<[SocketAddr; 2]> {
        let home: IpAddr = if v6 {
            self.session.v6()?
        } else {
            self.session.v4()?
        };
        let world = self.street.echo(v6).ip();
        Ok([(home, 0).into(), (world, 0).into()])
    }

    /// Loads both directions at once and measures what arrives: upstream, downstream.
    fn measure(&self, flow: Flow, v6: bool) -> Result<[f64; 2]> {
        const PORT: u16 = 5001;
        let [home, world] = self.ends(v6)?;
        let at = |mut end: SocketAddr| {
            end.set_port(PORT);
            end
        };
        let (up, down) = (
            ((self.home().0, home), (self.world().0, at(world))),
            ((self.world().0, world), (self.home().0, at(home))),
        );
        let start = |(from, to), bps: u64| match flow {
            Flow::Udp => Load::udp(from, to, (bps as f64 * EXCESS) as u64),
            Flow::Tcp => Load::tcp(from, to, CONNECTIONS),
        };
        let links = [self.world(), self.home()];
        let received = || links.map(|(netns, link)| Received::now(netns, link));
        let _up = start(up, UP_BPS)?;
        let _down = start(down, DOWN_BPS)?;
        std::thread::sleep(SETTLE);
        let before = received();
        std::thread::sleep(WINDOW);
        let [up, down] = received();
        let [up_before, down_before] = before;
        Ok([up?.bps_since(&up_before?)?, down?.bps_since(&down_before?)?])
    }
}

/// The rates, upstream and downstream, and what was measured.
fn check(flow: &str, measured: [f64; 2]) -> Result<()> {
    let expected = [UP_BPS, DOWN_BPS];
    for (bps, expected) in measured.into_iter().zip(expected) {
        let off = bps / expected as f64 - 1.0;
        ensure!(
            off.abs() <= TOLERANCE,
            "{flow}: {bps:.0} bit/s, {:.2} % off {expected}",
            off * 100.0
        );
    }
    Ok(())
}

const RATES: [&str; 4] = ["--up", "10M", "--down", "30M"];

fn kept(how: &str) -> CaseResult {
    let limited = Limited::new(&[&RATES[..], &[how]].concat())?;
    check("UDP", limited.measure(Flow::Udp, false)?)?;
    check("TCP", limited.measure(Flow::Tcp, true)?)
}

pub fn policed() -> CaseResult {
    kept("--police")
}

/// Whether the gateway's access port holds packets until their time.
fn has_shaper(street: &Street) -> Result<bool> {
    let status: Value = street.gateways[0].daemon.ask_json(&["status"])?;
    let ports = status["ports"].as_array().context("ports")?;
    let access = ports.iter().find(|port| port["role"] == "access");
    access
        .and_then(|port| port["shaper"].as_bool())
        .context("no access port")
}

fn needs_fq() -> Result<()> {
    let netns = Netns::new("probe")?;
    netns.ip("link add probe0 type veth peer name probe1")?;
    let mut tc = netns.command("tc")?;
    let made = tc
        .args(["qdisc", "add", "dev", "probe0", "root", "fq"])
        .output()?;
    match made.status.success() {
        true => Ok(()),
        false => Err(Skip("this kernel has no fq".to_owned()).into()),
    }
}

pub fn shaped() -> CaseResult {
    needs_fq()?;
    let limited = Limited::new(&[&RATES[..], &["--shape"]].concat())?;
    ensure!(has_shaper(&limited.street)?, "the access port has no fq");
    check("UDP", limited.measure(Flow::Udp, false)?)?;
    check("TCP", limited.measure(Flow::Tcp, true)?)?;
    burst_is_spread(&limited)
}

/// What comes at once leaves at the rate, and whole.
fn burst_is_spread(limited: &Limited) -> Result<()> {
    const PACKETS: u32 = 100;
    const PAYLOAD: usize = 1400;
    let [home, world] = limited.ends(false)?;
    let home_socket = limited
        .home()
        .0
        .run(move || std::net::UdpSocket::bind(home))??;
    home_socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let target = home_socket.local_addr()?;
    let world_socket = limited
        .world()
        .0
        .run(move || std::net::UdpSocket::bind(world))??;
    // What waited of the last load is gone.
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..PACKETS {
        world_socket.send_to(&[0; PAYLOAD], target)?;
    }
    let mut bytes = [0; PAYLOAD];
    home_socket
        .recv(&mut bytes)
        .context("the first of the burst")?;
    let first = Instant::now();
    for number in 1..PACKETS {
        home_socket
            .recv(&mut bytes)
            .with_context(|| format!("packet {number} of the burst"))?;
    }
    let took = first.elapsed();
    let bits = u64::from(PACKETS - 1) * (PAYLOAD as u64 + 28) * 8;
    let least = Duration::from_secs_f64(0.9 * bits as f64 / DOWN_BPS as f64);
    ensure!(
        took >= least,
        "a burst that takes {least:?} came in {took:?}"
    );
    Ok(())
}

pub fn shaping_without_a_shaper() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let gateway = &street.gateways[0];
    let config = std::fs::read_to_string(&gateway.config)?;
    gateway.daemon.stop()?;
    std::fs::write(&gateway.config, format!("shaper = \"none\"\n{config}"))?;
    street.restart_gateway(0)?;
    ensure!(!has_shaper(&street)?, "a shaper is left");
    set_service(&street, &session, &[&RATES[..], &["--shape"]].concat())?;
    let sessions: Value = street.gateways[0].daemon.ask_json(&["sessions"])?;
    let detail = sessions[0]["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("policed, not shaped"), "{sessions}");
    Ok(())
}
