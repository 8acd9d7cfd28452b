//! Statements about what a sink gets, and when.

mod down;
mod hanging;
mod pending;
mod refresh;
mod restart;
mod routes;
mod settled;
mod untold;
mod window;
mod written;

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::pin::Pin;

use chrono::{DateTime, TimeDelta};

use super::*;
use crate::delivery::{Announced, Attempt, DeliveryTrace, Sink};
use crate::store::SinkState;

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
        origin: None,
        data: serde_json::value::to_raw_value(&position).unwrap().into(),
    }
}

fn failed() -> Attempt {
    Attempt::failed("down")
}

/// A sink that is only asked what it takes.
#[derive(Debug, Clone, Copy)]
struct Takes {
    batch: usize,
    at_once: usize,
}

impl Sink for Takes {
    fn name(&self) -> &str {
        "sink"
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn at_once(&self) -> usize {
        self.at_once
    }

    fn deliver<'a>(
        &'a self,
        _: &'a [Event],
        _: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(ready(Attempt::Delivered))
    }
}

/// An outbox whose records and events are kept as a store would keep them.
struct World {
    outbox: Outbox,
    sink: Takes,
    route: Route,
    stored: SinkState,
    /// The events on disk.
    log: Vec<Event>,
    position: u64,
    now: Now,
    /// Whether the receiver has answered lately.
    answers: bool,
    reads: usize,
    /// The most events that one read gives.
    page: usize,
}

impl World {
    fn new(batch: usize) -> Self {
        Self::of(Takes {
            batch,
            at_once: 256,
        })
    }

    fn of(sink: Takes) -> Self {
        let stored = SinkState::default();
        Self {
            outbox: Outbox::new(&sink, &Route::default(), Some(stored.clone()), 0, 0, at(0)),
            sink,
            route: Route::default(),
            stored,
            log: Vec::new(),
            position: 0,
            now: at(0),
            answers: true,
            reads: 0,
            page: usize::MAX,
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
        self.offer(event(self.position, event_type, subject))
    }

    /// Commits a release that goes out unconditionally.
    fn happens_unconditionally(&mut self, subject: &str) -> u64 {
        self.commit();
        self.position += 1;
        self.offer(Event {
            unconditional: true,
            ..event(self.position, RELEASE, subject)
        })
    }

    fn offer(&mut self, event: Event) -> u64 {
        self.offer_all(vec![event]);
        self.position
    }

    /// Offers what one commit wrote.
    fn offer_all(&mut self, events: Vec<Event>) {
        self.outbox.offer(&events.iter().collect(), self.now);
        self.log.extend(events);
    }

    /// Writes down what is to be written down.
    fn commit(&mut self) {
        if let Some(record) = self.outbox.take_record(self.now.mono, true) {
            if record.route.is_some() {
                self.stored.route = record.route;
            }
            self.stored.done = record.done;
            for (first, last) in record.done_beyond {
                match last {
                    Some(last) => self.stored.done_beyond.insert(first, last),
                    None => self.stored.done_beyond.remove(&first),
                };
            }
            self.stored
                .done_beyond
                .retain(|first, _| *first > record.done);
            for (subject, retry) in record.retries {
                match retry {
                    Some(retry) => self.stored.retries.insert(subject, retry),
                    None => self.stored.retries.remove(&subject),
                };
            }
            for (site, told) in record.attempted {
                match told {
                    Some(told) => self.stored.attempted.insert(site, told),
                    None => self.stored.attempted.remove(&site),
                };
            }
        }
        self.outbox.recorded();
    }

    /// Makes the reads that are due.
    fn read(&mut self) {
        while let Some(read) = self.outbox.read(self.now) {
            self.reads += 1;
            let first = self.log.partition_point(|e| e.position <= read.after);
            let behind = self.log.iter().skip(first);
            let events = behind.take(read.limit.min(self.page)).cloned().collect();
            self.outbox.take_read(Ok(events), self.now);
        }
    }

    /// Starts what may start, writing down what must be.
    fn start(&mut self) -> Vec<Start> {
        if self.answers {
            self.outbox.reach.answered(0, true, self.now.mono);
        }
        self.outbox.advance(self.now);
        self.read();
        let mut starts = self.outbox.start(self.now);
        self.commit();
        starts.extend(self.outbox.start(self.now));
        starts
    }

    /// Starts, and gives what is sent, as `type subject position`.
    fn sends(&mut self) -> Vec<(u64, String)> {
        let starts = self.start();
        let sent = starts.iter().map(|start| {
            let events = start.events.iter();
            let events = events.map(|e| format!("{} {} {}", e.event_type, e.subject, e.position));
            (start.attempt, events.collect::<Vec<_>>().join(", "))
        });
        sent.collect()
    }

    /// Expects one attempt that sends this, and ends it.
    fn sends_one(&mut self, expected: &str, result: &Attempt) {
        let sent = self.sends();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(sent[0].1, expected);
        self.ends(sent[0].0, result);
    }

    fn sends_nothing(&mut self) {
        assert_eq!(self.sends(), []);
    }

    fn ends(&mut self, attempt: u64, result: &Attempt) {
        self.outbox.ended(attempt, result, self.now, 0.5);
    }

    fn wait(&mut self) {
        self.pass(Duration::from_secs(70));
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now {
            wall: self.now.wall + time,
            mono: self.now.mono + time,
        };
    }

    /// Everything in memory is lost; the outbox starts on what is on disk, and the
    /// clock that only moves forward at zero.
    fn restart(&mut self) {
        self.now.mono = Mono::ZERO;
        let state = self.stored.clone();
        let done = |position: u64| {
            let mut beyond = state.done_beyond.iter();
            position <= state.done || beyond.any(|(a, b)| (*a..=*b).contains(&position))
        };
        let open = self.log.iter();
        let open = open.filter(|e| e.family() != "site" && !done(e.position));
        let beyond = open.count() as u64;
        self.outbox = Outbox::new(
            &self.sink,
            &self.route,
            Some(state.clone()),
            self.position,
            beyond,
            self.now,
        );
        let sites = self.log.iter().filter(|event| event.family() == "site");
        let newest: BTreeMap<&str, &Event> = sites.map(|event| (&*event.subject, event)).collect();
        for event in newest.into_values() {
            self.outbox.offer_site(&Announced::new(event), self.now);
        }
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
    assert!(world.stored.attempted.is_empty());
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
    world.ends(sent[0].0, &Attempt::Delivered);
    world.sends_one("site.release s 2", &Attempt::Delivered);
    assert_eq!(world.outbox.health().pending, 0);
}

#[test]
fn a_release_of_a_dispatch_that_an_earlier_life_may_have_acted_on_goes_out_once() {
    let mut world = World::new(1);
    world.happens_unconditionally("s");
    world.sends_one("site.release s 1", &failed());
    world.wait();
    world.sends_one("site.release s 1", &Attempt::Delivered);
    world.sends_nothing();
    world.commit();
    assert_eq!(world.stored.done, 1);
    world.restart();
    world.sends_nothing();
}

#[test]
fn an_unconditional_release_is_owed_also_if_a_curtail_that_came_to_nothing_replaced_it() {
    for restarts in [false, true] {
        let mut world = World::new(1);
        world.happens_unconditionally("s");
        world.happens(CURTAIL, "s");
        world.happens(RELEASE, "s");
        if restarts {
            world.restart();
        }
        let sent = world.sends();
        assert_eq!(sent.len(), 1, "{restarts}");
        assert!(sent[0].1.starts_with("site.release s"), "{sent:?}");
        world.ends(sent[0].0, &Attempt::Delivered);
        world.sends_nothing();
        world.commit();
        world.restart();
        world.sends_nothing();
    }
}

#[test]
fn an_unconditional_release_follows_what_was_attempted_like_any_other() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
    world.happens_unconditionally("s");
    world.happens(CURTAIL, "s");
    world.sends_one("site.adjust s 3", &Attempt::Delivered);
    world.happens(RELEASE, "s");
    world.sends_one("site.release s 4", &Attempt::Delivered);
    world.sends_nothing();
    assert_eq!(world.outbox.health().pending, 0);
}

#[test]
fn after_a_crash_an_attempted_curtail_is_released() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    assert_eq!(world.sends().len(), 1);
    world.happens(RELEASE, "s");
    world.restart();
    world.sends_one("site.release s 2", &Attempt::Delivered);
}

#[test]
fn after_a_crash_a_curtail_that_never_was_attempted_is_forgotten_with_its_release() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    world.happens(RELEASE, "s");
    world.restart();
    world.sends_nothing();
    assert_eq!(world.outbox.health().pending, 0);
}

#[test]
fn a_new_sink_gets_no_old_events_but_learns_which_sites_are_curtailed() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    world.happens(ADJUST, "s");
    world.outbox = Outbox::new(&world.sink, &Route::default(), None, 2, 0, world.now);
    world.sends_nothing();
    let newest = world.log[1].clone();
    world.outbox.offer_site(&Announced::new(&newest), world.now);
    world.sends_one("site.curtail s 2", &Attempt::Delivered);
    world.outbox.offer_site(&Announced::new(&newest), world.now);
    world.sends_nothing();
}

#[test]
fn a_pause_grows_to_a_minute_and_the_receiver_may_ask_for_more() {
    let mut world = World::new(1);
    world.happens("dispatch.created", "a");
    let mut pauses = Vec::new();
    for _ in 0..9 {
        pauses.push(pause_after(&mut world, &failed()).as_millis());
    }
    assert_eq!(pauses[..3], [500, 1000, 2000]);
    assert_eq!(pauses[7..], [60_000, 60_000]);
    let pause = pause_after(&mut world, &busy(200));
    assert_eq!(pause, Duration::from_secs(200));
}

/// The pause after one attempt, which is over when this returns.
fn pause_after(world: &mut World, result: &Attempt) -> Duration {
    let starts = world.start();
    assert_eq!(starts.len(), 1);
    world
        .outbox
        .ended(starts[0].attempt, result, world.now, 1.0);
    world.commit();
    let due = world.outbox.next_due(world.now.mono).unwrap();
    let pause = due - world.now.mono;
    world.pass(pause);
    pause
}

/// A failure whose receiver asks to be left alone for so many seconds.
fn busy(seconds: u64) -> Attempt {
    Attempt::Failed {
        reason: "busy".into(),
        retry_after: Some(Duration::from_secs(seconds)),
        gone: false,
    }
}

#[test]
fn a_site_command_that_fails_is_tried_again_within_fifteen_seconds() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let pauses: Vec<Duration> = (0..12)
        .map(|_| pause_after(&mut world, &failed()))
        .collect();
    assert_eq!(pauses[11], Duration::from_secs(15), "{pauses:?}");
}

#[test]
fn no_receiver_delays_a_site_command_by_more_than_a_minute() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let pause = pause_after(&mut world, &busy(300));
    assert_eq!(pause, Duration::from_secs(60));
    world.sends_one("site.curtail s 1", &Attempt::Delivered);
}

#[test]
fn a_new_command_waits_at_most_five_seconds_for_the_pause_of_an_older_one() {
    for result in [failed(), busy(300)] {
        let mut world = World::new(1);
        world.happens(CURTAIL, "s");
        for _ in 0..8 {
            pause_after(&mut world, &result);
        }
        let sent = world.sends();
        world.ends(sent[0].0, &result);
        world.pass(Duration::from_secs(1));
        world.happens(RELEASE, "s");
        world.sends_nothing();
        world.pass(Duration::from_secs(4));
        world.sends_one("site.release s 2", &Attempt::Delivered);
    }
}

#[test]
fn a_command_that_comes_while_the_older_one_is_under_way_does_not_wait_for_its_pause() {
    let mut world = World::new(1);
    world.happens(CURTAIL, "s");
    let sent = world.sends();
    world.happens(RELEASE, "s");
    world.ends(sent[0].0, &busy(300));
    world.pass(Duration::from_secs(5));
    world.sends_one("site.release s 2", &Attempt::Delivered);
}
