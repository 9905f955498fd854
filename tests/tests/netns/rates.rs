//! Rates of sessions: what arrives is what was paid for.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use doorstep_tests::lab::load::{Load, Received};
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::lab::witness::Witness;
use doorstep_tests::suite::{CaseResult, Skip};
use serde_json::Value;

use crate::support::{at_server, connect, set_service};

/// Until the burst of a rate is used up and TCP has found the rate.
const SETTLE: Duration = Duration::from_millis(1500);
const WINDOW: Duration = Duration::from_secs(10);
/// What a rate may be off by.
const TOLERANCE: f64 = 0.01;
/// What connections may leave unused of a rate that is kept by dropping, where the machine is busy or
/// emulated: it is their doing.
const UNUSED: f64 = 0.03;

/// How much more than the rate UDP is sent with.
const EXCESS: f64 = 1.5;
const SINK_PORT: u16 = 5001;

/// A session with rates, its home's and its operator's ends, and their links toward the gateway.
struct Limited {
    street: Street,
    session: Session,
    /// Megabits per second; 0: unlimited, and not measured.
    up: u64,
    down: u64,
    how: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Flow {
    Udp,
    Tcp,
}

impl Limited {
    fn new(up: u64, down: u64, how: &'static str) -> Result<Self> {
        let street = Street::new(Plan::default())?;
        let session = connect(&street, 0)?;
        let rate = |mbps: u64| match mbps {
            0 => "unlimited".to_owned(),
            mbps => format!("{mbps}M"),
        };
        set_service(
            &street,
            &session,
            &["--up", &rate(up), "--down", &rate(down), how],
        )?;
        Ok(Self {
            street,
            session,
            up,
            down,
            how,
        })
    }

    /// On a plan that the home has chosen.
    fn chosen(up: u64, down: u64) -> Result<Self> {
        let street = Street::new(Plan::default())?;
        offer(&street, up, down)?;
        let home = &street.homes[0];
        home.register()?;
        let sealed = street.seal(0, 0)?;
        let listed: Value = home.terminal.ask_json(&["plans"])?;
        let plan = &listed["plans"][0];
        ensure!(plan["name"] == "small" && plan["title"] == "小", "{listed}");
        let words = ["request", "--sealed", &sealed, "--plan"];
        let refused = home.terminal.ask(&[&words[..], &["dear"]].concat());
        let refused = format!("{:#}", refused.err().context("it is not offered")?);
        ensure!(refused.contains("choose one of small"), "{refused}");
        let session = home.terminal.ask_json(&[&words[..], &["small"]].concat())?;
        Ok(Self {
            street,
            session,
            up,
            down,
            how: "--police",
        })
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

    /// Loads the limited directions at once, and checks that what arrives is the rate.
    fn check(&self, flow: Flow, v6: bool) -> Result<()> {
        let [home, world] = self.ends(v6)?;
        let (at_home, in_world) = ((self.home().0, home), (self.world().0, world));
        let ways = [
            (self.up, at_home, in_world, self.world()),
            (self.down, in_world, at_home, self.home()),
        ];
        let limited = || ways.into_iter().filter(|(mbps, ..)| *mbps != 0);
        let loads: Vec<Load> = limited()
            .map(|(mbps, from, (to, mut target), _)| {
                target.set_port(SINK_PORT);
                match flow {
                    Flow::Udp => Load::udp(from, (to, target), (mbps as f64 * 1e6 * EXCESS) as u64),
                    // Over a path this short a connection that lost packets is mostly silent; one for
                    // each megabit per second fill a rate that is kept by dropping.
                    Flow::Tcp => Load::tcp(from, (to, target), mbps as usize),
                }
            })
            .collect::<Result<_>>()?;
        let received = || -> Result<Vec<Received>> {
            let links = limited().map(|(.., link)| link);
            links
                .map(|(netns, link)| Received::now(netns, link))
                .collect()
        };
        std::thread::sleep(SETTLE);
        let held_up = || loads.iter().map(Load::held_up).sum::<Duration>();
        let (before, held_up_before) = (received()?, held_up());
        std::thread::sleep(WINDOW);
        let (after, held_up) = (received()?, held_up() - held_up_before);
        for (((mbps, ..), before), after) in limited().zip(&before).zip(&after) {
            let measured = after.bps_since(before)? / 1e6;
            let off = measured / mbps as f64 - 1.0;
            // For as long as nobody sent, less may have come.
            let unsent = held_up.as_secs_f64() / after.time_since(before).as_secs_f64();
            ensure!(unsent < 0.5, "{flow:?}: nothing was sent for {held_up:?}");
            let least = match (flow, self.how) {
                (Flow::Tcp, "--police") => -UNUSED,
                _ => -TOLERANCE,
            };
            ensure!(
                (least - unsent..=TOLERANCE).contains(&off),
                "{flow:?}: {measured:.3} Mbit/s, {:.2} % off {mbps}, and {:.2} % unsent",
                off * 100.0,
                unsent * 100.0
            );
        }
        Ok(())
    }
}

pub fn policed() -> CaseResult {
    let limited = Limited::new(10, 30, "--police")?;
    limited.check(Flow::Udp, false)?;
    limited.check(Flow::Tcp, true)
}

/// Has the street's operator offer a plan to its subscribers, and have another one that is for nobody.
fn offer(street: &Street, up: u64, down: u64) -> Result<()> {
    let config = &street.operators[0].config;
    let mut text = std::fs::read_to_string(config)?;
    text.push_str(&format!(
        "\n[[plan]]\nname = \"small\"\ntitle = \"小\"\noffered = true\n\
         upstream = \"{up}M\"\ndownstream = \"{down}M\"\n\
         \n[[plan]]\nname = \"dear\"\n"
    ));
    std::fs::write(config, text)?;
    street.server().ask(&["plans", "reload"]).map(drop)
}

/// The terminal's request names the plan, and the gateway keeps to it.
pub fn chosen_plan() -> CaseResult {
    let limited = Limited::chosen(6, 20)?;
    let id = limited.session.session_id.as_str();
    let session = at_server(limited.street.server(), id)?;
    ensure!(session["plan"] == "small", "{session}");
    limited.check(Flow::Udp, false)
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

pub fn needs_fq() -> Result<()> {
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
    let limited = Limited::new(0, 8, "--shape")?;
    ensure!(has_shaper(&limited.street)?, "the access port has no fq");
    limited.check(Flow::Udp, false)?;
    limited.check(Flow::Tcp, true)?;
    burst_is_spread(&limited)
}

/// What comes at once leaves at the rate, and whole.
fn burst_is_spread(limited: &Limited) -> Result<()> {
    const PACKETS: u32 = 50;
    const PAYLOAD: usize = 1400;
    let [home, world] = limited.ends(false)?;
    let sink = limited.home().0.run(move || UdpSocket::bind(home))??;
    let source = limited.world().0.run(move || UdpSocket::bind(world))??;
    sink.set_read_timeout(Some(Duration::from_secs(5)))?;
    source.connect(sink.local_addr()?)?;
    // What waited of the last load is gone.
    std::thread::sleep(Duration::from_millis(500));
    let receiver = std::thread::spawn(move || -> Result<Duration> {
        let mut bytes = [0; PAYLOAD];
        sink.recv(&mut bytes).context("the first of the burst")?;
        let first = Instant::now();
        for number in 1..PACKETS {
            let received = sink.recv(&mut bytes);
            received.with_context(|| format!("packet {number} of the burst"))?;
        }
        Ok(first.elapsed())
    });
    let witness = Witness::start();
    for _ in 0..PACKETS {
        source.send(&[0; PAYLOAD])?;
    }
    let took = receiver
        .join()
        .map_err(|_| anyhow!("the receiver panicked"))??;
    let held_up = witness.held_up();
    let bits = f64::from(PACKETS - 1) * (PAYLOAD + 28) as f64 * 8.0;
    // Whoever gets to read the first one late sees the burst shorter.
    let least = Duration::from_secs_f64(0.75 * bits / (limited.down as f64 * 1e6));
    ensure!(
        took + held_up >= least,
        "a burst that takes {least:?} came in {took:?}, and {held_up:?} held up"
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
    set_service(&street, &session, &["--down", "30M", "--shape"])?;
    let sessions: Value = street.gateways[0].daemon.ask_json(&["sessions"])?;
    let detail = sessions[0]["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("policed, not shaped"), "{sessions}");
    Ok(())
}
