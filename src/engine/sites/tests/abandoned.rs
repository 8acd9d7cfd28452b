//! Dispatches that are over when they are first seen: an earlier life of the
//! daemon may have curtailed their sites (rule R6).

use super::world::{But, World, at, dispatch, id, lead, site, site_id};
use crate::engine::Rules;
use crate::model::{Dispatch, Source};

const NOTHING: [&str; 0] = [];

fn off(dispatch: Dispatch) -> Dispatch {
    dispatch.but(|it| it.authorized = false)
}

#[test]
fn sites_of_a_dispatch_that_is_over_at_first_sight_are_released_once() {
    for over in [
        dispatch("a", 0, 5),
        off(dispatch("a", 0, 50)),
        off(dispatch("a", 0, None)),
        // An earlier state of it may have ended later.
        dispatch("a", 8, 8),
    ] {
        let mut world = World::new(lead(0));
        assert_eq!(world.list(10, [over.clone()]), ["release s by a"]);
        let change = &world.planned.changes[0];
        assert!(change.unconditional);
        assert_eq!(change.source, Source::Poll);
        assert!(!change.site.is_curtailed());
        assert_eq!(world.list(11, [over.clone()]), NOTHING);
        assert_eq!(world.upsert(12, over.clone()), NOTHING);
        assert_eq!(world.restart(13), NOTHING);
        let noted = over.but(|it| it.metadata = serde_json::json!({"note": 1}));
        assert_eq!(world.list(14, [noted]), NOTHING);
    }
}

#[test]
fn what_held_no_site_in_any_life_releases_none() {
    for never in [
        off(dispatch("a", 20, 50)),
        dispatch("a", 20, 20),
        dispatch("a", 0, 5).but(|it| it.test = true),
        // It was over for longer than anything is kept.
        dispatch("a", -2000, -1500),
    ] {
        let mut world = World::new(lead(0));
        assert_eq!(world.list(10, [never.clone()]), NOTHING, "{never:?}");
    }
    let on_test = Rules {
        curtail_on_test: true,
        ..lead(0)
    };
    let mut world = World::new(on_test);
    let test = dispatch("a", 0, 5).but(|it| it.test = true);
    assert_eq!(world.list(10, [test]), ["release s by a"]);
}

#[test]
fn a_lead_may_have_begun_in_an_earlier_life() {
    let mut world = World::new(lead(5));
    assert_eq!(
        world.upsert(10, off(dispatch("a", 15, 50))),
        ["release s by a"]
    );
    assert_eq!(world.upsert(10, off(dispatch("b", 16, 50))), NOTHING);
}

#[test]
fn a_site_that_something_holds_is_not_released() {
    let mut world = World::new(lead(0));
    let over = dispatch("a", 0, 5).but(|it| it.sites.push(site("t", 1.0)));
    let told = world.list(10, [over, dispatch("b", 0, 50)]);
    assert_eq!(told, ["curtail s by b", "release t by a"]);
    // A second one that was over is no reason either.
    assert_eq!(world.upsert(11, dispatch("c", 0, 5)), NOTHING);
    assert_eq!(world.clock(50), ["release s by b"]);
    assert!(!world.planned.changes[0].unconditional);
}

#[test]
fn a_site_whose_lead_begins_in_the_same_step_is_not_released() {
    // More has come due than one chunk may take.
    let rules = Rules {
        chunk: 1,
        ..lead(5)
    };
    let mut world = World::new(rules);
    for name in ["b", "c", "d"] {
        let later = dispatch(name, 15, 50).but(|it| it.sites = vec![site(name, 1.0)]);
        world.upsert(0, later);
    }
    world.upsert(0, dispatch("e", 15, 50));
    let over = dispatch("a", 0, 5);
    let told = world.upsert(10, over);
    assert_eq!(
        told,
        [
            "curtail b by b",
            "curtail c by c",
            "curtail d by d",
            "curtail s by e"
        ]
    );
}

#[test]
fn a_site_that_was_told_is_remembered_like_any_other() {
    let mut world = World::new(lead(0));
    world.list(10, [dispatch("a", 0, 5)]);
    assert!(world.replayed.contains_key(&site_id("s")));
    // Nothing names it once its dispatch is dropped.
    world.list(1005, []);
    assert!(world.schedule.get(&id("a")).is_none());
    assert!(world.plan.get(&site_id("s")).is_some());
    world.clock(1010);
    assert_eq!(world.planned.forgotten, [site_id("s")]);
    assert_eq!(world.plan.len(), 0);
}

#[test]
fn what_ends_while_it_is_known_releases_as_ever() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 0, 50));
    assert_eq!(world.upsert(10, dispatch("a", 0, 5)), ["release s by a"]);
    assert!(!world.planned.changes[0].unconditional);
    assert_eq!(world.site("s").since, at(10));
}

/// A copy of the state from before a curtail may have been put back: the release
/// must not depend on what this life sent.
#[test]
fn what_began_before_this_life_is_released_whatever_was_attempted() {
    let mut world = World::new(lead(5));
    world.upsert(0, dispatch("a", 15, 50));
    assert_eq!(world.restart(12), ["curtail s by a"]);
    assert_eq!(
        world.upsert(13, off(dispatch("a", 15, 50))),
        ["release s by a"]
    );
    assert!(world.planned.changes[0].unconditional);

    // First seen by this life, but not too late for an earlier one.
    assert_eq!(world.upsert(14, dispatch("b", 16, 50)), ["curtail s by b"]);
    assert_eq!(world.clock(50), ["release s by b"]);
    assert!(world.planned.changes[0].unconditional);
}

#[test]
fn what_only_this_life_can_have_begun_is_released_where_it_was_attempted() {
    let mut world = World::new(lead(5));
    world.restart(12);
    assert_eq!(world.upsert(13, dispatch("a", 18, 50)), ["curtail s by a"]);
    assert_eq!(
        world.upsert(14, off(dispatch("a", 18, 50))),
        ["release s by a"]
    );
    assert!(!world.planned.changes[0].unconditional);
}
