//! What the plan remembers: over clocks that fall back and over restarts. And
//! what it tells of a change: cause, source, and how it is written.

use std::sync::Arc;

use super::world::{But, World, at, dispatch, lead, seconds, site, site_id};
use crate::engine::{Rules, SiteChange, SiteChangeKind, SitePlan};
use crate::model::{SiteState, Source};

const NOTHING: [&str; 0] = [];

#[test]
fn a_clock_that_falls_back_undoes_no_lead() {
    let mut world = World::new(lead(5));
    world.upsert(0, dispatch("a", 10, 20));
    world.clock(6);
    assert_eq!(world.clock(0), NOTHING);
    assert_eq!(world.next_due(), Some(10));
    // Not even when told something else of it, or that it starts earlier.
    let other = dispatch("a", 10, 20).but(|a| a.metadata = serde_json::json!({"note": 1}));
    assert_eq!(world.upsert(1, other), NOTHING);
    assert_eq!(world.upsert(2, dispatch("a", 9, 20)), NOTHING);
    assert!(world.site("s").is_curtailed());
    // A later start is the upstream's word, not the clock's.
    assert_eq!(world.upsert(3, dispatch("a", 11, 20)), ["release s by a"]);
}

#[test]
fn a_clock_that_falls_back_undoes_no_start_and_no_end() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 20));
    world.clock(10);
    assert_eq!(world.clock(0), NOTHING);
    assert!(world.site("s").is_curtailed());
    world.clock(20);
    assert_eq!(world.clock(15), NOTHING);
    assert!(!world.site("s").is_curtailed());
}

#[test]
fn an_answer_undoes_a_lead_that_a_clock_that_was_ahead_has_begun() {
    let mut world = World::new(lead(600));
    world.upsert(0, dispatch("a", 7200, 9000));
    world.upsert(0, dispatch("b", 7200, 9000));
    assert_eq!(world.clock(6900), ["curtail s by a"]);
    assert_eq!(world.clock(3), NOTHING);
    // An answer about the one says nothing of the other.
    assert_eq!(
        world.upsert(4, dispatch("a", 7200, 9000)),
        ["adjust s by a"]
    );
    let both = [dispatch("a", 7200, 9000), dispatch("b", 7200, 9000)];
    assert_eq!(world.list(5, both.clone()), ["release s by b"]);
    assert_eq!(world.next_due(), Some(6600));
    // A lead that begins within a minute has begun.
    assert_eq!(world.clock(6600), ["curtail s by a"]);
    assert_eq!(world.list(6541, both), NOTHING);
}

#[test]
fn a_site_is_curtailed_again_once_the_clock_is_right() {
    let mut world = World::new(lead(0));
    world.list(0, [dispatch("a", 0, 3600)]);
    assert_eq!(world.clock(86_400), ["release s by a"]);
    assert_eq!(world.clock(3), NOTHING);
    assert_eq!(world.list(4, [dispatch("a", 0, 3600)]), ["curtail s by a"]);
}

#[test]
fn nothing_due_touches_nothing() {
    let mut world = World::new(lead(5));
    world.upsert(0, dispatch("a", 10, 20));
    let before = Arc::clone(world.plan.get(&site_id("s")).unwrap());
    world.clock(4);
    assert!(Arc::ptr_eq(&before, world.plan.get(&site_id("s")).unwrap()));
}

#[test]
fn a_restart_tells_what_passed_meanwhile() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, 20));
    world.upsert(
        10,
        dispatch("b", 40, 50).but(|b| b.sites = vec![site("t", 1.0)]),
    );
    assert_eq!(world.restart(45), ["release s by a", "curtail t by b"]);
    assert_eq!(world.next_due(), Some(50));
}

#[test]
fn a_restart_tells_nothing_anew() {
    let mut world = World::new(lead(5));
    world.upsert(0, dispatch("a", 10, 20));
    world.upsert(0, dispatch("b", 10, 30));
    world.clock(6);
    assert_eq!(world.restart(7), NOTHING);
    assert_eq!(world.site("s").since, at(6));
    // A lead that had begun is not undone by a clock that is behind.
    assert_eq!(world.restart(0), NOTHING);
    assert!(world.site("s").is_curtailed());
}

#[test]
fn a_restart_is_due_at_once_where_a_site_may_have_been_told_something() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 20));
    let restored = |world: &World, states: Vec<SiteState>| {
        let plan = SitePlan::restore(&world.schedule, states, at(0), &world.rules);
        plan.next_due()
    };
    assert_eq!(restored(&world, vec![]), Some(at(10)));
    let told = world.site("s").clone();
    assert!(restored(&world, vec![told]).is_some_and(|due| due < at(0)));
    world.clock(10);
    assert!(restored(&world, vec![]).is_some_and(|due| due < at(0)));
}

#[test]
fn a_restart_under_other_rules_tells_what_they_change() {
    let tests_count = Rules {
        curtail_on_test: true,
        ..lead(0)
    };
    let mut world = World::new(tests_count);
    world.upsert(10, dispatch("a", 10, 20).but(|a| a.test = true));
    world.upsert(
        10,
        dispatch("b", 25, 30).but(|b| b.sites = vec![site("t", 1.0)]),
    );
    world.rules = lead(13);
    assert_eq!(world.restart(12), ["release s by a", "curtail t by b"]);
    // A lead that has begun goes on, even if it is shorter now.
    world.rules = lead(0);
    assert_eq!(world.restart(12), NOTHING);
    // The chain is longer or shorter with the lead.
    world.upsert(
        13,
        dispatch("c", 35, 40).but(|c| c.sites = vec![site("t", 1.0)]),
    );
    world.rules = lead(5);
    assert_eq!(world.restart(14), ["adjust t by b"]);
    assert_eq!(world.site("t").until.map(seconds), Some(40));
}

#[test]
fn a_restart_keeps_a_released_site_that_nothing_names() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, None));
    let other = dispatch("a", 10, None).but(|a| a.sites = vec![site("t", 5.0)]);
    world.upsert(11, other);
    assert_eq!(world.restart(12), NOTHING);
    assert!(!world.site("s").is_curtailed());
    world.restart(1011);
    assert_eq!(world.planned.forgotten, [site_id("s")]);
}

#[test]
fn a_stored_curtailment_that_nothing_knows_is_released() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, None));
    world.schedule = crate::engine::Schedule::default();
    assert_eq!(world.restart(12), ["release s by a"]);
}

#[test]
fn the_source_is_what_moved_the_site() {
    let sources = |world: &World| -> Vec<Source> {
        let changes = world.planned.changes.iter();
        changes.map(|change| change.source).collect()
    };
    let mut world = World::new(lead(5));
    world.upsert(0, dispatch("a", 10, 20));
    world.clock(5);
    assert_eq!(sources(&world), [Source::Timer]);
    world.upsert(11, dispatch("a", 10, 30));
    assert_eq!(sources(&world), [Source::Poll]);
    // It was the clock that ended it, though a poll tells of it as well.
    let noted = dispatch("a", 10, 30).but(|a| a.metadata = serde_json::json!({"note": 1}));
    assert_eq!(world.upsert(31, noted), ["release s by a"]);
    assert_eq!(sources(&world), [Source::Timer]);
    // It was the poll that cancelled it, though the clock had started it.
    world.upsert(32, dispatch("b", 40, 50));
    world.clock(36);
    let cancelled = dispatch("b", 40, 50).but(|b| b.authorized = false);
    assert_eq!(world.upsert(41, cancelled), ["release s by b"]);
    assert_eq!(sources(&world), [Source::Poll]);
}

#[test]
fn the_cause_of_a_longer_chain_is_the_link_that_made_it_longer() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 20));
    world.upsert(0, dispatch("b", 20, 30));
    world.clock(10);
    let noted = dispatch("a", 10, 20).but(|a| a.metadata = serde_json::json!({"note": 1}));
    let told = world.list(11, [noted.clone(), dispatch("b", 20, 40)]);
    assert_eq!(told, ["adjust s by b"]);
    let more = dispatch("b", 20, 40).but(|b| b.sites = vec![site("s", 50.0)]);
    world.list(12, [noted.clone(), more.clone()]);
    world.clock(20);
    let most = more.but(|b| b.sites = vec![site("s", 60.0)]);
    let told = world.list(21, [noted.but(|a| a.sites.clear()), most]);
    assert_eq!(told, ["adjust s by b"]);
}

#[test]
fn the_cause_is_what_let_go_though_others_changed_with_it() {
    let off = |name| dispatch(name, 10, None).but(|it| it.authorized = false);
    let noted = dispatch("b", 10, None).but(|it| it.metadata = serde_json::json!({"note": 1}));
    let mut world = World::new(lead(0));
    let held = [dispatch("a", 10, None), dispatch("b", 10, None)];
    world.list(10, held.into_iter().chain([dispatch("c", 50, 60)]));
    // `b` goes on holding it.
    let told = world.list(11, [off("a"), noted, dispatch("c", 50, 60)]);
    assert_eq!(told, ["adjust s by a"]);
    // `c` does not hold it yet.
    let told = world.list(12, [off("a"), off("b"), dispatch("c", 50, 70)]);
    assert_eq!(told, ["release s by b"]);
}

#[test]
fn a_site_is_written_as_the_interface_says() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, None));
    world.upsert(10, dispatch("b", 30, 40));
    let change = world.planned.changes.first();
    assert!(change.is_none(), "an open end is not made longer by a link");
    let site = Arc::clone(world.plan.get(&site_id("s")).unwrap());
    let shown = r#"{"id":"s","name":"Plant s","customer_location_id":"loc-s","state":"curtailed","since":"2024-10-04T00:00:10Z","until":null,"commitment_kw":10,"dispatches":["a"],"programs":[{"id":null,"name":null}],"next":{"start_time":"2024-10-04T00:00:30Z","dispatch":"b"}}"#;
    assert_eq!(serde_json::to_string(&site).unwrap(), shown);
    let stored: SiteState = serde_json::from_str(shown).unwrap();
    assert_eq!(stored, *site);

    let change = SiteChange {
        site,
        kind: SiteChangeKind::Curtail,
        source: Source::Poll,
        cause: super::super::Cause::Dispatch(super::world::id("a")),
        unconditional: false,
    };
    let data = format!(
        r#"{},"source":"poll","cause":"a"}}"#,
        shown.strip_suffix('}').unwrap()
    );
    assert_eq!(serde_json::to_string(&change).unwrap(), data);
}
