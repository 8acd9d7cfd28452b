//! What a site is called (rule R7).

use std::sync::Arc;

use super::world::{But, World, dispatch, lead};
use crate::model::Dispatch;

const NOTHING: [&str; 0] = [];

/// A dispatch that calls its site by this name, and by a location of the same text.
fn named(id: &str, start: i64, end: impl Into<Option<i64>>, text: &str) -> Dispatch {
    dispatch(id, start, end).but(|it| {
        let site = Arc::make_mut(&mut it.sites[0]);
        site.name = text.into();
        site.customer_location_id = text.into();
    })
}

fn off(dispatch: Dispatch) -> Dispatch {
    dispatch.but(|it| it.authorized = false)
}

fn called(world: &World) -> String {
    let site = world.site("s");
    assert_eq!(site.name, site.customer_location_id);
    site.name.clone()
}

#[test]
fn a_site_is_named_by_a_dispatch_that_holds_it_whatever_changed_last() {
    let mut world = World::new(lead(0));
    world.upsert(10, named("b", 10, 100, "holder"));
    world.upsert(11, named("later", 50, 100, "next"));
    world.upsert(12, off(named("cancelled", 10, 100, "cancelled")));
    world.upsert(13, named("ended", 0, 5, "ended"));
    world.upsert(14, named("test", 10, 100, "test").but(|it| it.test = true));
    assert_eq!(called(&world), "holder");
    // Another name of the holder counts at once, and moves no load.
    assert_eq!(world.upsert(15, named("b", 10, 100, "renamed")), NOTHING);
    assert_eq!(called(&world), "renamed");
    // Of several holders the one that changed last.
    world.upsert(16, named("c", 10, 100, "second"));
    assert_eq!(called(&world), "second");
}

#[test]
fn a_site_that_nothing_holds_is_named_by_the_one_that_holds_it_next() {
    let mut world = World::new(lead(0));
    world.upsert(0, named("later", 60, 100, "later"));
    world.upsert(1, named("next", 50, 100, "next"));
    world.upsert(2, named("later", 61, 100, "later"));
    world.upsert(3, off(named("off", 40, 100, "cancelled")));
    assert_eq!(called(&world), "next");
    world.clock(50);
    assert_eq!(called(&world), "next");
}

#[test]
fn a_site_that_nothing_holds_or_will_hold_is_named_by_the_last_one() {
    let mut world = World::new(lead(0));
    world.upsert(0, named("first", 10, 20, "first"));
    world.upsert(0, named("second", 15, 30, "second"));
    world.clock(20);
    world.clock(30);
    assert_eq!(called(&world), "second");
    let release = world.planned.changes.last();
    assert_eq!(release.map(|change| &*change.site.name), Some("second"));
}

#[test]
fn a_name_comes_with_the_lead() {
    let mut world = World::new(lead(5));
    world.upsert(0, named("holds", 0, 40, "holder"));
    world.upsert(1, named("next", 50, 60, "next"));
    world.clock(40);
    assert_eq!(called(&world), "next");
    world.upsert(41, named("holds", 0, 40, "old"));
    world.clock(45);
    assert_eq!(called(&world), "next");
}
