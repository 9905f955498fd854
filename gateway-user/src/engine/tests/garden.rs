//! Leases of the garden, with maps that do as they are told, or refuse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorstep_establish::{Garden, GardenOffer, Mac, Tags, frame, session_of};
use doorstep_gateway_common::{LineKey, flag, garden};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::world::{
    CONFIG, GATEWAY_MAC, INVENTORY, NORTH, PORT_MTU, accept, connect, ports, terminal_mac,
};
use crate::config::Config;
use crate::engine::message::Instruction;
use crate::engine::row::Snapshot;
use crate::engine::{Action, Engine, Event, LinePort, Now, Recovered, Recovery, Settings};
use crate::inventory::Inventory;
use crate::plan::{Plan, Tables};

/// Two lines.
const LIMITS: &str = "[garden]\nlines = 2";
const LEASE: Duration = Duration::from_secs(600);
const MAX_SESSIONS: u32 = 8;

/// Two lines may be in it at once; only one of the operators has a garden.
fn config(limits: &str) -> Config {
    let own = "[operator.garden]\nservers = [\"198.51.100.1:7443\"]\n\
               prefixes = [\"100.127.0.0/24\", \"fd00::/48\"]\n[operator.server]";
    let text = CONFIG.replacen("[operator.server]", own, 1).replacen(
        "[[access_port]]",
        &format!("{limits}\n[[access_port]]"),
        1,
    );
    Config::parse("gateway.toml".as_ref(), &text).expect("valid")
}

/// The engine, and all that it acts on.
struct Gateway {
    engine: Engine,
    maps: Tables,
    now: Now,
    frames: Vec<Vec<u8>>,
    refuses: bool,
    journal: Snapshot,
}

fn start(limits: &str, actual: &Tables, journal: Snapshot, at: Instant) -> Gateway {
    start_with(&config(limits), INVENTORY, actual, journal, at)
}

fn start_with(
    config: &Config,
    inventory: &str,
    actual: &Tables,
    journal: Snapshot,
    at: Instant,
) -> Gateway {
    let inventory = Inventory::parse("inventory.csv".as_ref(), inventory, ports).expect("valid");
    let now = Now { at, unix_ms: 0 };
    let Recovered { engine, tables, .. } = Engine::recover(Recovery {
        settings: Settings {
            gateway_id: config.id.clone(),
            gateway_mac: GATEWAY_MAC,
            delegated_prefix_len: config.delegated_prefix_len,
            line_prefixes: config.line_prefixes,
            max_sessions: config.max_sessions,
            accounting_interval: Duration::from_secs(10),
            operators: config.operators.clone(),
            inventory: Arc::new(inventory),
            garden: config.garden,
            ports: [(
                7,
                LinePort {
                    mtu: PORT_MTU,
                    shaper: true,
                },
            )]
            .into(),
            is_traced: false,
        },
        snapshot: journal.clone(),
        actual,
        port: &ports,
        rng: StdRng::seed_from_u64(7),
        now,
    });
    Gateway {
        engine,
        maps: tables,
        now,
        frames: Vec::new(),
        refuses: false,
        journal,
    }
}

impl Gateway {
    /// Decides on an event and all that follows from it.
    fn feed(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.engine.handle(event, self.now) {
                events.extend(self.act(action));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        let result = match self.refuses {
            true => Err("no space".to_owned()),
            false => Ok(()),
        };
        match action {
            Action::Persist(write) => self.journal.apply(&write),
            Action::Transmit { frame, .. } => self.frames.push(frame),
            Action::Report { .. }
            | Action::ReadCounters { .. }
            | Action::ExpectProbes { .. }
            | Action::Trace(_) => {}
            Action::OpenLease { line, entries } => {
                if result.is_ok() {
                    self.apply(Plan::diff(&Tables::of(&entries), &Tables::default()));
                }
                return Some(Event::LeaseOpened { line, result });
            }
            Action::CloseLease { line, entries } => {
                if result.is_ok() {
                    self.apply(Tables::of(&entries).removal());
                }
                return Some(Event::LeaseClosed { line, result });
            }
            Action::Open { session, entry, .. } => {
                self.apply(Plan::diff(&Tables::of([&entry]), &Tables::default()));
                return Some(Event::Opened {
                    session,
                    generation: entry.generation,
                    result: Ok(()),
                });
            }
            other => panic!("not expected: {other:?}"),
        }
        None
    }

    fn apply(&mut self, plan: Plan) {
        plan.changes
            .iter()
            .for_each(|change| self.maps.apply(change));
    }

    fn ask(&mut self, line: LineKey, mac: Mac) {
        let vids: Vec<u16> = [line.s_vid, line.c_vid]
            .into_iter()
            .filter(|vid| *vid != 0)
            .collect();
        let tags = Tags::from_vids(&vids).expect("VLAN ids");
        let envelope = frame::Envelope::to_any_gateway(mac, tags);
        let datagram = Garden::Ask.encode().expect("short");
        let frame = frame::build(&envelope, &datagram);
        self.feed(Event::Frame { line, frame });
    }

    fn advance(&mut self, pause: Duration) {
        self.now.at += pause;
        self.feed(Event::Tick);
    }

    /// The offers since the last look, each with the station it is for.
    fn offers(&mut self) -> Vec<(Mac, GardenOffer)> {
        let frames = std::mem::take(&mut self.frames);
        let offer = |bytes: &Vec<u8>| {
            let parsed = frame::parse(bytes).expect("the gateway's frames can be parsed");
            match Garden::decode(parsed.payload)? {
                Garden::Offer(offer) => Some((parsed.envelope.dst_mac, offer)),
                Garden::Ask => panic!("a gateway does not ask"),
            }
        };
        frames.iter().filter_map(offer).collect()
    }

    fn summary(&self) -> (u64, u64) {
        let summary = self.engine.summary();
        (summary.leases, summary.leases_refused)
    }
}

fn line(home: u16) -> LineKey {
    LineKey {
        ifindex: 7,
        s_vid: 101,
        c_vid: 1000 + home,
    }
}

fn fresh(limits: &str) -> Gateway {
    start(
        limits,
        &Tables::default(),
        Snapshot::default(),
        Instant::now(),
    )
}

#[test]
fn who_asks_gets_addresses_and_rows() {
    let mut gateway = fresh("[garden]\nlines = 2\nrate = \"2M\"");
    let mac = terminal_mac(line(2));
    gateway.ask(line(2), mac);
    let offers = gateway.offers();
    let [(to, offer)] = &offers[..] else {
        panic!("{offers:?}")
    };
    assert_eq!(*to, mac);
    assert_eq!((offer.mtu, offer.lifetime), (1500, LEASE));
    let [way] = &offer.ways[..] else {
        panic!("one operator has a garden: {offer:?}")
    };
    assert_eq!(way.ipv4, Some([100, 127, 0, 1].into()));
    assert_eq!(way.ipv6, "fd00:0:0:1::1".parse().ok());
    assert_eq!(
        way.servers,
        ["198.51.100.1".parse::<std::net::IpAddr>().unwrap()]
    );

    assert_eq!(gateway.maps.len(), 4);
    let (key, row) = gateway.maps.upstream_v4.iter().next().expect("a row");
    assert_eq!((key.line, key.source_be), (line(2), [100, 127, 0, 1]));
    assert_eq!(row.mac.bytes(), mac.0);
    assert_eq!(row.slot, garden::slot(MAX_SESSIONS, 0), "no session's slot");
    let flags = flag::GARDEN | flag::POLICED | flag::CLAMP_MSS;
    assert_eq!(row.flags, flags);
    let (_, row) = gateway.maps.downstream_v6.iter().next().expect("a row");
    assert_eq!((row.line(), row.flags), (line(2), flags));
    assert_eq!(gateway.maps.rates.len(), 1);

    // Asking again is harmless, and answered.
    let maps = gateway.maps.clone();
    gateway.ask(line(2), mac);
    assert_eq!(gateway.offers(), offers);
    assert_eq!(gateway.maps, maps);
    // Another station of the same home takes over, with the same addresses.
    let other = Mac([2, 9, 9, 9, 9, 9]);
    gateway.ask(line(2), other);
    assert_eq!(gateway.offers(), [(other, offers[0].1.clone())]);
    assert_eq!(gateway.maps.len(), 4);
    let mut rows = gateway.maps.downstream_v4.values();
    assert!(rows.all(|row| row.mac.bytes() == other.0));
    assert_eq!(gateway.summary(), (1, 0));
}

#[test]
fn a_lease_runs_out_unless_it_is_asked_for_again() {
    let mut gateway = fresh(LIMITS);
    gateway.ask(line(2), terminal_mac(line(2)));
    gateway.advance(LEASE - Duration::from_secs(1));
    gateway.ask(line(2), terminal_mac(line(2)));
    gateway.advance(LEASE - Duration::from_secs(1));
    assert_eq!(gateway.maps.len(), 4);
    gateway.refuses = true;
    gateway.advance(Duration::from_secs(1));
    assert_eq!(gateway.maps.len(), 4, "not removed, and tried again");
    gateway.refuses = false;
    gateway.advance(Duration::from_secs(1));
    assert!(gateway.maps.is_empty());
    assert_eq!(gateway.summary(), (0, 0));
    assert_eq!(gateway.engine.next_deadline(), None);
}

#[test]
fn no_more_lines_than_allowed() {
    let mut gateway = fresh("[garden]\nlines = 1");
    gateway.ask(line(2), terminal_mac(line(2)));
    gateway.ask(line(3), terminal_mac(line(3)));
    assert_eq!(gateway.offers().len(), 1);
    assert_eq!(gateway.summary(), (1, 1));
    // Once it has run out, and nothing of it can be on its way, the other has it.
    gateway.advance(LEASE);
    gateway.ask(line(3), terminal_mac(line(3)));
    assert!(gateway.offers().is_empty());
    gateway.advance(Duration::from_secs(10));
    gateway.ask(line(3), terminal_mac(line(3)));
    assert_eq!(gateway.offers().len(), 1);
    assert!(
        gateway
            .maps
            .upstream_v4
            .keys()
            .all(|key| key.line == line(3))
    );
}

#[test]
fn refused_by_the_maps() {
    let mut gateway = fresh(LIMITS);
    gateway.refuses = true;
    gateway.ask(line(2), terminal_mac(line(2)));
    assert!(gateway.offers().is_empty(), "nothing is promised");
    gateway.refuses = false;
    gateway.advance(Duration::from_secs(1));
    assert_eq!(gateway.summary(), (0, 0));
    gateway.ask(line(2), terminal_mac(line(2)));
    assert_eq!(gateway.offers().len(), 1);
}

#[test]
fn nobody_is_let_in_where_there_is_no_garden() {
    let text = Config::parse("gateway.toml".as_ref(), CONFIG).expect("valid");
    let mut gateway = start_with(
        &text,
        INVENTORY,
        &Tables::default(),
        Snapshot::default(),
        Instant::now(),
    );
    gateway.ask(line(2), terminal_mac(line(2)));
    assert!(gateway.frames.is_empty() && gateway.maps.is_empty());
}

#[test]
fn an_established_session_ends_the_lease() {
    let mut gateway = fresh("[garden]\nlines = 3");
    gateway.ask(line(2), terminal_mac(line(2)));
    gateway.ask(line(3), terminal_mac(line(3)));
    gateway.frames.clear();
    gateway.feed(Event::Instruction {
        operator: NORTH,
        instruction: Instruction::Connect(connect(NORTH, 0, 1, 2)),
    });
    gateway.advance(Duration::ZERO);
    let requests = std::mem::take(&mut gateway.frames);
    let (answer, _) = accept(7, &requests[0]).expect("a request");
    assert_eq!(gateway.maps.len(), 8, "needed until the session is there");
    gateway.feed(answer);
    let held: Vec<_> = gateway.maps.in_garden().upstream_v4.into_keys().collect();
    assert_eq!(held.len(), 1, "only the neighbour's");
    assert_eq!(held[0].line, line(3));
    let sent = gateway.frames.last().expect("a confirmation");
    assert!(session_of(frame::parse(sent).unwrap().payload).is_some());
    // Whoever asks has none, whatever the gateway knows of the line.
    gateway.ask(line(2), terminal_mac(line(2)));
    assert_eq!(gateway.offers().len(), 1);
}

#[test]
fn a_restart_takes_leases_up_from_the_maps() {
    let limits = "[garden]\nlines = 2";
    let mut gateway = fresh(limits);
    gateway.ask(line(2), terminal_mac(line(2)));
    gateway.ask(line(3), terminal_mac(line(3)));
    let (maps, at) = (gateway.maps.clone(), gateway.now.at);

    let mut after = start(limits, &maps, Snapshot::default(), at);
    assert_eq!(after.maps, maps, "nothing is to be changed");
    assert_eq!(after.summary(), (2, 0));
    after.ask(line(2), terminal_mac(line(2)));
    let offers = after.offers();
    assert_eq!(offers[0].1.ways[0].ipv4, Some([100, 127, 0, 1].into()));
    // The other is not known to be there any more.
    after.advance(LEASE - Duration::from_secs(1));
    after.ask(line(2), terminal_mac(line(2)));
    after.advance(Duration::from_secs(1));
    assert_eq!(after.summary(), (1, 0));
    assert!(after.maps.upstream_v4.keys().all(|key| key.line == line(2)));

    // Fewer lines, a line that is gone, no garden: what is not allowed any more goes.
    let fewer = start("[garden]\nlines = 1", &maps, Snapshot::default(), at);
    assert!(fewer.maps.upstream_v4.keys().all(|key| key.line == line(2)));
    assert_eq!(fewer.summary(), (1, 0));
    let inventory = INVENTORY.replace("1003", "1999");
    let moved = start_with(&config(limits), &inventory, &maps, Snapshot::default(), at);
    assert!(moved.maps.upstream_v4.keys().all(|key| key.line == line(2)));
    assert_eq!(moved.summary(), (1, 0));
    let none = Config::parse("gateway.toml".as_ref(), CONFIG).expect("valid");
    let none = start_with(&none, INVENTORY, &maps, Snapshot::default(), at);
    assert!(none.maps.is_empty());
    // Another prefix: the lines stay, under other addresses.
    let mut elsewhere = config(limits);
    for operator in &mut elsewhere.operators {
        if let Some(garden) = &mut operator.garden {
            garden.v4 = "100.126.0.0/24".parse().ok();
        }
    }
    let elsewhere = start_with(&elsewhere, INVENTORY, &maps, Snapshot::default(), at);
    assert_eq!(elsewhere.summary(), (2, 0));
    let sources = elsewhere.maps.upstream_v4.keys();
    let sources: Vec<_> = sources.map(|key| key.source_be[1]).collect();
    assert_eq!(sources, [126, 126]);
}

#[test]
fn what_is_no_ask_is_nothing() {
    let mut gateway = fresh(LIMITS);
    let envelope = frame::Envelope::to_any_gateway(terminal_mac(line(2)), Tags::NONE);
    let offer = Garden::Offer(GardenOffer {
        gateway_id: "gw2".to_owned(),
        lifetime: LEASE,
        mtu: 1500,
        ways: Vec::new(),
    });
    for datagram in [Vec::new(), vec![0xff; 50], offer.encode().expect("short")] {
        let frame = frame::build(&envelope, &datagram);
        gateway.feed(Event::Frame {
            line: line(2),
            frame,
        });
    }
    assert!(gateway.frames.is_empty() && gateway.maps.is_empty());
    assert_eq!(gateway.summary(), (0, 0));
}
