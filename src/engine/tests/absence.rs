//! What a list does not contain (rule R3).

use super::*;

#[test]
fn a_dispatch_missing_from_the_list_is_looked_up_before_it_is_cancelled() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    assert!(world.list(1, vec![]).is_empty());
    assert!(world.asks_again());
    assert!(world.gone(2).is_empty(), "one 404 is not enough");
    assert!(world.list(3, vec![]).is_empty());
    assert!(world.asks_again());
    assert_eq!(world.gone(4), ["cancelled"]);
    assert_eq!(world.phase(), Phase::Cancelled);
}

#[test]
fn two_404s_after_one_poll_withdraw_nothing() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    world.list(1, vec![]);
    world.gone(2);
    assert!(world.gone(3).is_empty());
    assert_eq!(world.phase(), Phase::Scheduled);
}

#[test]
fn a_404_without_a_list_that_lacks_it_withdraws_nothing() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    world.gone(1);
    world.gone(2);
    assert_eq!(world.phase(), Phase::Scheduled);
}

#[test]
fn a_dispatch_that_left_the_list_and_still_exists_stays() {
    let mut world = World::new();
    world.list(0, vec![dispatch(-5, None)]);
    for poll in 0..5 {
        world.list(10 * poll + 1, vec![]);
        assert!(world.asks_again());
        assert!(world.look_up(10 * poll + 2, dispatch(-5, None)).is_empty());
    }
    assert_eq!(world.phase(), Phase::Active);
}

#[test]
fn being_seen_again_forgets_an_earlier_404() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    world.list(1, vec![]);
    world.gone(2);
    world.list(3, vec![dispatch(10, None)]);
    world.list(4, vec![]);
    assert!(world.gone(5).is_empty());
}

#[test]
fn a_404_from_before_it_was_seen_again_is_forgotten_when_the_sight_comes_late() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    world.list(1, vec![]);
    world.gone(2);
    let seen = world.ask();
    world.list(3, vec![]);
    world.answer_look_up(4, seen, dispatch(10, None));
    assert!(world.gone(5).is_empty());
    assert_eq!(world.phase(), Phase::Scheduled);
}

#[test]
fn a_list_from_before_an_unreadable_sight_raises_no_question() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    let late = world.ask();
    let look_up = world.ask();
    let asked = world.ask();
    let readings = vec![Reading::Unreadable {
        id: id("dkmq"),
        reason: "no start_time".into(),
    }];
    let list = Arc::new(List::new(readings, 0));
    world.answer(1, asked, Answer::List(list));
    world.answer_list(2, late, vec![]);
    assert!(!world.asks_again());
    world.answer_gone(3, look_up);
    world.list(4, vec![]);
    assert!(world.asks_again());
    assert!(world.gone(5).is_empty());
}

#[test]
fn the_same_list_or_one_asked_for_before_the_404_is_not_a_second_poll() {
    for late in [false, true] {
        let mut world = World::new();
        world.list(0, vec![dispatch(10, None)]);
        let early = world.ask();
        let list = world.ask();
        world.answer_list(1, list, vec![]);
        let look_up = world.ask();
        world.answer_gone(2, look_up);
        world.answer_list(3, if late { early } else { list }, vec![]);
        assert!(!world.asks_again());
        assert!(world.answer_gone(4, look_up).is_empty());
        assert!(world.gone(5).is_empty());
        assert_eq!(world.phase(), Phase::Scheduled);
    }
}

#[test]
fn an_entry_seen_after_the_list_was_asked_for_is_not_missing() {
    let mut world = World::new();
    let list = world.ask();
    world.look_up(0, dispatch(10, None));
    world.answer_list(1, list, vec![]);
    assert!(world.outcome.look_ups.is_empty());
}

#[test]
fn a_late_answer_from_before_the_404_does_not_bring_a_dispatch_back() {
    let mut world = World::new();
    world.look_up(0, numbered(0, dispatch(10, None)));
    let late = world.ask();
    world.list(1, vec![]);
    world.gone(2);
    world.list(3, vec![]);
    world.gone(4);
    assert!(
        world
            .answer_look_up(5, late, numbered(1, dispatch(10, None)))
            .is_empty()
    );
    assert_eq!(world.phase(), Phase::Cancelled);
}

#[test]
fn a_withdrawn_dispatch_that_is_listed_again_comes_back() {
    let mut world = World::new();
    world.list(0, vec![dispatch(1, None)]);
    for now in [2, 4] {
        world.list(now, vec![]);
        world.gone(now + 1);
    }
    assert_eq!(
        world.list(6, vec![dispatch(1, None)]),
        ["updated phase", "started"]
    );
}

#[test]
fn a_list_with_a_nameless_element_raises_no_question_of_absence() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, None)]);
    let asked = world.ask();
    world.answer(1, asked, Answer::List(Arc::new(List::new(vec![], 1))));
    assert!(world.outcome.look_ups.is_empty());
}
