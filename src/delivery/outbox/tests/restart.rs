//! What an outbox knows after a restart.

use super::*;

#[test]
fn after_a_restart_only_what_was_not_acknowledged_goes_again() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens("dispatch.created", "b");
    let sent = world.sends();
    world.ends(sent[0].0, &failed());
    world.ends(sent[1].0, &Attempt::Delivered);
    world.commit();
    world.restart();
    world.sends_nothing();
    assert_eq!(world.outbox.health().pending, 1);
    world.wait();
    world.sends_one("dispatch.created a 1", &Attempt::Delivered);
    world.sends_nothing();
    assert_eq!(world.outbox.health().pending, 0);
}

#[test]
fn after_a_restart_too_a_new_command_does_not_wait_for_an_old_pause() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let sent = world.sends();
    world.ends(sent[0].0, &busy(300));
    world.commit();
    world.restart();
    world.happens(RELEASE, "s");
    world.pass(Duration::from_secs(5));
    world.sends_one("site.release s 2", &Attempt::Delivered);
}

#[test]
fn a_clock_that_is_set_back_makes_no_pause_longer() {
    for pause in [7, 200] {
        let mut world = World::new(1);
        world.happens("dispatch.created", "d");
        let sent = world.sends();
        world.ends(sent[0].0, &busy(pause));
        world.commit();
        world.now.wall -= TimeDelta::hours(1);
        world.restart();
        world.pass(Duration::from_secs(pause - 1));
        world.sends_nothing();
        world.pass(Duration::from_secs(1));
        world.sends_one("dispatch.created d 1", &Attempt::Delivered);
    }
}

#[test]
fn a_clock_that_is_set_forward_ends_a_pause() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "d");
    let sent = world.sends();
    world.ends(sent[0].0, &busy(7));
    world.commit();
    world.now.wall += TimeDelta::hours(1);
    world.restart();
    world.sends_one("dispatch.created d 1", &Attempt::Delivered);
}

/// A crash kept the second command's record from telling that the first is done with.
#[test]
fn an_unconditional_release_does_not_go_after_what_was_attempted_since() {
    let mut world = World::new(1);
    world.happens_unconditionally("s");
    world.happens(CURTAIL, "s");
    assert!(world.outbox.start(world.now).is_empty());
    // Written down as attempted, and nothing else of it.
    let record = world.outbox.take_record(world.now.mono, false).unwrap();
    let told = record.attempted["s"].unwrap();
    world.stored.attempted.insert("s".into(), told);
    world.restart();
    world.happens(RELEASE, "s");
    world.sends_one("site.release s 3", &Attempt::Delivered);
    for _ in 0..2 {
        world.sends_nothing();
        world.commit();
        world.restart();
    }
    world.sends_nothing();
}

#[test]
fn a_restart_does_not_begin_the_wait_of_a_new_command_anew() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let sent = world.sends();
    world.ends(sent[0].0, &busy(300));
    world.commit();
    world.pass(Duration::from_secs(2));
    world.restart();
    world.happens(RELEASE, "s");
    for _ in 0..2 {
        world.pass(Duration::from_secs(1));
        world.commit();
        world.restart();
        world.sends_nothing();
    }
    world.pass(Duration::from_secs(1));
    world.sends_one("site.release s 2", &Attempt::Delivered);
}

/// Commits were lost: what is known of the attempts may be older than the receiver.
#[test]
fn a_curtail_that_goes_whatever_was_attempted_is_a_curtail_and_goes_once_also_across_restarts() {
    for acknowledged in [false, true] {
        let mut world = World::new(1);
        if acknowledged {
            world.happens(CURTAIL, "s");
            world.sends_one("site.curtail s 1", &Attempt::Delivered);
        }
        world.commit();
        world.position = 1;
        world.position += 1;
        world.offer(Event {
            unconditional: true,
            ..event(2, CURTAIL, "s")
        });
        // Killed before the attempt, and in the middle of it.
        world.commit();
        world.restart();
        world.sends_one("site.curtail s 2", &failed());
        world.commit();
        world.restart();
        world.wait();
        world.sends_one("site.curtail s 2", &Attempt::Delivered);
        for _ in 0..2 {
            world.sends_nothing();
            world.commit();
            world.restart();
        }
        world.happens(ADJUST, "s");
        world.sends_one("site.adjust s 3", &Attempt::Delivered);
        world.happens(RELEASE, "s");
        world.sends_one("site.release s 4", &Attempt::Delivered);
        world.sends_nothing();
        assert_eq!(world.outbox.health().pending, 0);
    }
}

#[test]
fn a_curtail_that_goes_whatever_was_attempted_is_not_sent_behind_its_release() {
    let mut world = World::new(1);
    world.commit();
    world.position += 1;
    world.offer(Event {
        unconditional: true,
        ..event(1, CURTAIL, "s")
    });
    world.happens_unconditionally("s");
    world.restart();
    world.sends_one("site.release s 2", &Attempt::Delivered);
    world.sends_nothing();
    world.commit();
    world.restart();
    world.sends_nothing();
}

#[test]
fn a_release_that_is_owed_goes_although_a_curtail_followed_it_before_the_restart() {
    let mut world = World::new(1);
    for _ in 0..2 {
        world.happens_unconditionally("s");
        world.happens(CURTAIL, "s");
    }
    world.restart();
    // The schedule is not caught up, and the owed releases are read meanwhile.
    world.outbox.hold_commands(true);
    world.sends_nothing();
    world.happens(RELEASE, "s");
    world.outbox.hold_commands(false);
    world.sends_one("site.release s 5", &Attempt::Delivered);
    world.sends_nothing();
    assert_eq!(world.outbox.health().pending, 0);
    world.commit();
    assert_eq!(world.stored.done, 5);
}

/// What was attempted before the start was a curtail or the release itself.
#[test]
fn a_release_that_is_read_after_a_newer_one_was_acknowledged_does_not_go() {
    for curtails in [true, false] {
        let mut world = World::new(1);
        world.happens_unconditionally("s");
        if curtails {
            world.happens(CURTAIL, "s");
        }
        assert!(world.outbox.start(world.now).is_empty());
        // Written down as attempted, and nothing else of it.
        let record = world.outbox.take_record(world.now.mono, false).unwrap();
        let told = record.attempted["s"].unwrap();
        world.stored.attempted.insert("s".into(), told);
        if !curtails {
            world.happens_unwritten(CURTAIL, "s");
        }
        world.restart();
        // The store is slow with the read of what is pending.
        world.outbox.reach.answered(0, true, world.now.mono);
        for kind in [CURTAIL, RELEASE] {
            world.happens(kind, "s");
            let mut starts = world.outbox.start(world.now);
            world.commit();
            starts.extend(world.outbox.start(world.now));
            assert_eq!(starts.len(), 1, "{curtails} {kind}");
            world.ends(starts[0].attempt, &Attempt::Delivered);
        }
        world.sends_nothing();
        assert_eq!(world.outbox.health().pending, 0);
    }
}

fn only_site_b() -> Arc<str> {
    let route = Route::parse(&["b".to_owned()], &[], &[]).unwrap();
    route.text().into()
}

#[test]
fn another_route_is_written_down_once_its_sites_are_told() {
    let mut world = World::new(1);
    world.stored.route = Some(only_site_b());
    world.restart();
    world.commit();
    assert_eq!(world.stored.route, Some(only_site_b()));
    world.outbox.rerouted();
    assert!(world.outbox.must_write(world.now.mono));
    world.commit();
    assert_eq!(
        world.stored.route.as_deref(),
        Some(&*Route::default().text())
    );
}

/// It waits for an event of its own: nothing is written down as attempted yet.
#[test]
fn a_site_that_a_new_route_brings_does_not_go_once_more_with_a_new_connection() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.stored.route = Some(only_site_b());
    world.restart();
    assert_eq!(world.outbox.take_rerouted().len(), 1);
    world.outbox.connected(world.now);
    for page in [
        RefreshPage::Positions(vec![1]),
        RefreshPage::Events(world.log.clone()),
    ] {
        assert!(world.outbox.refresh_read(world.now).is_some());
        world.outbox.take_refresh(Ok(page), world.now);
    }
    world.sends_nothing();
}
