//! Statements about what a sink gets, and when.

mod written;

use chrono::{DateTime, TimeDelta};

use super::*;

const CURTAIL: &str = "site.curtail";
const ADJUST: &str = "site.adjust";
const RELEASE: &str = "site.release";

fn at(seconds: u64) -> Now {
    let mono = Duration::from_secs(seconds);
    Now {
        wall: DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + mono,
        mono,
    }
}

fn event(position: u64, event_type: &str, subject: &str) -> Event {
    Event {
        position,
        term: 1,
        id: Event::id_at("store", 1, position),
        event_type: event_type.into(),
        subject: subject.into(),
        time: at(position).wall,
        sequence: position,
        unconditional: false,
        data: serde_json::value::to_raw_value(&position).unwrap().into(),
    }
}

fn failed() -> Attempt {
    Attempt::failed("down")
}

/// An outbox whose records are kept as a store would keep them.
struct World {
    outbox: Outbox,
    stored: SinkState,
    position: u64,
    now: Now,
}

impl World {
    fn new(batch: usize) -> Self {
        Self {
            outbox: Outbox::new("sink", batch, Some(SinkState::default()), 0, at(0)),
            stored: SinkState::default(),
            position: 0,
            now: at(0),
        }
    }

    /// Commits an event of this type, and offers it.
    fn happens(&mut self, event_type: &str, subject: &str) -> u64 {
        self.commit();
        self.happens_unwritten(event_type, subject)
    }

    /// Offers an event whose commit had no record of this sink.
    fn happens_unwritten(&mut self, event_type: &str, subject: &str) -> u64 {
        self.position += 1;
        self.outbox
            .offer([&event(self.position, event_type, subject)]);
        self.position
    }

    /// Writes down what is to be written down.
    fn commit(&mut self) {
        if let Some(record) = self.outbox.take_record(self.now.mono, true) {
            self.stored.settled = record.settled;
            self.stored.settled_beyond.extend(record.settled_beyond);
            self.stored
                .settled_beyond
                .retain(|position| *position > record.settled);
            for (lane, retry) in record.retries {
                match retry {
                    Some(retry) => self.stored.retries.insert(lane, retry),
                    None => self.stored.retries.remove(&lane),
                };
            }
            for (site, told) in record.told {
                match told {
                    Some(told) => self.stored.told.insert(site, told),
                    None => self.stored.told.remove(&site),
                };
            }
        }
        self.outbox.recorded();
    }

    /// Starts what may start, writing down what must be.
    fn start(&mut self) -> Vec<Start> {
        self.outbox.advance(self.now);
        let mut starts = self.outbox.start(self.now);
        self.commit();
        starts.extend(self.outbox.start(self.now));
        starts
    }

    /// Starts, and gives what is sent, as `type subject position`.
    fn sends(&mut self) -> Vec<(u64, String)> {
        let starts = self.start();
        let told = starts.iter().map(|start| {
            let events = start.events.iter();
            let events = events.map(|e| format!("{} {} {}", e.event_type, e.subject, e.position));
            (start.attempt, events.collect::<Vec<_>>().join(", "))
        });
        told.collect()
    }

    /// Expects one attempt that sends this, and ends it.
    fn sends_one(&mut self, expected: &str, result: &Attempt) {
        let sent = self.sends();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(sent[0].1, expected);
        self.outbox.ended(sent[0].0, result, self.now, 0.5);
    }

    fn sends_nothing(&mut self) {
        assert_eq!(self.sends(), []);
    }

    fn wait(&mut self) {
        self.now = at(self.now.mono.as_secs() + 70);
    }

    /// Everything in memory is lost; events are offered again from the store.
    fn restart(&mut self, events: &[Event]) {
        let state = Some(self.stored.clone());
        self.outbox = Outbox::new("sink", 1, state, self.position, self.now);
        self.outbox.offer(events);
    }
}

#[test]
fn events_of_one_subject_go_in_order_one_at_a_time() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens("dispatch.started", "a");
    world.sends_one("dispatch.created a 1", &failed());
    world.sends_nothing();
    world.wait();
    world.sends_one("dispatch.created a 1", &Attempt::Delivered);
    world.sends_one("dispatch.started a 2", &Attempt::Delivered);
    assert_eq!(world.outbox.health().pending, 0);
}

#[test]
fn a_failing_subject_holds_up_no_other() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.sends_one("dispatch.created a 1", &failed());
    world.happens("dispatch.created", "b");
    world.sends_one("dispatch.created b 2", &Attempt::Delivered);
    let health = world.outbox.health();
    assert_eq!(
        (health.pending, health.oldest_pending),
        (1, Some(at(1).wall))
    );
}

#[test]
fn a_dispatch_and_a_site_of_one_id_are_two_subjects() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens(CURTAIL, "a");
    assert_eq!(world.sends().len(), 2);
}

#[test]
fn at_most_eight_attempts_are_under_way() {
    let mut world = World::new(1);
    for number in 0..20 {
        world.happens("dispatch.created", &format!("d{number}"));
    }
    assert_eq!(world.start().len(), 8);
}

#[test]
fn a_batch_takes_one_event_of_each_subject() {
    let mut world = World::new(3);
    for subject in ["a", "a", "b", "c", "d"] {
        world.happens("dispatch.created", subject);
    }
    let sent: Vec<String> = world.sends().into_iter().map(|(_, sent)| sent).collect();
    assert_eq!(
        sent,
        [
            "dispatch.created a 1, dispatch.created b 3, dispatch.created c 4",
            "dispatch.created d 5"
        ]
    );
}

#[test]
fn a_batch_that_fails_comes_again_in_halves() {
    let mut world = World::new(4);
    for subject in ["a", "b", "c", "d"] {
        world.happens("dispatch.created", subject);
    }
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let starts = world.start();
        sizes.push(
            starts
                .iter()
                .map(|start| start.events.len())
                .collect::<Vec<_>>(),
        );
        for start in starts {
            world.outbox.ended(start.attempt, &failed(), world.now, 0.5);
        }
        world.wait();
    }
    assert_eq!(sizes, [vec![4], vec![2, 2], vec![1, 1, 1, 1]]);
}

#[test]
fn a_site_is_curtailed_adjusted_and_released() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    world.happens(ADJUST, "s");
    world.sends_one("site.adjust s 2", &Attempt::Delivered);
    world.happens(RELEASE, "s");
    world.sends_one("site.release s 3", &Attempt::Delivered);
    world.sends_nothing();
    world.commit();
    assert!(world.stored.told.is_empty());
}

#[test]
fn a_receiver_that_was_down_for_the_whole_of_a_dispatch_gets_no_curtail_for_it() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "x");
    // All eight places are taken by attempts that hang.
    for number in 0..7 {
        world.happens("dispatch.created", &format!("d{number}"));
    }
    assert_eq!(world.sends().len(), 8);
    world.happens(CURTAIL, "s");
    world.sends_nothing();
    world.happens(RELEASE, "s");
    world.outbox.ended(1, &Attempt::Delivered, world.now, 0.5);
    world.sends_nothing();
    world.commit();
    assert!(world.stored.told.is_empty());
    assert_eq!(world.outbox.health().pending, 7);
}

#[test]
fn a_curtail_with_an_unknown_outcome_is_always_released() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &failed());
    world.happens(RELEASE, "s");
    world.wait();
    world.sends_one("site.release s 2", &failed());
    world.wait();
    world.sends_one("site.release s 2", &Attempt::Delivered);
}

#[test]
fn a_curtail_that_was_not_confirmed_comes_again_with_present_data() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &failed());
    world.happens(ADJUST, "s");
    world.wait();
    world.sends_one("site.curtail s 2", &Attempt::Delivered);
    world.sends_nothing();
}

#[test]
fn an_adjust_that_was_not_confirmed_comes_again_as_an_adjust() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    world.happens(ADJUST, "s");
    world.sends_one("site.adjust s 2", &failed());
    world.wait();
    world.sends_one("site.adjust s 2", &Attempt::Delivered);
}

#[test]
fn a_release_that_was_not_confirmed_is_replaced_by_a_newer_curtail() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    world.happens(RELEASE, "s");
    world.sends_one("site.release s 2", &failed());
    world.happens(CURTAIL, "s");
    world.wait();
    world.sends_one("site.curtail s 3", &Attempt::Delivered);
}

#[test]
fn what_is_released_while_its_curtail_is_under_way_follows_it() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let sent = world.sends();
    world.happens(RELEASE, "s");
    world.sends_nothing();
    world
        .outbox
        .ended(sent[0].0, &Attempt::Delivered, world.now, 0.5);
    world.sends_one("site.release s 2", &Attempt::Delivered);
    assert_eq!(world.outbox.health().pending, 0);
}

#[test]
fn after_a_crash_an_attempted_curtail_is_released() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    assert_eq!(world.sends().len(), 1);
    world.position = 2;
    world.restart(&[event(1, CURTAIL, "s"), event(2, RELEASE, "s")]);
    world.sends_one("site.release s 2", &Attempt::Delivered);
}

#[test]
fn after_a_crash_a_curtail_that_never_was_attempted_is_forgotten_with_its_release() {
    let mut world = World::new(1);
    world.position = 2;
    world.restart(&[event(1, CURTAIL, "s"), event(2, RELEASE, "s")]);
    world.sends_nothing();
}

#[test]
fn after_a_restart_only_what_was_not_settled_goes_again() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens("dispatch.created", "b");
    let sent = world.sends();
    world.outbox.ended(sent[0].0, &failed(), world.now, 0.5);
    world
        .outbox
        .ended(sent[1].0, &Attempt::Delivered, world.now, 0.5);
    world.commit();
    world.restart(&[
        event(1, "dispatch.created", "a"),
        event(2, "dispatch.created", "b"),
    ]);
    world.sends_nothing();
    world.wait();
    world.sends_one("dispatch.created a 1", &Attempt::Delivered);
    world.sends_nothing();
}

#[test]
fn a_new_sink_gets_no_old_events_but_learns_which_sites_are_curtailed() {
    let mut world = World::new(1);
    world.position = 9;
    world.outbox = Outbox::new("sink", 1, None, 9, world.now);
    world.outbox.offer([&event(3, "dispatch.created", "a")]);
    world.sends_nothing();
    world.outbox.offer_site(&event(4, ADJUST, "s"));
    world.sends_one("site.curtail s 4", &Attempt::Delivered);
    world.outbox.offer_site(&event(4, ADJUST, "s"));
    world.sends_nothing();
}

#[test]
fn a_pause_grows_to_a_minute_and_the_receiver_may_ask_for_more() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let starts = world.start();
        world
            .outbox
            .ended(starts[0].attempt, &failed(), world.now, 1.0);
        world.commit();
        let due = world.outbox.next_due().unwrap();
        pauses.push((due - world.now.mono).as_millis());
        world.now = Now {
            wall: world.now.wall + (due - world.now.mono),
            mono: due,
        };
    }
    assert_eq!(pauses[..3], [500, 1000, 2000]);
    assert_eq!(pauses[7..], [60_000, 60_000]);
    let asked = Attempt::Failed {
        reason: "busy".into(),
        retry_after: Some(Duration::from_secs(200)),
        gone: false,
    };
    let starts = world.start();
    world
        .outbox
        .ended(starts[0].attempt, &asked, world.now, 1.0);
    world.commit();
    assert_eq!(
        world.outbox.next_due(),
        Some(world.now.mono + Duration::from_secs(200))
    );
}
