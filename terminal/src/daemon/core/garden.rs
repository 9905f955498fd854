//! The way to the servers over a line without a session: asked for as long as there is none, or as a
//! server cannot be reached otherwise, because the gateway may know nothing of the session any more,
//! or because the way to one operator's server need not lead through another's network.

use std::collections::BTreeMap;
use std::time::Duration;

use doorstep_establish::frame::{self, Envelope};
use doorstep_establish::{Garden as Message, GardenOffer};
use doorstep_proto::v1 as pb;
use rand::Rng as _;
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::{debug, info};

use super::Core;
use crate::config::is_switch;
use crate::links::garden::Visit;
use crate::server::describe;

/// Between asks that nobody answers: the first pause, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Between asks that are answered: a cable may be put elsewhere and nobody notices here.
const REVISIT: Duration = Duration::from_secs(20);

/// So long may a server be out of reach of the sessions.
const LONELY: Duration = Duration::from_secs(5);
/// So long after a request is its answer waited for, or the next try.
const WANTED: Duration = Duration::from_secs(60);

/// Where the terminal is, and when it asks.
#[derive(Debug, Default)]
pub(super) struct Garden {
    visit: Option<(Visit, Instant)>,
    /// None: at once.
    ask_at: Option<Instant>,
    pause: Duration,
    /// The operators whose servers are not reached.
    lost: BTreeMap<String, Lost>,
}

#[derive(Debug)]
struct Lost {
    since: Instant,
    /// None: for as long as a session follows it.
    until: Option<Instant>,
}

impl Garden {
    /// Asks as soon as there is somebody to ask for it.
    pub(super) fn ask_soon(&mut self) {
        self.ask_at = None;
        self.pause = FIRST_PAUSE;
    }

    /// An operator's server has answered, or a new session is to reach it.
    pub(super) fn server_reached(&mut self, operator: &str) {
        self.lost.remove(operator);
    }

    /// A session has lost its operator's server.
    pub(super) fn server_lost(&mut self, operator: &str, now: Instant) {
        self.lose(operator, now).until = None;
    }

    /// An operator's server is asked for something, and no session shows that it is reached.
    pub(super) fn server_wanted(&mut self, operator: &str, now: Instant) {
        if let Some(until) = &mut self.lose(operator, now).until {
            *until = now + WANTED;
        }
    }

    fn lose(&mut self, operator: &str, now: Instant) -> &mut Lost {
        let until = Some(now + WANTED);
        let lost = self.lost.entry(operator.to_owned());
        lost.or_insert(Lost { since: now, until })
    }

    /// When a server will have been out of reach for too long.
    fn lonely_at(&self) -> Option<Instant> {
        self.lost.values().map(|lost| lost.since + LONELY).min()
    }

    /// Asks at that time at the latest.
    pub(super) fn ask_by(&mut self, at: Instant) {
        self.ask_at = self.ask_at.map(|before| before.min(at));
        self.pause = FIRST_PAUSE;
    }

    pub(super) fn visit(&self) -> Option<&Visit> {
        self.visit.as_ref().map(|(visit, _)| visit)
    }

    /// Sets the time of the next ask, as if nobody answered this one; at least half of each pause
    /// passes, so that homes that lost power together do not ask together.
    fn asked(&mut self, now: Instant) {
        let pause = self.pause.max(FIRST_PAUSE);
        self.ask_at = Some(now + pause.mul_f64(rand::rng().random_range(0.5..=1.0)));
        self.pause = (pause * 2).min(LONGEST_PAUSE);
    }

    /// Takes an offer; whether it changes anything.
    fn offered(&mut self, visit: Visit, now: Instant) -> bool {
        let lifetime = visit.offer.lifetime;
        let pause = REVISIT.min(lifetime / 2);
        self.pause = FIRST_PAUSE;
        self.ask_at = Some(now + pause.mul_f64(rand::rng().random_range(0.5..=1.0)));
        let news = self.visit() != Some(&visit);
        self.visit = Some((visit, now + lifetime));
        news
    }

    /// A port is gone, and what was offered on it.
    pub(super) fn leave(&mut self, port: &str) {
        self.visit.take_if(|(visit, _)| visit.port == port);
    }

    /// Whether a visit is over.
    fn expire(&mut self, now: Instant) -> bool {
        let is_wanted = |lost: &Lost| lost.until.is_none_or(|until| until > now);
        self.lost.retain(|_, lost| is_wanted(lost));
        let over = self.visit.as_ref().is_some_and(|(_, until)| *until <= now);
        if over {
            self.visit = None;
        }
        over
    }
}

impl Core {
    /// Where the terminal is a switch the line is the rooms' devices'.
    fn may_visit_garden(&self) -> bool {
        self.wan.garden && !is_switch(self.home.as_ref())
    }

    /// Why a server has not answered; also that there is no way to it, if that is so.
    pub(super) fn why_unanswered(&self, status: &Status) -> String {
        let text = describe(status);
        let has_way = !self.actives().is_empty() || self.garden.visit().is_some();
        if has_way || status.code() != Code::Unavailable {
            return text;
        }
        format!(
            "{text}; this terminal has no session, and no gateway has offered it a way to the server \
             on its line: `doorstep-terminal doctor` knows more"
        )
    }

    /// Whether the garden is of any use.
    pub(super) fn needs_garden(&self) -> bool {
        let is_lonely = |at: Instant| at <= Instant::now();
        self.may_visit_garden()
            && (self.actives().is_empty() || self.garden.lonely_at().is_some_and(is_lonely))
    }

    pub(super) fn garden_timer(&self) -> Option<Instant> {
        if !self.may_visit_garden() || self.ports.is_empty() {
            return None;
        }
        if !self.needs_garden() {
            return self.garden.lonely_at();
        }
        let until = self.garden.visit.as_ref().map(|(_, until)| *until);
        let ask = self.garden.ask_at.unwrap_or_else(Instant::now);
        Some(until.map_or(ask, |until| until.min(ask)))
    }

    /// Asks when it is time, and goes when the time is over.
    pub(super) async fn visit_garden(&mut self, now: Instant) {
        let is_over = self.garden.expire(now);
        if !self.needs_garden() {
            self.garden.ask_soon();
            if self.garden.visit.take().is_some() {
                self.relink().await;
            }
            return;
        }
        if is_over {
            info!("the gateway's garden is not offered any more");
            self.relink().await;
        }
        if self.ports.is_empty() || self.garden.ask_at.is_some_and(|at| at > now) {
            return;
        }
        self.garden.asked(now);
        let Some(datagram) = Message::Ask.encode() else {
            return;
        };
        for (name, open) in &self.ports {
            let tags = self.wan.tags.resolve(doorstep_establish::Tags::NONE);
            let envelope = Envelope::to_any_gateway(open.mac, tags);
            if let Err(error) = open.port.send(&frame::build(&envelope, &datagram)).await {
                debug!(port = name, %error, "cannot ask for the garden");
            }
        }
    }

    pub(super) async fn on_garden_offer(
        &mut self,
        port: &str,
        envelope: Envelope,
        offer: GardenOffer,
    ) {
        if !self.needs_garden() {
            return;
        }
        // One at a time: a second port's gateway would be the way to the same servers.
        if self.garden.visit().is_some_and(|visit| visit.port != port) {
            return;
        }
        let gateway = offer.gateway_id.clone();
        let visit = Visit {
            port: port.to_owned(),
            tags: self.wan.tags.resolve(envelope.tags),
            gateway_mac: envelope.src_mac,
            offer,
        };
        if self.garden.offered(visit, Instant::now()) {
            info!(
                port,
                gateway, "in the gateway's garden: the server can be asked for service"
            );
            self.relink().await;
        }
    }

    pub(super) fn garden_status(&self) -> Option<pb::TerminalGarden> {
        let visit = self.garden.visit().filter(|_| self.needs_garden())?;
        let ways = &visit.offer.ways;
        let own = ways.iter().flat_map(|way| {
            let v4 = way.ipv4.map(|own| own.to_string());
            v4.into_iter().chain(way.ipv6.map(|own| own.to_string()))
        });
        let servers = ways.iter().flat_map(|way| &way.servers);
        Some(pb::TerminalGarden {
            gateway_id: visit.offer.gateway_id.clone(),
            addresses: own.collect(),
            servers: servers.map(ToString::to_string).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use doorstep_establish::{Mac, Tags};

    use super::*;

    fn visit(gateway: &str) -> Visit {
        Visit {
            port: "wan0".into(),
            tags: Tags::NONE,
            gateway_mac: Mac([2, 0, 0, 0, 0, 1]),
            offer: GardenOffer {
                gateway_id: gateway.into(),
                lifetime: Duration::from_secs(600),
                mtu: 1500,
                ways: Vec::new(),
            },
        }
    }

    #[test]
    fn asks_ever_more_rarely_until_somebody_answers() {
        let mut garden = Garden::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            garden.asked(now);
            let at = garden.ask_at.expect("a time");
            pauses.push(at - now);
            now = at;
        }
        assert!(pauses[0] <= FIRST_PAUSE && pauses[0] >= FIRST_PAUSE / 2);
        assert!(pauses[9] <= LONGEST_PAUSE && pauses[9] >= LONGEST_PAUSE / 2);
        assert!(garden.offered(visit("gw1"), now));
        assert!(garden.ask_at.expect("a time") <= now + REVISIT);
        assert!(!garden.offered(visit("gw1"), now), "the same again");
        assert!(garden.offered(visit("gw2"), now), "another gateway's");
        garden.asked(now);
        assert!(garden.ask_at.expect("a time") <= now + FIRST_PAUSE);
    }

    #[test]
    fn an_offer_lasts_as_long_as_it_says() {
        let mut garden = Garden::default();
        let now = Instant::now();
        garden.offered(visit("gw1"), now);
        let end = now + Duration::from_secs(600);
        assert!(!garden.expire(end - Duration::from_millis(1)));
        assert!(garden.visit().is_some());
        assert!(garden.expire(end) && garden.visit().is_none());
        assert!(!garden.expire(end), "told once");
    }
}
