//! Statements about the plan: when a site is curtailed, and when released.
//!
//! Times are seconds. Unless said otherwise a dispatch names site `s`.

use std::sync::Arc;

use super::world::{But, World, at, dispatch, lead, site, site_id};
use crate::engine::Rules;
use crate::model::{Dispatch, Kilowatts, Site};

const NOTHING: [&str; 0] = [];

#[test]
fn a_site_is_curtailed_from_the_start_to_the_end() {
    let mut world = World::new(lead(0));
    assert_eq!(world.upsert(0, dispatch("a", 10, 20)), NOTHING);
    assert_eq!(world.next_due(), Some(10));
    assert_eq!(world.clock(10), ["curtail s by a"]);
    assert_eq!(world.site("s").since, at(10));
    assert_eq!(world.until(), Some(20));
    assert_eq!(world.clock(15), NOTHING);
    assert_eq!(world.clock(20), ["release s by a"]);
    assert_eq!(world.site("s").since, at(20));
    assert_eq!(world.site("s").until, None);
    assert_eq!(world.next_due(), None);
}

#[test]
fn overlapping_dispatches_release_with_the_last() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 20));
    world.upsert(0, dispatch("b", 10, 40));
    assert_eq!(world.clock(10), ["curtail s by a"]);
    assert_eq!(world.held_by(), "a b");
    assert_eq!(world.until(), Some(40));
    assert_eq!(world.clock(20), ["adjust s by a"]);
    assert_eq!(world.held_by(), "b");
    assert_eq!(world.site("s").since, at(10));
    assert_eq!(world.clock(40), ["release s by b"]);
}

#[test]
fn abutting_dispatches_release_nothing_between_them() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 20));
    world.upsert(0, dispatch("b", 20, 30));
    world.clock(10);
    assert_eq!(world.until(), Some(30));
    assert_eq!(world.clock(20), ["adjust s by b"]);
    assert_eq!(world.site("s").since, at(10));
    assert_eq!(world.clock(30), ["release s by b"]);
}

#[test]
fn a_lead_begins_before_the_start() {
    let mut world = World::new(lead(5));
    world.upsert(0, dispatch("a", 10, 20));
    assert_eq!(world.next_due(), Some(5));
    assert_eq!(world.clock(4), NOTHING);
    assert_eq!(world.clock(5), ["curtail s by a"]);
    assert_eq!(world.site("s").since, at(5));
    assert_eq!(world.next_due(), Some(10));
    assert_eq!(world.clock(10), NOTHING);
    assert_eq!(world.clock(20), ["release s by a"]);
}

#[test]
fn a_lead_that_has_begun_at_first_sight_curtails_at_once() {
    let mut world = World::new(lead(5));
    assert_eq!(world.upsert(7, dispatch("a", 10, 20)), ["curtail s by a"]);
}

#[test]
fn a_step_takes_leads_of_dispatches_and_sites_up_to_its_chunk() {
    let mut world = World::new(Rules {
        chunk: 4,
        ..lead(5)
    });
    for name in ["a", "b", "c"] {
        let own_site = |it: &mut Dispatch| it.sites = vec![site(name, 1.0)];
        world.upsert(0, dispatch(name, 10, 20).but(own_site));
    }
    // One for each dispatch and one for its site.
    assert_eq!(world.clock(5), ["curtail a by a", "curtail b by b"]);
    assert_eq!(world.clock(5), ["curtail c by c"]);
}

#[test]
fn a_gap_shorter_than_the_lead_is_no_gap() {
    let mut world = World::new(lead(5));
    world.upsert(0, dispatch("a", 10, 20));
    world.upsert(0, dispatch("b", 23, 30));
    world.clock(10);
    assert_eq!(world.until(), Some(30));
    assert_eq!(world.clock(18), ["adjust s by b"]);
    assert_eq!(world.held_by(), "a b");
    assert_eq!(world.clock(20), ["adjust s by a"]);
    assert_eq!(world.held_by(), "b");
    assert_eq!(world.clock(30), ["release s by b"]);
}

#[test]
fn a_gap_as_long_as_the_lead_is_no_gap() {
    let mut world = World::new(lead(5));
    world.upsert(0, dispatch("a", 10, 20));
    world.upsert(0, dispatch("b", 25, 30));
    world.clock(10);
    assert_eq!(world.until(), Some(30));
    assert_eq!(world.clock(20), ["adjust s by b"]);
}

#[test]
fn a_gap_longer_than_the_lead_is_one() {
    let mut world = World::new(lead(5));
    world.upsert(0, dispatch("a", 10, 20));
    world.upsert(0, dispatch("b", 26, 30));
    world.clock(10);
    assert_eq!(world.until(), Some(20));
    assert_eq!(world.clock(20), ["release s by a"]);
    assert_eq!(world.clock(21), ["curtail s by b"]);
}

#[test]
fn a_chain_is_followed_over_links_in_any_order() {
    let mut world = World::new(lead(1));
    world.upsert(0, dispatch("d", 31, 40));
    world.upsert(0, dispatch("b", 20, 30));
    world.upsert(0, dispatch("c", 22, 25));
    world.upsert(0, dispatch("e", 42, 50));
    world.upsert(0, dispatch("a", 10, 20));
    world.clock(9);
    assert_eq!(world.until(), Some(40));
}

#[test]
fn an_open_link_leaves_the_end_unknown() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 20));
    world.upsert(0, dispatch("b", 15, None));
    assert_eq!(world.clock(10), ["curtail s by a"]);
    assert_eq!(world.until(), None);
    // Out of reach, it is no link.
    assert_eq!(world.upsert(11, dispatch("b", 21, None)), ["adjust s by b"]);
    assert_eq!(world.until(), Some(20));
}

#[test]
fn an_open_end_holds_until_it_is_told_to_end() {
    let mut world = World::new(lead(0));
    assert_eq!(
        world.upsert(12, dispatch("a", 10, None)),
        ["curtail s by a"]
    );
    assert_eq!(world.until(), None);
    assert_eq!(world.clock(1_000_000), NOTHING);
    let ended = dispatch("a", 10, 1_000_001);
    assert_eq!(world.upsert(1_000_001, ended), ["release s by a"]);
}

#[test]
fn an_end_that_moves_adjusts() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, 20));
    assert_eq!(world.upsert(11, dispatch("a", 10, 30)), ["adjust s by a"]);
    assert_eq!(world.until(), Some(30));
    assert_eq!(world.upsert(12, dispatch("a", 10, 15)), ["adjust s by a"]);
    assert_eq!(world.until(), Some(15));
    assert_eq!(world.upsert(13, dispatch("a", 10, 12)), ["release s by a"]);
}

#[test]
fn an_end_moved_later_after_the_release_curtails_again() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, 20));
    world.clock(20);
    assert_eq!(world.upsert(21, dispatch("a", 10, 30)), ["curtail s by a"]);
    assert_eq!(world.site("s").since, at(21));
}

#[test]
fn an_end_that_moves_later_far_down_the_chain_adjusts() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 20));
    world.upsert(0, dispatch("b", 20, 30));
    world.clock(10);
    assert_eq!(world.upsert(11, dispatch("b", 20, 35)), ["adjust s by b"]);
    assert_eq!(world.until(), Some(35));
}

#[test]
fn a_dispatch_cancelled_before_its_start_curtails_nothing() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 20));
    let cancelled = dispatch("a", 10, 20).but(|a| a.authorized = false);
    assert_eq!(world.upsert(5, cancelled), NOTHING);
    assert_eq!(world.next_due(), None);
    assert_eq!(world.clock(10), NOTHING);
}

#[test]
fn a_dispatch_cancelled_in_its_lead_or_after_releases() {
    for now in [6, 10, 15] {
        let mut world = World::new(lead(5));
        world.upsert(0, dispatch("a", 10, 20));
        world.clock(now);
        let cancelled = dispatch("a", 10, 20).but(|a| a.authorized = false);
        assert_eq!(world.upsert(now, cancelled), ["release s by a"]);
    }
}

#[test]
fn a_dispatch_cancelled_while_another_holds_adjusts() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, 20));
    world.upsert(10, dispatch("b", 10, None));
    let cancelled = dispatch("b", 10, None).but(|b| b.authorized = false);
    assert_eq!(world.upsert(11, cancelled), ["adjust s by b"]);
    assert_eq!(world.until(), Some(20));
}

#[test]
fn a_withdrawn_dispatch_releases() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, None));
    assert_eq!(world.list(11, []), NOTHING);
    for now in [12, 22] {
        world.gone(now, "a");
    }
    assert!(!world.site("s").is_curtailed());
    assert_eq!(world.planned.changes.len(), 1);
}

#[test]
fn a_start_moved_beyond_the_lead_lets_go() {
    let mut world = World::new(lead(5));
    world.upsert(0, dispatch("a", 10, 20));
    world.clock(6);
    assert_eq!(world.upsert(7, dispatch("a", 13, 20)), ["release s by a"]);
    assert_eq!(world.clock(8), ["curtail s by a"]);
    // Later, and still within the lead.
    assert_eq!(world.upsert(9, dispatch("a", 14, 20)), NOTHING);
    assert!(world.site("s").is_curtailed());
}

#[test]
fn a_test_dispatch_curtails_nothing() {
    let test = dispatch("a", 10, 20).but(|a| a.test = true);
    let mut world = World::new(lead(5));
    world.upsert(0, test.clone());
    assert_eq!(world.site("s").next, None);
    assert_eq!(world.next_due(), Some(10));
    assert_eq!(world.clock(10), NOTHING);

    let mut world = World::new(Rules {
        curtail_on_test: true,
        ..lead(5)
    });
    world.upsert(0, test);
    assert_eq!(world.clock(10), ["curtail s by a"]);
}

#[test]
fn a_dispatch_that_turns_into_a_test_releases() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, 20));
    let test = dispatch("a", 10, 20).but(|a| a.test = true);
    assert_eq!(world.upsert(11, test), ["release s by a"]);
}

#[test]
fn a_dispatch_over_at_first_sight_curtails_nothing() {
    let mut world = World::new(lead(5));
    // An earlier life may have curtailed for the first (rule R6).
    assert_eq!(world.upsert(30, dispatch("a", 10, 20)), ["release s by a"]);
    assert_eq!(world.upsert(30, dispatch("b", 50, 40)), NOTHING);
    assert_eq!(world.clock(60), NOTHING);
}

#[test]
fn the_commitment_is_the_largest_known_of_those_that_hold() {
    let committed = |name, start, kw: Option<f64>| {
        dispatch(name, start, 100).but(|it| it.sites = vec![site("s", kw)])
    };
    let mut world = World::new(lead(0));
    world.upsert(10, committed("a", 10, None));
    assert_eq!(world.site("s").commitment_kw, None);
    assert_eq!(
        world.upsert(11, committed("b", 11, Some(12.0))),
        ["adjust s by b"]
    );
    world.upsert(12, committed("c", 11, Some(8.0)));
    world.upsert(13, committed("d", 50, Some(99.0)));
    assert_eq!(world.site("s").commitment_kw, Some(Kilowatts(12.0)));
    assert_eq!(
        world.upsert(14, committed("c", 11, Some(20.0))),
        ["adjust s by c"]
    );
    assert_eq!(world.site("s").commitment_kw, Some(Kilowatts(20.0)));
    world.clock(50);
    assert_eq!(world.site("s").commitment_kw, Some(Kilowatts(99.0)));
}

#[test]
fn a_site_has_the_programs_of_those_that_hold_it_each_once() {
    let of =
        |name, start, program| dispatch(name, start, 100).but(|it| it.program.id = Some(program));
    let mut world = World::new(lead(0));
    let held = [of("a", 10, 2), of("b", 10, 1), of("c", 10, 2)];
    world.list(10, held.into_iter().chain([of("d", 50, 3)]));
    let programs = world.site("s").programs.iter();
    let programs: Vec<_> = programs.map(|program| program.id).collect();
    assert_eq!(programs, [Some(1), Some(2)]);
}

#[test]
fn a_curtailed_site_whose_program_changes_is_adjusted_unless_none_was_known() {
    let of = |program| dispatch("a", 10, None).but(|it| it.program.id = Some(program));
    let mut world = World::new(lead(0));
    world.upsert(10, of(1));
    assert_eq!(world.upsert(11, of(2)), ["adjust s by a"]);
    // As older versions stored it: without programs.
    for site in world.replayed.values_mut() {
        Arc::make_mut(site).programs.clear();
    }
    assert_eq!(world.restart(12), NOTHING);
}

#[test]
fn each_site_goes_by_its_own_dispatches() {
    let mut world = World::new(lead(0));
    let both = dispatch("a", 10, 20).but(|a| a.sites.push(site("t", 5.0)));
    world.upsert(0, both);
    world.upsert(0, dispatch("b", 15, 30));
    assert_eq!(world.clock(10), ["curtail s by a", "curtail t by a"]);
    assert_eq!(world.clock(15), ["adjust s by b"]);
    assert_eq!(world.clock(20), ["adjust s by a", "release t by a"]);
}

#[test]
fn a_site_dropped_by_an_update_is_released() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, None));
    let other = dispatch("a", 10, None).but(|a| a.sites = vec![site("t", 5.0)]);
    assert_eq!(
        world.upsert(11, other),
        ["release s by a", "curtail t by a"]
    );
    // Whoever asks must learn that it is released.
    assert!(!world.site("s").is_curtailed());
    assert_eq!(world.site("s").name, "Plant s");
    assert_eq!(world.next_due(), Some(11 + 1000));
    world.clock(11 + 1000);
    assert_eq!(world.plan.get(&site_id("s")), None);
    assert_eq!(world.planned.forgotten, [site_id("s")]);
}

#[test]
fn a_dropped_site_that_is_named_again_is_not_forgotten() {
    let mut world = World::new(lead(0));
    let other = dispatch("a", 10, None).but(|a| a.sites = vec![site("t", 5.0)]);
    world.upsert(10, dispatch("a", 10, None));
    world.upsert(11, other);
    assert_eq!(
        world.upsert(12, dispatch("b", 12, None)),
        ["curtail s by b"]
    );
    assert_eq!(world.next_due(), None);
}

#[test]
fn a_site_that_was_never_curtailed_goes_with_its_last_name() {
    let mut world = World::new(lead(0));
    world.upsert(0, dispatch("a", 10, 20));
    let other = dispatch("a", 10, 20).but(|a| a.sites = vec![site("t", 5.0)]);
    assert_eq!(world.upsert(1, other), NOTHING);
    assert_eq!(world.plan.get(&site_id("s")), None);
}

#[test]
fn a_site_stays_until_its_last_dispatch_is_pruned() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, 20));
    world.clock(20);
    world.list(1019, []);
    assert!(!world.site("s").is_curtailed());
    assert_eq!((world.plan.len(), world.plan.is_empty()), (1, false));
    assert_eq!(world.list(1020, []), NOTHING);
    assert!(world.plan.is_empty());
    assert!(world.plan.claims.is_empty() && world.plan.due.is_empty());
    assert_eq!(world.planned.forgotten, [site_id("s")]);
}

#[test]
fn what_ended_and_was_pruned_at_once_is_released() {
    let mut world = World::new(lead(0));
    world.upsert(10, dispatch("a", 10, 20));
    // Nobody looked for a long time.
    assert_eq!(world.list(5000, []), ["release s by a"]);
    assert!(world.schedule.is_empty());
}

#[test]
fn next_is_the_first_that_is_to_come_and_commands_nothing() {
    let mut world = World::new(lead(5));
    world.upsert(10, dispatch("a", 10, 20));
    assert_eq!(world.upsert(11, dispatch("c", 60, 70)), NOTHING);
    assert_eq!(world.upsert(11, dispatch("b", 50, 70)), NOTHING);
    let next = world.site("s").next.clone().unwrap();
    assert_eq!((next.start_time, next.dispatch.as_str()), (at(50), "b"));
    // In its lead it holds the site, so it is no longer to come.
    world.clock(45);
    assert_eq!(world.site("s").next.clone().unwrap().start_time, at(60));
}

/// A dispatch whose site has this unknown field, and another site the same.
fn with_point(name: &str, point: &str) -> Dispatch {
    dispatch(name, 10, 30).but(|it| {
        for site in ["s", "t"] {
            let mut named = Site::clone(&super::world::site(site, 10.0));
            if site == "s" && !point.is_empty() {
                named.extra = serde_json::from_str(&format!(r#"{{"point": {point}}}"#)).unwrap();
            }
            it.sites.retain(|it| it.id != named.id);
            it.sites.push(Arc::new(named));
        }
    })
}

#[test]
fn a_curtailed_site_whose_own_unknown_field_changes_is_adjusted_and_no_other() {
    let mut world = World::new(lead(0));
    world.upsert(0, with_point("a", ""));
    assert_eq!(world.upsert(1, with_point("a", "0.1")), NOTHING);
    assert_eq!(world.site("s").extra, None, "nothing holds it yet");
    world.clock(10);
    let state = serde_json::to_string(world.site("s")).unwrap();
    assert!(state.contains(r#""extra":{"a":{"point":0.1}}"#), "{state}");
    assert_eq!(
        world.upsert(11, with_point("a", "1e400")),
        ["adjust s by a"]
    );
    assert_eq!(world.upsert(12, with_point("a", "10e399")), NOTHING);
    world.upsert(13, with_point("b", "2"));
    let state = serde_json::to_string(world.site("s")).unwrap();
    assert!(state.contains(r#""b":{"point":2}"#), "{state}");
    assert_eq!(world.upsert(14, with_point("a", "")), ["adjust s by a"]);
    assert_eq!(world.restart(15), NOTHING);
    let noted = with_point("a", "").but(|a| a.extra = serde_json::from_str(r#"{"x": 1}"#).unwrap());
    assert_eq!(
        world.upsert(16, noted),
        NOTHING,
        "a dispatch's own field moves no site"
    );
    world.clock(30);
    assert_eq!(world.site("s").extra, None);
    assert_eq!(world.site("t").extra, None);
}
