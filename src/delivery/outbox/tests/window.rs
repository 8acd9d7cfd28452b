//! Statements about backlogs that are not held in memory.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::registration::tests::Log;

impl World {
    /// Offers events of so many subjects, with data of this length.
    fn has_backlog(&mut self, events: u64, length: usize) {
        let data = serde_json::value::to_raw_value(&"x".repeat(length)).unwrap();
        let data: Arc<Box<serde_json::value::RawValue>> = data.into();
        for number in 1..=events {
            self.position = number;
            self.offer(Event {
                data: Arc::clone(&data),
                ..event(number, "dispatch.created", &format!("d{number}"))
            });
        }
    }
}

/// Delivers everything that is started. Gives the positions in the order in which
/// they were delivered.
fn drain(world: &mut World) -> Vec<u64> {
    let mut delivered = Vec::new();
    loop {
        let starts = world.start();
        if starts.is_empty() {
            return delivered;
        }
        for start in starts {
            world.ends(start.attempt, &Attempt::Delivered);
            delivered.extend(start.events.iter().map(|event| event.position));
        }
    }
}

#[test]
fn a_long_backlog_is_read_as_it_drains_and_drains_in_order() {
    let mut world = World::new(100);
    for number in 0..30_000 {
        world.happens_unwritten("dispatch.updated", &format!("d{}", number % 700));
    }
    let held = |world: &World| world.outbox.window.held_after(0).count();
    assert!(held(&world) <= 2048, "{}", held(&world));
    assert_eq!(world.outbox.health().pending, 30_000);
    world.restart();
    assert_eq!(world.outbox.health().pending, 30_000);
    assert_eq!(held(&world), 0);
    let delivered = drain(&mut world);
    assert_eq!(delivered.len(), 30_000);
    for subject in 0..700 {
        let of: Vec<u64> = delivered
            .iter()
            .copied()
            .filter(|position| (position - 1) % 700 == subject)
            .collect();
        assert!(of.is_sorted());
    }
    assert_eq!(world.outbox.health().pending, 0);
    assert!(world.reads < 200, "{} reads", world.reads);
    world.commit();
    assert_eq!(world.stored.done, 30_000);
    assert!(world.stored.done_beyond.is_empty());
}

#[test]
fn one_event_that_is_refused_for_ever_holds_up_only_its_subject_and_costs_nothing() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "bad");
    for number in 0..20_000 {
        let subject = if number % 10 == 0 { "bad" } else { "good" };
        world.happens_unwritten("dispatch.updated", subject);
        if number % 500 == 0 {
            loop {
                let starts = world.start();
                if starts.is_empty() {
                    break;
                }
                for start in starts {
                    let bad = &*start.events[0].subject == "bad";
                    let result = if bad { failed() } else { Attempt::Delivered };
                    world.ends(start.attempt, &result);
                }
            }
        }
    }
    drain(&mut world);
    assert_eq!(world.outbox.health().pending, 2001);
    assert!(world.outbox.window.held_after(0).count() <= 64);
    world.commit();
    assert_eq!(world.stored.done, 0);
    world.wait();
    assert_eq!(drain(&mut world).len(), 2001);
    world.commit();
    assert_eq!(world.stored.done, 20_001);
    assert!(world.stored.done_beyond.is_empty());
}

#[test]
fn subjects_that_fail_leave_room_for_others() {
    let mut world = World::new(1);
    for number in 0..3000 {
        world.happens_unwritten("dispatch.created", &format!("bad{number}"));
    }
    loop {
        let starts = world.start();
        if starts.is_empty() {
            break;
        }
        for start in starts {
            world.ends(start.attempt, &failed());
        }
    }
    world.happens("dispatch.created", "good");
    world.sends_one("dispatch.created good 3001", &Attempt::Delivered);
}

#[test]
fn site_commands_need_no_room() {
    let mut world = World::new(1);
    for number in 0..5000 {
        world.happens_unwritten("dispatch.created", &format!("d{number}"));
    }
    world.happens(CURTAIL, "s");
    // What was there first has all places until it is answered.
    for start in world.start() {
        world.ends(start.attempt, &Attempt::Delivered);
    }
    let sent = world.sends();
    assert!(sent.iter().any(|(_, sent)| sent == "site.curtail s 5001"));
}

#[test]
fn large_events_take_more_room() {
    let mut world = World::new(1);
    world.has_backlog(100, 1 << 20);
    let held = world.outbox.window.held_after(0).count();
    assert!((1..=16).contains(&held), "{held}");
    assert_eq!(drain(&mut world).len(), 100);
}

#[test]
fn as_many_events_of_the_usual_size_are_held_as_small_ones() {
    let mut world = World::new(1);
    world.has_backlog(2100, 5000);
    assert_eq!(world.outbox.window.held_after(0).count(), 2048);
}

#[test]
fn a_backlog_is_read_again_once_half_of_what_is_held_was_delivered() {
    // 2,048 events are held, or 15 of a mebibyte each.
    for (length, expected) in [(1, 1024), (1 << 20, 8)] {
        let mut world = World::new(1);
        world.has_backlog(3000, length);
        let mut delivered = 0;
        while world.outbox.read(world.now).is_none() {
            let starts = world.outbox.start(world.now);
            let first = starts.first().expect("there is more to deliver");
            world.ends(first.attempt, &Attempt::Delivered);
            for other in &starts[1..] {
                world.ends(other.attempt, &Attempt::BrokenOff);
            }
            delivered += 1;
        }
        assert_eq!(delivered, expected);
    }
}

/// Each makes room for one event of another subject: however often it fails, and as often
/// as it goes on and fails anew.
#[test]
fn a_subject_that_fails_again_and_again_makes_no_more_room_than_one_that_fails_once() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "bad");
    world.happens(CURTAIL, "site");
    for _ in 0..20 {
        for start in world.start() {
            world.ends(start.attempt, &failed());
        }
        world.wait();
    }
    for number in 0..3000 {
        world.happens_unwritten("dispatch.created", &format!("d{number}"));
    }
    let held = world.outbox.window.held_after(0).count();
    assert_eq!(
        held,
        2048 + 1 + 1,
        "the place of `bad`, and a site's command"
    );
}

#[test]
fn a_read_that_fails_is_made_again_a_second_later() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.restart();
    let read = world.outbox.read(world.now).unwrap();
    assert_eq!(world.outbox.read(world.now), None, "one read at a time");
    let error = crate::store::StoreError::Closed;
    world.outbox.take_read(Err(error), world.now);
    assert_eq!(world.outbox.read(world.now), None);
    let due = world.outbox.next_due(world.now.mono).unwrap();
    assert_eq!(due - world.now.mono, Duration::from_secs(1));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.outbox.read(world.now), Some(read));
}

/// Whatever fails, whenever it restarts: every dispatch event is delivered, in
/// order for each subject, and what is counted as pending is what is pending.
#[test]
fn nothing_is_lost_and_nothing_overtakes_whatever_fails() {
    for seed in 0..40 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::new([1, 3, 100][usize::try_from(seed % 3).unwrap()]);
        world.page = random.random_range(1..40);
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        let mut hanging: Vec<u64> = Vec::new();
        let subjects = random.random_range(1..6);
        for _ in 0..300 {
            for _ in 0..random.random_range(0..15) {
                let subject = random.random_range(0..subjects);
                world.position += random.random_range(0..3);
                match random.random_range(0..12) {
                    0 => world.happens_unwritten(CURTAIL, &format!("s{subject}")),
                    1 => world.happens_unwritten(RELEASE, &format!("s{subject}")),
                    _ => world.happens_unwritten("dispatch.updated", &format!("d{subject}")),
                };
            }
            if random.random_bool(0.03) {
                world.commit();
                world.restart();
            }
            for attempt in std::mem::take(&mut hanging) {
                world.ends(attempt, &failed());
            }
            for start in world.start() {
                let result = match random.random_range(0..10) {
                    0 => failed(),
                    1 if random.random_bool(0.3) => Attempt::unreachable("down"),
                    2 => {
                        hanging.push(start.attempt);
                        continue;
                    }
                    _ => Attempt::Delivered,
                };
                if result == Attempt::Delivered {
                    arrive(&world, &mut last, &start, seed);
                }
                world.ends(start.attempt, &result);
            }
            world.pass(Duration::from_secs(random.random_range(0..20)));
        }
        for attempt in hanging {
            world.ends(attempt, &failed());
        }
        for _ in 0..10_000 {
            for start in world.start() {
                arrive(&world, &mut last, &start, seed);
                world.ends(start.attempt, &Attempt::Delivered);
            }
            if world.outbox.health().pending == 0 {
                break;
            }
            world.pass(Duration::from_millis(200));
        }
        assert_eq!(world.outbox.health().pending, 0, "seed {seed}");
        for (subject, last) in &last {
            let newest = world.log.iter().rev().find(|e| *e.subject == **subject);
            assert_eq!(newest.unwrap().position, *last, "seed {seed}, {subject}");
        }
        world.commit();
        assert!(world.stored.done_beyond.is_empty(), "seed {seed}");
    }
}

/// Each dispatch event of an attempt is the next one of its subject, or one that
/// arrived before.
fn arrive(world: &World, last: &mut BTreeMap<String, u64>, start: &Start, seed: u64) {
    for event in start.events.iter().filter(|e| e.family() != "site") {
        arrives(world, last, event, seed);
    }
}

fn arrives(world: &World, last: &mut BTreeMap<String, u64>, event: &Event, seed: u64) {
    let before = last.get(&*event.subject).copied().unwrap_or(0);
    let first = world.log.partition_point(|e| e.position <= before);
    let mut behind = world.log.iter().skip(first);
    let next = behind.find(|e| e.subject == event.subject);
    assert!(
        event.position <= before || next.is_some_and(|next| next.position == event.position),
        "seed {seed}: {} {} after {before}",
        event.subject,
        event.position
    );
    last.insert(event.subject.to_string(), before.max(event.position));
}

#[test]
fn the_backlog_of_one_subject_is_read_in_pages_and_held_in_small_parts() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.sends_one("dispatch.created a 1", &failed());
    for _ in 0..640 {
        world.happens_unwritten("dispatch.updated", "a");
    }
    world.wait();
    let before = world.reads;
    let mut delivered = 0;
    while let Some(start) = world.start().pop() {
        assert!(world.outbox.window.held_after(0).count() <= 64);
        world.ends(start.attempt, &Attempt::Delivered);
        delivered += 1;
    }
    assert_eq!(delivered, 641);
    let reads = world.reads - before;
    assert!(reads <= 12, "{reads} reads");
}

#[test]
fn of_a_subject_that_fails_only_the_first_event_is_held() {
    let mut world = World::new(1);
    for _ in 0..5 {
        world.happens("dispatch.updated", "a");
    }
    world.sends_one("dispatch.updated a 1", &failed());
    for _ in 0..5 {
        world.happens_unwritten("dispatch.updated", "a");
    }
    assert_eq!(world.outbox.window.held_after(0).count(), 1);
    assert_eq!(world.outbox.health().pending, 10);
}

#[test]
fn the_log_says_that_pending_events_cannot_be_read_and_when_they_can_again() {
    let (log, _guard) = Log::here();
    let count = |words: &str| log.lines(words).len();
    let mut world = World::new(1);
    for round in 1..=3 {
        world.happens("dispatch.created", "a");
        world.restart();
        assert!(world.outbox.read(world.now).is_some());
        let error = crate::store::StoreError::Closed;
        world.outbox.take_read(Err(error), world.now);
        world.pass(Duration::from_secs(1));
        world.read();
        world.happens("dispatch.created", "b");
        world.read();
        assert_eq!(count("pending events cannot be read"), round);
        assert_eq!(count("pending events can be read again"), round);
    }
    world.restart();
    world.read();
    assert_eq!(count("pending events can be read again"), 3);
}

#[test]
fn nothing_is_remembered_of_a_subject_once_all_is_delivered_and_of_a_site_once_it_is_released() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens(CURTAIL, "s");
    while let Some(start) = world.start().pop() {
        for attempt in 0..=start.attempt {
            world.ends(attempt, &Attempt::Delivered);
        }
    }
    let known: Vec<&str> = world.outbox.queues.keys().map(|key| &**key).collect();
    assert_eq!(known, ["site/s"]);
    world.happens(RELEASE, "s");
    world.sends_one("site.release s 3", &Attempt::Delivered);
    assert!(world.outbox.queues.is_empty());
}
