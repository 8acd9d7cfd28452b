//! Which of two answers counts (rule R2).

use super::*;

#[test]
fn two_updates_within_one_second_end_on_the_newer() {
    let mut world = World::new();
    world.look_up(0, numbered(0, dispatch(10, None)));
    let first = world.ask();
    let second = world.ask();
    world.answer_look_up(1, second, numbered(2, dispatch(10, Some(30))));
    assert!(
        world
            .answer_look_up(1, first, numbered(1, dispatch(10, Some(20))))
            .is_empty()
    );
    assert_eq!(world.outcome.outdated, 1);
    let entry = world.schedule.get(&id("dkmq")).unwrap();
    assert_eq!(entry.dispatch.end_time, Some(at(30)));
}

#[test]
fn a_higher_number_counts_even_in_an_answer_asked_for_earlier() {
    let mut world = World::new();
    let first = world.ask();
    world.look_up(0, numbered(1, dispatch(10, None)));
    assert_eq!(
        world.answer_look_up(1, first, numbered(2, dispatch(10, Some(20)))),
        ["updated end_time modification_number"]
    );
}

#[test]
fn with_equal_or_missing_numbers_the_later_question_wins() {
    for (known, seen) in [
        (Some(1), Some(1)),
        (None, Some(1)),
        (Some(1), None),
        (None, None),
    ] {
        let with = |number, end| Dispatch {
            modification_number: number,
            ..dispatch(10, Some(end))
        };
        let mut world = World::new();
        let early = world.ask();
        world.look_up(0, with(known, 20));
        assert!(world.answer_look_up(1, early, with(seen, 30)).is_empty());
        assert!(!world.look_up(1, with(seen, 30)).is_empty());
    }
}

#[test]
fn a_lower_number_is_looked_up_before_it_is_taken_over() {
    let mut world = World::new();
    world.look_up(0, numbered(7, dispatch(10, None)));
    assert!(
        world
            .list(1, vec![numbered(3, dispatch(10, Some(20)))])
            .is_empty()
    );
    assert!(world.asks_again());
    // Another list is no look-up.
    assert!(
        world
            .list(2, vec![numbered(3, dispatch(10, Some(20)))])
            .is_empty()
    );
    assert!(world.asks_again());
    assert_eq!(
        world.look_up(3, numbered(3, dispatch(10, Some(20)))),
        ["updated end_time modification_number"]
    );
    assert_eq!(world.outcome.rewinds, 1);
}

#[test]
fn a_lower_number_from_a_stale_cache_changes_nothing() {
    let mut world = World::new();
    world.look_up(0, numbered(7, dispatch(10, None)));
    world.list(1, vec![numbered(6, dispatch(10, Some(20)))]);
    assert!(world.look_up(2, numbered(7, dispatch(10, None))).is_empty());
    // The question is closed: the next lower number raises it anew.
    assert!(
        world
            .look_up(3, numbered(6, dispatch(10, Some(20))))
            .is_empty()
    );
    assert_eq!(world.outcome.rewinds, 0);
    assert!(world.asks_again());
}

#[test]
fn a_lower_number_confirms_nothing_about_what_was_accepted_meanwhile() {
    let mut world = World::new();
    world.look_up(0, numbered(9, dispatch(10, None)));
    let (first, second) = (world.ask(), world.ask());
    world.list(1, vec![numbered(8, dispatch(10, None))]);
    // An answer without a number, then one with a number lower than any.
    world.answer_look_up(2, first, dispatch(10, Some(20)));
    world.answer_look_up(2, second, numbered(3, dispatch(10, Some(20))));
    assert!(
        world
            .look_up(3, numbered(2, dispatch(10, Some(30))))
            .is_empty()
    );
    assert!(world.asks_again());
}
