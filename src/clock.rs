//! The only place that reads the system's clocks.
//!
//! Everything else is told what time it is, or asks a [`Clock`]. A simulated
//! clock can then stand in, jump, and fall back, as real ones do.

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

/// A point on a clock that never jumps, as the time since the clock was made.
pub type Mono = Duration;

/// What both clocks showed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, UTC. It may jump either way.
    pub wall: DateTime<Utc>,
    /// The clock that only moves forward. Staleness and retries go by it.
    pub mono: Mono,
}

/// Tells the time and waits.
pub trait Clock: Send + Sync + 'static {
    /// Both clocks, now.
    fn now(&self) -> Now;

    /// Returns once `mono` has passed.
    fn sleep_until(&self, mono: Mono) -> impl Future<Output = ()> + Send;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: tokio::time::Instant,
}

impl SystemClock {
    /// A clock whose [`Mono`] starts at zero now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one reader of the clock"
    )]
    pub fn new() -> Self {
        Self {
            origin: tokio::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one reader of the clock"
    )]
    fn now(&self) -> Now {
        Now {
            // Finer than that is noise to whoever reads it.
            wall: Utc::now().trunc_subsecs(3),
            mono: self.origin.elapsed(),
        }
    }

    async fn sleep_until(&self, mono: Mono) {
        tokio::time::sleep_until(self.origin + mono).await;
    }
}
