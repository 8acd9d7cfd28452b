//! How many webhooks came, and how they were answered.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, Utc};

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
}

/// Counts webhooks since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    accepted: AtomicU64,
    ignored: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    /// Microseconds since 1970; 0 before the first.
    last_at: AtomicI64,
}

impl Traffic {
    /// Counts one that came at `now`.
    pub fn count(&self, answered: Answered, now: DateTime<Utc>) {
        self.counter(answered).fetch_add(1, Ordering::Relaxed);
        self.last_at
            .fetch_max(now.timestamp_micros(), Ordering::Relaxed);
    }

    /// How many were answered so.
    pub fn counted(&self, answered: Answered) -> u64 {
        self.counter(answered).load(Ordering::Relaxed)
    }

    /// How many came.
    pub fn received(&self) -> u64 {
        [
            Answered::Accepted,
            Answered::Ignored,
            Answered::Rejected,
            Answered::Failed,
        ]
        .map(|outcome| self.counted(outcome))
        .iter()
        .sum()
    }

    /// When the last one came, UTC.
    pub fn last_at(&self) -> Option<DateTime<Utc>> {
        match self.last_at.load(Ordering::Relaxed) {
            0 => None,
            micros => DateTime::from_timestamp_micros(micros),
        }
    }

    fn counter(&self, answered: Answered) -> &AtomicU64 {
        match answered {
            Answered::Accepted => &self.accepted,
            Answered::Ignored => &self.ignored,
            Answered::Rejected => &self.rejected,
            Answered::Failed => &self.failed,
        }
    }
}
