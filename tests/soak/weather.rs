//! What goes wrong around the daemon, changing all the time.

use std::time::Duration;

use dispatchd::sandbox::{Faults, Sandbox};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::receiver::{Manner, Receiver, Trouble};
use crate::upstream::{SITES, Upstream};

/// What the API answers when it fails. A 404 is no failure: it is the API's
/// word that there is no such dispatch.
const ERRORS: [u16; 6] = [500, 502, 503, 429, 403, 400];

/// Bad weather at the API until `stop`, and then none.
pub async fn api(sandbox: Sandbox, seed: u64, stop: CancellationToken) {
    let mut random = SmallRng::seed_from_u64(seed);
    while !stop.is_cancelled() {
        let faults = Faults {
            drop_webhooks: random.random_range(0.1..0.5),
            duplicate_webhooks: random.random_range(0.0..0.3),
            webhook_delay_ms: [5, random.random_range(50..1500)],
            api_error_rate: random.random_range(0.0..0.25),
            api_error_status: *ERRORS.choose(&mut random).unwrap(),
            api_delay_ms: random.random_range(0..200),
            rate_limit_per_minute: if random.random_bool(0.1) { 30 } else { 0 },
            truncate_bodies: random.random_range(0.0..0.15),
            empty_list: random.random_bool(0.1),
            retry_base_ms: random.random_range(100..500),
            wrap_by_id: random.random(),
            seed: sandbox.faults().seed,
        };
        sandbox.set_faults(faults).unwrap();
        pause(&mut random, 2..8, &stop).await;
    }
    let seed = sandbox.faults().seed;
    let none = Faults {
        seed,
        ..Faults::default()
    };
    sandbox.set_faults(none).unwrap();
}

/// A receiver that is up and down until `stop`, and then well.
pub async fn flapping(receiver: Receiver, seed: u64, stop: CancellationToken) {
    let mut random = SmallRng::seed_from_u64(seed);
    while !stop.is_cancelled() {
        receiver.behave(Manner::Good);
        pause(&mut random, 1..6, &stop).await;
        let down = [Manner::Down, Manner::Silent];
        receiver.behave(*down.choose(&mut random).unwrap());
        pause(&mut random, 1..5, &stop).await;
    }
    receiver.behave(Manner::Good);
}

/// A receiver that behaves in one bad manner until `stop`, and then well.
pub async fn steady(receiver: Receiver, manner: Manner, stop: CancellationToken) {
    receiver.behave(manner);
    stop.cancelled().await;
    receiver.behave(Manner::Good);
}

/// What a receiver does to single subjects.
#[derive(Debug, Clone, Copy)]
pub enum Picks {
    /// It hangs, for 1 s to a minute.
    Hangs,
    /// It refuses with 410, or with 503 and a `Retry-After`.
    Refuses,
    /// Now the one and now the other.
    Both,
}

/// A receiver that is bad to a handful of subjects at a time until `stop`, and
/// then to none. `longest` is the longest `Retry-After` that it asks for.
pub async fn picky(
    receiver: Receiver,
    picks: Picks,
    upstream: Upstream,
    longest: Duration,
    seed: u64,
    stop: CancellationToken,
) {
    let mut random = SmallRng::seed_from_u64(seed);
    while !stop.is_cancelled() {
        let hangs = match picks {
            Picks::Hangs => true,
            Picks::Refuses => false,
            Picks::Both => random.random(),
        };
        // Most are short, a few last.
        let share = f64::powi(random.random(), 3);
        let (trouble, most) = match hangs {
            true => (Trouble::Hangs, 59.0),
            false if random.random_bool(0.4) => (Trouble::Gone, 20.0),
            false => (Trouble::Busy(retry_after(&mut random, longest)), 5.0),
        };
        let subjects: Vec<String> = (0..random.random_range(1..=6))
            .map(|_| subject(&mut random, &upstream))
            .filter(|subject| receiver.trouble(subject, trouble))
            .collect();
        wait(Duration::from_secs_f64(1.0 + most * share), &stop).await;
        for subject in subjects {
            receiver.well(&subject);
        }
        pause(&mut random, 0..4, &stop).await;
    }
}

/// A receiver that is now and then busy as a whole, and says for how long.
pub async fn busy(receiver: Receiver, longest: Duration, seed: u64, stop: CancellationToken) {
    let mut random = SmallRng::seed_from_u64(seed);
    while !stop.is_cancelled() {
        receiver.behave(Manner::Good);
        pause(&mut random, 60..180, &stop).await;
        receiver.behave(Manner::Busy(retry_after(&mut random, longest)));
        pause(&mut random, 1..3, &stop).await;
    }
    receiver.behave(Manner::Good);
}

/// Seconds: few for the most part.
fn retry_after(random: &mut SmallRng, longest: Duration) -> u64 {
    let share: f64 = random.random();
    longest.mul_f64(share.powi(4)).as_secs().max(1)
}

/// A site, or one of the newest dispatches.
fn subject(random: &mut SmallRng, upstream: &Upstream) -> String {
    if random.random_bool(0.8) {
        return format!("s{}", random.random_range(0..SITES));
    }
    let created = upstream.books().created;
    let newest = created.saturating_sub(100)..=created;
    format!("d{}", random.random_range(newest))
}

async fn pause(random: &mut SmallRng, seconds: std::ops::Range<u64>, stop: &CancellationToken) {
    let from = Duration::from_secs(seconds.start);
    let more = Duration::from_secs(seconds.end - seconds.start);
    wait(from + more.mul_f64(random.random()), stop).await;
}

async fn wait(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = stop.cancelled() => {}
    }
}
