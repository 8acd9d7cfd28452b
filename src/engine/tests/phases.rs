//! From the first sight to the end, and back.

use super::*;

#[test]
fn a_future_dispatch_is_created_then_started_then_ended_by_the_clock() {
    let mut world = World::new();
    assert_eq!(world.list(0, vec![dispatch(10, Some(20))]), ["created"]);
    assert_eq!(world.schedule.next_due(), Some(at(10)));
    assert!(world.clock(9).is_empty());
    assert_eq!(world.clock(10), ["started"]);
    assert_eq!(world.schedule.next_due(), Some(at(20)));
    assert_eq!(world.clock(20), ["ended"]);
    assert_eq!(world.schedule.next_due(), None);
}

#[test]
fn a_dispatch_first_seen_after_its_start_is_created_and_started() {
    let mut world = World::new();
    assert_eq!(
        world.list(5, vec![dispatch(0, None)]),
        ["created", "started"]
    );
    assert_eq!(world.phase(), Phase::Active);
}

#[test]
fn a_dispatch_first_seen_when_over_has_only_ended() {
    for (start, end) in [(0, 5), (20, 20), (20, 15)] {
        let mut world = World::new();
        assert_eq!(world.list(10, vec![dispatch(start, Some(end))]), ["ended"]);
        assert_eq!(world.phase(), Phase::Ended);
    }
}

#[test]
fn a_dispatch_first_seen_unauthorized_is_cancelled() {
    let mut world = World::new();
    let mut cancelled = dispatch(10, Some(20));
    cancelled.authorized = false;
    assert_eq!(world.list(0, vec![cancelled]), ["cancelled"]);
}

#[test]
fn what_passed_while_nobody_looked_is_caught_up_with_in_order() {
    let mut world = World::new();
    world.list(0, vec![dispatch(10, Some(20))]);
    assert_eq!(world.clock(100), ["started", "ended"]);
}

#[test]
fn an_update_names_the_fields_that_changed() {
    let mut world = World::new();
    world.look_up(0, numbered(0, dispatch(10, None)));
    let mut update = numbered(1, dispatch(10, Some(20)));
    update.sites.clear();
    assert_eq!(
        world.look_up(1, update),
        ["updated end_time modification_number sites"]
    );
}

#[test]
fn an_update_that_ends_an_open_dispatch_is_updated_then_ended() {
    let mut world = World::new();
    world.look_up(0, dispatch(-5, None));
    assert_eq!(
        world.look_up(10, dispatch(-5, Some(10))),
        ["updated end_time", "ended"]
    );
}

#[test]
fn an_update_that_cancels_is_only_cancelled() {
    let mut world = World::new();
    world.look_up(0, dispatch(10, None));
    let mut update = dispatch(10, Some(30));
    update.authorized = false;
    assert_eq!(world.look_up(1, update), ["cancelled"]);
    let entry = world.schedule.get(&id("dkmq")).unwrap();
    assert_eq!(entry.dispatch.end_time, Some(at(30)));
}

#[test]
fn an_end_moved_later_brings_the_dispatch_back() {
    let mut world = World::new();
    world.look_up(0, dispatch(-5, Some(5)));
    world.clock(5);
    assert_eq!(
        world.look_up(6, dispatch(-5, Some(50))),
        ["updated phase end_time", "started"]
    );
}

#[test]
fn a_start_moved_later_takes_the_dispatch_back_to_scheduled() {
    let mut world = World::new();
    world.look_up(0, dispatch(0, Some(50)));
    assert_eq!(
        world.look_up(1, dispatch(10, Some(50))),
        ["updated phase start_time"]
    );
    assert_eq!(world.clock(10), ["started"]);
}

#[test]
fn a_dispatch_authorized_again_comes_back() {
    let mut world = World::new();
    let mut cancelled = dispatch(0, None);
    cancelled.authorized = false;
    world.look_up(1, cancelled);
    assert_eq!(
        world.look_up(2, dispatch(0, None)),
        ["updated phase authorized", "started"]
    );
}
