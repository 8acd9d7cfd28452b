//! When the coordinator last finished a turn, for whoever renews the lease.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Mono;

/// The time of the last turn that the coordinator has finished. A leader whose
/// coordinator stands still must not renew its lease (rule R14).
#[derive(Debug, Default)]
pub struct Turns(AtomicU64);

impl Turns {
    /// The coordinator has finished a turn at `now`, by the clock that the lease goes by.
    /// While a new leader loads, before it has a coordinator, what loads says so instead:
    /// at least once a second.
    pub fn finished(&self, now: Mono) {
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_max(millis, Ordering::Relaxed);
    }

    /// When that was, rounded down to milliseconds. Zero before the first turn.
    pub fn last(&self) -> Mono {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}
