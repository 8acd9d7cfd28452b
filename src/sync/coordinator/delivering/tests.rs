//! Statements about many sinks that have something to send at the same time.

use std::collections::VecDeque;
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::*;
use crate::delivery::{Attempt, Sink, Start};
use crate::store::SinkState;

const SINKS: usize = 200;

/// How often the daemon looks.
const STEP: Duration = Duration::from_millis(5);

/// How long a receiver takes to answer.
const ANSWERS_AFTER: Duration = Duration::from_millis(20);

struct Plant;

impl Sink for Plant {
    fn name(&self) -> &'static str {
        "plant"
    }

    fn deliver<'a>(&'a self, _: &'a [Event]) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(ready(Attempt::Delivered))
    }
}

fn at(mono: Duration) -> Now {
    Now {
        wall: DateTime::<Utc>::UNIX_EPOCH + mono,
        mono,
    }
}

fn event(number: usize) -> Event {
    let position = number as u64 + 1;
    Event {
        position,
        term: 1,
        id: Event::id_at("store", 1, position),
        event_type: "dispatch.created".into(),
        subject: format!("d{number}").into(),
        time: at(Duration::ZERO).wall,
        sequence: position,
        unconditional: false,
        origin: None,
        data: serde_json::value::to_raw_value(&()).unwrap().into(),
    }
}

/// An attempt under way: when it is answered, at which sink.
type UnderWay = (Duration, usize, Start);

/// What came of the events of each sink.
struct Seen {
    /// When each sink had all that it answers.
    done: Vec<Duration>,
    /// The most attempts that were under way at the same time.
    most: usize,
}

/// Offers to each sink its `events`, and runs until each has all whose subjects it answers.
fn deliver(
    events: impl Fn(usize) -> Vec<Event>,
    answers: impl Fn(usize, &Event) -> bool,
    capacity: usize,
) -> Seen {
    let route = Route::default();
    let zero = at(Duration::ZERO);
    let outbox = |_| Outbox::new(&Plant, &route, Some(SinkState::default()), 0, 0, zero);
    let mut delivering: Delivering<()> = Delivering::new((0..SINKS).map(outbox).collect());
    let mut left = Vec::new();
    for (sink, outbox) in delivering.outboxes.iter_mut().enumerate() {
        let events = events(sink);
        outbox.offer(&events.iter().collect(), zero);
        left.push(events.iter().filter(|event| answers(sink, event)).count());
    }
    let mut under_way: VecDeque<UnderWay> = VecDeque::new();
    let mut seen = Seen {
        done: vec![Duration::ZERO; SINKS],
        most: 0,
    };
    let mut now = Duration::ZERO;
    while left.iter().any(|left| *left > 0) {
        let due = under_way.iter().filter(|one| one.0 <= now);
        let due = due.count().min(capacity);
        for (_, sink, start) in under_way.drain(..due).collect::<Vec<_>>() {
            delivering.outboxes[sink].ended(start.attempt, &Attempt::Delivered, at(now), 0.5);
            left[sink] -= 1;
            seen.done[sink] = now;
        }
        let mut effects = Vec::new();
        delivering.start(&mut effects, false, at(now));
        for effect in effects {
            if let Effect::Attempt { sink, start } = effect
                && answers(sink, &start.events[0])
            {
                under_way.push_back((now + ANSWERS_AFTER, sink, start));
            }
        }
        seen.most = seen.most.max(under_way.len());
        now += STEP;
        assert!(now < Duration::from_secs(60), "{left:?}");
    }
    seen
}

fn hundred(_: usize) -> Vec<Event> {
    (0..100).map(event).collect()
}

#[test]
fn a_sink_whose_receiver_hangs_delays_no_other_of_200() {
    let all = deliver(hundred, |_, _| true, usize::MAX).done;
    let but_one = deliver(hundred, |sink, _| sink != 7, usize::MAX).done;
    for sink in (0..SINKS).filter(|sink| *sink != 7) {
        assert!(but_one[sink] <= all[sink] + STEP, "sink {sink}");
    }
}

#[test]
fn half_of_200_sinks_whose_receivers_hang_delay_no_other_by_a_second() {
    let all = deliver(hundred, |_, _| true, usize::MAX).done;
    let half = deliver(hundred, |sink, _| sink % 2 == 1, usize::MAX).done;
    for sink in (0..SINKS).filter(|sink| sink % 2 == 1) {
        let delay = half[sink].saturating_sub(all[sink]);
        assert!(delay < Duration::from_secs(1), "sink {sink}: {delay:?}");
    }
}

#[test]
fn as_many_as_may_hang_at_a_sink_delay_no_other_by_a_second_while_all_sinks_are_busy() {
    // One sink has 256 more subjects, and they come first.
    let many = |sink| match sink {
        7 => (1_000..1_256)
            .map(event)
            .chain((2_000..2_100).map(event))
            .collect(),
        _ => (0..1_000).map(event).collect(),
    };
    let hangs = |event: &Event| (1_000..1_256).contains(&(event.position - 1));
    let all = deliver(many, |_, _| true, usize::MAX).done;
    let some = deliver(many, |sink, event| sink != 7 || !hangs(event), usize::MAX).done;
    let delay = some[7].saturating_sub(all[7]);
    assert!(delay <= Duration::from_secs(1), "{delay:?}");
    for sink in (0..SINKS).filter(|sink| *sink != 7) {
        assert!(some[sink] <= all[sink] + STEP, "sink {sink}");
    }
}

#[test]
fn what_20000_commands_of_200_sinks_have_under_way_is_bounded_on_a_busy_machine() {
    // 4,000 answers a second, however many are under way.
    let seen = deliver(hundred, |_, _| true, 20);
    // What mute sinks begin comes on top of what is shared.
    assert!(seen.most <= 4_096, "{}", seen.most);
    // No sink waits for others: all are served alike.
    let last = seen.done.iter().max().unwrap();
    assert!(*last <= Duration::from_millis(5_600), "{last:?}");
}
