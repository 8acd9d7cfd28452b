//! What goes wrong around the daemon, changing all the time.

use std::time::Duration;

use dispatchd::sandbox::{Faults, Sandbox};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::receiver::{Manner, Receiver};

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

async fn pause(random: &mut SmallRng, seconds: std::ops::Range<u64>, stop: &CancellationToken) {
    let from = Duration::from_secs(seconds.start);
    let more = Duration::from_secs(seconds.end - seconds.start);
    let pause = from + more.mul_f64(random.random());
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}
