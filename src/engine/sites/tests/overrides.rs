//! Statements about overrides: what an operator orders goes before what dispatches ask.
//!
//! Times are seconds. Unless said otherwise a dispatch names site `s`.

use super::world::{But, World, dispatch, lead, seconds, site};
use crate::engine::Rules;
use crate::model::SiteMode::{Curtailed, Normal};

const NOTHING: [&str; 0] = [];

#[test]
fn a_site_that_is_kept_out_is_released_and_follows_its_dispatch_again_at_the_end() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 90));
    assert_eq!(world.clock(10), ["curtail s by a"]);
    assert_eq!(
        world.order(20, "s", Some((Normal, 50))),
        ["release s by operator"]
    );
    assert_eq!(world.notes(), ["a: s normal"]);
    assert_eq!(
        (world.held_by(), world.site("s").until),
        (String::new(), None)
    );
    assert_eq!(world.clock(49), NOTHING);
    assert_eq!(world.next_due(), Some(50));
    assert_eq!(world.clock(50), ["curtail s by operator"]);
    assert_eq!(world.notes(), ["a: s auto"]);
    assert_eq!((world.held_by(), world.until()), ("a".to_owned(), Some(90)));
    assert_eq!(world.clock(90), ["release s by a"]);
}

#[test]
fn an_order_that_is_taken_back_ends_at_once() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 90));
    world.clock(10);
    world.order(20, "s", Some((Normal, 50)));
    assert_eq!(world.order(30, "s", None), ["curtail s by operator"]);
    assert_eq!(world.order(31, "s", None), NOTHING);
    assert_eq!(world.next_due(), Some(90));
}

#[test]
fn a_site_is_curtailed_by_hand_without_any_dispatch() {
    let mut world = World::new(lead(0));
    assert_eq!(
        world.order(0, "s", Some((Curtailed, 50))),
        ["curtail s by operator"]
    );
    assert_eq!(world.site("s").customer_location_id, "loc-s");
    assert_eq!((world.until(), world.notes()), (Some(50), Vec::new()));
    assert_eq!(world.clock(50), ["release s by operator"]);
    assert!(world.site("s").site_override.is_none());
    // It is kept for as long as any site that was curtailed.
    assert_eq!(world.next_due(), Some(1050));
    world.clock(1050);
    assert!(world.plan.is_empty() && world.replayed.is_empty());
}

#[test]
fn a_dispatch_goes_on_where_a_curtailment_by_hand_ends() {
    let mut world = World::new(lead(0));
    world.order(0, "s", Some((Curtailed, 50)));
    assert_eq!(world.upsert(1, dispatch("a", 10, 90)), ["adjust s by a"]);
    assert_eq!(
        world.until(),
        Some(90),
        "the chain goes on with the dispatch"
    );
    assert_eq!(world.clock(10), ["adjust s by a"]);
    assert_eq!(world.notes(), ["a: s curtailed"]);
    assert_eq!(world.clock(50), ["adjust s by operator"]);
    assert_eq!(world.clock(90), ["release s by a"]);
}

#[test]
fn a_site_in_maintenance_is_told_nothing_when_dispatches_come_and_go() {
    let mut world = World::new(lead(0));
    assert_eq!(world.order(0, "s", Some((Normal, 1000))), NOTHING);
    let both = |it: &mut crate::model::Dispatch| it.sites.push(site("t", 5.0));
    assert_eq!(
        world.upsert(5, dispatch("a", 5, 20).but(both)),
        ["curtail t by a"]
    );
    assert_eq!(world.notes(), ["a: s normal"], "its history says why");
    assert_eq!(world.upsert(6, dispatch("b", 6, 20)), NOTHING);
    assert_eq!(world.notes(), ["b: s normal"], "that of `a` has said so");
    assert_eq!(world.clock(20), ["release t by a"]);
    assert_eq!(world.order(30, "s", None), NOTHING);
}

#[test]
fn what_was_ordered_lasts_through_a_restart_and_ends_while_the_daemon_is_down() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 90));
    world.order(1, "s", Some((Normal, 50)));
    world.order(1, "t", Some((Curtailed, 30)));
    assert_eq!(world.clock(10), NOTHING);
    assert_eq!(world.restart(20), NOTHING);
    assert_eq!(
        world
            .site("s")
            .site_override
            .as_ref()
            .map(|it| seconds(it.until)),
        Some(50)
    );
    assert_eq!(world.clock(21), NOTHING);
    assert_eq!(
        world.restart(60),
        ["curtail s by operator", "release t by operator"]
    );
    assert!(
        world.planned.changes[1].unconditional,
        "it began before this life"
    );
}

#[test]
fn an_override_ends_once_though_the_clock_falls_back() {
    let mut world = World::new(lead(0));
    world.order(0, "s", Some((Curtailed, 50)));
    assert_eq!(world.clock(50), ["release s by operator"]);
    assert!(
        !world.planned.changes[0].unconditional,
        "this life began it"
    );
    assert_eq!(world.clock(40), NOTHING);
    assert!(!world.site("s").is_curtailed());
}

#[test]
fn a_newer_order_replaces_the_older_one() {
    let mut world = World::new(lead(0));
    world.order(0, "s", Some((Curtailed, 50)));
    assert_eq!(
        world.order(10, "s", Some((Curtailed, 80))),
        ["adjust s by operator"]
    );
    assert_eq!(world.clock(50), NOTHING);
    assert_eq!(
        world.order(60, "s", Some((Normal, 90))),
        ["release s by operator"]
    );
    assert_eq!(world.clock(80), NOTHING);
    assert_eq!(world.clock(90), NOTHING);
}

/// While starts are due and not taken in, nobody is released: perhaps one of them holds
/// the site. An order waits for that, and is not lost.
#[test]
fn a_release_by_hand_waits_until_what_is_due_is_taken_in() {
    let chunk = Rules {
        chunk: 2,
        ..lead(3)
    };
    let mut world = World::new(chunk);
    world.order(0, "s", Some((Curtailed, 20)));
    for name in ["a", "b", "c"] {
        let other = |it: &mut crate::model::Dispatch| it.sites = vec![site(name, 1.0)];
        world.upsert(1, dispatch(name, 10, 90).but(other));
    }
    let told = world.order(8, "s", None);
    assert!(
        !told.contains(&"release s by operator".to_owned()),
        "{told:?}"
    );
    let stored = world.replayed.clone();
    let told = world.catch_up(8);
    assert!(
        told.contains(&"release s by operator".to_owned()),
        "{told:?}"
    );
    // Also if the daemon ends in between.
    world.replayed = stored;
    let mut told = world.restart(9);
    told.extend(world.catch_up(9));
    assert!(
        told.contains(&"release s by operator".to_owned()),
        "{told:?}"
    );
}

/// Rule R4: a clock that goes back undoes no end, also while the release waits for the starts
/// that are due.
#[test]
fn an_order_that_is_over_does_not_hold_again_when_the_clock_is_set_back_before_the_release() {
    for by_hand in [false, true] {
        let mut world = World::new(Rules {
            chunk: 1,
            ..lead(3)
        });
        world.order(0, "s", Some((Curtailed, if by_hand { 90 } else { 20 })));
        for name in ["a", "b", "c"] {
            let other = |it: &mut crate::model::Dispatch| it.sites = vec![site(name, 1.0)];
            world.upsert(1, dispatch(name, 25, 90).but(other));
        }
        let told = match by_hand {
            true => world.order(22, "s", None),
            false => world.clock(22),
        };
        assert!(
            told.iter().all(|told| told.starts_with("curtail")),
            "{told:?}"
        );
        assert!(world.plan.next_due().is_some(), "more starts are due");
        // To before the order was given: after a restart it is still over.
        let told = match by_hand {
            true => world.restart(-5),
            false => world.catch_up(15),
        };
        assert_eq!(told, ["release s by operator"]);
        let told = world.catch_up(100);
        assert!(told.iter().all(|told| !told.contains(" s ")), "{told:?}");
    }
}

#[test]
fn a_dispatch_over_at_first_sight_releases_a_site_that_is_kept_out_in_its_own_name() {
    let mut world = World::new(lead(0));
    world.order(0, "s", Some((Normal, 100)));
    assert_eq!(world.upsert(50, dispatch("a", 10, 20)), ["release s by a"]);
}
