//! One operator's session in the place of another's, by the terminal's word.

use doorstep_establish::{Body, Former, Message, Replaced};

use super::world::*;
use crate::engine::Event;
use crate::engine::message::{HeldPhase, RefusalReason, Report};
use crate::engine::replaced::LINGER;
use crate::engine::row::{Phase, Write};
use crate::engine::{Action, row::SessionRef};

const OLD: u8 = 1;
const NEW: u8 = 2;
const PLACE: u8 = 2;

/// NORTH's session flows on the line, and SOUTH's asks the terminal there.
fn asked() -> World {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, OLD, 1, PLACE));
    assert_eq!(world.terminals_accept(), 1);
    world.settle();
    world.frames.clear();
    world.connect(SOUTH, connect(SOUTH, NEW, 1, PLACE));
    world.reports.clear();
    world
}

fn flows(world: &World, of: SessionRef, number: u8) -> bool {
    let source = address(of.operator, number).octets();
    let mut up = world.maps.upstream_v4.keys();
    let mut down = world.maps.downstream_v4.keys();
    let (up, down) = (
        up.any(|key| key.source_be == source),
        down.any(|key| key.operator == of.operator && key.destination_be == source),
    );
    assert_eq!(up, down, "both ways or none");
    up
}

fn flow(world: &World) -> (bool, bool) {
    (
        flows(world, session(NORTH, OLD), OLD),
        flows(world, session(SOUTH, NEW), NEW),
    )
}

/// The new one is open; the former one still flows for the moment that the terminal needs.
fn lingers(world: &mut World) {
    assert_eq!(flow(world), (true, true), "never neither");
    world.advance(LINGER - std::time::Duration::from_millis(1));
    world.settle();
    assert_eq!(flow(world), (true, true));
    world.advance(std::time::Duration::from_millis(1));
    world.settle();
}

/// The terminal's answer with another proof.
fn with(world: &World, change: impl FnOnce(&Body) -> Replaced) -> Event {
    let bytes = &world.frames[0].1;
    let (line, key, _) = read(bytes).expect("a request");
    let (_, answer) = accept(7, bytes).expect("a request");
    let mac = terminal_mac(line);
    let answer = Body {
        message: Message::Accept {
            terminal_mac: mac,
            replaces: Some(change(&answer)),
        },
        ..answer
    };
    answer_from(line, mac, id(NEW), &key, &answer)
}

fn former() -> Former {
    Former {
        session: id(OLD),
        generation: 1,
        key: key(NORTH, OLD, 1),
    }
}

fn proven(answer: &Body) -> Replaced {
    former().replaced_by(id(NEW), answer.generation, answer.nonce)
}

#[test]
fn the_former_ends_once_the_new_one_flows_and_its_server_is_told() {
    let mut world = asked();
    assert_eq!(world.terminals_replace(), 1);
    assert_eq!(flow(&world), (true, false), "until the new one is open");
    let opened = world.order().expect("the order to open");
    assert_eq!(flow(&world), (true, true), "never neither");

    let actions = world.engine.clone().handle(opened, world.now);
    let written = |wanted: SessionRef, is: fn(&Phase) -> bool| {
        actions.iter().any(|action| {
            matches!(action, Action::Persist(Write::PutSession(of, row)) if *of == wanted && is(&row.phase))
        })
    };
    let established = |phase: &Phase| matches!(phase, Phase::Established(_));
    let closing = |phase: &Phase| matches!(phase, Phase::Closing { .. });
    assert!(
        written(session(SOUTH, NEW), established) && written(session(NORTH, OLD), closing),
        "in one transaction"
    );

    // Its answer is lost in this world: the daemon dies before it has heard it.
    world.crash();
    assert_eq!(flow(&world), (true, false), "the former is undisturbed");
    world.feed(Event::StreamUp { operator: NORTH });
    world.feed(Event::StreamUp { operator: SOUTH });
    world.advance(std::time::Duration::from_secs(5));
    world.reports.clear();
    assert_ne!(world.terminals_replace(), 0, "asked again");
    world.settle();
    lingers(&mut world);
    assert_eq!(flow(&world), (false, true));

    let told: Vec<_> = std::mem::take(&mut world.reports);
    let to_north: Vec<_> = told.iter().filter(|(of, _)| *of == NORTH).collect();
    let [(_, Report::Receipt(receipt))] = &to_north[..] else {
        panic!("one receipt, not {to_north:?}");
    };
    assert_eq!((receipt.session, receipt.generation), (id(OLD), 1));
    assert_eq!(receipt.final_counters.upstream_packets, 1, "the last ones");
    let to_south = told.iter().filter(|(of, _)| *of == SOUTH);
    let established = |(_, report): &(_, Report)| matches!(report, Report::Established { .. });
    assert!(to_south.clone().all(established) && to_south.count() == 1);

    // The same Connect, late, begins nothing; a newer one does.
    world.connect(NORTH, connect(NORTH, OLD, 1, PLACE));
    let refusals = world.refusals();
    assert_eq!(refusals[0].reason, RefusalReason::StaleGeneration);
    world.connect(NORTH, connect(NORTH, OLD, 2, PLACE));
    assert!(matches!(world.take_reports()[..], [Report::Ack { .. }]));
}

#[test]
fn a_former_server_that_is_away_is_told_when_it_is_back() {
    let mut world = asked();
    world.feed(Event::StreamDown { operator: NORTH });
    world.terminals_replace();
    world.settle();
    lingers(&mut world);
    assert_eq!(flow(&world), (false, true));
    world.crash();
    assert_eq!(flow(&world), (false, true));
    world.feed(Event::StreamUp { operator: NORTH });
    let reports = world.take_reports();
    let [Report::Hello { held }, Report::Receipt(receipt)] = &reports[..] else {
        panic!("a Hello and the receipt, not {reports:?}");
    };
    assert_eq!(held.len(), 1, "nothing of the other operator's");
    assert_eq!(held[0].phase, HeldPhase::Disconnected);
    assert_eq!((receipt.session, receipt.generation), (id(OLD), 1));
}

#[test]
fn a_crash_while_the_former_is_closed_goes_on_closing_it() {
    let mut world = asked();
    world.terminals_replace();
    let opened = world.order().expect("the order to open");
    world.feed(opened);
    assert_eq!(flow(&world), (true, true));
    world.crash();
    assert_eq!(flow(&world), (false, true));
    world.settle();
    assert_eq!(world.journal.sessions.len(), 1);
    assert_eq!(world.journal.receipts.len(), 1);
}

#[test]
fn who_cannot_prove_it_replaces_nothing() {
    let forged = |change: fn(&mut Former)| {
        move |answer: &Body| {
            let mut former = former();
            change(&mut former);
            Replaced {
                session: id(OLD),
                generation: 1,
                ..former.replaced_by(id(NEW), answer.generation, answer.nonce)
            }
        }
    };
    let replayed = |answer: &Body| {
        let mut nonce = answer.nonce;
        nonce.0[0] ^= 1;
        former().replaced_by(id(NEW), answer.generation, nonce)
    };
    let earlier =
        |answer: &Body| former().replaced_by(id(NEW), answer.generation + 1, answer.nonce);
    let for_another = |answer: &Body| former().replaced_by(id(3), answer.generation, answer.nonce);
    type Proof = Box<dyn Fn(&Body) -> Replaced>;
    let rows: [(&str, Proof); 7] = [
        (
            "with the new session's key",
            Box::new(forged(|f| f.key = key(SOUTH, NEW, 1))),
        ),
        (
            "with the key of another generation",
            Box::new(forged(|f| f.key = key(NORTH, OLD, 2))),
        ),
        (
            "made for another former session",
            Box::new(forged(|f| f.session = id(3))),
        ),
        (
            "made for another generation of it",
            Box::new(forged(|f| f.generation = 2)),
        ),
        ("of an earlier establishment", Box::new(replayed)),
        ("of another generation of the new one", Box::new(earlier)),
        ("made for another new session", Box::new(for_another)),
    ];
    for (name, proof) in rows {
        let mut world = asked();
        let answer = with(&world, proof);
        world.feed(answer);
        assert!(world.orders.is_empty(), "{name}");
        world.settle();
        assert_eq!(flow(&world), (true, false), "{name}");
        assert!(world.take_reports().is_empty(), "{name}");
        // Who is asked again may still answer rightly.
        let answer = with(&world, proven);
        world.feed(answer);
        world.settle();
        lingers(&mut world);
        assert_eq!(flow(&world), (false, true), "{name}");
    }
}

#[test]
fn only_a_session_on_the_very_line_is_replaced() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, OLD, 1, PLACE + 1));
    world.terminals_accept();
    world.settle();
    world.frames.clear();
    world.connect(SOUTH, connect(SOUTH, NEW, 1, PLACE));
    let answer = with(&world, proven);
    world.feed(answer);
    world.settle();
    assert_eq!(flow(&world), (true, true), "as if it had not been named");
}

#[test]
fn a_new_session_that_does_not_come_about_leaves_the_former_one() {
    let mut world = asked();
    world.failures = 1;
    world.terminals_replace();
    world.settle();
    assert_eq!(flow(&world), (true, false));
    assert!(world.journal.receipts.is_empty());

    let mut world = asked();
    world.terminals_replace();
    world.disconnect(SOUTH, NEW, 2);
    world.settle();
    assert_eq!(flow(&world), (true, false), "given up while it was opened");
}

#[test]
fn a_disconnect_of_the_former_that_comes_meanwhile_has_its_receipt() {
    let mut world = asked();
    world.terminals_replace();
    let opened = world.order().expect("the order to open");
    world.feed(opened);
    world.disconnect(NORTH, OLD, 2);
    world.settle();
    assert_eq!(flow(&world), (false, true), "at once");
    let receipts: Vec<_> = world.journal.receipts.values().collect();
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].generation, 2, "its own");
}
