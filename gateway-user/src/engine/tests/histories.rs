//! Random histories: whatever happens in whatever order, with crashes anywhere, the promises of
//! [`World`] hold at every step, and in the end there is what the servers asked for last.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use doorstep_gateway_common::OperatorIndex;
use proptest::prelude::*;

use super::world::*;
use crate::engine::Event;
use crate::engine::message::{Connect, Instruction, Report};
use crate::plan::Tables;

const SESSIONS: u8 = 3;
const BY_DHCP: (OperatorIndex, u8) = (NORTH, 2);
/// The gateway's own address of that operator.
const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 1, 1);

#[derive(Clone, Debug)]
enum Happening {
    Connect {
        operator: OperatorIndex,
        number: u8,
        place: u8,
    },
    Disconnect {
        operator: OperatorIndex,
        number: u8,
    },
    /// Another service for what is connected, by an instruction of its own or by another Connect.
    ChangeService {
        operator: OperatorIndex,
        number: u8,
        by_connect: bool,
    },
    /// The last instruction again.
    Repeat {
        operator: OperatorIndex,
        number: u8,
    },
    /// An instruction of long ago.
    Stale {
        operator: OperatorIndex,
        number: u8,
        connect: bool,
    },
    /// The router asks on the line of a place, or another one does.
    RouterAsks {
        place: u8,
        other: bool,
        what: u8,
    },
    TerminalsAccept,
    /// And each has another session on its line end.
    TerminalsReplace,
    FramesAreLost,
    /// The fast path does that many of its orders.
    Work(u8),
    FastPathFails,
    Stream {
        operator: OperatorIndex,
        up: bool,
    },
    ReceiptsAreAcknowledged(OperatorIndex),
    Wait(u16),
    /// The server has told everything, or believes so.
    Synced(OperatorIndex),
    /// The fast path may still do some orders whose answers nobody hears.
    Crash(u8),
    /// And the journal is gone.
    StateIsLost(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    let operator = NORTH..=SOUTH;
    let number = 0..SESSIONS;
    prop_oneof![
        4 => (operator.clone(), number.clone(), 0..4u8)
            .prop_map(|(operator, number, place)| Happening::Connect { operator, number, place }),
        3 => (operator.clone(), number.clone())
            .prop_map(|(operator, number)| Happening::Disconnect { operator, number }),
        2 => (operator.clone(), number.clone())
            .prop_map(|(operator, number)| Happening::Repeat { operator, number }),
        4 => (operator.clone(), number.clone(), any::<bool>())
            .prop_map(|(operator, number, by_connect)| {
                Happening::ChangeService { operator, number, by_connect }
            }),
        1 => (operator.clone(), number, any::<bool>())
            .prop_map(|(operator, number, connect)| Happening::Stale { operator, number, connect }),
        4 => (0..4u8, any::<bool>(), 0..4u8)
            .prop_map(|(place, other, what)| Happening::RouterAsks { place, other, what }),
        4 => Just(Happening::TerminalsAccept),
        2 => Just(Happening::TerminalsReplace),
        1 => Just(Happening::FramesAreLost),
        5 => (1..4u8).prop_map(Happening::Work),
        1 => Just(Happening::FastPathFails),
        2 => (operator.clone(), any::<bool>())
            .prop_map(|(operator, up)| Happening::Stream { operator, up }),
        2 => operator.clone().prop_map(Happening::ReceiptsAreAcknowledged),
        1 => operator.prop_map(Happening::Synced),
        3 => (1..12_000u16).prop_map(Happening::Wait),
        2 => (0..3u8).prop_map(Happening::Crash),
        1 => (0..3u8).prop_map(Happening::StateIsLost),
    ]
}

/// What a server asks for. One session comes up by DHCP.
fn wanted(operator: OperatorIndex, number: u8, generation: u64, place: u8) -> Connect {
    match (operator, number) {
        BY_DHCP => by_dhcp(operator, number, generation, place),
        _ => connect(operator, number, generation, place),
    }
}

/// What a router asks about the session that comes up by DHCP.
fn ask(what: u8) -> Ask {
    let (address, server) = (address(BY_DHCP.0, BY_DHCP.1), SERVER);
    match what {
        0 => Ask::Discover,
        1 => Ask::Select { address, server },
        2 => Ask::Renew(address),
        _ => Ask::Release { address, server },
    }
}

/// What the servers have in their tables.
#[derive(Default)]
struct Servers {
    last: HashMap<(OperatorIndex, u8), Last>,
    up: HashMap<OperatorIndex, bool>,
    revisions: HashMap<(OperatorIndex, u8), u64>,
}

#[derive(Clone)]
enum Last {
    Connect(Connect),
    Disconnect(u64),
    /// The receipt has said so.
    Replaced(u64),
}

impl Servers {
    fn next_generation(&self, operator: OperatorIndex, number: u8) -> u64 {
        match self.last.get(&(operator, number)) {
            Some(Last::Connect(connect)) => connect.generation + 1,
            Some(Last::Disconnect(generation) | Last::Replaced(generation)) => generation + 1,
            None => 1,
        }
    }

    fn tell(&self, world: &mut World, operator: OperatorIndex, number: u8) {
        if !self.up.get(&operator).copied().unwrap_or_default() {
            return;
        }
        match self.last.get(&(operator, number)) {
            Some(Last::Connect(connect)) => world.connect(operator, connect.clone()),
            Some(Last::Disconnect(generation)) => {
                world.disconnect(operator, number, *generation);
            }
            Some(Last::Replaced(_)) | None => {}
        }
    }

    /// Reads the receipts that nobody has asked for.
    fn learn(&mut self, world: &World) {
        for (of, report) in &world.reports {
            let Report::Receipt(receipt) = report else {
                continue;
            };
            for number in (0..SESSIONS).filter(|number| id(*number) == receipt.session) {
                if let Some(last) = self.last.get_mut(&(*of, number))
                    && matches!(last, Last::Connect(connect) if connect.generation == receipt.generation)
                {
                    *last = Last::Replaced(receipt.generation);
                }
            }
        }
    }

    /// Of the session's service, whatever its generation.
    fn revision(&self, operator: OperatorIndex, number: u8) -> u64 {
        let revision = self.revisions.get(&(operator, number));
        revision.copied().unwrap_or_default()
    }

    fn change_service(
        &mut self,
        world: &mut World,
        operator: OperatorIndex,
        number: u8,
        by_connect: bool,
    ) {
        let revision = self.revision(operator, number) + 1;
        self.revisions.insert((operator, number), revision);
        let Some(Last::Connect(connect)) = self.last.get_mut(&(operator, number)) else {
            return;
        };
        *connect = served(connect.clone(), revision);
        if by_connect {
            self.tell(world, operator, number);
        } else if self.up.get(&operator).copied().unwrap_or_default() {
            world.change_service(operator, number, connect.generation, revision);
        }
    }

    fn stream(&mut self, world: &mut World, operator: OperatorIndex, up: bool) {
        if self.up.insert(operator, up).unwrap_or_default() != up {
            world.feed(if up {
                Event::StreamUp { operator }
            } else {
                Event::StreamDown { operator }
            });
            let first = world
                .reports
                .iter()
                .rfind(|(of, report)| *of == operator && matches!(report, Report::Hello { .. }));
            assert!(!up || first.is_some(), "a stream begins with a Hello");
        }
    }

    fn synced(&self, world: &mut World, operator: OperatorIndex) {
        if self.up.get(&operator).copied().unwrap_or_default() {
            world.instruct(operator, Instruction::Synced);
        }
    }

    fn acknowledge(&self, world: &mut World, operator: OperatorIndex) {
        if !self.up.get(&operator).copied().unwrap_or_default() {
            return;
        }
        let numbers: Vec<u64> = world
            .reports
            .iter()
            .filter_map(|(of, report)| match report {
                Report::Receipt(receipt) if *of == operator => Some(receipt.number),
                _ => None,
            })
            .collect();
        for number in numbers {
            world.instruct(operator, Instruction::ReceiptAck { number });
        }
    }

    fn happen(&mut self, world: &mut World, happening: &Happening) {
        match *happening {
            Happening::Connect {
                operator,
                number,
                place,
            } => {
                let generation = self.next_generation(operator, number);
                let connect = wanted(operator, number, generation, place);
                let connect = served(connect, self.revision(operator, number));
                self.last.insert((operator, number), Last::Connect(connect));
                self.tell(world, operator, number);
            }
            Happening::Disconnect { operator, number } => {
                let generation = self.next_generation(operator, number);
                self.last
                    .insert((operator, number), Last::Disconnect(generation));
                self.tell(world, operator, number);
            }
            Happening::ChangeService {
                operator,
                number,
                by_connect,
            } => self.change_service(world, operator, number, by_connect),
            Happening::Repeat { operator, number } => self.tell(world, operator, number),
            Happening::Stale {
                operator,
                number,
                connect: of_connect,
            } => {
                let generation = self.next_generation(operator, number).saturating_sub(2);
                if generation == 0 || !self.up.get(&operator).copied().unwrap_or_default() {
                    return;
                }
                let fenced = world
                    .journal
                    .fences
                    .get(&session(operator, number))
                    .cloned();
                if fenced
                    .as_ref()
                    .is_none_or(|fence| fence.generation <= generation)
                {
                    return;
                }
                let maps = world.maps.clone();
                if of_connect {
                    world.connect(operator, wanted(operator, number, generation, 0));
                } else {
                    world.disconnect(operator, number, generation);
                }
                world.change_service(operator, number, generation, u64::from(u32::MAX));
                assert_eq!(world.maps, maps);
                assert_eq!(
                    world
                        .journal
                        .fences
                        .get(&session(operator, number))
                        .cloned(),
                    fenced
                );
            }
            Happening::RouterAsks { place, other, what } => {
                let router = if other { OTHER_ROUTER } else { ROUTER };
                world.ask(place, router, ask(what));
            }
            Happening::TerminalsAccept => {
                world.terminals_accept();
            }
            Happening::TerminalsReplace => {
                world.terminals_replace();
            }
            Happening::FramesAreLost => world.frames.clear(),
            Happening::Work(orders) => {
                for _ in 0..orders {
                    if let Some(event) = world.order() {
                        world.feed(event);
                    }
                }
            }
            Happening::FastPathFails => world.failures += 1,
            Happening::Stream { operator, up } => self.stream(world, operator, up),
            Happening::ReceiptsAreAcknowledged(operator) => self.acknowledge(world, operator),
            Happening::Wait(pause_ms) => world.advance(Duration::from_millis(pause_ms.into())),
            Happening::Synced(operator) => self.synced(world, operator),
            Happening::StateIsLost(orders) => {
                for _ in 0..orders {
                    world.order();
                }
                world.lose_state();
                self.up.clear();
            }
            Happening::Crash(orders) => {
                for _ in 0..orders {
                    world.order();
                }
                world.crash();
                self.up.clear();
            }
        }
    }

    /// Everybody is well again, and the servers repeat what they want.
    fn finish(&mut self, world: &mut World) {
        world.failures = 0;
        for _ in 0..4 {
            for operator in [NORTH, SOUTH] {
                self.stream(world, operator, true);
                self.learn(world);
                for number in 0..SESSIONS {
                    self.tell(world, operator, number);
                }
                self.synced(world, operator);
            }
            for _ in 0..3 {
                world.settle();
                world.advance(Duration::from_secs(11));
                world.terminals_accept();
                for place in 0..4 {
                    world.ask(place, ROUTER, ask(1));
                }
            }
            world.settle();
            self.learn(world);
        }
    }

    fn check_end(&self, world: &mut World) {
        let (mut expected, mut prefixes) = (0, 0);
        for (&(operator, number), last) in &self.last {
            let source = address(operator, number).octets();
            let row = world
                .maps
                .upstream_v4
                .iter()
                .find(|(key, row)| row.operator == operator && key.source_be == source);
            match last {
                Last::Connect(connect) => {
                    expected += 1;
                    prefixes += connect.prefixes().count();
                    let (key, row) = row.expect("what was connected last flows");
                    assert_eq!(row.generation, connect.generation);
                    let line = world.inventory.resolve(&connect.location);
                    assert_eq!(key.line, line.expect("a line").key);
                    let session = session(operator, number);
                    assert_eq!(world.service_of(session), Some(connect.service));
                    let acknowledged = world.reports.iter().any(|(of, report)| {
                        let expected = Report::Ack {
                            session: session.session,
                            generation: connect.generation,
                            revision: connect.service_revision,
                        };
                        *of == operator && *report == expected
                    });
                    assert!(acknowledged, "the service asked for last is acknowledged");
                }
                // Its receipt is how the server knows.
                Last::Replaced(_) => assert_eq!(row, None, "what was replaced does not flow"),
                Last::Disconnect(generation) => {
                    assert_eq!(row, None, "what was disconnected last does not flow");
                    let receipted = world.receipts.iter().any(|((of, _), receipt)| {
                        *of == operator
                            && receipt.session == id(number)
                            && receipt.generation == *generation
                    });
                    assert!(receipted, "every disconnect is receipted");
                }
            }
        }
        assert_eq!(world.maps.upstream_v4.len(), expected);
        assert_eq!(world.maps.upstream_v6.len(), prefixes);
        assert_eq!(world.maps.downstream_v6.len(), prefixes);
        for operator in [NORTH, SOUTH] {
            self.acknowledge(world, operator);
        }
        assert!(world.journal.receipts.is_empty(), "all are acknowledged");
        // What the engine thinks and what the journal holds lead to the same fast path.
        let maps: Tables = world.maps.clone();
        world.crash();
        assert_eq!(world.maps, maps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_in_what_was_asked_last(
        history in prop::collection::vec(happening(), 0..60)
    ) {
        let mut world = World::new();
        let mut servers = Servers::default();
        for operator in [NORTH, SOUTH] {
            servers.stream(&mut world, operator, true);
        }
        for happening in &history {
            servers.happen(&mut world, happening);
            servers.learn(&world);
        }
        servers.finish(&mut world);
        servers.check_end(&mut world);
    }
}
