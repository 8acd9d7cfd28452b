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
fn with_equal_numbers_or_none_the_later_request_wins() {
    for number in [Some(1), None] {
        let with = |end| Dispatch {
            modification_number: number,
            ..dispatch(10, Some(end))
        };
        let mut world = World::new();
        let early = world.ask();
        world.look_up(0, with(20));
        assert!(world.answer_look_up(1, early, with(30)).is_empty());
        assert!(!world.look_up(1, with(30)).is_empty());
    }
}

#[test]
fn a_missing_number_counts_as_lower_than_any() {
    let with = |end| dispatch(1000, Some(end));
    let mut world = World::new();
    world.look_up(0, numbered(0, with(2000)));
    assert!(world.look_up(2, with(3000)).is_empty());
    assert_eq!(world.outcome.unbelieved, [id("dkmq")]);
    assert!(!world.look_up(12, with(3000)).is_empty());
    // The first number that is seen is higher, unless its request is older.
    let early = world.ask();
    world.look_up(13, with(4000));
    assert!(
        world
            .answer_look_up(14, early, numbered(9, with(5000)))
            .is_empty()
    );
    assert!(!world.look_up(15, numbered(0, with(5000))).is_empty());
}

#[test]
fn a_list_that_lacks_a_dispatch_says_nothing_of_its_number() {
    let mut world = World::new();
    world.look_up(0, numbered(7, dispatch(1000, None)));
    // It has left the list, as what began long ago does.
    for second in (1..30).step_by(3) {
        world.list(second, vec![]);
        world.look_up(second + 1, numbered(3, dispatch(1000, None)));
    }
    let entry = world.schedule.get(&id("dkmq")).unwrap();
    assert_eq!(entry.dispatch.modification_number, Some(3));
}

const OLD: Option<i64> = Some(2000);
const NEW: Option<i64> = Some(3000);

/// Number 7 is known; then a list shows number 3.
fn rewound() -> World {
    let mut world = World::new();
    world.look_up(0, numbered(7, dispatch(1000, NEW)));
    assert!(
        world
            .list(1, vec![numbered(3, dispatch(1000, OLD))])
            .is_empty()
    );
    assert!(world.checks_at(1));
    world
}

#[test]
fn a_lower_number_is_taken_over_after_two_look_ups_ten_seconds_apart() {
    let mut world = rewound();
    // Lists are no look-ups.
    assert!(
        world
            .list(2, vec![numbered(3, dispatch(1000, OLD))])
            .is_empty()
    );
    assert!(
        world
            .look_up(3, numbered(3, dispatch(1000, OLD)))
            .is_empty()
    );
    assert!(!world.checks_at(12));
    assert!(
        world
            .look_up(12, numbered(3, dispatch(1000, OLD)))
            .is_empty()
    );
    assert!(world.checks_at(13));
    assert_eq!(
        world.look_up(13, numbered(3, dispatch(1000, OLD))),
        ["updated end_time modification_number"]
    );
    assert_eq!(world.outcome.rewinds, 1);
    assert!(!world.checks_at(1000));
}

#[test]
fn a_look_up_that_shows_a_lower_number_first_counts_as_one_of_the_two() {
    let mut world = World::new();
    world.look_up(0, numbered(7, dispatch(1000, NEW)));
    assert!(
        world
            .look_up(1, numbered(3, dispatch(1000, OLD)))
            .is_empty()
    );
    assert!(!world.checks_at(10));
    assert!(world.checks_at(11));
    assert!(
        !world
            .look_up(11, numbered(3, dispatch(1000, OLD)))
            .is_empty()
    );
}

#[test]
fn a_lagging_replica_beside_a_good_one_is_never_believed() {
    let mut world = World::new();
    world.look_up(0, numbered(7, dispatch(1000, NEW)));
    for second in (1..200).step_by(4) {
        world.list(second, vec![numbered(3, dispatch(1000, OLD))]);
        world.look_up(second + 1, numbered(3, dispatch(1000, OLD)));
        assert!(
            world
                .list(second + 2, vec![numbered(7, dispatch(1000, NEW))])
                .is_empty()
        );
        assert_eq!(world.outcome.rewinds, 0);
    }
}

#[test]
fn a_404_between_the_two_look_ups_says_otherwise() {
    let mut world = rewound();
    world.look_up(3, numbered(3, dispatch(1000, OLD)));
    world.gone(5);
    assert!(
        world
            .look_up(14, numbered(3, dispatch(1000, OLD)))
            .is_empty()
    );
    assert_eq!(world.outcome.rewinds, 0);
}

#[test]
fn a_lower_number_confirms_nothing_about_what_was_accepted_meanwhile() {
    let mut world = rewound();
    world.look_up(2, numbered(3, dispatch(1000, OLD)));
    world.list(3, vec![numbered(8, dispatch(1000, NEW))]);
    assert!(
        world
            .look_up(13, numbered(3, dispatch(1000, OLD)))
            .is_empty()
    );
    assert_eq!(world.outcome.rewinds, 0);
}

#[test]
fn answers_from_before_a_take_over_are_outdated_whatever_their_number() {
    let mut world = rewound();
    world.look_up(3, numbered(3, dispatch(1000, OLD)));
    let before = world.ask();
    world.now = 13;
    let second = world.ask();
    // Issued after the second look-up, and before its answer came.
    let meanwhile = world.ask();
    world.answer_look_up(15, second, numbered(3, dispatch(1000, OLD)));
    assert_eq!(world.outcome.rewinds, 1);
    for late in [before, meanwhile] {
        assert!(
            world
                .answer_list(16, late, vec![numbered(7, dispatch(1000, NEW))])
                .is_empty()
        );
        assert_eq!(world.outcome.outdated, 1);
    }
    // The upstream goes on from there.
    assert!(
        !world
            .list(17, vec![numbered(4, dispatch(1000, NEW))])
            .is_empty()
    );
}

#[test]
fn a_404_asked_for_before_the_newest_lower_number_ends_no_question_and_puts_the_look_up_off() {
    let mut world = rewound();
    let early = world.ask();
    world.list(2, vec![numbered(3, dispatch(1000, OLD))]);
    world.answer_gone(3, early);
    assert_eq!(world.schedule.in_doubt(DoubtKind::Lower), 1);
    // The 404 was asked for at second 1.
    assert!(!world.checks_at(10));
    assert!(world.checks_at(11));
}

#[test]
fn a_look_up_that_cannot_be_read_puts_the_next_one_off() {
    let mut world = rewound();
    world.now = 2;
    let asked = world.ask();
    let unreadable = Reading::Unreadable {
        id: id("dkmq"),
        reason: "no start_time".into(),
    };
    world.answer(2, asked, Answer::Found(unreadable));
    assert!(!world.checks_at(11));
    assert!(world.checks_at(12));
}

#[test]
fn an_answer_asked_for_at_the_moment_of_a_take_over_counts() {
    let mut world = rewound();
    for second in [3, 13] {
        world.look_up(second, numbered(3, dispatch(1000, OLD)));
    }
    assert_eq!(world.outcome.rewinds, 1);
    let told = world.look_up(13, numbered(4, dispatch(1000, NEW)));
    assert_eq!(told, ["updated end_time modification_number"]);
}
