//! Statements about a receiver to which no connection can be made.

use super::*;

fn unreachable() -> Attempt {
    Attempt::unreachable("connection refused")
}

/// A world whose receiver is down, with so many dispatches and sites pending.
fn down(dispatches: usize, sites: usize) -> World {
    let mut world = World::new(1);
    world.answers = false;
    for number in 0..dispatches {
        world.happens("dispatch.created", &format!("d{number}"));
    }
    for number in 0..sites {
        world.happens(CURTAIL, &format!("s{number}"));
    }
    world
}

/// Lets `time` pass, and ends every attempt like this. Gives what was sent when.
fn run(world: &mut World, time: Duration, result: &Attempt) -> Vec<(Duration, String)> {
    let end = world.now.mono + time;
    let mut sent = Vec::new();
    while world.now.mono < end {
        for (attempt, what) in world.sends() {
            sent.push((world.now.mono, what));
            world.ends(attempt, result);
        }
        world.pass(Duration::from_millis(10));
    }
    sent
}

#[test]
fn a_receiver_that_is_down_gets_one_probe_at_a_time_with_growing_pauses() {
    let mut world = down(600, 658);
    let sent = run(&mut world, Duration::from_secs(17), &unreachable());
    assert!((4..=8).contains(&sent.len()), "{sent:?}");
    let sent = run(&mut world, Duration::from_secs(300), &unreachable());
    assert!((8..=22).contains(&sent.len()), "{sent:?}");
    assert_eq!(world.outbox.health().pending, 1258);
    assert_eq!(world.outbox.health().condition, SinkCondition::Failing);
    let error = world.outbox.health().last_error;
    assert_eq!(error.as_deref(), Some("connection refused"));
}

#[test]
fn probes_take_turns_and_site_commands_go_first() {
    let mut world = down(3, 3);
    let sent = run(&mut world, Duration::from_secs(60), &unreachable());
    let subjects: Vec<&str> = sent.iter().map(|(_, what)| what.as_str()).collect();
    // Nobody knows yet that it is down: an event goes ahead while the first command
    // is written down.
    assert_eq!(
        subjects[..5],
        [
            "dispatch.created d0 1",
            "site.curtail s0 4",
            "site.curtail s1 5",
            "site.curtail s2 6",
            "site.curtail s0 4"
        ]
    );
}

#[test]
fn everything_goes_at_once_when_the_receiver_is_back_and_commands_go_first() {
    let mut world = down(20, 20);
    run(&mut world, Duration::from_secs(60), &unreachable());
    let sent = run(&mut world, Duration::from_secs(31), &Attempt::Delivered);
    assert_eq!(sent.len(), 40);
    let first = sent[0].0;
    assert!(
        sent.iter()
            .all(|(at, _)| *at <= first + Duration::from_millis(20))
    );
    let commands = sent
        .iter()
        .take(20)
        .all(|(_, what)| what.starts_with("site."));
    assert!(commands, "{sent:?}");
    assert_eq!(world.outbox.health().pending, 0);
    assert_eq!(world.outbox.health().condition, SinkCondition::Ok);
}

#[test]
fn a_receiver_that_hangs_or_refuses_is_not_down() {
    let mut world = down(50, 0);
    let sent = run(&mut world, Duration::from_millis(50), &failed());
    assert_eq!(sent.len(), 50);
}

#[test]
fn after_a_time_without_answers_one_attempt_goes_ahead_for_a_moment() {
    let mut world = down(50, 0);
    assert_eq!(world.start().len(), 1);
    world.pass(Duration::from_millis(50));
    assert_eq!(world.start().len(), 0);
    world.pass(Duration::from_millis(50));
    assert_eq!(
        world.start().len(),
        49,
        "it hangs, so that the receiver is there"
    );
}

#[test]
fn a_new_command_is_probed_within_five_seconds() {
    let mut world = down(0, 1);
    run(&mut world, Duration::from_secs(120), &unreachable());
    // Right after a probe.
    while world.start().is_empty() {
        world.pass(Duration::from_millis(10));
    }
    let attempt = world.outbox.places.attempt_of("site/s0").unwrap();
    world.ends(attempt, &unreachable());
    world.happens(RELEASE, "s0");
    let sent = run(&mut world, Duration::from_millis(5010), &unreachable());
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1, "site.release s0 2");
}

#[test]
fn a_probe_that_hangs_keeps_nobody_waiting_for_long() {
    let mut world = down(0, 5);
    run(&mut world, Duration::from_secs(3), &unreachable());
    while world.start().is_empty() {
        world.pass(Duration::from_millis(10));
    }
    // It is back, but this subject hangs.
    world.pass(Duration::from_secs(1));
    let second = world.start();
    assert_eq!(second.len(), 1);
    world.ends(second[0].attempt, &Attempt::Delivered);
    assert_eq!(world.start().len(), 3);
}

#[test]
fn what_began_before_the_receiver_was_back_does_not_take_it_down_again() {
    let mut world = World::new(1);
    for subject in ["a", "b", "c"] {
        world.happens("dispatch.created", subject);
    }
    let sent = world.sends();
    world.answers = false;
    world.ends(sent[1].0, &Attempt::Delivered);
    world.ends(sent[0].0, &unreachable());
    let health = world.outbox.health();
    assert_eq!(health.condition, SinkCondition::Ok);
    assert_eq!(health.last_error, None);
    assert_eq!(world.sends().len(), 1, "it is tried again at once");
    world.ends(sent[2].0, &unreachable());
    world.answers = false;
    assert_eq!(world.sends().len(), 0);
}

#[test]
fn pauses_of_subjects_end_when_the_receiver_is_back() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.sends_one(
        "dispatch.created a 1",
        &Attempt::Failed {
            reason: "503".into(),
            retry_after: Some(Duration::from_secs(300)),
            gone: false,
        },
    );
    world.happens("dispatch.created", "b");
    world.sends_one("dispatch.created b 2", &unreachable());
    world.answers = false;
    world.pass(Duration::from_secs(1));
    world.sends_one("dispatch.created b 2", &Attempt::Delivered);
    world.sends_one("dispatch.created a 1", &Attempt::Delivered);
}

#[test]
fn while_a_receiver_is_down_what_waits_says_when_the_next_try_is() {
    let mut world = down(2, 2);
    let _ = run(&mut world, Duration::from_secs(17), &unreachable());
    let list = world.outbox.pending(0, 10, world.now);
    assert_eq!(list.len(), 4);
    let now = world.now.wall;
    let ahead = list.iter().filter_map(|one| one.next_attempt);
    let ahead: Vec<_> = ahead.map(|at| (at - now).num_seconds()).collect();
    // One of them may be being written down for its attempt.
    assert!(ahead.len() >= 3, "{list:?}");
    assert!(
        ahead.iter().all(|seconds| (0..=30).contains(seconds)),
        "{ahead:?}"
    );
}

#[test]
fn a_refusal_of_who_sends_names_the_secret_and_other_failures_do_not() {
    use super::super::ended::remedy;
    for reason in ["the receiver answered 401 Unauthorized", "answered 403"] {
        assert!(remedy(reason).contains("--sink-secret"), "{reason}");
    }
    for reason in [
        "connection refused",
        "the receiver answered 500",
        "4010 events",
    ] {
        assert_eq!(remedy(reason), "", "{reason}");
    }
}

#[test]
fn a_receiver_that_is_back_gets_site_commands_before_other_events() {
    let mut world = down(3, 3);
    run(&mut world, Duration::from_secs(60), &unreachable());
    while world.start().is_empty() {
        world.pass(Duration::from_millis(10));
    }
    world.outbox.connected(world.now);
    // Some are still to be written down, and nothing goes ahead of them.
    let mut commands = world.outbox.start(world.now);
    world.commit();
    commands.extend(world.outbox.start(world.now));
    let mut sent = commands.iter().flat_map(|start| &start.events);
    assert!(sent.all(|event| event.family() == "site"), "{commands:?}");
    assert!(commands.len() >= 2, "{commands:?}");
    // Nor while they are under way.
    world.sends_nothing();
    for start in commands {
        world.ends(start.attempt, &Attempt::Delivered);
    }
    world.pass(Duration::from_secs(1));
    assert!(world.sends().len() >= 3, "nobody waits for longer");
}

#[test]
fn while_probes_hang_the_next_look_is_when_more_may_go() {
    let mut world = down(0, 5);
    run(&mut world, Duration::from_secs(3), &unreachable());
    while world.start().is_empty() {
        world.pass(Duration::from_millis(10));
    }
    let due = |world: &World| world.outbox.next_due(world.now.mono);
    let began = world.now.mono;
    assert_eq!(due(&world), Some(began + Duration::from_secs(1)));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.start().len(), 1);
    let began = world.now.mono;
    assert_eq!(due(&world), Some(began + Duration::from_secs(6)));
    world.pass(Duration::from_secs(6));
    assert_eq!(world.start().len(), 3, "it has a connection by now");
}

#[test]
fn a_receiver_that_refuses_a_probe_is_back() {
    let mut world = down(20, 0);
    run(&mut world, Duration::from_secs(3), &unreachable());
    while world.outbox.health().failed_attempts == world.outbox.health().unreachable_attempts {
        run(&mut world, Duration::from_millis(10), &failed());
    }
    assert!(!world.outbox.reach.is_down());
    let sent = run(&mut world, Duration::from_millis(20), &failed());
    assert!(sent.len() >= 19, "{sent:?}");
}

#[test]
fn what_began_before_a_receiver_went_down_and_fails_does_not_say_that_it_is_back() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens("dispatch.created", "b");
    let sent = world.sends();
    world.answers = false;
    world.ends(sent[0].0, &unreachable());
    world.ends(sent[1].0, &failed());
    assert!(world.outbox.reach.is_down());
    world.sends_nothing();
}

#[test]
fn a_probe_that_was_broken_off_is_made_again_at_once() {
    let mut world = down(2, 0);
    run(&mut world, Duration::from_secs(3), &unreachable());
    let probe = loop {
        if let Some(probe) = world.sends().pop() {
            break probe;
        }
        world.pass(Duration::from_millis(10));
    };
    world.ends(probe.0, &Attempt::BrokenOff);
    world.sends_one(&probe.1, &Attempt::Delivered);
}

#[test]
fn what_waits_for_a_probe_says_when_it_is_made() {
    let mut world = down(1, 0);
    world.happens("dispatch.updated", "d0");
    run(&mut world, Duration::from_secs(3), &unreachable());
    let list = world.outbox.pending(0, 10, world.now);
    let wait = list[0].next_attempt.unwrap() - world.now.wall;
    assert!(wait > TimeDelta::zero(), "{wait}");
    // It goes behind the first one, whenever that is.
    assert_eq!(list[1].next_attempt, None);
    let wait = wait.to_std().unwrap();
    world.pass(wait - Duration::from_millis(1));
    world.sends_nothing();
    world.pass(Duration::from_millis(1));
    world.sends_one("dispatch.created d0 1", &Attempt::Delivered);
}

#[test]
fn what_was_under_way_when_a_receiver_went_down_does_not_put_off_the_probe() {
    let mut world = World::new(1);
    for number in 0..8 {
        world.happens("dispatch.created", &format!("d{number}"));
    }
    let sent = world.sends();
    world.answers = false;
    for (attempt, _) in sent {
        world.ends(attempt, &unreachable());
    }
    let due = world.outbox.next_due(world.now.mono).unwrap();
    assert!(due - world.now.mono <= Duration::from_millis(500));
    world.pass(due - world.now.mono);
    assert_eq!(world.sends().len(), 1, "it wakes for the probe");
}

#[test]
fn an_answer_proves_for_thirty_seconds_that_a_receiver_is_there() {
    use super::super::reach::Allowance;
    let mut world = World::new(1);
    world.outbox.reach.answered(1, true, at(1).mono);
    let allows = |world: &World, now: Duration| world.outbox.reach.allowance(now, None);
    let over = at(31).mono;
    assert_eq!(
        allows(&world, over - Duration::from_nanos(1)),
        Allowance::All
    );
    assert_eq!(allows(&world, over), Allowance::One);
}
