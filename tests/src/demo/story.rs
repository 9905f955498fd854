//! The story: two homes, two buildings.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use doorstep_tests::frames::{Ether, udp_v4};
use doorstep_tests::lab::street::{
    Gateway, Plan, Session, Street, Tagging, WORLD_V4, line_tags, location,
};
use doorstep_tests::lab::traffic::{
    Download, Outage, Pinger, answers, download, mac, ping, send_frames,
};
use serde::Deserialize;

use crate::plain::Plain;
use crate::report::{Counters, Report};
use crate::show::Show;

/// How the story is told.
pub struct Plot {
    pub terminal_tags: bool,
    pub download_bytes: u64,
    pub keep: bool,
    /// Everything takes longer here.
    pub patient: bool,
}

pub const PING_EVERY: Duration = Duration::from_millis(2);

/// Tells the story, filling in the report as it goes.
pub fn tell(plot: &Plot, show: &Show, report: &mut Report) -> Result<()> {
    let tagging = if plot.terminal_tags {
        Tagging::Terminal
    } else {
        Tagging::Switch
    };
    show.step(
        "building a street: a server, two gateways, two homes with two rooms each, the internet",
    );
    let mut street = Street::new(Plan {
        gateways: 2,
        operators: 1,
        homes: 2,
        rooms: 2,
        tags: 2,
        tagging,
        ..Plan::default()
    })?;
    show.more(&format!(
        "every host is a network namespace; {}",
        match tagging {
            Tagging::Switch => "the building's access switch adds both VLAN tags",
            Tagging::Terminal => "the terminal adds both VLAN tags itself",
        }
    ));

    street.homes[0].register()?;
    show.step("the subscriber is registered at the operator north-net");
    let (first_door, second_door) = (street.seal(0, 0)?, street.seal(1, 0)?);
    show.step("the sticker at the first door: the location id, sealed");
    show.more(
        &street.homes[0]
            .terminal
            .ask(&["qr", "--sealed", &first_door])?,
    );

    let first = connect(plot, show, report, &street, &first_door)?;
    downloads(plot, show, report, &street, 0, &first)?;

    let second = street.homes[0].request_additional(&first_door)?;
    ping(
        &street.homes[0].netns,
        Some(second.v4()?),
        street.echo(false).ip(),
        5,
    )?;
    show.step(&format!(
        "a second session beside the first: {}, {:.0} ms; both answer",
        second.v4()?,
        second.elapsed_ms
    ));
    ping(
        &street.homes[0].netns,
        Some(first.v4()?),
        street.echo(false).ip(),
        5,
    )?;

    // Where homes tag for themselves an ordinary router would have to, too.
    let plain = match tagging {
        Tagging::Switch => Some(Plain::connect(plot, show, report, &street)?),
        Tagging::Terminal => None,
    };

    let moved = relocate(plot, show, report, &mut street, &second_door, &first)?;
    let second = street.homes[0].relocate(&second_door, Some(&second.session_id))?;
    show.step("the second session has moved, too");
    if let Some(plain) = &plain {
        plain.relocate(plot, show, report, &mut street)?;
    }
    downloads(plot, show, report, &street, 1, &moved)?;

    stray(&street, first.v4()?)?;
    let mut sessions = vec![first.session_id.as_str(), &second.session_id];
    sessions.extend(plain.as_ref().map(|plain| plain.session.as_str()));
    after_receipt(show, report, &street, &sessions)?;

    if plot.keep {
        show.step("everything stays as it is until Ctrl-C");
        loop {
            std::thread::park();
        }
    }
    for session in [&moved, &second] {
        street.homes[0].release(&session.session_id)?;
    }
    show.step("both sessions are released");
    if let Some(plain) = plain {
        plain.leave(&street)?;
    }
    ensure!(
        !answers(&street.homes[0].netns, None, street.echo(false).ip())?,
        "a released home still reaches the internet"
    );
    judge(report)
}

pub fn patience(plot: &Plot) -> Duration {
    Duration::from_secs(if plot.patient { 60 } else { 10 })
}

fn connect(
    plot: &Plot,
    show: &Show,
    report: &mut Report,
    street: &Street,
    sealed: &str,
) -> Result<Session> {
    let home = &street.homes[0];
    let pinger = Pinger::start(&home.netns, street.echo(false), PING_EVERY)?;
    let asked = Instant::now();
    let session = home.request(sealed)?;
    let answered = pinger.wait_for_answer(asked, patience(plot))?;
    report.connect_ms = ms(answered - asked);
    pinger.stop()?;
    show.step(&format!(
        "connected at {} through {}: {:.0} ms from the request to the first answer",
        location(0, 0),
        session.gateway_id,
        report.connect_ms
    ));
    for step in &session.steps {
        show.more(&format!("{:6.1} ms  {}", step.at_ms, step.state));
    }
    let [v4, v6] = [session.v4()?, session.v6()?];
    ping(&home.netns, Some(v4), street.echo(false).ip(), 20)?;
    ping(&home.netns, Some(v6), street.echo(true).ip(), 20)?;
    show.step(&format!("20 pings each answered, from {v4} and {v6}"));
    Ok(session)
}

/// Downloads over both families from the home, and over IPv4 from one of its rooms.
fn downloads(
    plot: &Plot,
    show: &Show,
    report: &mut Report,
    street: &Street,
    gateway: usize,
    session: &Session,
) -> Result<()> {
    let before = Packets::of(&street.gateways[gateway])?;
    for v6 in [false, true] {
        let bar = show.bytes(plot.download_bytes);
        let progress = bar.clone();
        let source = if v6 { session.v6()? } else { session.v4()? };
        let Download { bytes, duration } = download(
            &street.homes[0].netns,
            street.http(v6),
            Some(source),
            plot.download_bytes,
            move |got| progress.set_position(got),
        )?;
        bar.finish_and_clear();
        let mbps = Download { bytes, duration }.mbps();
        show.step(&format!(
            "downloaded {} MB over IPv{} in {:.2} s: {mbps:.0} Mbit/s",
            bytes / 1_000_000,
            if v6 { 6 } else { 4 },
            duration.as_secs_f64()
        ));
        report.download_bytes += bytes;
        let slowest = report.download_mbps;
        report.download_mbps = if slowest == 0.0 {
            mbps
        } else {
            slowest.min(mbps)
        };
    }
    let packets = Packets::of(&street.gateways[gateway])?;
    report.xdp_packets_upstream += packets.xdp_upstream - before.xdp_upstream;
    report.xdp_packets_downstream += packets.xdp_downstream - before.xdp_downstream;
    report.kernel_path_packets += packets.kernel - before.kernel;
    let xdp = report.xdp_packets_upstream + report.xdp_packets_downstream;
    report.xdp_share = xdp as f64 / (xdp + report.kernel_path_packets).max(1) as f64;
    Ok(())
}

fn relocate(
    plot: &Plot,
    show: &Show,
    report: &mut Report,
    street: &mut Street,
    sealed: &str,
    session: &Session,
) -> Result<Session> {
    let pinger = Pinger::start(&street.homes[0].netns, street.echo(false), PING_EVERY)?;
    std::thread::sleep(Duration::from_millis(200));
    show.step("moving house while a ping runs: the cable goes into the other building's switch");
    street.plug(0, 1)?;
    let moved = street.homes[0].relocate(sealed, Some(&session.session_id))?;
    pinger.wait_for_answer(Instant::now(), patience(plot))?;
    std::thread::sleep(Duration::from_millis(200));
    let echoes = pinger.stop()?;
    ensure!(
        moved.session_id == session.session_id,
        "a move keeps its session"
    );
    ensure!(moved.gateway_id == "gw2", "{}", moved.gateway_id);

    let outage = Outage::of(&echoes)?;
    report.move_outage_ms = ms(outage.length());
    report.move_pings_sent = echoes.len();
    report.move_pings_lost = echoes.iter().filter(|echo| echo.answered.is_none()).count();
    report.move_pings_lost_unexplained = outage.unexplained(&echoes);
    show.step(&format!(
        "moved to {} through {}: {:.0} ms without an answer; {} of {} pings lost",
        location(1, 0),
        moved.gateway_id,
        report.move_outage_ms,
        report.move_pings_lost,
        report.move_pings_sent
    ));
    for step in &moved.steps {
        show.more(&format!("{:6.1} ms  {}", step.at_ms, step.state));
    }
    Ok(moved)
}

/// Packets for the address that the home had, and from it on its former line, now that gateway 1
/// has receipted.
fn stray(street: &Street, old: IpAddr) -> Result<()> {
    const STRAYS: usize = 100;
    street.inet.run(move || -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..STRAYS {
            // The gateway's host has no route for it any more and may say so.
            let _ = socket.send_to(b"stray", (old, 9));
        }
        Ok(())
    })??;
    let IpAddr::V4(old) = old else {
        bail!("{old} is not IPv4");
    };
    let ether = Ether {
        source: mac(&street.homes[0].netns, "wan0")?,
        destination: mac(&street.gateways[0].netns, "access0")?,
        tags: &line_tags(2, 0, 0),
    };
    let frame = udp_v4(ether, old.octets(), WORLD_V4.octets(), 64);
    let refused = || Reasons::of(&street.gateways[0])?.count("source_not_bound");
    let before = refused()?;
    send_frames(&street.street, "trunk0", vec![frame; STRAYS])?;
    std::thread::sleep(Duration::from_millis(50));
    let refused = refused()? - before;
    ensure!(
        refused == STRAYS as u64,
        "gateway 1 refused {refused} of {STRAYS} strays"
    );
    Ok(())
}

/// Gateway 1 has forwarded exactly what its receipts say, and nothing since.
fn after_receipt(
    show: &Show,
    report: &mut Report,
    street: &Street,
    sessions: &[&str],
) -> Result<()> {
    #[derive(Deserialize)]
    struct Detail {
        receipts: Vec<Receipt>,
    }
    #[derive(Deserialize)]
    struct Receipt {
        gateway_id: String,
        counters: Counters,
    }
    let mut total = Counters::default();
    for session in sessions {
        let detail: Detail = street.server().ask_json(&["sessions", "show", session])?;
        let of_gateway1 = detail
            .receipts
            .iter()
            .filter(|receipt| receipt.gateway_id == "gw1");
        let receipts: Vec<&Receipt> = of_gateway1.collect();
        ensure!(
            receipts.len() == 1,
            "{} receipts of gateway 1",
            receipts.len()
        );
        total.upstream_packets += receipts[0].counters.upstream_packets;
        total.upstream_bytes += receipts[0].counters.upstream_bytes;
        total.downstream_packets += receipts[0].counters.downstream_packets;
        total.downstream_bytes += receipts[0].counters.downstream_bytes;
    }
    let packets = Packets::of(&street.gateways[0])?;
    let forwarded = packets.upstream + packets.downstream;
    let receipted = total.upstream_packets + total.downstream_packets;
    report.gateway1_final_counters = total;
    report.gateway1_packets_after_receipt = forwarded.abs_diff(receipted);
    show.step(&format!(
        "gateway 1 receipted {receipted} packets and forwarded {forwarded}, also after strays both ways"
    ));
    Ok(())
}

/// What a gateway did with packets.
struct Packets {
    xdp_upstream: u64,
    xdp_downstream: u64,
    kernel: u64,
    /// Forwarded for sessions, whichever way.
    upstream: u64,
    downstream: u64,
}

impl Packets {
    fn of(gateway: &Gateway) -> Result<Self> {
        let reasons = Reasons::of(gateway)?;
        let count = |name| reasons.count(name);
        let (xdp_upstream, xdp_downstream) =
            (count("forwarded_upstream")?, count("forwarded_downstream")?);
        let kernel_upstream = count("kernel_upstream")? + count("kernel_unresolved")?;
        let egress = count("egress_to_line")?;
        Ok(Self {
            xdp_upstream,
            xdp_downstream,
            kernel: kernel_upstream + count("kernel_downstream")? + egress,
            upstream: xdp_upstream + kernel_upstream,
            downstream: xdp_downstream + egress,
        })
    }
}

/// Packets by reason, as a gateway has counted them.
#[derive(Deserialize)]
struct Reasons {
    packets: BTreeMap<String, u64>,
}

impl Reasons {
    fn of(gateway: &Gateway) -> Result<Self> {
        gateway.daemon.ask_json(&["status"])
    }

    fn count(&self, reason: &str) -> Result<u64> {
        let packets = self.packets.get(reason).copied();
        packets.with_context(|| format!("no reason {reason}"))
    }
}

/// What must be true whatever the machine.
fn judge(report: &Report) -> Result<()> {
    ensure!(
        report.gateway1_packets_after_receipt == 0,
        "gateway 1 forwarded {} packets beyond its receipts",
        report.gateway1_packets_after_receipt
    );
    ensure!(
        report.xdp_share >= 0.99,
        "only {:.4} of the packets took XDP",
        report.xdp_share
    );
    ensure!(
        report.move_pings_lost_unexplained == 0,
        "{} pings were lost outside the outage",
        report.move_pings_lost_unexplained
    );
    Ok(())
}

pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
