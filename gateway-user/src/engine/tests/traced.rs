//! What whoever collects traces is told.

use std::time::Duration;

use super::world::*;

#[test]
fn an_instruction_is_told_of_once_it_is_carried_out() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 7, 1));
    assert!(world.traced.is_empty());
    world.advance(Duration::from_millis(20));
    assert_ne!(world.terminals_accept(), 0);
    world.settle();
    let [told] = &world.traced[..] else {
        panic!("{:?}", world.traced)
    };
    assert_eq!((told.session, told.generation), (id(1), 7));
    assert_eq!((&*told.operator, told.what), ("north-net", "establish"));
    let names = ["instructed", "requested", "accepted", "opened"];
    assert!(
        told.steps.iter().map(|(name, _)| *name).eq(names),
        "{told:?}"
    );
    assert!(told.steps.is_sorted_by_key(|(_, at)| *at), "{told:?}");
    assert_eq!(told.steps[3].1 - told.steps[0].1, 20, "{told:?}");

    // Its server comes back: nothing new has been done.
    world.feed(crate::engine::Event::StreamUp { operator: NORTH });
    assert_eq!(world.traced.len(), 1);
    world.disconnect(NORTH, 1, 8);
    world.settle();
    let told = &world.traced[1];
    assert_eq!((told.generation, told.what), (8, "close"));
    assert!(
        told.steps
            .iter()
            .map(|(name, _)| *name)
            .eq(["closing", "closed"]),
        "{told:?}"
    );
}
