//! What is written down of deliveries, and when.

use super::*;

#[test]
fn a_command_is_written_down_before_it_is_attempted() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    assert!(world.outbox.start(world.now).is_empty());
    assert!(world.outbox.must_write(world.now.mono));
    world.commit();
    assert!(world.stored.attempted["s"].curtailed);
    assert_eq!(world.outbox.start(world.now).len(), 1);
}

#[test]
fn a_command_that_could_not_be_written_down_is_not_attempted() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    assert!(world.outbox.start(world.now).is_empty());
    let record = world.outbox.take_record(world.now.mono, false);
    world.outbox.not_recorded(record, world.now.mono);
    assert!(world.outbox.start(world.now).is_empty());
    world.commit();
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
}

/// The disk failed once, and then the command was superseded before it was attempted.
#[test]
fn what_could_not_be_written_down_at_first_leaves_nothing_behind() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    assert!(world.outbox.start(world.now).is_empty());
    let record = world.outbox.take_record(world.now.mono, false);
    world.outbox.not_recorded(record, world.now.mono);
    world.happens(RELEASE, "s");
    world.sends_nothing();
    world.commit();
    assert!(world.stored.attempted.is_empty());
}

#[test]
fn a_command_superseded_before_it_was_attempted_is_taken_back() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    assert!(world.outbox.start(world.now).is_empty());
    world.happens(RELEASE, "s");
    world.sends_nothing();
    world.commit();
    assert!(world.stored.attempted.is_empty());
}

#[test]
fn a_release_that_need_not_be_told_is_not_written_down_as_attempted() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    // A commit is under way, so nothing can be written down yet. It brings the
    // release.
    assert!(world.outbox.start(world.now).is_empty());
    world.happens_unwritten(RELEASE, "s");
    world.commit();
    assert!(world.stored.attempted.is_empty());
    world.sends_nothing();
    // Nor is the next one, whose curtailment is never attempted either.
    world.happens(CURTAIL, "s");
    world.happens(RELEASE, "s");
    world.restart();
    world.sends_nothing();
}

#[test]
fn what_was_delivered_is_written_down_after_a_quarter_of_a_second_and_before_an_end() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.sends_one("dispatch.created a 1", &Attempt::Delivered);
    let soon = world.now.mono + super::super::recording::WRITE_WITHIN / 2;
    assert!(!world.outbox.must_write(soon));
    assert!(world.outbox.take_record(soon, false).is_none());
    let later = world.now.mono + super::super::recording::WRITE_WITHIN;
    assert!(world.outbox.must_write(later));
    assert_eq!(world.outbox.take_record(later, false).unwrap().done, 1);

    world.happens("dispatch.created", "b");
    world.sends_one("dispatch.created b 2", &Attempt::Delivered);
    let record = world.outbox.take_record(world.now.mono, true);
    assert_eq!(record.unwrap().done, 2);
}

#[test]
fn a_new_sink_is_written_down_with_the_next_commit() {
    let mut outbox = Outbox::new(&World::new(1).sink, &Route::default(), None, 5, 0, at(0));
    let record = outbox.take_record(at(0).mono, false).unwrap();
    assert_eq!(record.done, 5);
    assert!(outbox.take_record(at(0).mono, false).is_none());
}

#[test]
fn what_is_settled_out_of_its_turn_waits_while_commands_are_written_down() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens("dispatch.created", "b");
    let sent = world.sends();
    world.ends(sent[1].0, &Attempt::Delivered);
    world.happens_unwritten(CURTAIL, "s");
    assert!(world.outbox.start(world.now).is_empty());
    let record = world.outbox.take_record(world.now.mono, false).unwrap();
    assert!(record.attempted["s"].is_some());
    assert_eq!((record.done, record.done_beyond.len()), (0, 0));
    world.outbox.recorded();

    world.ends(sent[0].0, &Attempt::Delivered);
    let record = world.outbox.take_record(world.now.mono, true).unwrap();
    assert_eq!((record.done, record.done_beyond.len()), (3, 0));
}

#[test]
fn what_stays_out_of_its_turn_is_written_down_in_the_end() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens("dispatch.created", "b");
    let sent = world.sends();
    world.ends(sent[1].0, &Attempt::Delivered);
    let later = world.now.mono + super::super::recording::WRITE_WITHIN;
    let record = world.outbox.take_record(later, false).unwrap();
    assert_eq!(
        (record.done, record.done_beyond),
        (0, [(2, Some(2))].into())
    );
}

#[test]
fn what_was_delivered_says_when_it_must_be_written_and_a_command_must_be_at_once() {
    let mut world = World::new(1);
    world.commit();
    assert_eq!(world.outbox.write_due(), None);
    world.pass(Duration::from_secs(3));
    world.happens("dispatch.created", "a");
    world.sends_one("dispatch.created a 1", &Attempt::Delivered);
    let within = super::super::recording::WRITE_WITHIN;
    assert_eq!(world.outbox.write_due(), Some(world.now.mono + within));
    world.happens_unwritten(CURTAIL, "s");
    assert!(world.outbox.start(world.now).is_empty());
    assert!(world.outbox.write_due() <= Some(world.now.mono));
    assert!(world.outbox.write_due().is_some());
}

#[test]
fn nothing_is_at_rest_while_an_attempt_runs_or_its_result_is_not_written_down() {
    let mut world = World::new(1);
    world.commit();
    assert!(world.outbox.is_at_rest());
    world.happens("dispatch.created", "a");
    let sent = world.sends();
    assert!(!world.outbox.has_news());
    assert!(!world.outbox.is_at_rest());
    world.ends(sent[0].0, &Attempt::Delivered);
    assert!(world.outbox.has_news());
    assert!(!world.outbox.is_at_rest());
    world.commit();
    assert!(world.outbox.is_at_rest());
}

/// Otherwise a crash would send the release again.
#[test]
fn a_release_that_goes_once_is_written_down_as_done_with_the_next_commit() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens_unconditionally("s");
    for (attempt, what) in world.sends() {
        if what == "site.release s 2" {
            world.ends(attempt, &Attempt::Delivered);
        }
    }
    world.happens_unwritten(CURTAIL, "t");
    assert!(world.outbox.start(world.now).is_empty());
    let record = world.outbox.take_record(world.now.mono, false).unwrap();
    assert_eq!(record.done, 0);
    let beyond: Vec<u64> = record.done_beyond.into_keys().collect();
    assert_eq!(beyond, [2]);
}

#[test]
fn what_was_delivered_out_of_its_turn_is_written_before_an_end_if_it_was_not_before() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens("dispatch.created", "b");
    let sent = world.sends();
    world.ends(sent[1].0, &Attempt::Delivered);
    world.happens_unwritten(CURTAIL, "s");
    world.outbox.start(world.now);
    let record = world.outbox.take_record(world.now.mono, false).unwrap();
    assert!(record.done_beyond.is_empty(), "that has time");
    world.outbox.recorded();
    assert!(world.outbox.has_news());
    let record = world.outbox.take_record(world.now.mono, true).unwrap();
    assert!(!record.done_beyond.is_empty());
}

/// Whether it went is written down by itself, as what the site was last told.
#[test]
fn any_other_command_has_time_until_it_is_written_down_as_done_with() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    world.happens("dispatch.created", "a");
    let hangs = world.sends();
    assert_eq!(hangs.len(), 1);
    world.happens(RELEASE, "s");
    world.sends_one("site.release s 3", &Attempt::Delivered);
    world.position += 1;
    world.offer(Event {
        unconditional: true,
        ..event(world.position, CURTAIL, "u")
    });
    world.sends_one("site.curtail u 4", &Attempt::Delivered);
    world.happens_unwritten(CURTAIL, "t");
    assert!(world.outbox.start(world.now).is_empty());
    let record = world.outbox.take_record(world.now.mono, false).unwrap();
    assert_eq!((record.done, record.done_beyond), (1, [].into()));
}
