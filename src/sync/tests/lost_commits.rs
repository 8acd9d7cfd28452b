//! What a daemon does that takes the lead of a store which may lack the last commits.

use super::*;

/// A store in which a dispatch holds a site, and that may lack what came later.
fn store() -> MemoryStore {
    let mut world = World::new();
    world.step([]);
    world.list(vec![with_site(dispatch("a", -10))]);
    world.commit_all();
    assert_eq!(world.event_types().last(), Some(&"site.curtail"));
    world.store.lose_commits();
    world.store
}

fn is_marked(store: &MemoryStore) -> bool {
    store.clone().load().unwrap().commits_lost
}

#[test]
fn the_sites_are_told_once_more_with_the_first_list_and_the_mark_goes_with_that_commit() {
    let store = store();
    let mut world = World::with(240, &store);
    world.step([]);
    world.until(500);
    assert!(
        world.commits.is_empty(),
        "nothing is told before the API was asked"
    );
    world.list(vec![with_site(dispatch("a", -10))]);
    assert_eq!(world.commits.len(), 1);
    let told = world.commits[0].events.iter();
    let told: Vec<_> = told
        .map(|event| (&*event.event_type, event.unconditional))
        .collect();
    assert_eq!(told, [("site.curtail", true)]);
    assert!(world.commits[0].commits_made_up && is_marked(&store));
    world.commit();
    assert!(!is_marked(&store));

    // Neither the next list nor the next start tells them again.
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![with_site(dispatch("a", -10))]);
    world.commit_all();
    assert_eq!(world.event_types(), ["site.curtail"]);
    let mut world = World::with(240, &store);
    world.step([]);
    world.list(vec![with_site(dispatch("a", -10))]);
    world.commit_all();
    assert_eq!(world.events.len(), 0);
}

#[test]
fn a_daemon_that_is_killed_or_whose_commit_fails_meanwhile_tells_them_afterwards() {
    let store = store();
    let mut killed = World::with(240, &store);
    killed.step([]);
    killed.list(vec![with_site(dispatch("a", -10))]);
    assert_eq!(killed.commits.len(), 1);
    drop(killed);

    let mut world = World::with(240, &store);
    world.step([]);
    world.list(vec![with_site(dispatch("a", -10))]);
    world.commit_fails();
    assert!(is_marked(&store));
    while world.asked.is_empty() {
        world.until(world.now + 500);
        // It looks whether the store takes writes again.
        world.commit_all();
    }
    assert!(is_marked(&store));
    world.list(vec![with_site(dispatch("a", -10))]);
    world.commit_all();
    assert_eq!(world.event_types(), ["site.curtail"]);
    assert!(!is_marked(&store));
}

#[test]
fn what_the_api_has_called_off_meanwhile_is_not_curtailed_once_more() {
    let store = store();
    let mut world = World::with(240, &store);
    world.step([]);
    let called_off = Dispatch {
        authorized: false,
        ..with_site(dispatch("a", -10))
    };
    world.list(vec![called_off]);
    world.commit_all();
    assert_eq!(world.event_types(), ["dispatch.cancelled", "site.release"]);
}

#[test]
fn a_schedule_without_sites_makes_up_for_lost_commits_too() {
    let store = MemoryStore::new("test", DateTime::UNIX_EPOCH);
    store.lose_commits();
    let mut world = World::with(240, &store);
    world.step([]);
    world.list(vec![]);
    world.commit_all();
    assert!(!is_marked(&store));
}

#[test]
fn numbers_after_a_loss_are_above_those_of_a_leader_whose_clock_was_two_minutes_ahead() {
    let store = MemoryStore::new("test", DateTime::UNIX_EPOCH);
    store.lose_commits();
    let mut world = World::with(240, &store);
    world.step([]);
    world.list(vec![with_site(dispatch("a", -10))]);
    world.commit_all();
    let ahead = u64::try_from(wall(119).timestamp_micros()).unwrap();
    let first = world.events.first().unwrap();
    assert!(first.sequence > ahead, "{}", first.sequence);
}
