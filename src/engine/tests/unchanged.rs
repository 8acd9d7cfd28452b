//! A list that says what the last one said costs nothing, unless something may pass yet.

use super::*;

/// How many dispatches are looked at once more when the same list comes again and again.
fn looked_at(dispatches: Vec<Dispatch>) -> usize {
    let readings = dispatches.into_iter().map(Arc::new);
    let readings = readings.map(Reading::Dispatch).collect();
    let list = Arc::new(List::new(readings, 0));
    let mut world = World::new();
    for now in 0..2 {
        let asked = world.ask();
        world.answer(now, asked, Answer::List(Arc::clone(&list)));
    }
    let asked = world.ask();
    world.schedule.open(&list, asked, at(2)).len()
}

#[test]
fn no_dispatch_of_an_unchanged_list_is_looked_at_again() {
    let named = |name, dispatch| Dispatch {
        id: id(name),
        ..dispatch
    };
    let list = vec![
        named("a", dispatch(10, Some(20))),
        named("b", dispatch(-10, None)),
        named("c", dispatch(-20, Some(-10))),
    ];
    assert_eq!(looked_at(list), 0);
}

#[test]
fn a_cancelled_dispatch_is_looked_at_while_its_end_may_pass() {
    let cancelled = |start, end| Dispatch {
        authorized: false,
        ..dispatch(start, Some(end))
    };
    assert_eq!(looked_at(vec![cancelled(-10, 20)]), 1);
    assert_eq!(looked_at(vec![cancelled(-20, -10)]), 0);
}

#[test]
fn a_dispatch_that_is_over_and_in_no_list_any_more_is_not_looked_at() {
    let mut world = World::new();
    let shown = vec![Reading::Dispatch(Arc::new(dispatch(10, Some(20))))];
    for (now, readings) in [(0, shown), (30, Vec::new())] {
        let asked = world.ask();
        let list = Arc::new(List::new(readings, 0));
        world.answer(now, asked, Answer::List(list));
    }
    let asked = world.ask();
    let list = List::new(Vec::new(), 0);
    assert_eq!(world.schedule.open(&list, asked, at(31)).len(), 0);
    assert_eq!(world.schedule.len(), 1, "it is kept");
}

#[test]
fn a_list_that_shows_again_what_was_over_confirms_it_and_what_lacks_it_does_not() {
    let reading = || vec![Reading::Dispatch(Arc::new(dispatch(10, Some(20))))];
    let mut world = World::new();
    let confirmed = |world: &World| world.schedule.get(&id("dkmq")).unwrap().last_confirmed;
    for (now, readings, last) in [
        (0, reading(), 0),
        (30, Vec::new(), 0),
        (31, reading(), 31),
        (32, reading(), 32),
        (33, Vec::new(), 32),
        (34, Vec::new(), 32),
    ] {
        let asked = world.ask();
        let list = Arc::new(List::new(readings, 0));
        world.answer(now, asked, Answer::List(list));
        assert_eq!(confirmed(&world), at(last), "at {now}");
    }
}

#[test]
fn an_unchanged_list_confirms_what_it_shows() {
    let shown = Reading::Dispatch(Arc::new(dispatch(10, Some(20))));
    let list = Arc::new(List::new(vec![shown], 0));
    let mut world = World::new();
    for now in 0..3 {
        let asked = world.ask();
        world.answer(now, asked, Answer::List(Arc::clone(&list)));
        let entry = world.schedule.get(&id("dkmq")).unwrap();
        assert_eq!((entry.asked, entry.last_confirmed), (asked, at(now)));
    }
}

#[test]
fn a_list_that_says_the_same_in_another_copy_is_looked_at_once() {
    let mut world = World::new();
    let list = || {
        let shown = Reading::Dispatch(Arc::new(dispatch(10, Some(20))));
        Arc::new(List::new(vec![shown], 0))
    };
    let first = list();
    let other = list();
    for (now, list, looked_at) in [(0, &first, 1), (1, &other, 1), (2, &other, 0)] {
        let asked = world.ask();
        assert_eq!(world.schedule.open(list, asked, at(now)).len(), looked_at);
        world.answer(now, asked, Answer::List(Arc::clone(list)));
    }
}
