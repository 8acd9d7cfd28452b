//! Counts webhooks, how they were answered, and how long that took.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::histogram::Histogram;

/// Bounds for how long an answer took, in seconds. The deadline is 5 s unless
/// the operator has set another.
const ANSWER: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0,
];

/// How a webhook was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It was answered 200.
    Accepted,
    /// It was answered 200, and is about something that is no dispatch.
    Ignored,
    /// It is wrong: 4xx.
    Rejected,
    /// It could not be settled: 503.
    Failed,
    /// It came to a wrong path, or with a wrong secret: 404. Anybody can send
    /// such, so it does not count as a webhook that came.
    WrongPath,
}

impl Answered {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Ignored,
        Self::Rejected,
        Self::Failed,
        Self::WrongPath,
    ];

    /// Those of webhooks that came to the right path.
    pub const RECEIVED: [Self; 4] = [Self::Accepted, Self::Ignored, Self::Rejected, Self::Failed];

    /// The name used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::WrongPath => "wrong_path",
        }
    }
}

/// Those that were answered in one way.
#[derive(Debug)]
struct Share {
    count: AtomicU64,
    seconds: Mutex<Histogram>,
}

impl Share {
    fn seconds(&self) -> MutexGuard<'_, Histogram> {
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Share {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            seconds: Mutex::new(Histogram::new(ANSWER)),
        }
    }
}

/// Counts webhooks since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    accepted: Share,
    ignored: Share,
    rejected: Share,
    failed: Share,
    wrong_path: Share,
    /// Of all these, those that the leader has answered.
    passed_on: AtomicU64,
    /// Microseconds since 1970; 0 before the first.
    last_at: AtomicI64,
}

impl Traffic {
    /// Counts one that came at `now`.
    pub fn count(&self, answered: Answered, now: DateTime<Utc>) {
        self.share(answered).count.fetch_add(1, Ordering::Relaxed);
        if answered != Answered::WrongPath {
            self.last_at
                .fetch_max(now.timestamp_micros(), Ordering::Relaxed);
        }
    }

    /// Notes how long one took, from the whole body to the answer. One that was
    /// turned away before its body was read took no time.
    pub fn took(&self, answered: Answered, time: Duration) {
        self.share(answered).seconds().observe(time.as_secs_f64());
    }

    /// Counts one that was passed on to the leader, and answered as the leader did.
    pub fn count_passed_on(&self) {
        self.passed_on.fetch_add(1, Ordering::Relaxed);
    }

    /// How many the leader has answered. It counts them, too.
    pub fn passed_on(&self) -> u64 {
        self.passed_on.load(Ordering::Relaxed)
    }

    /// How many were answered so.
    pub fn counted(&self, answered: Answered) -> u64 {
        self.share(answered).count.load(Ordering::Relaxed)
    }

    /// How many seconds those took that were answered so.
    pub fn seconds(&self, answered: Answered) -> Histogram {
        self.share(answered).seconds().clone()
    }

    /// How many came to the right path.
    pub fn received(&self) -> u64 {
        let counted = Answered::RECEIVED.map(|outcome| self.counted(outcome));
        counted.iter().sum()
    }

    /// When the last one came to the right path, UTC.
    pub fn last_at(&self) -> Option<DateTime<Utc>> {
        match self.last_at.load(Ordering::Relaxed) {
            0 => None,
            micros => DateTime::from_timestamp_micros(micros),
        }
    }

    fn share(&self, answered: Answered) -> &Share {
        match answered {
            Answered::Accepted => &self.accepted,
            Answered::Ignored => &self.ignored,
            Answered::Rejected => &self.rejected,
            Answered::Failed => &self.failed,
            Answered::WrongPath => &self.wrong_path,
        }
    }
}
