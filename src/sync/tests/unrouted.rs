//! Commands of sites that go to no sink.

use super::*;
use crate::delivery::sinks::NoneSink;
use crate::model::Route;

fn route(site: &str) -> Route {
    Route::parse(&[site.to_owned()], &[], &[]).unwrap()
}

/// A coordinator whose sink takes another site than `s`, which is curtailed and released.
fn curtailed_and_released(left_out: Vec<Route>) -> World {
    let mut world = World::new();
    let stored = world.store.load().unwrap();
    let outbox = Outbox::new(&NoneSink, &route("t"), None, stored.position, 0, at(0));
    world.coordinator = Coordinator::new(settings(240), stored, vec![outbox], at(0), 7);
    world.coordinator.leave_out(left_out);
    world.has_sink = true;
    world.step([]);
    let soon = Dispatch {
        end_time: Some(wall(4)),
        ..with_site(dispatch("a", 2))
    };
    world.list(vec![soon]);
    for millis in [1000, 2500, 4500] {
        world.until(millis);
        world.commit_all();
    }
    let commands = world.event_types();
    let commands = commands.iter().filter(|one| one.starts_with("site."));
    assert_eq!(commands.count(), 2);
    world
}

#[test]
fn a_command_that_no_sink_takes_is_counted_and_shown() {
    let health = curtailed_and_released(vec![]).health();
    assert_eq!(health.unrouted_commands, 2);
    let last = health.last_unrouted.as_ref().unwrap();
    assert_eq!((&*last.event_type, &*last.subject), ("site.release", "s"));
}

#[test]
fn a_command_of_a_site_that_is_left_out_on_purpose_is_not_counted() {
    let health = curtailed_and_released(vec![route("s")]).health();
    assert_eq!(health.unrouted_commands, 0);
    assert!(health.last_unrouted.is_none());
    let health = curtailed_and_released(vec![route("u")]).health();
    assert_eq!(health.unrouted_commands, 2, "another site is left out");
}
