//! Statements about many sinks that have something to send at the same time.

use std::collections::VecDeque;
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::*;
use crate::delivery::{Attempt, DeliveryTrace, Sink, Start};
use crate::store::SinkState;

const SINKS: usize = 200;

/// How often the daemon looks.
const STEP: Duration = Duration::from_millis(5);

/// How long answers take.
#[derive(Clone, Copy)]
struct Pace {
    /// How long a receiver takes to answer.
    answers_after: Duration,
    /// How many answers this machine takes in between two looks. The others wait.
    at_once: usize,
}

/// Nothing waits for this machine.
const ABLE: Pace = Pace {
    answers_after: Duration::from_millis(20),
    at_once: usize::MAX,
};

struct Plant;

impl Sink for Plant {
    fn name(&self) -> &'static str {
        "plant"
    }

    fn deliver<'a>(
        &'a self,
        _: &'a [Event],
        _: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
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
/// It is known how quickly the sinks answer: each had an event before.
fn deliver(
    events: impl Fn(usize) -> Vec<Event>,
    answers: impl Fn(usize, &Event) -> bool,
    pace: Pace,
) -> Seen {
    let route = Route::default();
    let zero = at(Duration::ZERO);
    let outbox = |_| Outbox::new(&Plant, &route, Some(SinkState::default()), 0, 0, zero);
    let mut delivering: Delivering<()> = Delivering::new((0..SINKS).map(outbox).collect());
    let mut left = Vec::new();
    let first = event(0);
    for (sink, outbox) in delivering.outboxes.iter_mut().enumerate() {
        outbox.offer(&[&first].into_iter().collect(), zero);
        let start = outbox.start(zero).pop().unwrap();
        let answered = at(pace.answers_after);
        outbox.ended(start.attempt, &Attempt::Delivered, answered, 0.5);
        let events = events(sink);
        outbox.offer(&events.iter().collect(), answered);
        left.push(events.iter().filter(|event| answers(sink, event)).count());
    }
    let mut under_way: VecDeque<UnderWay> = VecDeque::new();
    let mut seen = Seen {
        done: vec![Duration::ZERO; SINKS],
        most: 0,
    };
    let mut now = pace.answers_after;
    while left.iter().any(|left| *left > 0) {
        let due = under_way.iter().filter(|one| one.0 <= now);
        let due = due.count().min(pace.at_once);
        for (due, sink, start) in under_way.drain(..due).collect::<Vec<_>>() {
            let outbox = &mut delivering.outboxes[sink];
            outbox.waited(start.attempt, now - due, now);
            outbox.ended(start.attempt, &Attempt::Delivered, at(now), 0.5);
            left[sink] -= 1;
            seen.done[sink] = now;
        }
        let mut effects = Vec::new();
        delivering.start(&mut effects, false, at(now));
        for effect in effects {
            if let Effect::Attempt { sink, start } = effect
                && answers(sink, &start.events[0])
            {
                under_way.push_back((now + pace.answers_after, sink, start));
            }
        }
        seen.most = seen.most.max(under_way.len());
        now += STEP;
        assert!(now < Duration::from_secs(60), "{left:?}");
    }
    seen
}

fn hundred(_: usize) -> Vec<Event> {
    (1..101).map(event).collect()
}

/// Events of as many subjects as may hang at a sink, and of others behind them.
fn behind_those_that_hang() -> Vec<Event> {
    (1_000..1_256).chain(2_000..2_020).map(event).collect()
}

fn may_hang(event: &Event) -> bool {
    (1_000..1_256).contains(&(event.position - 1))
}

/// By how much subjects that hang at these sinks delay the others there.
fn longest_delay(events: impl Fn(usize) -> Vec<Event>, at: impl Fn(usize) -> bool) -> Duration {
    let all = deliver(&events, |_, _| true, ABLE).done;
    let some = deliver(&events, |sink, event| !at(sink) || !may_hang(event), ABLE).done;
    let delays = (0..SINKS).map(|sink| some[sink].saturating_sub(all[sink]));
    delays.max().unwrap()
}

#[test]
fn a_sink_whose_receiver_hangs_delays_no_other_of_200() {
    let all = deliver(hundred, |_, _| true, ABLE).done;
    let but_one = deliver(hundred, |sink, _| sink != 7, ABLE).done;
    for sink in (0..SINKS).filter(|sink| *sink != 7) {
        assert!(but_one[sink] <= all[sink] + STEP, "sink {sink}");
    }
}

#[test]
fn half_of_200_sinks_whose_receivers_hang_delay_no_other_by_a_second() {
    let all = deliver(hundred, |_, _| true, ABLE).done;
    let half = deliver(hundred, |sink, _| sink % 2 == 1, ABLE).done;
    for sink in (0..SINKS).filter(|sink| sink % 2 == 1) {
        let delay = half[sink].saturating_sub(all[sink]);
        assert!(delay < Duration::from_secs(1), "sink {sink}: {delay:?}");
    }
}

#[test]
fn as_many_as_may_hang_at_some_sinks_delay_no_other_by_a_second_while_all_sinks_are_busy() {
    for every in [SINKS, 4] {
        let hangs = |sink: usize| sink.is_multiple_of(every);
        let events = |sink| match hangs(sink) {
            true => behind_those_that_hang(),
            false => (1..600).map(event).collect(),
        };
        let delay = longest_delay(events, hangs);
        assert!(
            delay <= Duration::from_secs(1),
            "every {every}th: {delay:?}"
        );
    }
}

#[test]
fn as_many_as_may_hang_at_all_sinks_delay_no_other_by_a_second() {
    let delay = longest_delay(|_| behind_those_that_hang(), |_| true);
    assert!(delay <= Duration::from_secs(1), "{delay:?}");
}

#[test]
fn receivers_that_answer_quickly_get_few_attempts_at_a_time_and_slow_ones_more() {
    // How long answers take, how many attempts of a sink are under way at most, and until
    // when each sink must have a hundred events.
    for (answers_after, most, until) in [(5, 2, 600), (20, 5, 700), (100, 100, 1_000)] {
        let pace = Pace {
            answers_after: Duration::from_millis(answers_after),
            ..ABLE
        };
        let seen = deliver(hundred, |_, _| true, pace);
        assert!(seen.most <= SINKS * most, "{answers_after}: {}", seen.most);
        let last = seen.done.iter().max().unwrap();
        assert!(
            *last <= Duration::from_millis(until),
            "{answers_after}: {last:?}"
        );
    }
}

#[test]
fn what_20000_commands_of_200_sinks_have_under_way_is_bounded_on_a_busy_machine() {
    // 4,000 answers a second, however many are under way.
    let seen = deliver(
        hundred,
        |_, _| true,
        Pace {
            at_once: 20,
            ..ABLE
        },
    );
    // What mute sinks begin comes on top of what is shared.
    assert!(seen.most <= 4_096, "{}", seen.most);
    // No sink waits for others: all are served alike.
    let last = seen.done.iter().max().unwrap();
    assert!(*last <= Duration::from_millis(5_600), "{last:?}");
}
