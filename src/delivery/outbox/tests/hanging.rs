//! Statements about subjects that hang or fail: they are in nobody's way.

use super::*;

/// A world in which these subjects hang, and the number of attempts that run.
fn with_hanging(batch: usize, at_once: usize, hanging: usize) -> World {
    let mut world = World::of(Takes { batch, at_once });
    for number in 0..hanging {
        world.happens("dispatch.created", &format!("h{number}"));
    }
    world
}

/// Lets `time` pass in small steps, delivering at once whatever is started that has
/// no hanging subject. Gives the subjects that were delivered.
fn run(world: &mut World, time: Duration) -> Vec<String> {
    let step = Duration::from_millis(10);
    let end = world.now.mono + time;
    let mut delivered = Vec::new();
    while world.now.mono < end {
        for start in world.start() {
            let hangs = start.events.iter().any(|e| e.subject.starts_with('h'));
            if !hangs {
                world.ends(start.attempt, &Attempt::Delivered);
                delivered.extend(start.events.iter().map(|e| e.subject.to_string()));
            }
        }
        world.pass(step);
    }
    delivered
}

#[test]
fn twelve_of_forty_subjects_that_hang_delay_no_other_by_a_second() {
    for batch in [1, 100] {
        let mut world = with_hanging(batch, 256, 12);
        for number in 0..28 {
            world.happens("dispatch.created", &format!("d{number}"));
        }
        let delivered = run(&mut world, Duration::from_secs(1));
        assert_eq!(delivered.len(), 28, "batches of {batch}: {delivered:?}");
    }
}

#[test]
fn nine_of_thirty_programs_that_hang_delay_no_other_by_a_second() {
    let mut world = with_hanging(1, 64, 9);
    for number in 0..21 {
        world.happens(CURTAIL, &format!("d{number}"));
    }
    assert_eq!(run(&mut world, Duration::from_secs(1)).len(), 21);
}

#[test]
fn as_many_as_may_hang_delay_no_other_by_a_second() {
    for (batch, at_once) in [(1, 256), (1, 64), (100, 256)] {
        let mut world = with_hanging(batch, at_once, at_once);
        run(&mut world, Duration::from_secs(2));
        for number in 0..500 {
            world.happens("dispatch.created", &format!("d{number}"));
        }
        let delivered = run(&mut world, Duration::from_secs(1));
        assert_eq!(delivered.len(), 500, "batches of {batch}");
        assert_eq!(
            world.outbox.health().abandoned_attempts,
            u64::from(batch > 1) * 3
        );
    }
}

#[test]
fn beyond_that_the_longest_hanging_gives_way_and_is_tried_again() {
    let mut world = with_hanging(1, 64, 80);
    run(&mut world, Duration::from_secs(2));
    world.happens(CURTAIL, "d");
    assert_eq!(run(&mut world, Duration::from_millis(600)), ["d"]);
    let health = world.outbox.health();
    assert!(health.abandoned_attempts > 0);
    assert!(health.last_error.unwrap().contains("gave way"));
    let again: Vec<String> = {
        for attempt in 1..200 {
            world.ends(attempt, &failed());
        }
        world.wait();
        let sent = world.start().into_iter();
        sent.map(|start| start.events[0].subject.to_string())
            .collect()
    };
    assert!(!again.is_empty(), "what gave way is tried again");
}

#[test]
fn a_receiver_that_is_slow_with_everything_gets_everything_in_the_end() {
    // Each attempt takes ten seconds, and there are many more subjects than places.
    let mut world = with_hanging(1, 64, 0);
    for number in 0..400 {
        world.happens("dispatch.created", &format!("d{number}"));
    }
    let mut under_way: Vec<(Duration, u64)> = Vec::new();
    for _ in 0..30_000 {
        for start in world.start() {
            under_way.push((world.now.mono + Duration::from_secs(10), start.attempt));
        }
        world.outbox.take_abandoned();
        let now = world.now.mono;
        let (ended, rest) = under_way.into_iter().partition(|(at, _)| *at <= now);
        under_way = rest;
        for (_, attempt) in ended {
            world.ends(attempt, &Attempt::Delivered);
        }
        world.pass(Duration::from_millis(100));
        if world.outbox.health().pending == 0 {
            return;
        }
    }
    panic!("{} are pending", world.outbox.health().pending);
}

#[test]
fn a_refused_batch_comes_again_event_by_event_at_once() {
    let mut world = World::new(4);
    for subject in ["a", "b", "c", "d"] {
        world.happens("dispatch.created", subject);
    }
    world.sends_one(
        "dispatch.created a 1, dispatch.created b 2, dispatch.created c 3, dispatch.created d 4",
        &failed(),
    );
    let sent = world.sends();
    let subjects: Vec<&str> = sent.iter().map(|(_, sent)| sent.as_str()).collect();
    assert_eq!(
        subjects,
        [
            "dispatch.created a 1",
            "dispatch.created b 2",
            "dispatch.created c 3",
            "dispatch.created d 4"
        ]
    );
    world.ends(sent[0].0, &failed());
    for (attempt, _) in &sent[1..] {
        world.ends(*attempt, &Attempt::Delivered);
    }
    assert_eq!(world.outbox.health().pending, 1);
    // The others share batches again; the one that failed goes alone.
    for subject in ["b", "c"] {
        world.happens("dispatch.updated", subject);
    }
    world.wait();
    let sent: Vec<String> = world.sends().into_iter().map(|(_, sent)| sent).collect();
    assert_eq!(
        sent,
        [
            "dispatch.updated b 5, dispatch.updated c 6",
            "dispatch.created a 1"
        ]
    );
}

#[test]
fn a_batch_that_takes_too_long_is_abandoned_and_the_next_ones_are_smaller() {
    let mut world = World::new(8);
    for number in 0..8 {
        world.happens("dispatch.created", &format!("d{number}"));
    }
    let batch = world.start();
    assert_eq!(batch.len(), 1);
    let due = world.outbox.next_due(world.now.mono).unwrap();
    assert_eq!(due - world.now.mono, Duration::from_millis(500));
    world.pass(Duration::from_millis(500));
    let alone = world.start();
    assert_eq!(alone.len(), 8);
    assert_eq!(world.outbox.take_abandoned(), [batch[0].attempt]);
    // Its result counts no more.
    world.ends(batch[0].attempt, &Attempt::Delivered);
    assert_eq!(world.outbox.health().pending, 8);
    for start in alone {
        world.ends(start.attempt, &Attempt::Delivered);
    }
    for number in 0..8 {
        world.happens("dispatch.ended", &format!("d{number}"));
    }
    let sizes: Vec<usize> = world
        .start()
        .iter()
        .map(|start| start.events.len())
        .collect();
    assert_eq!(sizes, [4, 4]);
}

#[test]
fn a_sink_that_takes_one_attempt_at_a_time_is_waited_for() {
    let mut world = World::of(Takes {
        batch: 100,
        at_once: 1,
    });
    world.happens("dispatch.created", "a");
    world.happens("dispatch.created", "b");
    assert_eq!(world.start().len(), 1);
    world.happens("dispatch.created", "c");
    world.pass(Duration::from_secs(20));
    assert_eq!(world.start().len(), 0);
    assert!(world.outbox.take_abandoned().is_empty());
}

#[test]
fn one_subject_that_is_answered_410_stops_no_other_and_keeps_its_reason() {
    let gone = Attempt::Failed {
        reason: "410 Gone".into(),
        retry_after: None,
        gone: true,
    };
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &gone);
    world.happens(CURTAIL, "t");
    world.sends_one("site.curtail t 2", &Attempt::Delivered);
    let health = world.outbox.health();
    assert_eq!(health.condition, SinkCondition::Retrying);
    assert_eq!(health.last_error.as_deref(), Some("410 Gone"));
    world.wait();
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    let health = world.outbox.health();
    assert_eq!(
        (health.condition, health.last_error),
        (SinkCondition::Ok, None)
    );
}

#[test]
fn a_sink_is_paused_after_a_minute_of_410_alone_and_a_new_command_is_tried_all_the_same() {
    let gone = Attempt::Failed {
        reason: "410 Gone".into(),
        retry_after: None,
        gone: true,
    };
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &gone);
    world.pass(Duration::from_secs(20));
    world.sends_one("site.curtail s 1", &gone);
    assert_eq!(world.outbox.health().condition, SinkCondition::Retrying);
    world.pass(Duration::from_secs(40));
    world.sends_one("site.curtail s 1", &gone);
    assert_eq!(world.outbox.health().condition, SinkCondition::Paused);
    world.happens(CURTAIL, "t");
    world.sends_one("site.curtail t 2", &gone);
    world.happens(RELEASE, "s");
    world.pass(Duration::from_secs(5));
    let sent: Vec<String> = world.sends().into_iter().map(|(_, sent)| sent).collect();
    assert!(sent.contains(&"site.release s 3".to_owned()), "{sent:?}");
    // Any other answer shows that the receiver is there for somebody.
    world.happens(CURTAIL, "u");
    world.sends_one("site.curtail u 4", &Attempt::Delivered);
    assert_eq!(world.outbox.health().condition, SinkCondition::Retrying);
}

#[test]
fn the_place_of_what_gives_way_goes_to_another_subject_at_once() {
    let mut world = with_hanging(1, 64, 72);
    assert_eq!(world.start().len(), 72);
    world.pass(Duration::from_secs(2));
    world.happens("dispatch.created", "d");
    let starts = world.outbox.start(world.now);
    assert_eq!(starts.len(), 1);
    assert_eq!(&*starts[0].events[0].subject, "d");
    let health = world.outbox.health();
    assert_eq!((health.failed_attempts, health.abandoned_attempts), (1, 1));
}

#[test]
fn a_mute_sink_that_waits_for_others_has_its_turn_in_the_next_round() {
    let outboxes = (0..20).map(|_| with_hanging(1, 256, 40).outbox);
    let mut outboxes: Vec<Outbox> = outboxes.collect();
    let mut shares = Shares::default();
    let now = at(1);
    shares.set(&mut outboxes, now.mono);
    for outbox in &mut outboxes {
        outbox.reach.answered(0, true, now.mono);
        assert!(!outbox.start(now).is_empty());
    }
    assert_eq!(shares.next_due(), None);
    let round = Duration::from_millis(60);
    shares.set(&mut outboxes, now.mono + round);
    assert_eq!(shares.next_due(), Some(now.mono + round * 2));
    shares.set(&mut outboxes, now.mono + round * 2);
    assert_eq!(shares.next_due(), None);
}

#[test]
fn sixteen_mute_sinks_begin_more_in_the_first_round_and_none_twice() {
    for (sinks, waits) in [(16, false), (24, true)] {
        let outboxes = (0..sinks).map(|_| with_hanging(1, 256, 200).outbox);
        let mut outboxes: Vec<Outbox> = outboxes.collect();
        let mut shares = Shares::default();
        let mut begin = |now: Now| {
            shares.set(&mut outboxes, now.mono);
            let begins = outboxes.iter_mut().filter_map(|outbox| {
                outbox.reach.answered(0, true, now.mono);
                (!outbox.start(now).is_empty()).then_some(())
            });
            (begins.count(), shares.next_due())
        };
        assert_eq!(begin(at(1)), (sinks, None));
        let round = Duration::from_millis(60);
        let later = Now {
            mono: at(1).mono + round,
            ..at(1)
        };
        let next = waits.then(|| later.mono + round);
        assert_eq!(begin(later), (16, next));
        assert_eq!(begin(later), (0, next));
    }
}

#[test]
fn a_sink_that_has_its_share_goes_on_when_an_attempt_has_lasted_half_a_second() {
    for (subjects, due) in [(2, None), (3, Some(Duration::from_millis(500)))] {
        let mut world = with_hanging(1, 256, subjects);
        world.outbox.share = 2;
        let began = world.now.mono;
        assert_eq!(world.start().len(), 2);
        let next = world.outbox.share_at(world.now.mono);
        assert_eq!(next.map(|at| at - began), due);
        world.pass(Duration::from_millis(500));
        assert_eq!(world.start().len(), subjects - 2);
    }
}

#[test]
fn sinks_that_have_nothing_to_send_leave_their_share_to_the_one_that_has() {
    let idle = (0..99).map(|_| with_hanging(1, 256, 0).outbox);
    let mut outboxes: Vec<Outbox> = idle.chain([with_hanging(1, 256, 200).outbox]).collect();
    Shares::default().set(&mut outboxes, at(1).mono);
    let busy = outboxes.last_mut().unwrap();
    busy.reach.answered(0, true, at(1).mono);
    assert_eq!(busy.start(at(1)).len(), 200);
}

#[test]
fn nothing_gives_way_to_a_subject_that_failed_before() {
    let mut world = with_hanging(1, 8, 0);
    world.happens("dispatch.created", "bad");
    world.sends_one("dispatch.created bad 1", &failed());
    for number in 0..9 {
        world.happens("dispatch.created", &format!("h{number}"));
    }
    assert_eq!(world.sends().len(), 9);
    assert_eq!(world.outbox.health().abandoned_attempts, 0);
    // Nobody waits for a place.
    let due = world.outbox.next_due(world.now.mono).unwrap();
    assert!(due - world.now.mono < Duration::from_millis(500), "{due:?}");
    world.wait();
    world.sends_nothing();
    assert_eq!(world.outbox.next_due(world.now.mono), None);
    assert_eq!(world.outbox.health().abandoned_attempts, 0);
    world.happens("dispatch.created", "good");
    world.sends_one("dispatch.created good 11", &Attempt::Delivered);
    assert_eq!(world.outbox.health().abandoned_attempts, 1);
}

#[test]
fn what_waits_for_a_place_gets_it_when_the_attempt_that_is_one_too_many_has_hung() {
    let mut world = with_hanging(1, 8, 9);
    assert_eq!(world.sends().len(), 9);
    let nobody_waits = world.outbox.next_due(world.now.mono);
    assert_eq!(nobody_waits, None);
    world.happens("dispatch.created", "good");
    world.pass(Duration::from_millis(100));
    world.sends_nothing();
    let due = world.outbox.next_due(world.now.mono).unwrap();
    assert_eq!(due - world.now.mono, Duration::from_millis(400));
    world.pass(Duration::from_millis(400));
    world.sends_one("dispatch.created good 10", &Attempt::Delivered);
}

#[test]
fn what_was_broken_off_of_a_subject_that_failed_goes_behind_those_that_did_not() {
    let mut world = with_hanging(1, 8, 0);
    world.happens("dispatch.created", "bad");
    world.sends_one("dispatch.created bad 1", &failed());
    for number in 0..8 {
        world.happens("dispatch.created", &format!("h{number}"));
    }
    assert_eq!(world.sends().len(), 8);
    world.wait();
    let sent = world.sends();
    assert_eq!(sent.len(), 1, "there is a ninth place");
    world.happens("dispatch.created", "good");
    world.ends(sent[0].0, &Attempt::BrokenOff);
    world.sends_one("dispatch.created good 10", &Attempt::Delivered);
    world.sends_one("dispatch.created bad 1", &Attempt::Delivered);
}

#[test]
fn batches_that_take_too_long_become_smaller_and_grow_again_when_they_come_to_an_end_in_time() {
    let mut world = with_hanging(100, 8, 0);
    let places = &mut world.outbox.places;
    assert_eq!(places.next_batch(), 100);
    places.batch_too_late(100);
    assert_eq!(places.next_batch(), 50);
    places.batch_in_time(49);
    assert_eq!(places.next_batch(), 50, "a smaller one proves nothing");
    places.batch_in_time(50);
    assert_eq!(places.next_batch(), 56);
    for _ in 0..100 {
        places.batch_in_time(100);
    }
    assert_eq!(places.next_batch(), 100);
}

#[test]
fn an_attempt_is_fresh_for_three_times_as_long_as_answers_take() {
    let mut world = with_hanging(1, 8, 0);
    world.wait();
    // How long each attempt is fresh, in microseconds, and after how long it is answered.
    for (fresh, answered_after, result) in [
        (500_000, 10, Attempt::Delivered),
        (60_000, 100, Attempt::Delivered),
        (63_750, 0, Attempt::unreachable("connection refused")),
    ] {
        let subject = format!("d{fresh}");
        world.happens("dispatch.created", &subject);
        let sent = world.sends();
        let until = world.outbox.places.fresh_place_at(1).unwrap();
        assert_eq!((until - world.now.mono).as_micros(), fresh);
        world.pass(Duration::from_millis(answered_after));
        world.ends(sent[0].0, &result);
    }
    // That no connection was found tells nothing of how long answers take.
    assert_eq!(world.sends().len(), 1);
    let until = world.outbox.places.fresh_place_at(1).unwrap();
    assert_eq!((until - world.now.mono).as_micros(), 63_750);
}
