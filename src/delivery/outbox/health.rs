//! How deliveries to a sink stand, for operators.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::{Mono, Now};

/// How long a sink may fail before that is an error.
const PATIENCE: Duration = Duration::from_secs(300);

/// How deliveries to one sink stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkHealth {
    /// The sink's name.
    pub name: String,
    /// How many events are to be delivered yet.
    pub pending: u64,
    /// When the oldest of them happened, UTC.
    pub oldest_pending: Option<DateTime<Utc>>,
    /// How many were delivered since the start.
    pub delivered: u64,
    /// How many attempts delivered them since the start.
    pub delivered_attempts: u64,
    /// How many attempts failed since the start, those that were refused
    /// among them.
    pub failed_attempts: u64,
    /// How many attempts were refused since the start.
    pub refused_attempts: u64,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
    /// Whether it has been failing for five minutes.
    pub failing: bool,
    /// Whether it wants no more.
    pub refused: bool,
    pub(super) failing_since: Option<Mono>,
}

impl SinkHealth {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            pending: 0,
            oldest_pending: None,
            delivered: 0,
            delivered_attempts: 0,
            failed_attempts: 0,
            refused_attempts: 0,
            last_error: None,
            failing: false,
            refused: false,
            failing_since: None,
        }
    }

    pub(super) fn succeeded(&mut self, events: usize) {
        self.delivered += events as u64;
        self.delivered_attempts += 1;
        if self.failing_since.take().is_some() {
            tracing::info!(sink = self.name, "events are delivered again");
        }
        self.failing = false;
        self.last_error = None;
    }

    pub(super) fn failed(&mut self, now: Now, reason: &str) {
        self.failed_attempts += 1;
        if self.failing_since.is_none() {
            self.failing_since = Some(now.mono);
            tracing::warn!(
                sink = self.name,
                reason,
                "an event could not be delivered; it is tried again"
            );
        }
        self.last_error = Some(reason.to_owned());
    }

    pub(super) fn advance(&mut self, now: Now) {
        let long = self
            .failing_since
            .is_some_and(|since| now.mono.saturating_sub(since) >= PATIENCE);
        if long && !self.failing {
            self.failing = true;
            let reason = self.last_error.as_deref().unwrap_or_default();
            tracing::error!(
                sink = self.name,
                reason,
                "nothing has been delivered for five minutes"
            );
        }
    }
}
