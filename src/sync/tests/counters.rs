//! What the coordinator counts.

use super::*;
use crate::histogram::Histogram;

impl World {
    fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.health().counters)
    }

    /// How often, and by how many seconds in all.
    fn late(&self, kind: &str) -> (u64, f64) {
        sum_of(&self.counters().lateness[kind])
    }
}

fn sum_of(histogram: &Histogram) -> (u64, f64) {
    (histogram.count(), histogram.sum())
}

#[test]
fn changes_are_counted_once_committed_by_type_and_by_what_brought_them() {
    let mut world = World::polled();
    world.webhook("w", "a");
    world.found(with_site(dispatch("a", 0)));
    assert_eq!(world.counters().changes[&("created", "webhook")], 0);
    world.commit();
    world.step([Input::Poll { waiter: "hand" }]);
    world.list(vec![
        with_site(dispatch("a", 0)),
        Dispatch {
            authorized: false,
            ..dispatch("b", 50)
        },
    ]);
    world.commit();
    let counters = world.counters();
    let counted: Vec<_> = counters.changes.iter().filter(|(_, n)| **n > 0).collect();
    assert_eq!(
        counted,
        [
            (&("cancelled", "poll"), &1),
            (&("created", "webhook"), &1),
            (&("started", "webhook"), &1),
        ]
    );
    assert_eq!(counters.commands[&("curtail", "webhook")], 1);
    assert_eq!(sum_of(&counters.polls["succeeded"]).0, 2);
    // Nobody was late: it had begun before anybody could know.
    assert!(counters.lateness.values().all(|late| late.count() == 0));
}

#[test]
fn a_failed_commit_counts_nothing_and_a_failed_poll_counts_as_such() {
    let mut world = World::polled();
    let before = world.counters();
    world.webhook("w", "a");
    world.found(dispatch("a", 100));
    world.commit_fails();
    assert_eq!(world.counters(), before);
    world.now = 5000;
    world.step([]);
    let (asked, _) = world.question();
    world.now = 5500;
    world.answer(asked, Err(down()));
    assert_eq!(sum_of(&world.counters().polls["failed"]), (1, 0.5));
}

#[test]
fn lateness_is_counted_from_the_start_less_the_lead_and_from_the_end() {
    let mut world = with_rules(&MemoryStore::new("test", DateTime::UNIX_EPOCH), |rules| {
        rules.pre_curtail = Duration::from_secs(2);
    });
    world.step([]);
    let soon = Dispatch {
        end_time: Some(wall(10)),
        ..dispatch("a", 5)
    };
    world.list(vec![with_site(soon)]);
    world.commit();
    for (due, kind) in [(3, "curtail"), (5, "started"), (10, "release")] {
        world.until(due * 1000);
        // The disk takes a quarter of a second.
        world.now += 250;
        world.commit();
        assert_eq!(world.late(kind), (1, 0.25), "{kind}");
    }
    assert_eq!(world.late("ended"), (1, 0.25));
    assert_eq!(world.late("adjust"), (0, 0.0));
    assert_eq!(world.counters().commands[&("curtail", "timer")], 1);
    assert_eq!(world.counters().changes[&("ended", "timer")], 1);
}

#[test]
fn what_came_due_while_the_daemon_was_down_is_late_by_that() {
    let mut world = World::new();
    world.step([]);
    world.list(vec![with_site(dispatch("a", 5))]);
    world.commit();
    let mut world = World::with(240, &world.store);
    world.now = 65_000;
    world.step([]);
    world.commit();
    assert_eq!(world.late("started"), (1, 60.0));
    assert_eq!(world.late("curtail"), (1, 60.0));
}

#[test]
fn a_command_that_follows_from_other_rules_was_never_due() {
    let mut world = World::new();
    world.step([]);
    let test = Dispatch {
        test: true,
        ..dispatch("a", -500)
    };
    world.list(vec![with_site(test)]);
    world.commit();
    let mut world = with_rules(&world.store, |rules| rules.curtail_on_test = true);
    world.step([]);
    world.commit();
    assert_eq!(world.counters().commands[&("curtail", "timer")], 1);
    assert_eq!(world.late("curtail"), (0, 0.0));
}

#[test]
fn a_heal_is_as_old_as_the_last_answer_that_did_not_show_it() {
    let mut world = World::new();
    world.step([]);
    world.list(vec![dispatch("known", 1000)]);
    world.commit();
    let poll = |world: &mut World, at: u64, dispatches| {
        world.until(at);
        if world.asked.is_empty() {
            world.step([Input::Poll { waiter: "hand" }]);
        }
        world.list(dispatches);
        world.commit();
    };
    assert_eq!(
        world.counters().unseen.count(),
        0,
        "the first poll heals nothing"
    );
    poll(&mut world, 10_000, vec![dispatch("known", 1000)]);
    // New since the list of second 10.
    let both = vec![dispatch("known", 1000), dispatch("new", 1000)];
    poll(&mut world, 25_000, both);
    assert_eq!(sum_of(&world.counters().unseen), (1, 15.0));
    // A webhook confirms what is known at second 30; then it changes.
    world.until(30_000);
    world.asked.clear();
    world.webhook("w", "known");
    world.found(dispatch("known", 1000));
    let moved = vec![dispatch("known", 2000), dispatch("new", 1000)];
    poll(&mut world, 31_000, moved);
    assert_eq!(sum_of(&world.counters().unseen), (2, 16.0));
}
