//! Statements about what operators see of pending events, and how they skip one.

use super::*;

/// Lets the first event of `subject` fail so often.
fn fails(world: &mut World, times: usize) {
    for _ in 0..times {
        for start in world.start() {
            world.ends(start.attempt, &Attempt::failed("400 Bad Request"));
        }
        world.wait();
    }
}

#[test]
fn pending_events_are_listed_page_by_page_with_reason_and_next_try() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens(CURTAIL, "s");
    world.happens("dispatch.created", "b");
    let sent = world.sends();
    for (attempt, what) in sent {
        if what.ends_with("a 1") {
            world.ends(attempt, &Attempt::failed("400 Bad Request"));
        } else if what.contains(" s ") {
            world.ends(attempt, &Attempt::Delivered);
        }
    }
    let list = world.outbox.pending(0, 10, world.now);
    let shown: Vec<_> = list
        .iter()
        .map(|one| (&*one.event_type, &*one.subject, one.attempts))
        .collect();
    assert_eq!(
        shown,
        [("dispatch.created", "a", 1), ("dispatch.created", "b", 0)]
    );
    assert_eq!(list[0].last_reason.as_deref(), Some("400 Bad Request"));
    let pause = list[0].next_attempt.unwrap() - world.now.wall;
    assert_eq!(pause.num_milliseconds(), 375);
    assert_eq!(list[1].next_attempt, None);
    assert_eq!(world.outbox.pending(0, 1, world.now), list[..1]);
    assert_eq!(
        world.outbox.pending(list[0].position, 10, world.now),
        list[1..]
    );
}

#[test]
fn an_event_that_is_refused_for_ever_is_named_and_can_be_skipped() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens("dispatch.started", "a");
    fails(&mut world, 4);
    assert!(world.outbox.health().refused.is_empty());
    fails(&mut world, 1);
    let refused = &world.outbox.health().refused[0];
    assert_eq!(
        (&*refused.subject, &*refused.reason),
        ("a", "400 Bad Request")
    );
    assert_eq!(refused.id, world.log[0].id);

    let id = world.log[0].id.to_string();
    let skipped = world.outbox.skip(&id, world.now).unwrap();
    assert_eq!(&*skipped.event_type, "dispatch.created");
    let health = world.outbox.health();
    assert_eq!((health.pending, health.refused.len()), (1, 0));
    assert_eq!(health.condition, SinkCondition::Ok);
    assert!(world.outbox.must_write(world.now.mono));
    world.commit();
    assert_eq!(world.stored.done, 1);
    world.sends_one("dispatch.started a 2", &Attempt::Delivered);
    assert_eq!(world.outbox.skip(&id, world.now), None);
}

#[test]
fn an_event_can_be_skipped_while_it_hangs_and_nobody_else_is_skipped_with_it() {
    let mut world = World::new(3);
    for subject in ["a", "b", "c"] {
        world.happens("dispatch.created", subject);
    }
    let batch = world.start();
    assert_eq!(batch.len(), 1);
    let id = world.log[1].id.to_string();
    world.outbox.skip(&id, world.now).unwrap();
    assert_eq!(world.outbox.take_abandoned(), [batch[0].attempt]);
    let sent: Vec<String> = world.sends().into_iter().map(|(_, sent)| sent).collect();
    assert_eq!(sent, ["dispatch.created a 1", "dispatch.created c 3"]);
}

#[test]
fn a_curtail_that_is_skipped_is_released_all_the_same() {
    for restarts in [false, true] {
        let mut world = World::new(1);
        world.happens(CURTAIL, "s");
        world.sends_one("site.curtail s 1", &failed());
        let id = world.log[0].id.to_string();
        world.outbox.skip(&id, world.now).unwrap();
        world.commit();
        if restarts {
            world.restart();
        }
        world.wait();
        world.sends_nothing();
        assert_eq!(world.outbox.health().pending, 0);
        world.happens(RELEASE, "s");
        world.sends_one("site.release s 2", &Attempt::Delivered);
        world.sends_nothing();
    }
}

#[test]
fn after_a_skipped_curtail_a_newer_one_is_sent() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &failed());
    let id = world.log[0].id.to_string();
    world.outbox.skip(&id, world.now).unwrap();
    world.happens(ADJUST, "s");
    world.sends_one("site.curtail s 2", &Attempt::Delivered);
}

#[test]
fn what_is_not_pending_cannot_be_skipped() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.sends_one("dispatch.created a 1", &Attempt::Delivered);
    let id = world.log[0].id.to_string();
    assert_eq!(world.outbox.skip(&id, world.now), None);
    assert_eq!(world.outbox.skip("", world.now), None);
}

#[test]
fn a_refused_event_tells_when_its_own_first_attempt_failed() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "bad");
    for position in [1, 2] {
        let first = world.now.wall;
        for _ in 0..5 {
            let sent = world.sends();
            world.ends(sent[0].0, &failed());
            world.wait();
        }
        let refused = &world.outbox.health().refused[0];
        assert_eq!(
            (refused.id.clone(), refused.since),
            (world.log[position - 1].id.clone(), first)
        );
        // The next event begins anew.
        world.happens("dispatch.updated", "bad");
        let sent = world.sends();
        world.ends(sent[0].0, &Attempt::Delivered);
        world.wait();
    }
}

#[test]
fn what_waits_behind_an_event_in_its_pause_has_no_next_try_of_its_own() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens("dispatch.started", "a");
    world.sends_one("dispatch.created a 1", &busy(60));
    world.commit();
    world.restart();
    world.sends_nothing();
    let list = world.outbox.pending(0, 10, world.now);
    assert_eq!(list.len(), 2);
    let wait = list[0].next_attempt.unwrap() - world.now.wall;
    assert_eq!(wait, TimeDelta::seconds(60));
    assert_eq!(list[1].next_attempt, None);
}

#[test]
fn a_pending_command_says_how_often_and_since_when_it_was_tried() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let first = world.now.wall;
    world.sends_one("site.curtail s 1", &failed());
    world.wait();
    let last = world.now.wall;
    world.sends_one("site.curtail s 1", &failed());
    let tried = world.outbox.pending(0, 10, world.now)[0].tried.unwrap();
    assert_eq!((tried.first, tried.last, tried.count), (first, last, 2));
}

#[test]
fn an_event_is_found_by_its_id_as_long_as_it_is_pending() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    let id = world.log[0].id.to_string();
    assert!(world.outbox.has_pending(&id));
    assert!(!world.outbox.has_pending("another"));
    world.sends_one("dispatch.created a 1", &Attempt::Delivered);
    assert!(!world.outbox.has_pending(&id));
}

#[test]
fn a_command_is_refused_since_its_own_first_attempt_failed() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &failed());
    world.wait();
    let position = world.happens(RELEASE, "s");
    let since = world.now.wall;
    for _ in 0..5 {
        world.sends_one(&format!("site.release s {position}"), &failed());
        world.wait();
    }
    assert_eq!(world.outbox.health().refused[0].since, since);
}

#[test]
fn a_newer_command_of_a_site_that_failed_shares_no_batch() {
    let mut world = World::new(3);
    world.happens(CURTAIL, "a");
    world.sends_one("site.curtail a 1", &failed());
    world.happens(CURTAIL, "b");
    world.happens(RELEASE, "a");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.sends().len(), 2);
}
