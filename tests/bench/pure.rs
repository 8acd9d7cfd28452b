//! What the pure parts cost: `cargo bench`.

#![allow(
    clippy::unwrap_used,
    reason = "all of this crate is a measurement: what is not as it must be ends it"
)]

#[path = "world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::engine::{Observation, Request, Rules, Schedule, SitePlan, plan, reconcile};
use dispatchd::model::{Answer, Asked, DispatchId, List, Source};
use dispatchd::voltus::{ListReader, read_dispatch_answer, read_list};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use world::{Shape, World};

/// Dispatches in a list.
const SIZES: [usize; 3] = [100, 1_000, 10_000];

const RULES: Rules = Rules {
    retain: Duration::from_secs(30 * 86_400),
    pre_curtail: Duration::ZERO,
    curtail_on_test: false,
    chunk: usize::MAX,
};

fn main() {
    divan::main();
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// The answer of the API after so many rounds of changes.
fn body(size: usize, changes: usize) -> Bytes {
    let shape = Shape::own(size, 2);
    World {
        shape,
        start: now() + TimeDelta::hours(6),
    }
    .list(changes)
}

/// The lists after so many rounds of changes each, by one who remembers.
fn lists<const N: usize>(size: usize, changes: [usize; N]) -> [Arc<List>; N] {
    let mut reader = ListReader::default();
    changes.map(|changes| reader.read(&body(size, changes)).unwrap().0)
}

/// A list, as the poll that was asked as the `count`th saw it.
fn seen(list: Arc<List>, count: u64) -> Observation {
    Observation::Api {
        request: Request {
            source: Source::Poll,
            asked: Asked { term: 1, count },
            issued: Duration::from_secs(count),
            answered: Duration::from_secs(count),
            clock_agrees: true,
        },
        answer: Answer::List(list),
    }
}

/// The schedule after a first sight of the list.
fn known(list: Arc<List>) -> Schedule {
    reconcile(Schedule::default(), &seen(list, 1), now(), &RULES).0
}

fn reconciled(bencher: Bencher, size: usize, before: &Schedule, list: Arc<List>) {
    let observation = seen(list, 2);
    bencher.counter(ItemsCount::new(size)).bench(|| {
        reconcile(
            black_box(before.clone()),
            black_box(&observation),
            now(),
            &RULES,
        )
    });
}

#[divan::bench(args = SIZES)]
fn reconcile_unchanged(bencher: Bencher, size: usize) {
    let [first, again] = lists(size, [0, 0]);
    reconciled(bencher, size, &known(first), again);
}

#[divan::bench(args = SIZES)]
fn reconcile_one_percent_changed(bencher: Bencher, size: usize) {
    let [first, next] = lists(size, [0, 1]);
    reconciled(bencher, size, &known(first), next);
}

#[divan::bench(args = SIZES)]
fn reconcile_new(bencher: Bencher, size: usize) {
    let [first] = lists(size, [0]);
    reconciled(bencher, size, &Schedule::default(), first);
}

#[divan::bench(args = SIZES)]
fn plan_new(bencher: Bencher, size: usize) {
    let [first] = lists(size, [0]);
    let (schedule, outcome) = reconcile(Schedule::default(), &seen(first, 1), now(), &RULES);
    let before = SitePlan::default();
    bencher.counter(ItemsCount::new(size)).bench(|| {
        plan(
            black_box(before.clone()),
            &schedule,
            &outcome,
            now(),
            &RULES,
        )
    });
}

#[divan::bench(args = SIZES)]
fn read_a_list(bencher: Bencher, size: usize) {
    let body = body(size, 0);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| read_list(black_box(&body)).unwrap());
}

#[divan::bench(args = SIZES)]
fn read_the_next_list_with_one_percent_changed(bencher: Bencher, size: usize) {
    let (first, next) = (body(size, 0), body(size, 1));
    bencher
        .counter(BytesCount::new(next.len()))
        .with_inputs(|| {
            let mut reader = ListReader::default();
            reader.read(&first).unwrap();
            reader
        })
        .bench_values(|mut reader| reader.read(black_box(&next)).unwrap());
}

#[divan::bench]
fn read_an_answer_by_id(bencher: Bencher) {
    let id = DispatchId::new("w000000001").unwrap();
    let mut body = Vec::new();
    world::write_lone(&mut body, id.as_str(), now() + TimeDelta::hours(6));
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| read_dispatch_answer(black_box(&body), &id).unwrap());
}
