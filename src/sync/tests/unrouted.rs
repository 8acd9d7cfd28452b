//! Commands of sites that go to no sink.

use super::*;
use crate::delivery::Announced;
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
fn another_route_is_kept_only_once_every_site_that_it_adds_is_told() {
    let mut world = World::new();
    let stored = world.store.load().unwrap();
    let outbox = Outbox::new(&NoneSink, &route("t"), None, stored.position, 0, at(0));
    world.coordinator = Coordinator::new(settings(240), stored, vec![outbox], at(0), 7);
    world.has_sink = true;
    world.step([]);
    let sites = ["s", "u"].map(|text| {
        Arc::new(Site {
            id: SiteId::new(text).unwrap(),
            ..Site::clone(&with_site(dispatch("a", 0)).sites[0])
        })
    });
    let both = Dispatch {
        sites: sites.to_vec(),
        ..dispatch("a", 0)
    };
    world.list(vec![both]);
    for millis in [1000, 2000] {
        world.commit_all();
        world.until(millis);
    }
    // The sink takes all sites from now on. One is told in a step.
    let mut again = World::with(240, &world.store);
    let stored = again.store.load().unwrap();
    let state = stored.sinks.values().next().cloned();
    let head = stored.position;
    let mut outbox = Outbox::new(&NoneSink, &Route::default(), state, head, 0, at(0));
    for event in world.events.iter().filter(|event| event.family() == "site") {
        outbox.offer_site(&Announced::new(event), at(0));
    }
    let mut settings = settings(240);
    settings.rules.chunk = 1;
    again.coordinator = Coordinator::new(settings, stored, vec![outbox], at(0), 7);
    again.has_sink = true;
    let mut told = 0;
    for _ in 0..4 {
        again.step([]);
        for batch in &again.commits {
            let sites = batch.events.iter().filter(|event| event.family() == "site");
            told += sites.count();
            let is_kept = batch.sinks.iter().any(|sink| sink.route.is_some());
            assert!(!is_kept || told == 2, "{told} are told");
        }
        again.commit_all();
    }
    assert_eq!(told, 2);
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
