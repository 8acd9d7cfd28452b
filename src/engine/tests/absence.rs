//! What a list does not contain (rule R3).

use super::*;

/// A dispatch that is listed at second 0, lacked by a list at second 1, and looked
/// up for it in vain at second 2.
fn once_gone() -> World {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, None)]);
    assert!(world.list(1, vec![]).is_empty());
    assert!(world.checks_at(1));
    assert!(world.gone(2).is_empty(), "one 404 is not enough");
    world
}

#[test]
fn a_dispatch_missing_from_the_list_is_looked_up_before_it_is_cancelled() {
    let mut world = once_gone();
    assert!(!world.checks_at(11));
    assert!(world.checks_at(12), "whatever the interval of polls");
    assert_eq!(world.gone(12), ["cancelled"]);
    assert_eq!(world.phase(), Phase::Cancelled);
    assert!(!world.checks_at(1000));
}

#[test]
fn two_404s_less_than_ten_seconds_apart_withdraw_nothing() {
    let mut world = once_gone();
    assert!(world.gone(6).is_empty());
    assert!(world.list(7, vec![]).is_empty());
    assert!(world.gone(11).is_empty());
    assert_eq!(world.phase(), Phase::Scheduled);
    assert_eq!(world.gone(12), ["cancelled"], "counted from the first");
}

#[test]
fn how_long_the_answers_take_does_not_bring_404s_further_apart() {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, None)]);
    world.list(1, vec![]);
    let (first, second) = (world.ask(), world.ask());
    world.answer_gone(2, first);
    assert!(world.answer_gone(30, second).is_empty());
    assert_eq!(world.phase(), Phase::Scheduled);
}

#[test]
fn a_404_without_a_list_that_lacks_it_withdraws_nothing() {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, None)]);
    world.gone(1);
    world.gone(12);
    assert_eq!(world.phase(), Phase::Scheduled);
    assert!(!world.checks_at(100));
}

#[test]
fn a_dispatch_that_left_the_list_and_still_exists_stays() {
    let mut world = World::new();
    world.list(0, vec![dispatch(-5, None)]);
    for poll in 0..5 {
        world.list(10 * poll + 1, vec![]);
        assert!(world.checks_at(10 * poll + 1));
        assert!(world.look_up(10 * poll + 2, dispatch(-5, None)).is_empty());
        assert!(!world.checks_at(10 * poll + 9));
    }
    assert_eq!(world.phase(), Phase::Active);
}

#[test]
fn a_question_that_a_newer_list_has_answered_is_dropped_before_it_is_asked() {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, None)]);
    world.list(1, vec![]);
    assert!(world.checks_at(1));
    world.list(2, vec![dispatch(100, None)]);
    assert!(!world.checks_at(1000));
}

#[test]
fn an_answer_between_the_404s_that_shows_it_makes_the_first_one_count_for_nothing() {
    let mut world = once_gone();
    world.list(3, vec![dispatch(100, None)]);
    world.list(4, vec![]);
    assert!(world.gone(13).is_empty());
    assert_eq!(world.gone(23), ["cancelled"]);
}

#[test]
fn a_404_from_before_it_was_seen_again_is_forgotten_when_that_answer_comes_late() {
    let mut world = once_gone();
    let seen = world.ask();
    world.list(3, vec![]);
    world.answer_look_up(4, seen, dispatch(100, None));
    assert!(world.gone(13).is_empty());
    assert_eq!(world.phase(), Phase::Scheduled);
    assert!(world.checks_at(23));
}

#[test]
fn an_answer_from_before_the_list_that_lacks_it_does_not_answer_the_question() {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, None)]);
    let early = world.ask();
    world.list(1, vec![]);
    world.answer_look_up(2, early, dispatch(100, None));
    assert!(world.checks_at(2));
}

#[test]
fn a_list_from_before_an_unreadable_sight_raises_no_question() {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, None)]);
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
    assert!(!world.checks_at(2));
    world.answer_gone(3, look_up);
    world.list(4, vec![]);
    assert!(world.checks_at(4));
    assert!(world.gone(5).is_empty());
    assert_eq!(world.gone(15), ["cancelled"]);
}

#[test]
fn an_entry_seen_after_the_list_was_asked_for_is_not_missing() {
    let mut world = World::new();
    let list = world.ask();
    world.look_up(0, dispatch(100, None));
    world.answer_list(1, list, vec![]);
    assert!(!world.checks_at(1000));
}

#[test]
fn a_late_answer_from_before_the_404_does_not_bring_a_dispatch_back() {
    let mut world = World::new();
    world.look_up(0, numbered(0, dispatch(100, None)));
    let late = world.ask();
    world.list(1, vec![]);
    world.gone(2);
    world.gone(12);
    assert!(
        world
            .answer_look_up(13, late, numbered(1, dispatch(100, None)))
            .is_empty()
    );
    assert_eq!(world.phase(), Phase::Cancelled);
}

#[test]
fn a_withdrawn_dispatch_that_is_listed_again_comes_back() {
    let mut world = World::new();
    world.list(0, vec![dispatch(1, None)]);
    world.list(2, vec![]);
    world.gone(3);
    world.gone(13);
    assert_eq!(
        world.list(14, vec![dispatch(1, None)]),
        ["updated phase", "started"]
    );
}

#[test]
fn a_list_with_a_nameless_element_raises_no_question_of_absence() {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, None)]);
    let asked = world.ask();
    world.answer(1, asked, Answer::List(Arc::new(List::new(vec![], 1))));
    assert!(!world.checks_at(1000));
}

#[test]
fn what_is_over_is_not_looked_up_for_its_absence() {
    let mut world = once_gone();
    world.look_up(3, dispatch(3, Some(5)));
    world.list(4, vec![]);
    assert!(world.checks_at(4));
    world.clock(5);
    assert_eq!(world.phase(), Phase::Ended);
    assert!(!world.checks_at(1000));
}

/// Dispatches `d0`, `d1`, and so on.
fn many(count: usize) -> Vec<Dispatch> {
    let named = |number| Dispatch {
        id: id(&format!("d{number}")),
        ..dispatch(10_000, None)
    };
    (0..count).map(named).collect()
}

fn gone_by_id(world: &mut World, now: i64, text: &str) -> Vec<String> {
    world.now = now;
    let asked = world.ask();
    world.answer(now, asked, Answer::Gone(id(text)))
}

#[test]
fn a_list_that_lacks_most_of_the_live_dispatches_has_nothing_looked_up_for_ten_minutes() {
    let mut world = World::new();
    world.list(0, many(30));
    for second in [10, 40, 309, 600] {
        world.list(second, many(14));
        assert!(!world.checks_at(second));
        let mass = world.schedule.mass_absence().unwrap();
        assert_eq!((mass.absent, mass.live), (16, 30));
        // No 404 counts either.
        assert!(gone_by_id(&mut world, second, "d29").is_empty());
    }
    assert!(world.checks_at(610));
    assert!(gone_by_id(&mut world, 610, "d29").is_empty());
    assert_eq!(gone_by_id(&mut world, 620, "d29"), ["cancelled"]);
}

#[test]
fn one_empty_list_among_good_ones_has_nothing_looked_up() {
    let mut world = World::new();
    world.list(0, many(1000));
    world.list(30, vec![]);
    assert!(world.schedule.mass_absence().is_some());
    world.list(60, many(1000));
    assert_eq!(world.schedule.mass_absence(), None);
    assert!(!world.checks_at(10_000));
    // One that is really withdrawn afterwards is found out about at once.
    world.list(90, many(999));
    assert!(world.checks_at(90));
    gone_by_id(&mut world, 90, "d999");
    assert_eq!(gone_by_id(&mut world, 100, "d999"), ["cancelled"]);
}

#[test]
fn a_404_from_before_most_were_lacking_is_confirmed_only_when_absence_counts_again() {
    let mut world = World::new();
    world.list(0, many(30));
    world.list(1, many(29));
    gone_by_id(&mut world, 2, "d29");
    world.list(5, vec![]);
    assert!(gone_by_id(&mut world, 20, "d29").is_empty());
    world.list(30, many(29));
    assert!(world.checks_at(30));
    assert_eq!(gone_by_id(&mut world, 30, "d29"), ["cancelled"]);
}

#[test]
fn ten_missing_dispatches_or_half_of_all_are_looked_up_at_once() {
    for (before, after) in [(10, 0), (30, 15), (12, 2)] {
        let mut world = World::new();
        world.list(0, many(before));
        world.list(1, many(after));
        assert!(world.checks_at(1), "{before} {after}");
    }
    let mut world = World::new();
    world.list(0, many(11));
    world.list(1, vec![]);
    assert!(!world.checks_at(1));
}

#[test]
fn a_late_list_neither_begins_nor_ends_a_mass_absence() {
    let mut world = World::new();
    world.list(0, many(30));
    let early = world.ask();
    world.list(1, many(30));
    world.answer_list(2, early, vec![]);
    assert_eq!(world.schedule.mass_absence(), None);
    let early = world.ask();
    world.list(3, vec![]);
    world.answer_list(4, early, many(30));
    assert!(world.schedule.mass_absence().is_some());
}

#[test]
fn ended_dispatches_that_leave_the_list_are_no_mass_absence() {
    let mut world = World::new();
    let ended = many(30).into_iter().map(|one| Dispatch {
        start_time: at(-20),
        end_time: Some(at(-10)),
        ..one
    });
    world.list(0, [ended.collect(), vec![dispatch(100, None)]].concat());
    world.list(1, vec![dispatch(100, None)]);
    assert_eq!(world.schedule.mass_absence(), None);
}

#[test]
fn a_list_asked_for_before_most_were_shown_by_id_is_no_mass_absence() {
    let mut world = World::new();
    world.list(0, many(30));
    let early = world.ask();
    for one in many(30) {
        world.look_up(1, one);
    }
    world.answer_list(2, early, vec![]);
    assert_eq!(world.schedule.mass_absence(), None);
}

#[test]
fn a_list_that_comes_late_does_not_take_back_what_a_newer_one_lacks() {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, None)]);
    let late = world.ask();
    let look_up = world.ask();
    world.list(1, vec![]);
    world.answer_list(2, late, vec![]);
    // Issued before the newer list, it says nothing against that.
    world.answer_look_up(3, look_up, dispatch(100, None));
    assert!(world.checks_at(3));
}

#[test]
fn an_answer_asked_for_before_a_404_does_not_deny_it() {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, None)]);
    world.list(1, vec![]);
    let early = world.ask();
    world.gone(2);
    world.answer_look_up(3, early, dispatch(100, None));
    assert_eq!(world.gone(12), ["cancelled"]);
}

#[test]
fn a_404_asked_for_before_an_unreadable_sight_is_no_first_404() {
    let mut world = World::new();
    world.list(0, vec![dispatch(100, None)]);
    world.list(1, vec![]);
    let early = world.ask();
    let sight = world.ask();
    world.list(2, vec![]);
    let unreadable = Reading::Unreadable {
        id: id("dkmq"),
        reason: "no start_time".into(),
    };
    world.answer(3, sight, Answer::Found(unreadable));
    world.answer_gone(3, early);
    assert!(world.gone(14).is_empty());
    assert_eq!(world.gone(24), ["cancelled"]);
}

#[test]
fn a_404_asked_for_before_the_dispatch_was_shown_is_counted_as_outdated() {
    let mut world = World::new();
    let early = world.ask();
    world.list(0, vec![dispatch(100, None)]);
    world.answer_gone(1, early);
    assert_eq!(world.outcome.outdated, 1);
}

#[test]
fn a_list_that_says_the_same_as_one_that_came_late_ends_the_doubt_that_it_left() {
    let shown = Reading::Dispatch(Arc::new(dispatch(100, None)));
    let list = Answer::List(Arc::new(List::new(vec![shown], 0)));
    let mut world = World::new();
    let first = world.ask();
    world.answer(0, first, list.clone());
    world.list(1, vec![]);
    let late = world.ask();
    world.gone(2);
    world.answer(3, late, list.clone());
    assert!(world.schedule.is_in_doubt(&id("dkmq")));
    let next = world.ask();
    world.answer(4, next, list);
    assert!(!world.schedule.is_in_doubt(&id("dkmq")));
}
