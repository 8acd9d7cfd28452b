//! What a schedule tells those who read it.

use super::*;

fn named(name: &str, dispatch: Dispatch) -> Dispatch {
    Dispatch {
        id: id(name),
        ..dispatch
    }
}

#[test]
fn a_schedule_counts_its_dispatches_and_knows_the_oldest_without_an_end() {
    let mut world = World::new();
    assert!(world.schedule.is_empty());
    assert_eq!(world.schedule.oldest_open_end(), None);
    world.list(
        0,
        vec![
            named("a", dispatch(10, None)),
            named("b", dispatch(-10, None)),
            named("c", dispatch(-20, None)),
            named("d", dispatch(-30, Some(30))),
        ],
    );
    assert!(!world.schedule.is_empty());
    assert_eq!(world.schedule.len(), 4);
    assert_eq!(world.schedule.count(Phase::Scheduled), 1);
    assert_eq!(world.schedule.count(Phase::Active), 3);
    assert_eq!(world.schedule.oldest_open_end(), Some(at(-20)));
    world.list(
        1,
        vec![
            named("b", dispatch(-10, None)),
            named("c", dispatch(-20, Some(-5))),
        ],
    );
    assert_eq!(world.schedule.count(Phase::Active), 2);
    assert_eq!(world.schedule.count(Phase::Ended), 1);
    assert_eq!(world.schedule.oldest_open_end(), Some(at(-10)));
}

#[test]
fn a_schedule_tells_what_is_in_doubt_and_when_that_is_looked_up() {
    let mut world = World::new();
    let numbered = |name, number| named(name, numbered(number, dispatch(1000, None)));
    world.list(
        0,
        vec![numbered("a", 1), numbered("b", 7), numbered("c", 1)],
    );
    assert_eq!(world.schedule.next_check(), None);
    for kind in [DoubtKind::Absent, DoubtKind::Lower] {
        assert_eq!(world.schedule.in_doubt(kind), 0);
    }
    world.list(2, vec![numbered("b", 3), numbered("c", 1)]);
    assert!(world.schedule.is_in_doubt(&id("a")));
    assert!(world.schedule.is_in_doubt(&id("b")));
    assert!(!world.schedule.is_in_doubt(&id("c")));
    assert_eq!(world.schedule.in_doubt(DoubtKind::Absent), 1);
    assert_eq!(world.schedule.in_doubt(DoubtKind::Lower), 1);
    assert_eq!(world.schedule.next_check(), Some(moment(2)));
}

#[test]
fn a_schedule_that_is_restored_is_as_it_was_stored() {
    let mut world = World::new();
    world.list(
        0,
        vec![
            named("a", dispatch(10, Some(20))),
            named("b", dispatch(5, None)),
        ],
    );
    let stored = world.schedule.entries().map(|entry| Entry::clone(&entry));
    let restored = Schedule::restore(stored, world.schedule.revision());
    assert_eq!(restored.revision(), 2);
    assert!(restored.entries().eq(world.schedule.entries()));
    assert_eq!(restored.next_due(), Some(at(5)));
}
