//! Sites that are told once more what they must do: commits were lost, or sinks have changed.

use super::world::{But, World, dispatch, lead, site, site_id};
use crate::engine::Rules;
use crate::model::{Dispatch, SiteMode, Source};

const NOTHING: [&str; 0] = [];

/// One dispatch that holds `s`, one that will hold `t`, and one that held `u`.
fn world() -> World {
    let mut world = World::new(lead(0));
    let of = |name, start, end, at: &str| {
        dispatch(name, start, end).but(|it| it.sites = vec![site(at, 10.0)])
    };
    let all = [
        of("a", 0, 50, "s"),
        of("b", 90, 99, "t"),
        of("c", 0, 5, "u"),
    ];
    world.list(1, all.clone());
    world.catch_up(10);
    assert_eq!(world.restart(11), NOTHING);
    world
}

#[test]
fn each_site_that_a_dispatch_names_is_told_once_whether_it_is_curtailed_or_not() {
    let mut world = world();
    world.plan.retell();
    assert!(world.next_due() < Some(11), "it is due at once");
    let told = world.clock(12);
    assert_eq!(told, ["curtail s by a", "release t by b", "release u by c"]);
    for change in &world.planned.changes {
        assert!(change.unconditional, "whatever the sinks were told before");
        assert_eq!(change.source, Source::Poll);
    }
    assert!(!world.plan.is_retelling());
    assert_eq!(world.clock(13), NOTHING);
    assert_eq!(world.restart(14), NOTHING);
    assert_eq!(world.catch_up(50), ["release s by a"]);
}

#[test]
fn a_site_that_changes_in_the_same_step_is_told_once() {
    let mut world = world();
    world.plan.retell();
    // The list withdraws one hold, and brings a dispatch with a site that nobody knew.
    let ended = dispatch("a", 0, 12).but(|it| it.authorized = false);
    let new = dispatch("d", 5, 60).but(|it| it.sites = vec![site("v", 1.0), site("t", 1.0)]);
    let told = world.list(12, [ended, new]);
    let all = [
        "release s by a",
        "curtail t by d",
        "release u by c",
        "curtail v by d",
    ];
    assert_eq!(told, all);
    assert!(world.planned.changes.iter().all(|it| it.unconditional));
}

#[test]
fn while_starts_are_still_to_be_taken_in_no_site_is_told() {
    let mut world = World::new(Rules {
        chunk: 1,
        ..lead(0)
    });
    let of = |name, at: &str| dispatch(name, 20, 50).but(|it| it.sites = vec![site(at, 10.0)]);
    world.list(1, [of("a", "s"), of("b", "t"), of("c", "u")]);
    world.plan.retell();
    let first = world.clock(20);
    assert_eq!(first, ["curtail s by a"], "what is new");
    assert!(world.plan.is_retelling());
    let mut rest = Vec::new();
    while world.plan.is_retelling() {
        rest = world.clock(20);
    }
    rest.sort();
    assert_eq!(rest, ["curtail s by a", "curtail t by b", "curtail u by c"]);
    assert_eq!(world.catch_up(21), NOTHING);
}

#[test]
fn what_an_operator_ordered_is_told_as_the_operators() {
    let mut world = world();
    world.order(12, "s", Some((SiteMode::Normal, 40)));
    world.order(12, "x", Some((SiteMode::Curtailed, 40)));
    world.plan.retell();
    let told = world.clock(13);
    let all = [
        "release s by operator",
        "release t by b",
        "release u by c",
        "curtail x by operator",
    ];
    assert_eq!(told, all);
}

#[test]
fn a_site_that_nothing_names_any_more_is_told_nothing() {
    let mut world = world();
    world.list(12, [dispatch("a", 0, 50).but(|it| it.sites.clear())]);
    world.plan.retell();
    assert_eq!(world.clock(13), ["release t by b", "release u by c"]);
}

#[test]
fn a_curtailed_site_whose_sinks_have_changed_is_told_once_more_and_a_normal_one_is_not() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, None));
    let other = |it: &mut Dispatch| it.sites = vec![site("t", 1.0)];
    world.upsert(10, dispatch("b", 50, 60).but(other));
    assert!(world.plan.is_rerouted());
    world.plan.reroute(["s", "t"].map(site_id));
    assert!(!world.plan.is_rerouted());
    assert_eq!(world.clock(11), ["adjust s by a"]);
    assert!(world.plan.is_rerouted());
    assert_eq!(world.clock(12), NOTHING);
}
