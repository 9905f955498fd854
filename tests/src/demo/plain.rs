//! The home next door: an ordinary router, which speaks DHCP and knows nothing of us.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::cpe::{Client, Cpe};
use doorstep_tests::lab::street::{Street, location};
use doorstep_tests::lab::traffic::{Pinger, ping};
use serde::Deserialize;

use crate::report::Report;
use crate::show::Show;
use crate::story::{PING_EVERY, Plot, ms, patience};

/// Its number in the street.
const HOME: usize = 1;

/// A router with a session.
pub struct Plain {
    cpe: Cpe,
    pub session: String,
}

/// A session as the server shows it.
#[derive(Deserialize)]
struct Shown {
    session_id: String,
    state: String,
    ipv4_address: Option<IpAddr>,
}

impl Plain {
    /// The operator opens the session, and somebody plugs the router in.
    pub fn connect(plot: &Plot, show: &Show, report: &mut Report, street: &Street) -> Result<Self> {
        let home = &street.homes[HOME];
        home.terminal.stop()?;
        for gateway in 0..street.gateways.len() {
            street.hear_answers(gateway)?;
        }
        let subscriber = imported(street)?;
        let place = location(0, HOME);
        let words = ["sessions", "connect", &place, "--subscriber", &subscriber];
        let words = [&words[..], &["--establishment", "dhcp"]].concat();
        let opened: Shown = street.server().ask_json(&words)?;
        let pinger = Pinger::start(&home.netns, street.echo(false), PING_EVERY)?;
        let began = Instant::now();
        let cpe = Cpe::start(Client::Udhcpc, &home.netns, &street.dir().join("plain"))?;
        let answered = pinger
            .wait_for_answer(began, patience(plot))
            .with_context(|| cpe.log())?;
        pinger.stop()?;
        report.plain_connect_ms = Some(ms(answered - began));
        let plain = Self {
            cpe,
            session: opened.session_id,
        };
        let own = plain.address(plot, street)?;
        ping(&home.netns, Some(own), street.echo(false).ip(), 20)?;
        show.step(&format!(
            "the home next door has an ordinary router (udhcpc): {own} by DHCP, {:.0} ms from its start \
             to the first answer; 20 pings answered",
            ms(answered - began)
        ));
        Ok(plain)
    }

    /// Its cable goes into the other building's switch, and the operator moves the session.
    pub fn relocate(
        &self,
        plot: &Plot,
        show: &Show,
        report: &mut Report,
        street: &mut Street,
    ) -> Result<()> {
        let former = self.address(plot, street)?;
        let netns = street.homes[HOME].netns.another();
        let pinger = Pinger::start(&netns, street.echo(false), PING_EVERY)?;
        street.set_cable(HOME, false)?;
        street.plug(HOME, 1)?;
        street.set_cable(HOME, true)?;
        let moving = Instant::now();
        let place = location(1, HOME);
        street
            .server()
            .ask(&["sessions", "move", &self.session, &place])?;
        let answered = pinger
            .wait_for_answer(moving, patience(plot))
            .with_context(|| self.cpe.log())?;
        pinger.stop()?;
        report.plain_move_ms = Some(ms(answered - moving));
        let own = self.address(plot, street)?;
        ensure!(own != former, "{own} is gateway 1's");
        ping(&netns, Some(own), street.echo(false).ip(), 20)?;
        show.step(&format!(
            "the ordinary router has moved, too: {own}, {:.0} ms from the operator's word to the first \
             answer; nothing was done to it but its cable",
            ms(answered - moving)
        ));
        Ok(())
    }

    /// The operator ends its session.
    pub fn leave(self, street: &Street) -> Result<()> {
        street
            .server()
            .ask(&["sessions", "disconnect", &self.session])
            .map(drop)
    }

    /// What the server has given it, once it has heard that it flows.
    fn address(&self, plot: &Plot, street: &Street) -> Result<IpAddr> {
        let end = Instant::now() + patience(plot);
        loop {
            let words = ["sessions", "show", &self.session];
            let shown: Shown = street.server().ask_json(&words)?;
            if shown.state == "established" {
                return shown.ipv4_address.context("no IPv4 address");
            }
            ensure!(Instant::now() < end, "it is {}", shown.state);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Makes its subscriber known, of whom the server hears nothing by itself.
fn imported(street: &Street) -> Result<String> {
    #[derive(Deserialize)]
    struct Subscriber {
        subscriber_id: String,
    }
    #[derive(Deserialize)]
    struct Listed {
        subscribers: Vec<Subscriber>,
    }
    let known = || -> Result<Vec<Subscriber>> {
        let listed: Listed = street.server().ask_json(&["subscribers"])?;
        Ok(listed.subscribers)
    };
    let before = known()?;
    let file = street.dir().join("plain.csv");
    std::fs::write(&file, format!("phone\n{}\n", street.homes[HOME].phone()))?;
    let file = file.to_string_lossy();
    street.server().ask(&["subscribers", "import", &file])?;
    let new = known()?.into_iter().find(|subscriber| {
        let same = |other: &Subscriber| other.subscriber_id == subscriber.subscriber_id;
        !before.iter().any(same)
    });
    Ok(new.context("nobody was imported")?.subscriber_id)
}
