//! What the pure parts cost: `cargo bench`.

#![allow(
    clippy::unwrap_used,
    reason = "all of this crate is a measurement: what is not as it must be ends it"
)]

#[path = "world.rs"]
mod world;

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::engine::{Answer, List, Observation, Rules, Schedule, SitePlan, plan, reconcile};
use dispatchd::model::{Asked, DispatchId, Source};
use dispatchd::voltus::{read_dispatch_answer, read_list};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use world::{Shape, World};

/// Dispatches in a list.
const SIZES: [usize; 3] = [100, 1_000, 10_000];

const RULES: Rules = Rules {
    retain: Duration::from_secs(30 * 86_400),
    pre_curtail: Duration::ZERO,
    curtail_on_test: false,
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

fn list(size: usize, changes: usize) -> List {
    read_list(&body(size, changes)).unwrap().0
}

/// A list, as the poll that was asked as the `count`th saw it.
fn seen(list: List, count: u64) -> Observation {
    Observation::Api {
        source: Source::Poll,
        asked: Asked { term: 1, count },
        answer: Answer::List(list),
    }
}

/// The schedule after a first sight of the list.
fn known(size: usize) -> Schedule {
    reconcile(&Schedule::default(), &seen(list(size, 0), 1), now(), &RULES).0
}

fn reconciled(bencher: Bencher, size: usize, before: &Schedule, list: List) {
    let observation = seen(list, 2);
    bencher
        .counter(ItemsCount::new(size))
        .bench(|| reconcile(black_box(before), black_box(&observation), now(), &RULES));
}

#[divan::bench(args = SIZES)]
fn reconcile_unchanged(bencher: Bencher, size: usize) {
    reconciled(bencher, size, &known(size), list(size, 0));
}

#[divan::bench(args = SIZES)]
fn reconcile_one_percent_changed(bencher: Bencher, size: usize) {
    reconciled(bencher, size, &known(size), list(size, 1));
}

#[divan::bench(args = SIZES)]
fn reconcile_first_sight(bencher: Bencher, size: usize) {
    reconciled(bencher, size, &Schedule::default(), list(size, 0));
}

#[divan::bench(args = SIZES)]
fn plan_first_sight(bencher: Bencher, size: usize) {
    let (schedule, outcome) =
        reconcile(&Schedule::default(), &seen(list(size, 0), 1), now(), &RULES);
    let before = SitePlan::default();
    bencher
        .counter(ItemsCount::new(size))
        .bench(|| plan(black_box(&before), &schedule, &outcome, now(), &RULES));
}

#[divan::bench(args = SIZES)]
fn read_a_list(bencher: Bencher, size: usize) {
    let body = body(size, 0);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| read_list(black_box(&body)).unwrap());
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
